"""Services for the long-running program: logs, errors, output files, systemd."""
