"""Migrations of two real libvirt hosts, watched by daemons and a real Prometheus with the shipped rules; `make libvirt`."""
