"""The time of each event on its stream."""
