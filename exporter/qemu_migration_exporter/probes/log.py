"""What to switch on in QEMU's own log: safe patterns, and the ways to give them to QEMU and to libvirt."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from qemu_migration_exporter.probes import binary
from qemu_migration_exporter.probes.binary import ProbeError

#: What the other probes print of the vocabulary, but the post-copy page requests (a line a page), and little else, for
#: every QEMU since 2.6. A trailing star keeps a QEMU that does not have the event from warning about it. Nothing
#: shorter: `migration_*` has an event of nearly a line a page (migration_transferred_bytes, 8.1), `vmstate_save*` one
#: a field.
PATTERNS: Final = (
    "migrate_set_state",
    "migrate_fd_*",
    "migrate_error*",
    "migration_cancel*",
    "migration_cleanup*",
    "migration_thread_file_err*",
    "migration_completion_*",
    "migration_socket_*",
    "migration_fd_*",
    "migration_exec_*",
    "migration_file_*",
    "migration_set_*",
    "migration_thread_setup_complete*",
    "migration_thread_low_pending*",
    "migration_thread_after_loop*",
    "migration_precopy_complete*",
    "migration_bitmap_sync_*",
    "migration_throttle*",
    "cpu_throttle_*",
    "migrate_pending*",
    "qemu_savevm_query_pending*",
    "migrate_transferred",
    "savevm_state_*",
    "savevm_section_*",
    "savevm_send_ping*",
    "savevm_send_switchover_*",
    "vmstate_save",
    "vmstate_downtime_*",
    "postcopy_start*",
    "loadvm_state_*",
    "process_incoming_migration_co_end*",
    "runstate_set",
    "qmp_enter_migrate*",
)

_ADVICE: Final = """\
# The trace events of live migration for qemu-migration-exporter, from QEMU's `log` trace backend.{binary}
# This is an events file as it stands: save it as /etc/qemu/migration.events and start QEMU with
#
#     -trace events=/etc/qemu/migration.events -msg timestamp=on
#
# It needs QEMU 2.6 or later. With -daemonize, QEMU prints nothing without -D FILE.
#
# In libvirt, `virsh edit VM` (it marks the machine as tainted by custom arguments; the times are on by default there):
#
#     <domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
#       <!-- all that is there now stays -->
#       <qemu:commandline>
#         <qemu:arg value='-trace'/>
#         <qemu:arg value='events=/etc/qemu/migration.events'/>
#       </qemu:commandline>
#     </domain>
#
# Under AppArmor the file needs a line `/etc/qemu/migration.events r,` in
# /etc/apparmor.d/local/abstractions/libvirt-qemu. The events come out in /var/log/libvirt/qemu/VM.log.
#
# On a machine that runs, until it stops; the same with false switches them off:
#
#     grep -v '^#' /etc/qemu/migration.events | while read -r event; do
#       virsh qemu-monitor-command VM '{{"execute": "trace-event-set-state", "arguments":
#         {{"name": "'"$event"'", "enable": true, "ignore-unavailable": true}}}}' </dev/null
#     done
#
# Limits: virtlogd keeps 4 files of 2 MiB of such a log (max_size, max_backups in virtlogd.conf); a migration prints
# 5 to 10 kB a second. In post-copy with max-postcopy-bandwidth set, QEMU 7.2 prints migrate_pending and
# savevm_state_iterate up to 0.7 million times a second: take those two out if you do that. The page requests of
# post-copy are not in here, being a line a page; the probes for bpftrace and SystemTap count them.
# Do not shorten the list with migrat* or migration_*: QEMU 8.1 and later has events there that come for every page.
"""


def log_advice(path: Path | None) -> str:
    """Write an events file for `-trace events=FILE` whose comments say how to use it.

    Args:
        path: The QEMU it is for, to see whether it can print events; None for any.

    Raises:
        ProbeError: The file is no QEMU, or one that cannot print events.
    """
    about = "" if path is None else _about(path)
    return _ADVICE.format(binary=about) + "".join(f"{pattern}\n" for pattern in PATTERNS)


def _about(path: Path) -> str:
    qemu = binary.read(path)
    if qemu.logs:
        return f"\n# {qemu.path} has that backend." + (
            " It has USDT probes too: `probe bpftrace` and `probe systemtap` need no restart." if qemu.probes else ""
        )
    if qemu.probes:
        raise ProbeError(
            f"{qemu.path}: this QEMU has USDT probes and no `log` trace backend, so -trace prints nothing; "
            f"use `probe bpftrace` or `probe systemtap` instead"
        )
    raise ProbeError(f"{qemu.path}: neither QEMU's `log` trace backend nor USDT probes in it; is it a QEMU?")
