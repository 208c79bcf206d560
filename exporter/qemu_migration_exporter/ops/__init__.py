"""Services every long-running program needs: logs, errors, checkpoint, systemd."""
