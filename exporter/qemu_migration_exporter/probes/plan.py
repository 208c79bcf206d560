"""The plan of a probe: the events it prints for one binary, and their formats.

    vocabulary (every QEMU) ──┐
                              ├─> same name, same number and shape of arguments ──> Plan ──> script
    notes of this binary    ──┘

The plan has an event for each mark of the binary that the vocabulary knows. A printed line is equal to the line of
QEMU's own log, except that unused values are constants, because reading an argument costs the guest time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Final, NamedTuple

from qemu_migration_exporter.core.events import ChannelFailed, ErrorSet, Pending, QmpCommand
from qemu_migration_exporter.core.parsing.trace_events import LAYOUTS, EventLayout
from qemu_migration_exporter.core.parsing.vocabulary import Release, releases
from qemu_migration_exporter.core.signals import is_probed
from qemu_migration_exporter.core.terms import Signal
from qemu_migration_exporter.probes.binary import Argument, Binary, ProbeError

#: Rows that differ only in the value of an argument are one layout for a probe, which prints the argument.
_MERGED: Final = (EventLayout("vmstate_downtime_checkpoint", "8.2..", "%s", Signal.DOWNTIME_START, "checkpoint"),)
#: The commands with information that no other event has: the side, the downtime limit, the mode.
_COMMANDS: Final = frozenset({"migrate", "migrate_set_capabilities", "migrate_set_parameters"})

STATE_EVENT: Final = "migrate_set_state"
#: The state in which the destination requests pages and QEMU 7.2 iterates without a pause; number 5 from 2.5 to 2.10.
POSTCOPY_STATE: Final = "postcopy-active"
POSTCOPY_STATE_NUMBER: Final = 5
#: Conversion of the vocabulary → of the probe. A double's bits (to 2.12) and an integer (later) are printed alike.
_KINDS: Final = {"u": "u", "d": "d", "x": "x", "g": "u", "s": "s", "w": "s"}

#: Events whose only argument is a text of any length: JSON of a command, or an error.
_LONG_TEXTS: Final = frozenset({QmpCommand, ErrorSet, ChannelFailed})

#: The event that the probes print instead of the page requests they count.
REQUESTS_EVENT: Final = "postcopy_requests"
#: In post-copy, at most one line of a quietened event and process in this time.
QUIET_NS: Final = 50_000_000
#: Shortest time between two lines of counted page requests.
REQUESTS_NS: Final = 100_000_000


class Value(NamedTuple):
    """A printed argument: its place from 0, its C conversion without length (u d x s), and its shape."""

    place: int
    conversion: str
    argument: Argument


class Printed(NamedTuple):
    """An event as a probe prints it.

    Attributes:
        name: The event's name.
        format: C's format string; `%` and one letter each for the values, and `%%`.
        values: The values for the format: arguments and constants.
        quiet: True if it must be limited in post-copy, when it comes up to 0.7 million times a second.
        ends: True if the process's counts may be forgotten after it.
        long_text: True if its only argument is a text that may be longer than a string of the tool.
    """

    name: str
    format: str
    values: tuple[Value, ...]
    quiet: bool
    ends: bool
    long_text: bool


class Plan(NamedTuple):
    """The events to print for one binary.

    Attributes:
        binary: The binary.
        printed: The events to print, in the vocabulary's order.
        request: The event of post-copy's page requests, to be counted; None if the binary has none.
        state_numbered: True if migration states are numbers; None if the binary has no event for states.
        absent: Names of the vocabulary's events that the binary does not have.
        unknown: Names of events whose arguments in the binary fit no row of the vocabulary; they are left out.
    """

    binary: Binary
    printed: tuple[Printed, ...]
    request: str | None
    state_numbered: bool | None
    absent: tuple[str, ...]
    unknown: tuple[str, ...]

    @property
    def sees_postcopy(self) -> bool:
        """True if an event shows that post-copy began, without which no event can be limited."""
        return self.state_numbered is not None or self.request is not None


def make(binary: Binary) -> Plan:
    """Choose a row of the vocabulary for each event that the binary has.

    Raises:
        ProbeError: The binary has none of the events.
    """
    by_name = _candidates()
    fitting = {
        name: [row for row in rows if _fits(row, binary.probes[name], binary.pointer_size)]
        for name, rows in by_name.items()
        if name in binary.probes
    }
    since, until = _release(fitting.values())
    chosen = {name: _choose(rows, since, until) for name, rows in fitting.items() if rows}
    requests = [name for name, row in chosen.items() if row.meaning is Signal.POSTCOPY_REQUEST]
    printed = tuple(_printed(row, binary.probes[name]) for name, row in chosen.items() if name not in requests)
    if not printed:
        raise ProbeError(
            f"{binary.path}: of its {len(binary.probes)} USDT probes none is one of migration's: is this a QEMU that "
            f"runs machines (qemu-system-…, qemu-kvm)?"
        )
    state = chosen.get(STATE_EVENT)
    return Plan(
        binary=binary,
        printed=printed,
        request=requests[0] if requests else None,
        state_numbered=None if state is None else "%d" in state.format,
        absent=tuple(name for name in by_name if name not in binary.probes),
        unknown=tuple(name for name, rows in fitting.items() if not rows),
    )


def _candidates() -> dict[str, list[EventLayout]]:
    merged = {row.name for row in _MERGED}
    by_name: dict[str, list[EventLayout]] = {}
    for row in (*(row for row in LAYOUTS if row.name not in merged), *_MERGED):
        if is_printed(row):
            by_name.setdefault(row.name, []).append(row)
    return by_name


def is_printed(row: EventLayout) -> bool:
    """Return whether a probe prints an event; it makes `postcopy_requests` itself."""
    return is_probed(row.meaning, row.name) and not _is_idle_command(row)


def _is_idle_command(row: EventLayout) -> bool:
    meaning = row.meaning
    return isinstance(meaning, partial) and meaning.func is QmpCommand and meaning.keywords["name"] not in _COMMANDS


def _kind(row: EventLayout) -> object:
    """Return the type of a row's event."""
    return row.meaning.func if isinstance(row.meaning, partial) else row.meaning


