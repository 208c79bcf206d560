"""Generators of probes: scripts for bpftrace and SystemTap, and event patterns for QEMU's own log.

All three are text for an operator to read and run; this package itself traces nothing.
"""

from __future__ import annotations

from qemu_migration_exporter.probes.binary import ProbeError
from qemu_migration_exporter.probes.bpftrace import bpftrace_script
from qemu_migration_exporter.probes.log import log_advice
from qemu_migration_exporter.probes.systemtap import systemtap_script

__all__ = ["ProbeError", "bpftrace_script", "log_advice", "systemtap_script"]
