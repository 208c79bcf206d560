"""Output of hand-written SystemTap scripts: marks by name, arguments as `key:value`, function probes, backtraces.

    process("/usr/libexec/qemu-kvm").mark("savevm_state_iterate")             pn(), and pp() of SystemTap before 4
    process("/usr/libexec/qemu-kvm").statement(0x44e04c) $arg1=0x4082000 …    pp() and $$vars of SystemTap 4
    savevm_state_iterate                                                      $$name
    migrate_pending pending_size:671830016 max_size:0 pend_post:…             the script author's own printf
    qmp_migrate uri:fd:migrate                                                a function probe
     0x7f9b71b2ee30 : qmp_migrate+0x0/0x2e0 [/usr/libexec/qemu-kvm]           print_ubacktrace()

These lines have no time and no process. Keys are the author's own, see `arguments`. An address is the Location of the
mark in the binary's `.note.stapsdt` section; only with that binary it has a name (`ParserOptions.mark_addresses`).

Many scripts have two probes for one event: a wildcard that prints every name, and a printf with the arguments of some.
Such an event is read once: its line without arguments then counts as an event that changes nothing.

A script prints each event in one way. `_LearntPrintf` is the pattern of one such way, learnt from its first line, so
that later lines are parsed by a single match.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final

from qemu_migration_exporter.core.events import (
    BacktraceFrame,
    Event,
    FunctionCalled,
    SignalEvent,
    StateNumbered,
    StateSet,
    SyncEnded,
)
from qemu_migration_exporter.core.parsing.arguments import ArgumentNames, Reader, read_whole
from qemu_migration_exporter.core.parsing.columns import Columns, NumberTexts, whole
from qemu_migration_exporter.core.parsing.decoder import MALFORMED, Decoder, Malformed, Parsed
from qemu_migration_exporter.core.parsing.formats import diagnostics
from qemu_migration_exporter.core.parsing.hints import Hint
from qemu_migration_exporter.core.parsing.prefilter import LinePrefilter, alternation
from qemu_migration_exporter.core.parsing.vocabulary import FUNCTIONS, Vocabulary
from qemu_migration_exporter.core.terms import Signal

_MARK: Final = re.compile(
    rb'process\("[^"]*"\)\.(?:(?:provider\("\w+"\)\.)?mark\("(\w+)"\)|statement\((0x[0-9a-f]{1,16})\))'
    rb"(?: ((?:\$\w+=\S*(?: |$))*))?\s*"
)
_MARK_START: Final = b'process("'
_VARIABLE: Final = re.compile(rb"\$arg\d+=0x([0-9a-f]{1,16})(?!\S)")
_FRAME: Final = re.compile(rb"\s*(0x[0-9a-f]+(?: : .*)?)", re.DOTALL)
_BEFORE_NAME: Final = (b"enter", b"end", b"exit", b"leave", b"return")
_NAMED: Final = re.compile(rb"(?:(?:" + b"|".join(_BEFORE_NAME) + rb") )?([A-Za-z_]\w*)(?: (.*))?", re.DOTALL)
#: The key is matched possessively: a line of one long word would otherwise be tried from each of its letters.
_PAIR: Final = re.compile(rb"(?<!\w)(\w++)[:=](\S*)")
_PAIRS: Final = re.compile(rb"\w+[:=]\S*(?: \w+[:=]\S*)*")

_SEEN_ELSEWHERE: Final = SignalEvent(None, None, Signal.OTHER)


def detect(line: bytes, decoder: Decoder) -> str | None:
    """Return this format's name if the line can be of no other."""
    if _MARK.fullmatch(line):
        return "systemtap"
    match = _NAMED.fullmatch(line)
    if match is None:
        return None
    name, arguments = match.groups()
    if name in FUNCTIONS and arguments is not None:
        return "systemtap"
    pairs = arguments is not None and decoder.knows(name) and _PAIR.match(arguments)
    return "systemtap" if pairs and isinstance(decoder.decode(line), Malformed) else None


@cache
def signal_patterns(vocabulary: Vocabulary) -> tuple[bytes, ...]:
    """Return the prefilter's patterns. A mark, whole or torn, begins with a p."""
    beginnings = alternation([b"p", b" ", *_BEFORE_NAME, *FUNCTIONS, *vocabulary.names])
    return (
        rb'"' + vocabulary.name_pattern,
        diagnostics.COLON,
        diagnostics.NEWLINE + rb"(?:" + beginnings + rb"|" + diagnostics.message(vocabulary) + rb")",
    )