def _pieces(row: EventLayout) -> Iterator[tuple[str, str]]:
    """Split a format into pairs of a literal and the conversion after it, "" after the last."""
    yield from re.findall(r"((?:[^%]|%%)*)(?:%([a-z]))?", row.format)


def _conversions(row: EventLayout) -> list[str]:
    return [conversion for _, conversion in _pieces(row) if conversion]


def _fits(row: EventLayout, arguments: tuple[Argument, ...], pointer_size: int) -> bool:
    """Return whether a binary's arguments fit a row: the same number, and a pointer for each string."""
    conversions = _conversions(row)
    return len(conversions) == len(arguments) and all(
        conversion not in "sw" or argument == Argument(pointer_size, signed=False)
        for conversion, argument in zip(conversions, arguments, strict=True)
    )


def _release(fitting: Iterable[list[EventLayout]]) -> tuple[Release, Release]:
    """Narrow the range of releases by the events with exactly one fitting row."""
    since, until = (0, 0), (99, 0)
    for rows in fitting:
        if len(rows) == 1:
            row_since, row_until = releases(rows[0])
            if max(since, row_since) <= min(until, row_until):  # a vendor's backport may contradict
                since, until = max(since, row_since), min(until, row_until)
    return since, until


def _choose(rows: list[EventLayout], since: Release, until: Release) -> EventLayout:
    """Choose among rows with the same number of arguments.

    A pointer fits a number's conversion too, so the row with more strings is better. Rows with as many strings differ
    only in spelling (`%x`, `0x%x`), and the release decides.
    """

    def rank(row: EventLayout) -> tuple[int, bool]:
        row_since, row_until = releases(row)
        strings = sum(conversion in "sw" for conversion in _conversions(row))
        return strings, max(since, row_since) <= min(until, row_until)

    return max(rows, key=rank)


def _printed(row: EventLayout, arguments: tuple[Argument, ...]) -> Printed:
    fields = row.fields.split() if row.fields else []
    text, values = "", []
    for place, (literal, conversion) in enumerate(_pieces(row)):
        text += literal
        if not conversion:
            continue
        if fields[place] == "_":  # a constant that reads as this conversion does
            text += "-" if conversion in "sw" else "0"
        else:
            kind = _KINDS[conversion]
            text += f"%{kind}"
            values.append(Value(place, kind, arguments[place]))
    return Printed(
        row.name,
        text,
        tuple(values),
        quiet=row.meaning is Signal.ITERATE or row.meaning is Pending,
        ends=row.meaning is Signal.CLEANUP,
        long_text=bool(values) and _kind(row) in _LONG_TEXTS,
    )
