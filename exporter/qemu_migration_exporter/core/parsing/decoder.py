"""An event's name and arguments → an `Event`, by the vocabulary; prefixes and times are not known here."""

from __future__ import annotations

import re
import struct
from bisect import bisect_left
from collections.abc import Callable, Collection, Mapping
from functools import cache, partial
from typing import Any, Final, NamedTuple

from qemu_migration_exporter.core.events import Event, Signal, SignalEvent, StateNumbered, StateSet, SyncEnded
from qemu_migration_exporter.core.parsing.trace_events import LAYOUTS, EventLayout


class Malformed(NamedTuple):
    """A line that begins like one of ours and does not parse.

    Attributes:
        salvaged: The event of another line that was found glued to its tail, or None.
    """

    salvaged: Event | None = None


#: What a line may turn out to be; None is noise.
Parsed = Event | Malformed | None

MALFORMED: Final = Malformed()

#: MigrationStatus as a number, qapi-schema.json of 2.3 (2.0 to 2.2 end at 5 and have -1 for failed) and of 2.8.
_STATES_TO_2_4: Final = ("none", "setup", "cancelling", "cancelled", "active", "completed", "failed")
_STATES_TO_2_10: Final = (
    "none",
    "setup",
    "cancelling",
    "cancelled",
    "active",
    "postcopy-active",
    "completed",
    "failed",
    "colo",
)

#: Since this release `dirty_pages` of a sync counts since the last reset of the period.
_CUMULATIVE_SINCE: Final = (2, 9)

_DOUBLE_BITS_FROM: Final = 2**52

#: Most lines say what a line shortly before them said, with another time.
_MAX_KNOWN: Final = 512

#: Makes an event at half the price of its constructor.
_event: Final = tuple.__new__


def _text(group: bytes) -> str:
    return group.decode("utf-8", "replace")


def _number(group: bytes) -> int:
    return int(group)


def _hexadecimal(group: bytes) -> int:
    return int(group, 16)


def bandwidth_of(value: str) -> float:
    """Read a bandwidth in bytes per millisecond, from raw double bits too.

    SystemTap has no floating point and prints the bits of QEMU's double (up to 2.12).
    Every normal double is at least 2**52 when read as an integer, and no link carries
    4 TiB per millisecond.

    Raises:
        ValueError: `value` is no number.
    """
    if not value.isdigit():
        return float(value)
    whole = int(value)
    if whole < _DOUBLE_BITS_FROM:
        return float(whole)
    bandwidth: float = struct.unpack("<d", struct.pack("<Q", whole & 0xFFFFFFFFFFFFFFFF))[0]
    return bandwidth


#: What a conversion of a format matches and makes. No wider than 64 bits print: what is longer was never a number, and
#: Python's own limit would raise.
CONVERSIONS: Final[Mapping[str, tuple[bytes, Callable[[bytes], Any]]]] = {
    "u": (rb"(\d{1,20})", _number),
    "d": (rb"(-?\d{1,20})", _number),
    "x": (rb"([0-9a-fA-F]{1,16})", _hexadecimal),
    "g": (rb"(-?\d{1,20}(?:\.\d{0,20})?(?:e[-+]?\d{1,3})?|-?inf|-?nan)", lambda group: bandwidth_of(group.decode())),
    "w": (rb"([\w-]+)", _text),
    "s": (rb"(.{0,256}?)", _text),
}

#: A text with something behind it is a name, which QEMU keeps in 256 bytes (idstr, ramblocks) or DNS in 255; were it of
#: any length, a line of nothing but what comes behind it would be tried for minutes. The last one may be of any length,
#: and is found by looking from the line's end.
_TEXT: Final = CONVERSIONS["s"][0]
_LAST_TEXT: Final = rb"((?:.*[^ ])?)"


