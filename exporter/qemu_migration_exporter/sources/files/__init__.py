"""Followed log files, through rotations."""
