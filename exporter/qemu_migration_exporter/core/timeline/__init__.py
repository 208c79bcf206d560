"""Clocks: the time of each event, in nanoseconds since the Unix epoch.

    lines that carry a time, one writer          stream.py         StreamClock
    lines that carry a time, one writer per CPU  reordering.py     ReorderingClock
    lines without a time, in a recording         reconstructed.py  ReconstructedClock

A clock receives parsed lines and returns each with its time, in order. It may hold lines back until no earlier line
can follow. No clock of this machine is read here: arrival times and the start of a recording are arguments.
"""
