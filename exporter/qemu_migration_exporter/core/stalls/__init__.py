"""Stall detection: convergence, waits, ETA.

`detector` owns the state of one migration's verdict. `convergence` judges the boundaries between rounds, `wait_timer`
the waits without rounds, `eta` estimates the end. `reasons` has one row per reason.
"""
