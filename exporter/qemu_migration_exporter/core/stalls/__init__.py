"""Stall detection: convergence, waits, ETA."""
