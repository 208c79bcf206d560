"""The measures of one migration: pre-copy and its rounds, the downtime and its parts, the pauses of the guest."""
