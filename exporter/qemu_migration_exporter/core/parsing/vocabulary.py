"""The compiled table of trace events, shared by every stream.

`trace_events.LAYOUTS` is text: "new state %w". A `CompiledLayout` is that row as a regular expression and the places
its groups fill. Compiling takes milliseconds, so a vocabulary is made once for each table of rows; the knowledge from
a stream's own lines is kept in its `decoder.Decoder`.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cache, cached_property, partial
from operator import itemgetter
from typing import Any, Final, NamedTuple

from qemu_migration_exporter.core.events import Event, SignalEvent
from qemu_migration_exporter.core.parsing.columns import NumberTexts
from qemu_migration_exporter.core.parsing.conversions import CONVERSIONS, LAST_TEXT
from qemu_migration_exporter.core.parsing.prefilter import alternation
from qemu_migration_exporter.core.parsing.trace_events import LAYOUTS, EventLayout
from qemu_migration_exporter.core.terms import Signal

#: Functions of QEMU that scripts probe in addition to marks. `migrate_fd_connect` is `migration_connect` since 10.2.
FUNCTIONS: Final = frozenset(
    {b"qmp_migrate", b"fd_start_outgoing_migration", b"migrate_fd_connect", b"migration_connect",
     b"migration_bitmap_sync", b"bitmap_set"}
)  # fmt: skip

#: Bounds memory: three texts for each device of some kinds of machines, with names of up to 256 bytes.
_MAX_DEVICE_TEXTS: Final = 1_024
_MAX_DEVICE_BYTES: Final = 320

#: Major and minor number of a release.
Release = tuple[int, int]


class CompiledLayout:
    """One row of the table, ready to match."""

    __slots__ = ("_fills", "_kind", "_match", "_pick", "conversions", "numbers", "row", "since", "until")

    def __init__(self, row: EventLayout) -> None:
        self.row = row
        self.since, self.until = releases(row)
        self.conversions = re.findall(r"%([a-z])", row.format.replace("%%", ""))
        pattern, converters = _pattern(row)
        # QEMU ends the line of an event without arguments with a blank.
        self._match = re.compile(pattern + rb" *", re.DOTALL).fullmatch
        self._kind = row.meaning
        self._pick: Callable[[tuple[int | None, ...]], tuple[int | None, ...]] | None = None
        self.numbers: NumberTexts | None = None
        if isinstance(row.meaning, Signal):
            return
        names = field_names(row.meaning)
        # A field with a default comes last, and is filled only by a row that names it.
        used = [name for name in row.fields.split() if name != "_"]
        names = (*names, *(name for name in used if name not in names))
        groups = {name: group for group, name in enumerate(used)}
        self._fills = tuple((groups[name], converters[groups[name]]) if name in groups else None for name in names)
        if isinstance(row.meaning, type) and _has_numbers_only(row.meaning, converters) and len(used) > 1:
            # All fields are numbers, as are those of rounds, whose texts do not repeat: this halves the time of a line.
            fields: tuple[str, ...] = row.meaning._fields[2:]  # type: ignore[attr-defined]  # every event is a NamedTuple
            self._pick = itemgetter(*[groups.get(field, len(used)) for field in fields])
            self.numbers = NumberTexts(
                row.name.encode(), pattern + rb" *", row.meaning, [groups.get(field) for field in fields]
            )

    def event(self, arguments: bytes, thread: int | None = None) -> Event | None:
        """Return the event of these arguments, or None if they have another layout."""
        match = self._match(arguments)
        if match is None:
            return None
        if isinstance(self._kind, Signal):
            return SignalEvent(None, thread, self._kind)
        groups = match.groups()
        if self._pick is not None:
            values = self._pick((*map(int, groups), None))
            event: Event = tuple.__new__(self._kind, (None, thread, *values))  # type: ignore[arg-type]  # a type then
            return event
        return self._kind(None, thread, *[fill and fill[1](groups[fill[0]]) for fill in self._fills])


class KeyedKind(NamedTuple):
    """The kind of event for arguments that are printed by name.

    Attributes:
        mark: The signal, or None if the event has arguments.
        kind, fields: The event's type and the fields a line can give, in their order.
        since, until: The releases in which the name exists.
    """

    mark: Signal | None
    kind: Callable[..., Event]
    fields: tuple[str, ...]
    since: Release
    until: Release


class Vocabulary:
    """All layouts of a table, by the event's name."""

    def __init__(self, rows: tuple[EventLayout, ...]) -> None:
        layouts: dict[bytes, list[CompiledLayout]] = {}
        for row in rows:
            layouts.setdefault(row.name.encode(), []).append(CompiledLayout(row))
        self.layouts: Mapping[bytes, tuple[CompiledLayout, ...]] = {name: tuple(of) for name, of in layouts.items()}
        #: Events of devices by their text, with the releases that have this layout.
        self.devices: dict[bytes, tuple[Event, Release, Release]] = {}
        self._sorted_names = sorted(self.layouts)

    def keep_device(self, text: bytes, event: Event, layout: CompiledLayout) -> None:
        """Keep the event of a device for all streams of this vocabulary."""
        if len(self.devices) >= _MAX_DEVICE_TEXTS:
            self.devices.clear()
        if len(text) <= _MAX_DEVICE_BYTES:
            self.devices[text] = event, layout.since, layout.until

    @property
    def names(self) -> Collection[bytes]:
        """Names of all events."""
        return self.layouts.keys()

    @cached_property
    def name_pattern(self) -> bytes:
        """Pattern that matches each name, or a shorter name that it begins with."""
        return alternation(self.layouts)

    def is_torn_name(self, text: bytes) -> bool:
        """Return whether the text is a proper prefix of a name."""
        place = bisect_left(self._sorted_names, text)
        return bool(text) and place < len(self._sorted_names) and self._sorted_names[place].startswith(text)

    def keyed_kind(self, name: bytes, given: Collection[str]) -> KeyedKind:
        """Return the kind of event for the arguments in `given`; a value that selects between two signals is lost."""
        return _keyed_kind(self.layouts[name], tuple(given))

    def are_disjoint(self, name: bytes) -> bool:
        """Return whether no text fits two layouts: all values are numbers, and the words around them differ."""
        rows = [layout.row for layout in self.layouts[name]]
        words = {re.sub(r"%[udg]", "%", row.format) for row in rows}
        return len(words) == len(rows) and not any(re.search(r"[0-9]|%[^udg]", row.format) for row in rows)

    def begins_with_key(self, name: bytes) -> bool:
        """Return whether layouts begin both with `key=value` and with a bare value, so that the text decides."""
        return any(re.match(r"\w+[:=]|%", layout.row.format) for layout in self.layouts[name])


