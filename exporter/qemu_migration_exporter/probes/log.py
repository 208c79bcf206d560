"""The events to enable in QEMU's own log: safe patterns, and the ways to give them to QEMU and to libvirt."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from qemu_migration_exporter.probes import binary
from qemu_migration_exporter.probes.binary import ProbeError

#: The events that the other probes print, except for post-copy page requests (a line a page), and few others, for
#: every QEMU since 2.6. A trailing star keeps a QEMU without the event from warning about it. Shorter patterns would
#: match migration_transferred_bytes (8.1, nearly a line a page) and vmstate_save_state_loop (a line a field).
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
    "migration_dirty_limit_guest*",
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
    "migration_return_path_end_before*",
    "await_return_path_close_on_source_close*",
    "migration_tls_outgoing_handshake_error*",
    "qmp_enter_migrate*",
    "qmp_enter_stop",
    "qmp_enter_cont",
)

_ADVICE: Final = """\
# The trace events of live migration for qemu-migration-exporter, from QEMU's `log` trace backend.{binary}
# It needs QEMU 2.6 or later. Two ways to start QEMU with them; `qemu-migration-exporter attach` switches them on in
# machines that run, until they stop.
#
# 1. As arguments, which migrate with the machine to any host. In libvirt, `virsh edit VM`; `probe log | sed -n
# 's/^# \\( *<\\)/\\1/p'` prints the XML alone. It marks the machine as tainted by custom arguments. Times are on by
# default there, and the events come out in /var/log/libvirt/qemu/VM.log. Without libvirt: the same arguments, and
# -msg timestamp=on; with -daemonize QEMU prints nothing without -D FILE.
#
#     <domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
#       <!-- all that is there now stays -->
#       <qemu:commandline>
{arguments}
#       </qemu:commandline>
#     </domain>
#
# 2. As an events file, which this output is: save it as {file} and give QEMU
#
#     -trace events={file} -msg timestamp=on
#
# in place of the arguments above. The file must be on every host before the machine is started there or migrates
# there: without it QEMU does not start. {directory} does not exist on Debian; create it. Under AppArmor the file needs
# a line `{file} r,` in /etc/apparmor.d/local/abstractions/libvirt-qemu.
#
# Limits: virtlogd keeps 4 files of 2 MiB of such a log (max_size, max_backups in virtlogd.conf); a migration prints
# 5 to 10 kB a second. In post-copy with max-postcopy-bandwidth set, QEMU 7.2 prints migrate_pending and
# savevm_state_iterate up to 0.7 million times a second: take those two out if you do that. The page requests of
# post-copy are not in here, being a line a page; the probes for bpftrace and SystemTap count them.
# Do not shorten the list with migrat* or migration_*: QEMU 8.1 and later has events there that come for every page.
"""

_FILE: Final = Path("/etc/qemu/migration.events")


def log_advice(path: Path | None) -> str:
    """Return an events file for `-trace events=FILE`; its comments explain two ways to use it.

    Args:
        path: The QEMU binary to check for the ability to print events; None for no check.

    Raises:
        ProbeError: The file is not a QEMU binary, or the binary cannot print events.
    """
    arguments = [f"#         <qemu:arg value='-trace'/><qemu:arg value='{pattern}'/>" for pattern in PATTERNS]
    comments = _ADVICE.format(
        binary="" if path is None else _about(path),
        arguments="\n".join(arguments),
        file=_FILE,
        directory=_FILE.parent,
    )
    return comments + "".join(f"{pattern}\n" for pattern in PATTERNS)


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