@cache
def _prefilter(vocabulary: Vocabulary) -> LinePrefilter:
    # The noise of this format is marks that are not in the vocabulary.
    return LinePrefilter(rb'\n(?!\Z|process\("[^"\n]*"\)\.mark\("(?!' + vocabulary.name_pattern + rb')\w+"\)\n)')


class SystemTap:
    """Parser of the output of one script."""

    name = "systemtap"
    timed = per_cpu = monotonic = False

    def __init__(self, decoder: Decoder) -> None:
        self.process: int | None = None
        self._decoder = decoder
        self._recall = decoder.recall
        self._printfs: dict[bytes, _LearntPrintf | None] = {}
        #: Names printed with arguments, and the name that the last line printed alone.
        self._with_arguments: set[bytes] = set()
        self._last_alone: bytes | None = None

    @property
    def prefilter(self) -> LinePrefilter:
        """See `qemu_migration_exporter.core.parsing.formats.Format`."""
        return _prefilter(self._decoder.vocabulary)

    def claims(self, line: bytes) -> bool:
        """See `qemu_migration_exporter.core.parsing.formats.Format`."""
        return line.startswith((b" ", _MARK_START))

    def split(self, lines: Sequence[bytes]) -> Columns:
        """See `qemu_migration_exporter.core.parsing.formats.Format`."""
        return whole(lines)

    def accept(self, processes: Sequence[int | None]) -> None:
        """See `qemu_migration_exporter.core.parsing.formats.Format`."""

    def parse(self, line: bytes) -> Parsed:
        """See `qemu_migration_exporter.core.parsing.formats.Format`."""
        event = self._recall(line)
        if event is not None:
            return event
        name, _, arguments = line.partition(b" ")
        printf = self._printfs.get(name)
        if printf is not None and (event := printf.event(arguments)) is not None:
            return event
        mark = _MARK.fullmatch(line)
        if mark is not None:
            return self._mark(mark, line)
        if line.startswith(b" "):
            return self._frame(line)
        named = _NAMED.fullmatch(line)
        if named is not None:
            name, arguments = named.groups()
            if name in FUNCTIONS:
                called = FunctionCalled(None, None, name.decode())
                self._decoder.remember(line, called)
                return called
            if self._decoder.knows(name):
                return self._printed(name, arguments, line)
        return self._torn(line)

    def _frame(self, line: bytes) -> Event | None:
        """Return a frame of a backtrace; the same functions call each sync."""
        match = _FRAME.fullmatch(line)
        if match is None:
            return None
        frame = BacktraceFrame(None, None, match[1].decode("utf-8", "replace"))
        self._decoder.remember(line, frame)
        return frame

    def _mark(self, mark: re.Match[bytes], line: bytes) -> Parsed:
        name, address, variables = mark.groups()
        if address is not None:
            name = self._decoder.options.mark_addresses.get(int(address, 16))
            if name is None:
                return self._unknown_address()
        if variables:
            return self._decoder.make_positional(name, [int(value, 16) for value in _VARIABLE.findall(variables)])
        return self._alone(name, line)

    def _alone(self, name: bytes, line: bytes) -> Event | None:
        """Return the event of a name without arguments, unless another probe prints it with them."""
        if name in self._with_arguments:
            self._decoder.remember(line, _SEEN_ELSEWHERE)
            return _SEEN_ELSEWHERE
        event = self._decoder.make(name, {})
        if event is not None:
            self._decoder.remember(line, event)
            self._last_alone = name
        return event

    def _unknown_address(self) -> Malformed | None:
        """Return noise for a mark of the binary that is not in the vocabulary, malformed without the binary."""
        if self._decoder.options.mark_addresses:
            return None
        self._decoder.hint(Hint.MARK_ADDRESSES)
        return MALFORMED

    def _printed(self, name: bytes, arguments: bytes | None, line: bytes) -> Parsed:
        if not arguments:  # $$name
            return self._alone(name, line)
        last_alone, self._last_alone = self._last_alone, None
        parsed = self._decoder.decode(name + b" " + arguments)
        if not isinstance(parsed, Malformed):
            return parsed
        names = self._decoder.argument_names
        pairs = _PAIR.findall(arguments)
        values = names.values(name, pairs)
        for key in names.unknown(name, [key for key, _ in pairs]):
            self._decoder.hint(Hint.UNKNOWN_KEY, f"{name.decode()} {key}")
        if values is None:
            if self._decoder.vocabulary.keyed_kind(name, ()).mark is not None and _PAIRS.fullmatch(arguments):
                return self._decoder.make(name, {})
            return self._torn(line) or MALFORMED
        if name not in self._with_arguments:
            self._with_arguments.add(name)
            self._decoder.change_meanings()  # the name alone was an event so far
        if name not in self._printfs and _PAIRS.fullmatch(arguments):
            printf = self._printfs[name] = _learn(self._decoder, name, values, pairs)
            if printf is not None and printf.numbers is not None:
                self._decoder.numbers[name] = printf.numbers
        event = self._decoder.make(name, values)
        return _SEEN_ELSEWHERE if last_alone == name and isinstance(event, SyncEnded) else event

    def _torn(self, line: bytes) -> Parsed:
        if line and _MARK_START.startswith(line[: len(_MARK_START)]):
            return Malformed(self._glued(line))
        glued = self._glued(line)
        return diagnostics.parse(line, self._decoder) if glued is None else Malformed(glued)

    def _glued(self, line: bytes) -> Event | None:
        """Return the event of a whole line behind the torn beginning of another, or of several."""
        mark = _MARK.fullmatch(line, max(0, line.rfind(_MARK_START)))
        return self._decoder.make(mark[1], {}) if mark and mark[1] else None


