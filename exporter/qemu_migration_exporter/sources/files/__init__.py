"""Followed log files, through rotations.

`pattern` finds the logs, `follow` reads them in turns, `rotated_log` continues a log through its rotations,
`rotation` identifies its files, and `inotify` reports changes without polling.
"""
