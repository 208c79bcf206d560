"""One migration: events go into its state machine, changes come out.

`machine` has the data, `apply` selects an event's handler, and `summary` computes the numbers when they are read.
"""