def _learn(
    decoder: Decoder, name: bytes, values: dict[str, Any], pairs: list[tuple[bytes, bytes]]
) -> _LearntPrintf | None:
    """Learn a printf from a line of it; None if the release or the text itself decides the event's meaning."""
    keyed = decoder.vocabulary.keyed_kind(name, values)
    by_release = keyed.kind in {StateNumbered, SyncEnded, StateSet}
    if keyed.mark is not None or by_release or decoder.vocabulary.begins_with_key(name):
        return None
    return _LearntPrintf(decoder.argument_names, name, [key for key, _ in pairs], keyed.kind, keyed.fields)


class _LearntPrintf:
    """One way in which a script prints one event.

    Args:
        names: The keys of events.
        name: The event's name.
        keys: The keys, in the order in which the script prints them.
        kind, fields: The event's type, and its fields in their order.
    """

    def __init__(
        self, names: ArgumentNames, name: bytes, keys: list[bytes], kind: Callable[..., Event], fields: tuple[str, ...]
    ) -> None:
        self._match = re.compile(b" ".join(re.escape(key) + rb"[:=](\S*)" for key in keys)).fullmatch
        self._kind = kind
        printed = {}
        for group, key in enumerate(keys):
            field = names.field(name, key)
            if field is not None:
                printed[field[0]] = group, field[1]
        self._reads = [printed.get(field) for field in fields]
        self.numbers = _numbers(name, keys, kind, self._reads)

    def event(self, arguments: bytes) -> Event | None:
        """Return the event; None if the arguments were printed in another way, or are not numbers."""
        match = self._match(arguments)
        if match is None:
            return None
        groups = match.groups()
        try:
            return self._kind(None, None, *[read and read[1](groups[read[0]]) for read in self._reads])
        except ValueError:  # the line counts as malformed
            return None


def _numbers(
    name: bytes, keys: Sequence[bytes], kind: Callable[..., Event], reads: Sequence[tuple[int, Reader] | None]
) -> NumberTexts | None:
    """Return the printf for texts that are decoded together; None if its values are not whole numbers."""
    used = sorted({read[0] for read in reads if read is not None})
    if len(used) < 2 or any(read is not None and read[1] is not read_whole for read in reads):  # noqa: PLR2004 - see NumberTexts
        return None
    values = [rb"(-?\d{1,20})" if group in used else rb"\S*" for group in range(len(keys))]
    arguments = b" ".join(re.escape(key) + rb"[:=]" + value for key, value in zip(keys, values, strict=True))
    return NumberTexts(name, arguments, kind, [None if read is None else used.index(read[0]) for read in reads])
