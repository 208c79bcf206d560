"""Text of one event → `Event`, for the lines of one QEMU.

    migrate_set_state new state setup   → StateSet(None, None, "setup")
    multifd_send 3 packet_num 12 …      → None: noise, the name is not in the vocabulary
    migrate_set_state new st            → MALFORMED: the name is known, the arguments fit no layout

Prefixes and times belong to the formats, which put them on the event with `timed`.

Some values mean different things in different releases and look alike: state 5 is `completed` up to 2.4 and
`postcopy-active` since. The decoder narrows down which release this is by the layouts of all events so far.

Most lines repeat the text of an earlier line of their thread, with another time. The decoder's cache returns those
events by thread and text. The cache is emptied when the range of releases narrows, because the same text may have
another meaning then. The texts of devices do not repeat in a migration, but they are the same for most machines of a
host, so the vocabulary keeps them for all streams. Per machine they would take 25 KiB.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from qemu_migration_exporter.core.events import (
    DeviceDowntime,
    DeviceLoaded,
    DeviceSaved,
    Event,
    LowPending,
    Pending,
    QmpCommand,
    RunStateNumbered,
    RunStateSet,
    SectionEnded,
    SectionStarted,
    StateNumbered,
    StateSet,
    SyncEnded,
    Transferred,
)
from qemu_migration_exporter.core.parsing.arguments import ArgumentNames
from qemu_migration_exporter.core.parsing.columns import NumberTexts
from qemu_migration_exporter.core.parsing.conversions import CONVERSIONS
from qemu_migration_exporter.core.parsing.hints import Hint
from qemu_migration_exporter.core.parsing.options import ParserOptions
from qemu_migration_exporter.core.parsing.vocabulary import CompiledLayout, Release, vocabulary


class Malformed(NamedTuple):
    """A line that begins like an event of the vocabulary and does not parse.

    Attributes:
        salvaged: The event of another line glued to the end of this line, or None.
    """

    salvaged: Event | None = None


#: Result of parsing a line; None is noise.
Parsed = Event | Malformed | None

MALFORMED: Final = Malformed()

#: MigrationStatus as a number, qapi-schema.json of 2.3 (2.0 to 2.2 end at 5 and have -1 for failed) and of 2.8.
_STATES_TO_2_4: Final = ("none", "setup", "cancelling", "cancelled", "active", "completed", "failed")
_STATES_TO_2_10: Final = (*_STATES_TO_2_4[:5], "postcopy-active", *_STATES_TO_2_4[5:], "colo")

#: Since this release `dirty_pages` of a sync counts since the last reset of the period.
_CUMULATIVE_SINCE: Final = (2, 9)

#: RunState of qapi-schema.json (qapi/run-state.json), 2.0 to 3.1.
_RUN_STATES_TO_3_1: Final = (
    "debug", "inmigrate", "internal-error", "io-error", "paused", "postmigrate", "prelaunch", "finish-migrate",
    "restore-vm", "running", "save-vm", "shutdown", "suspended", "watchdog", "guest-panicked", "colo", "preconfig",
)  # fmt: skip
#: Texts kept in the cache of one thread: more than repeat in a migration.
_MAX_CACHED: Final = 128
#: Threads with a cache: a probe prints the lines of all QEMUs of a host.
_MAX_THREADS: Final = 64
_MAX_DIGITS: Final = 20
#: Lower numbers are not pointers.
_MAX_NUMBERED: Final = 0xFFFF
#: Bounds memory: the keys of a script, at most.
_MAX_HINTS: Final = 32
#: Events with large numbers, whose text does not repeat.
_UNREPEATED: Final = frozenset({Pending, Transferred, SyncEnded, LowPending, QmpCommand, DeviceDowntime, DeviceLoaded})
#: Names in texts that repeat: RAM's, and none, as of marks without arguments.
_REPEATED_NAMES: Final = frozenset({"ram", None})
#: Bounds memory: longer texts are not cached.
_MAX_CACHED_BYTES: Final = 512

#: Most frequent of these. All lines of a QEMU have the layout of the first one, which is tried before the others; this
#: halves the time of such a line. The meaning of these events does not depend on the release.
_OF_ROUNDS: Final = frozenset({Pending, Transferred})

#: Builds an event in half the time of its constructor.
new_event: Final = tuple.__new__


def timed(event: Event, at_ns: int | None, thread: int | None) -> Event:
    """Return the event with a time and a thread."""
    return new_event(event.__class__, (at_ns, thread, *event[2:]))


class Decoder:
    """Decoder of one QEMU's events.

    Attributes:
        recall: Returns the cached event of a text without a thread, or None.
        numbers: Texts with numbers by the name of their event, which are decoded together.
        meanings: Grows when texts get another meaning, so that events recalled before are out of date.
        hints: Reasons why lines were not understood, with a detail for each reason; see `hints.Hint`.
    """

    def __init__(self, options: ParserOptions | None = None) -> None:
        self.options = options or ParserOptions()
        self.vocabulary = vocabulary(self.options.rows)
        self.argument_names = ArgumentNames(self.options.argument_names)
        self.hints: dict[tuple[Hint, str], None] = {}
        self._since: Release = (2, 0)
        self._until: Release = (99, 0)
        self._known: dict[int | None, dict[bytes, Event]] = {None: {}}
        self.recall = self._known[None].get
        self.meanings = 0
        self.numbers: dict[bytes, NumberTexts] = {}
        self._usual: dict[bytes, CompiledLayout] = {}

    def knows(self, name: bytes) -> bool:
        """Return whether an event of this name is in the vocabulary."""
        return name in self.vocabulary.layouts

    def known(self, thread: int | None) -> dict[bytes, Event]:
        """Return the cached events of a thread by their text."""
        known = self._known.get(thread)
        if known is None:
            if len(self._known) > _MAX_THREADS:
                self.forget()
            known = self._known[thread] = {}
        return known

    def decode(self, text: bytes, thread: int | None = None) -> Parsed:
        """Decode an event's name and arguments as QEMU's own format strings print them; see `Parsed`."""
        known = self._known.get(thread)
        if known is not None and text in known:
            return known[text]
        name, _, arguments = text.partition(b" ")
        layouts = self.vocabulary.layouts.get(name)
        if layouts is None:
            return None
        device = self.vocabulary.devices.get(text)
        if device is not None:
            of_device, since, until = device
            if since > self._since or until < self._until:
                of_device = self._narrow_release(*device)
            return self._of_thread(of_device, thread)
        usual = self._usual.get(name)
        if usual is not None:
            event = usual.event(arguments, thread)
            if event is not None:
                return event
        for layout in layouts:
            event = layout.event(arguments)
            if event is not None:
                if type(event) in _OF_ROUNDS and self.vocabulary.are_disjoint(name):
                    self._usual[name] = layout
                    if layout.numbers is not None:
                        self.numbers[name] = layout.numbers
                if _is_of_device(event):
                    self.vocabulary.keep_device(text, event, layout)
                    return self._of_thread(self._narrow_release(event, layout.since, layout.until), thread)
                event = self._of_thread(self._narrow_release(event, layout.since, layout.until), thread)
                self.remember(text, event)
                return event
        return MALFORMED

    def make(self, name: bytes, values: Mapping[str, Any]) -> Event | None:
        """Return the event of this name from arguments by name, as a script may print them, or without any."""
        if not self.knows(name):
            return None
        mark, kind, fields, since, until = self.vocabulary.keyed_kind(name, values)
        event = kind(None, None, *map(values.get, fields)) if mark is None else kind(None, None, mark)
        return self._narrow_release(event, since, until)

    def make_positional(self, name: bytes, values: Sequence[int]) -> Event | None:
        """Return the event of this name from raw arguments in their order; a text is a pointer here, so unknown."""
        fitting = [
            layout
            for layout in self.vocabulary.layouts.get(name, ())
            if len(layout.conversions) == len(values)
            and all(
                value > _MAX_NUMBERED or value == 0
                for conversion, value in zip(layout.conversions, values, strict=True)
                if conversion in "sw"
            )
        ]
        given: dict[str, Any] = {}
        if fitting:
            # A pointer reads as a number too, so the layout with more texts is better.
            layout = max(fitting, key=lambda layout: sum(conversion in "sw" for conversion in layout.conversions))
            for field, conversion, value in zip(layout.row.fields.split(), layout.conversions, values, strict=True):
                if field != "_" and conversion not in "sw":
                    given[field] = CONVERSIONS["d" if conversion == "x" else conversion][1](b"%d" % value)
        return self.make(name, given)

    def decode_values(self, name: bytes, values: Sequence[bytes]) -> Parsed:
        """Decode an event from the values of all its arguments in their order, numbers in decimal.

        The values are put into QEMU's own format string, so that a layout which depends on a value is found too.
        """
        layouts = self.vocabulary.layouts.get(name)
        if layouts is None:
            return None
        # The shortest format adds the fewest words to a value that decides the meaning: `%w` before `dst-%s`.
        for layout in sorted(layouts, key=lambda layout: len(layout.row.format)):
            if len(layout.conversions) == len(values):
                parsed = self.decode(name + b" " + _format(layout.row.format, values))
                if parsed is not MALFORMED:
                    return parsed
        return self.make(name, {}) if not values else MALFORMED

    def hint(self, hint: Hint, detail: str = "") -> None:
        """Record a reason why a line was not understood."""
        if len(self.hints) < _MAX_HINTS:
            self.hints[hint, detail] = None

    def remember(self, text: bytes, event: Event) -> None:
        """Cache an event by its text, if the text is likely to be repeated."""
        if type(event) in _UNREPEATED or len(text) > _MAX_CACHED_BYTES:
            return
        known = self.known(event.thread)
        if len(known) >= _MAX_CACHED:
            known.clear()
        known[text] = event

    def forget(self) -> None:
        """Empty the cache, to free its memory while no migration is open."""
        without_thread = self._known[None]
        without_thread.clear()
        self._known = {None: without_thread}

    def change_meanings(self) -> None:
        """Empty the cache, because its texts have another meaning from now on."""
        self.forget()
        self.meanings += 1

    @property
    def releases(self) -> tuple[Release, Release]:
        """First and last release that this QEMU may be of."""
        return self._since, self._until

    def restore(self, releases: tuple[Release, Release]) -> None:
        """Continue with the range of releases of an earlier decoder."""
        self._since, self._until = releases

    def _of_thread(self, event: Event, thread: int | None) -> Event:
        return event if thread is None else new_event(event.__class__, (None, thread, *event[2:]))

    def _narrow_release(self, event: Event, since: Release, until: Release) -> Event:
        """Narrow the range of releases, then return the event with its meaning in that range."""
        if since > self._since or until < self._until:
            since, until = max(self._since, since), min(self._until, until)
            if since <= until:  # a vendor's backport may contradict: the first layouts win
                self._since, self._until = since, until
                self.change_meanings()
        if isinstance(event, StateNumbered):
            return StateSet(event.at_ns, event.thread, self._state_name(event.number))
        if isinstance(event, RunStateNumbered):
            return RunStateSet(event.at_ns, event.thread, _run_state_name(event.number), None)
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


def _is_of_device(event: Event) -> bool:
    return isinstance(event, (SectionStarted, SectionEnded, DeviceSaved)) and event.idstr not in _REPEATED_NAMES


def _run_state_name(number: int | None) -> str | None:
    return _RUN_STATES_TO_3_1[number] if number is not None and 0 <= number < len(_RUN_STATES_TO_3_1) else None


def _format(text: str, values: Sequence[bytes]) -> bytes:
    """Return a format string of the vocabulary filled with values."""
    rest = iter(values)

    def put(conversion: re.Match[str]) -> str:
        if conversion[0] == "%%":
            return "%"
        value = next(rest)
        if not value.isdigit() or len(value) > _MAX_DIGITS:
            return value.decode("utf-8", "replace")
        if conversion[0] == "%d" and int(value) >= 1 << 63:  # a negative number printed without its sign
            return str(int(value) - (1 << 64))
        return f"{int(value):x}" if conversion[0] == "%x" else value.decode()

    return re.sub(r"%%|%[a-z]", put, text).encode()