@cache
def vocabulary(rows: tuple[EventLayout, ...] = LAYOUTS) -> Vocabulary:
    """Return the compiled form of a table; the same object for equal tables."""
    return Vocabulary(rows)


def _has_numbers_only(kind: type, converters: Iterable[Callable[[bytes], Any]]) -> bool:
    """Return whether all values of a row are whole numbers, and all fields without a value are None."""
    defaults: Mapping[str, Any] = kind._field_defaults  # type: ignore[attr-defined]
    return all(convert is int for convert in converters) and not any(defaults.values())


def field_names(kind: Callable[..., Event]) -> tuple[str, ...]:
    """Return the fields of a kind of event that a line can give, in their order."""
    fixed: Mapping[str, Any] = {}
    if isinstance(kind, partial):
        fixed, kind = kind.keywords, kind.func
    assert isinstance(kind, type)  # noqa: S101 - the table holds types and partials of types only
    fields: tuple[str, ...] = kind._fields[2:]  # type: ignore[attr-defined]  # every event is a NamedTuple
    defaults: Mapping[str, Any] = kind._field_defaults  # type: ignore[attr-defined]
    return tuple(field for field in fields if field not in fixed and field not in defaults)


def releases(row: EventLayout) -> tuple[Release, Release]:
    """Return the first and last release of a row, (99, 0) for a layout still in use."""
    since, _, until = row.versions.partition("..")
    return _release(since), _release(until or "99.0")


def _release(text: str) -> Release:
    major, _, minor = text.partition(".")
    return int(major), int(minor)


def _pattern(row: EventLayout) -> tuple[bytes, list[Callable[[bytes], Any]]]:
    """Return the pattern of a row's arguments, with a group for each field that is used, and their converters."""
    pattern, converters = b"", []
    names = iter(row.fields.split())
    for literal, conversion, rest in re.findall(r"((?:[^%]|%%)*)%([a-z])|(.+)", row.format):
        pattern += re.escape((literal or rest).replace("%%", "%").encode())
        if conversion:
            piece, convert = CONVERSIONS[conversion]
            if next(names) == "_":
                piece = b"(?:" + piece.removeprefix(b"(")
            else:
                converters.append(convert)
            pattern += piece
    text = CONVERSIONS["s"][0].removeprefix(b"(")
    if pattern.endswith(text):
        pattern = pattern.removesuffix(text) + LAST_TEXT.removeprefix(b"(")
    return pattern, converters


@cache
def _keyed_kind(layouts: tuple[CompiledLayout, ...], given: tuple[str, ...]) -> KeyedKind:
    meanings = [layout.row.meaning for layout in layouts]
    since, until = min(layout.since for layout in layouts), max(layout.until for layout in layouts)
    if isinstance(meanings[0], Signal):
        mark = meanings[0] if len(set(meanings)) == 1 else Signal.OTHER
        return KeyedKind(mark, SignalEvent, (), since, until)
    kinds = [meaning for meaning in meanings if not isinstance(meaning, Signal)]
    kind = next((kind for kind in kinds if set(given) <= set(field_names(kind))), kinds[0])
    return KeyedKind(None, kind, field_names(kind), since, until)
