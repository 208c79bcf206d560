"""Chaos: random logs, rotations, crashes and receivers around one daemon; see `tests.chaos.driver`."""
