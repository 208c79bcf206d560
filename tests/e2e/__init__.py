"""Tests with the real tools: QEMU, Prometheus, Alertmanager, a collector."""