class _Layout:
    """One row of the vocabulary, ready to match."""

    __slots__ = ("_blank", "_kind", "_match", "_places", "row", "since", "until")

    def __init__(self, row: EventLayout) -> None:
        self.row = row
        since, _, until = row.versions.partition("..")
        self.since, self.until = _version(since), _version(until or "99.0")
        pattern, converters = _pattern(row.format)
        # QEMU ends the line of an event without arguments with a blank.
        self._match = re.compile(pattern + rb" *", re.DOTALL).fullmatch
        self._kind = row.meaning
        if isinstance(row.meaning, Signal):
            return
        names = field_names(row.meaning)
        self._blank = [None] * len(names)
        self._places = tuple(
            (names.index(name), group, convert)
            for group, (name, convert) in enumerate(zip(row.fields.split(), converters, strict=True), start=1)
            if name != "_"
        )

    def event(self, arguments: bytes, at_ns: int | None, thread: int | None) -> Event | None:
        """Make the event these arguments say, or None where they have another layout."""
        match = self._match(arguments)
        if match is None:
            return None
        if isinstance(self._kind, Signal):
            return SignalEvent(at_ns, thread, self._kind)
        values: list[Any] = self._blank.copy()
        for place, group, convert in self._places:
            values[place] = convert(match[group])
        return self._kind(at_ns, thread, *values)


def field_names(kind: Callable[..., Event]) -> tuple[str, ...]:
    """Name the arguments of a kind of event that a line can give, in their order."""
    fixed: Mapping[str, Any] = {}
    if isinstance(kind, partial):
        fixed, kind = kind.keywords, kind.func
    assert isinstance(kind, type)  # noqa: S101 - the vocabulary holds nothing else
    fields: tuple[str, ...] = kind._fields[2:]  # type: ignore[attr-defined]  # every event is a NamedTuple
    defaults: Mapping[str, Any] = kind._field_defaults  # type: ignore[attr-defined]
    return tuple(field for field in fields if field not in fixed and field not in defaults)


def _version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor)


def _pattern(row_format: str) -> tuple[bytes, list[Callable[[bytes], Any]]]:
    pattern, converters = b"", []
    for literal, conversion in re.findall(r"((?:[^%]|%%)*)(?:%([a-z]))?", row_format):
        pattern += re.escape(literal.replace("%%", "%").encode())
        if conversion:
            piece, convert = CONVERSIONS[conversion]
            pattern += piece
            converters.append(convert)
    if pattern.endswith(_TEXT):
        pattern = pattern.removesuffix(_TEXT) + _LAST_TEXT
    return pattern, converters


class _Kind(NamedTuple):
    """What to make of a name's arguments where they are given by name: a mark, else a kind with its fields in order."""

    mark: Signal | None
    kind: Callable[..., Event]
    fields: tuple[str, ...]
    since: tuple[int, int]
    until: tuple[int, int]


@cache
def _kind(layouts: tuple[_Layout, ...], given: tuple[str, ...]) -> _Kind:
    meanings = [layout.row.meaning for layout in layouts]
    since, until = min(each.since for each in layouts), max(each.until for each in layouts)
    if isinstance(meanings[0], Signal):
        return _Kind(meanings[0] if len(set(meanings)) == 1 else Signal.OTHER, SignalEvent, (), since, until)
    kinds = [meaning for meaning in meanings if not isinstance(meaning, Signal)]
    kind = next((each for each in kinds if set(given) <= set(field_names(each))), kinds[0])
    return _Kind(None, kind, field_names(kind), since, until)


@cache
def _layouts(rows: tuple[EventLayout, ...]) -> Mapping[bytes, tuple[_Layout, ...]]:
    """Make the layouts of a vocabulary ready, once for all streams."""
    layouts: dict[bytes, list[_Layout]] = {}
    for row in rows:
        layouts.setdefault(row.name.encode(), []).append(_Layout(row))
    return {name: tuple(each) for name, each in layouts.items()}


