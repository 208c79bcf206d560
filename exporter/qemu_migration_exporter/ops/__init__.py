"""Services for the long-running program: logs, errors, output files, systemd.

These modules know neither migrations nor QEMU: logging, counted errors, safe output files, file names, systemd's
notification protocol, the clock of a stream, and the files that ship with the program.
"""
