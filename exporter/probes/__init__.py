"""The probes that make the recordings: scripts for bpftrace and SystemTap, patterns for QEMU's own log.

All three are text that a person reads and then runs; nothing here traces anything.
"""

from __future__ import annotations

from exporter.probes.binary import ProbeError
from exporter.probes.bpftrace import bpftrace_script
from exporter.probes.log import log_advice
from exporter.probes.systemtap import systemtap_script

__all__ = ["ProbeError", "bpftrace_script", "log_advice", "systemtap_script"]
