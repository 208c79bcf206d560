"""The probes that make the recordings: scripts for bpftrace and SystemTap, patterns for QEMU's own log.

All three are text that a person reads and then runs; nothing here traces anything.
"""

from __future__ import annotations

from qemu_migration_exporter.probes.binary import ProbeError
from qemu_migration_exporter.probes.bpftrace import bpftrace_script
from qemu_migration_exporter.probes.log import log_advice
from qemu_migration_exporter.probes.systemtap import systemtap_script

__all__ = ["ProbeError", "bpftrace_script", "log_advice", "systemtap_script"]
