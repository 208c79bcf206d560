"""Both ends of the newest migration of a virtual machine, joined by the guest's UUID over all hosts.

A destination has few metrics: its phases and rounds are the source's. Each end has a sentence, a downtime and a trace:

    source       completed, took 18 s; the guest was stopped for 43 ms
    destination  completed, took 18 s; loaded the last memory and the devices in 57 ms of the downtime
"""

from __future__ import annotations

from typing import Final

from grafana.builder import everywhere
from grafana.sentences import ON, PER_VM, joined, lead, never_empty, relabelled, time_part

_PER_END: Final = f"{PER_VM}, side"
_ON_END: Final = f"on ({_PER_END})"

#: The numbers of the last migration are those of the newest if that is over.
_LEFT: Final = f"and {ON} qemu_migration_active == 0"
_ARRIVED: Final = f"and {ON} qemu_migration_incoming_active == 0"

#: The ends of the chosen guest; the other end is on another host, perhaps under another name.
_CHOSEN: Final = (
    f"max by ({_PER_END}, kind, trace_id)"
    ' (qemu_migration_info{instance=~".+"} and on (uuid) qemu_migration_info{uuid!=""} or qemu_migration_info)'
)


def _outcome(base: str, duration: str, more: dict[str, str]) -> str:
    """Return the sentence of an end that is over."""
    result = relabelled(base, "with_0", "$1", "result", "(.*)")
    result = relabelled(result, "with_0", "outcome unknown", "result", "unknown")
    parts = {"with_0": result, "with_1": time_part("with_1", duration, ", took $1"), **more}
    there = f"max by ({PER_VM}) ({base})"
    words = ", ".join(f'"{label}"' for label in sorted(parts))
    return f'label_join({joined(there, parts)}, "sentence", "", {words})'


def _of_source() -> str:
    over = _outcome(
        f"max by ({PER_VM}, result) (qemu_migration_last_result == 1 {_LEFT})",
        "qemu_migration_last_duration_seconds",
        {"with_2": time_part("with_2", "qemu_migration_last_downtime_seconds", "; the guest was stopped for $1")},
    )
    # The lead of a stall ends with a semicolon, for the numbers that follow elsewhere.
    stalled = relabelled(
        relabelled(lead(), "sentence", "$1", "with_0", "(.+)"), "sentence", "stalled: $1", "with_0", "(.+); "
    )
    running = never_empty(stalled, "sentence", "sends memory in rounds")
    return relabelled(f"{over} or {ON} {running}", "side", "source")


def _of_destination() -> str:
    loaded = "; loaded the last memory and the devices in $1 of the downtime"
    over = _outcome(
        f"max by ({PER_VM}, result) (qemu_migration_incoming_last_result == 1 {_ARRIVED})",
        "qemu_migration_incoming_last_duration_seconds",
        {"with_2": time_part("with_2", "qemu_migration_incoming_last_load_seconds", loaded)},
    )
    running = relabelled(
        f"max by ({PER_VM}) (qemu_migration_incoming_active == 1)", "sentence", "receives the guest's memory"
    )
    return relabelled(f"{over} or {ON} {running}", "side", "destination")


def _value(of_source: str, of_destination: str = "") -> str:
    """Return a number of each end, -1 where the stream does not give it."""
    found = relabelled(f"max by ({PER_VM}) ({of_source})", "side", "source")
    if of_destination:
        found += f" or {_ON_END} " + relabelled(f"max by ({PER_VM}) ({of_destination})", "side", "destination")
    chosen = f"max by ({_PER_END}) ({_CHOSEN})"
    return f"(({everywhere(found)}) and {_ON_END} {chosen}) or {_ON_END} ({chosen} * 0 - 1)"


_SENTENCES: Final = f"max by ({_PER_END}, sentence) ({_of_source()} or {_ON_END} {_of_destination()}) ^ 0"


def _rows() -> str:
    """Return the ends with their sentences, which begin with the kind of a job that is no live migration."""
    found = f"({_CHOSEN}) * {_ON_END} group_left (sentence) ({everywhere(_SENTENCES)} or {_ON_END} ({_CHOSEN}))"
    found = never_empty(found, "sentence", "no numbers yet")
    found = relabelled(found, "with_kind", "$1, no live migration: ", "kind", "(.+)")
    found = relabelled(found, "with_kind", "", "kind", "live")
    return f'max by ({_PER_END}, sentence, trace_id) (label_join({found}, "sentence", "", "with_kind", "sentence"))'


#: A row for each end: `sentence`, `trace_id`, and the values of the queries.
BOTH_ENDS: Final = (
    _rows(),
    _value(
        "time() - qemu_migration_start_timestamp_seconds",
        "time() - qemu_migration_incoming_start_timestamp_seconds",
    ),
    _value(f"qemu_migration_last_downtime_seconds {_LEFT}", f"qemu_migration_incoming_last_load_seconds {_ARRIVED}"),
    _value(f"qemu_migration_last_blackout_seconds {_LEFT}"),
)