class Decoder:
    """Decode the events of one QEMU, and learn its age from the layouts it uses.

    A few values mean different things in different releases and look alike; the versions of
    all layouts seen so far narrow down which release this is.

    Attributes:
        known_texts: Events by the line that says them, where no time and no number makes each one another. A format
            remembers them here, and whoever has a line looks here first. Forgotten whenever more is known of the
            release.
    """

    def __init__(self, rows: tuple[EventLayout, ...] = LAYOUTS) -> None:
        self._layouts = _layouts(rows)
        self._sorted_names = sorted(self._layouts)
        self._since = (2, 0)
        self._until = (99, 0)
        self.known_texts: dict[bytes, Event] = {}
        self._known: dict[tuple[bytes, bytes], Event] = {}

    @property
    def names(self) -> Collection[bytes]:
        """The names of all events in the vocabulary."""
        return self._layouts.keys()

    def kind_of(self, name: bytes, given: Collection[str]) -> tuple[Callable[..., Event], tuple[str, ...]] | None:
        """Return the kind of event that `make` makes of these arguments, and its fields in their order.

        None where that may change: where the release decides it, or QEMU itself may begin arguments with `key=value`.
        """
        layouts = self._layouts[name]
        mark, kind, fields, _, _ = _kind(layouts, tuple(given))
        qemus_own = any(re.match(r"\w+[:=]|%", layout.row.format) for layout in layouts)
        return None if qemus_own or mark is not None or kind in {StateNumbered, SyncEnded, StateSet} else (kind, fields)

    def knows(self, name: bytes) -> bool:
        """Say whether an event of this name is in the vocabulary."""
        return name in self._layouts

    def make(self, name: bytes, values: Mapping[str, Any]) -> Event | None:
        """Make the event of this name from arguments by name, as a script may print them, or without any.

        Where an argument alone tells several meanings of one name apart, none of them is taken.
        """
        layouts = self._layouts.get(name)
        if layouts is None:
            return None
        mark, kind, fields, since, until = _kind(layouts, tuple(values))
        event = kind(None, None, *map(values.get, fields)) if mark is None else SignalEvent(None, None, mark)
        return self._dated(event, since, until)

    def is_torn_name(self, text: bytes) -> bool:
        """Say whether this is the beginning, and no more, of a name in the vocabulary."""
        place = bisect_left(self._sorted_names, text)
        return bool(text) and place < len(self._sorted_names) and self._sorted_names[place].startswith(text)

    def decode(self, name: bytes, arguments: bytes, at_ns: int | None, thread: int | None) -> Parsed:
        """Decode one event as QEMU's own format strings print it.

        Returns:
            The event, None for a name that is not in the vocabulary, or MALFORMED.
        """
        said = name, arguments
        known = self._known.get(said)
        if known is not None:
            return _event(known.__class__, (at_ns, thread, *known[2:]))
        layouts = self._layouts.get(name)
        if layouts is None:
            return None
        for layout in layouts:
            event = layout.event(arguments, at_ns, thread)
            if event is not None:
                event = self._dated(event, layout.since, layout.until)
                if len(self._known) >= _MAX_KNOWN:
                    self._known.clear()
                self._known[said] = event
                return event
        return MALFORMED

    @property
    def releases(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """The first and the last release this QEMU may be."""
        return self._since, self._until

    def restore(self, releases: tuple[tuple[int, int], tuple[int, int]]) -> None:
        """Go on with what was learnt before."""
        self._since, self._until = releases

    def _dated(self, event: Event, since: tuple[int, int], until: tuple[int, int]) -> Event:
        if since > self._since or until < self._until:
            since, until = max(self._since, since), min(self._until, until)
            if since <= until:  # a vendor's backport may contradict; what was learnt first stays
                self._since, self._until = since, until
                self.known_texts.clear()
                self._known.clear()
        if isinstance(event, StateNumbered):
            return StateSet(event.at_ns, event.thread, self._state_name(event.number))
        if isinstance(event, SyncEnded) and self._until <= _CUMULATIVE_SINCE:
            return event._replace(cumulative=False)
        return event

    def _state_name(self, number: int | None) -> str | None:
        names = _STATES_TO_2_4 if self._until < (2, 5) else _STATES_TO_2_10
        if number is None:
            return None
        if number == -1:
            return "failed"
        return names[number] if 0 <= number < len(names) else f"number-{number}"
