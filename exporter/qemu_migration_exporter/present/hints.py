"""Sentences about streams whose lines are not understood: the reason, and the next step."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from qemu_migration_exporter.core.parsing.hints import Hint

_PROGRAM: Final = "qemu-migration-exporter"

#: Lines of another tool.
_FOREIGN: Final[Mapping[Hint, str]] = {
    Hint.PERF_SCRIPT: (
        "its lines are from `perf script`, which prints the address of a text in place of the text, so they cannot be"
        f" read; record with the script of `{_PROGRAM} probe bpftrace --qemu=BINARY` instead"
    ),
    Hint.BPFTRACE_OWN: (
        "its lines are from a bpftrace program that prints arguments without their names, so they cannot be read;"
        f" `{_PROGRAM} probe bpftrace --qemu=BINARY` prints a program whose output can"
    ),
    Hint.LIBVIRTD_DEBUG: (
        "its lines are from the debug log of libvirtd, whose MIGRATION events are no trace events of QEMU;"
        " those are in /var/log/libvirt/qemu/VM.log if they are enabled"
    ),
}
_MARK_ADDRESSES: Final = (
    "SystemTap printed marks by their address in QEMU's binary; name the binary that was traced with --qemu=BINARY"
    " (`qemu` in the configuration), or print pn() or $$name in place of pp()"
)
_UNTRACED: Final = (
    "a migration was started by libvirt and none of the {lines} lines is a trace event;"
    f" `{_PROGRAM} attach` enables them in a running machine, `{_PROGRAM} probe log` prints how to do so from its start"
)
_SILENT: Final = (
    "no trace event of a migration in {lines} lines; if one ran while they were written, its events were not enabled:"
    f" `{_PROGRAM} probe log` prints how"
)
_UNREADABLE: Final = "no trace event of a migration in {lines} lines, and further lines cannot be read: {unreadable}"
_ALL_SILENT: Final = (
    "No trace event of a migration was read yet, so a migration that runs may not be seen;"
    f" `{_PROGRAM} attach --all` enables the events in running machines."
)


def warnings(hints: Collection[tuple[Hint, str]], *, lines: int, has_events: bool) -> list[str]:
    """Return the problems of a stream and the next steps.

    Args:
        hints: The reasons that the parser found, with their details.
        lines: Lines read so far.
        has_events: True if a line was an event of a known format.
    """
    found = [_MARK_ADDRESSES] if (Hint.MARK_ADDRESSES, "") in hints else []
    keys = sorted(detail for hint, detail in hints if hint is Hint.UNKNOWN_KEY)
    if keys:
        found.append(
            f"arguments with unknown names are not used: {', '.join(keys)};"
            " `argument_names` in the configuration gives their names in QEMU"
        )
    if has_events or not lines:
        return found
    kinds = {hint for hint, _ in hints}
    found += [sentence for hint, sentence in _FOREIGN.items() if hint in kinds]
    if not found and Hint.MIGRATED in kinds and Hint.TRACE_ENABLED not in kinds:
        found.append(_UNTRACED.format(lines=lines))
    return found


def notice(problems: Mapping[str, Collection[str]], *, is_silent: bool, unreadable: Mapping[str, str]) -> str:
    """Return the reason why a list of migrations may lack some; empty if there is none.

    Args:
        problems: The `warnings` of each stream.
        is_silent: True if no stream has had an event, nor a sign that events are enabled.
        unreadable: Reason of each stream that cannot be read.
    """
    found = [f"{name}: {problem}" for name, of_stream in sorted(problems.items()) for problem in of_stream]
    if not found and is_silent:
        name, reason = min(unreadable.items(), default=("", ""))
        return f"{name}: {reason}" if name else _ALL_SILENT
    if not found:
        return ""
    return found[0] + (f"; and {len(found) - 1} more" if len(found) > 1 else "")


def silence(hints: Collection[tuple[Hint, str]], *, lines: int, unreadable: str = "") -> str | None:
    """Return the remark on a stream without events and without a problem; None if its events are enabled.

    If further lines cannot be read for a reason, `unreadable`, the remark has that reason.
    """
    if unreadable:
        return _UNREADABLE.format(lines=lines, unreadable=unreadable)
    return None if Hint.TRACE_ENABLED in {hint for hint, _ in hints} else _SILENT.format(lines=lines)
