"""Turn QEMU's live-migration trace events into metrics, traces and a verdict."""

__version__ = "0.2.0"
