r"""Text around each event: added by a log collector, a shell, an author's script, or a JSON logger.

    Sep 21 14:40:00 pve1 kvm[4001]: 4001@1790001200.000000:migrate_set_state new state setup           journalctl
    vm1  | 4001@1790001200.000000:migrate_set_state new state setup                                    docker compose
    (qemu) migrate_set_state new state setup                                                           HMP on a terminal
    1795808087195049 qemu-kvm(382) process("/usr/libexec/qemu-kvm").mark("savevm_state_header")        a printf's prefix
     live_migration-4100  [003]  5321.002000: tracing_mark_write:   savevm_state_header                ftrace
    {"level":"info","msg":"4001@1790001200.000000:migrate_set_state new state setup","pid":7}          virt-launcher
    level=info msg="4001@1790001200.000000:migrate_set_state new state setup"                          logfmt
    web.log:12:4001@1790001200.000000:migrate_set_state new state setup                                grep -Hn

No tool is known by name here. If a line is not an event, but a part of it is, then the text before that part becomes a
*shape*: digits match digits, words match words, and punctuation matches itself. Between quotes the shape is the key.
Later lines of that shape are opened by one match, and the stream's format parses the part inside. Colours of a terminal
are removed first.

Only a part that is strong evidence makes a shape: a whole event with a time, or with arguments that fit a layout. Text
that contains an event's time or name is the torn beginning of another line, not an envelope.

Some prefixes hold a time of at least a millisecond's precision. It becomes the time of events that have none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache
from itertools import islice
from typing import Final, NamedTuple

from qemu_migration_exporter.core.parsing.prefilter import alternation
from qemu_migration_exporter.core.parsing.vocabulary import FUNCTIONS, Vocabulary

_MAX_SHAPES: Final = 16
#: Bounds the time spent on hostile lines: parts tried in a line, and useless shapes in a stream.
_MAX_PARTS: Final = 4
_MAX_FAILED_SHAPES: Final = 1_000
#: Lines kept that taught nothing, because a script repeats its noise in each migration.
_MAX_BARREN: Final = 16
_MAX_PREFIX_BYTES: Final = 512

_BOM: Final = b"\xef\xbb\xbf"

#: The beginning of an event or of an event's name, in the text before a part.
_TORN: Final = re.compile(rb'\d@\d|process\("')
#: The group of a probe in the output of perf and bpftrace, whose arguments cannot be read.
_TRACEPOINT: Final = re.compile(rb"(?:sdt|probe)[_:][\w:./-]*:$")
_WORD: Final = re.compile(rb"[A-Za-z_]\w*")
#: The end of a prefix.
_PREFIX_END: Final = (b" ", b"\t", b":", b"|", b">", b"]", b"=", b"+", b"-", _BOM)
#: The text before a quoted part, up to its quote: a key of JSON or logfmt, a separator, or nothing.
_QUOTED_KEY: Final = re.compile(rb'((?:"(?:[^"\\]|\\.)*"\s*:\s*|[\w.@-]+=|[,(]\s*|^\s*)["\'`])$')
#: Quote → the text up to the closing quote.
_QUOTED_TEXT: Final = {
    b'"': rb'((?:[^"\\]|\\.)*)"',
    b"'": rb"((?:[^'\\]|\\.)*)'",
    b"`": rb"([^`]*)`",
}
#: The beginning of a part, behind a prefix that does not end with a blank.
_PART: Final = rb"(?=\d{1,10}(?:/\d{1,10})?@\d|\d{4}-\d\d-\d\dT|[a-z_]| 0x)"
#: A sequence that sets colours of a terminal; a checkpoint keeps its first sign as a sample.
_COLOUR: Final = re.compile(rb"\x1b\[[0-9;]*m")
_ESCAPE: Final = b"\x1b"

_NS_PER_SECOND: Final = 1_000_000_000


class _Time(NamedTuple):
    """A way to print a time in a prefix.

    Attributes:
        pattern: The token, with the time in a group.
        read: The time in nanoseconds.
        monotonic: True if it counts from the boot of the host.
    """

    pattern: re.Pattern[bytes]
    read: Callable[[bytes], int]
    monotonic: bool


def _decimal_seconds(text: bytes) -> int:
    seconds, _, fraction = text.partition(b".")
    return int(seconds) * _NS_PER_SECOND + int(fraction[:9].ljust(9, b"0"))


def _iso(text: bytes) -> int:
    moment = datetime.fromisoformat(text.decode())  # the offset is part of the pattern
    fraction = re.search(rb"\.(\d+)", text)
    whole_seconds = int(moment.replace(microsecond=0).astimezone(UTC).timestamp())
    return whole_seconds * _NS_PER_SECOND + int((fraction[1] if fraction else b"")[:9].ljust(9, b"0"))


_TIMES: Final = (
    _Time(re.compile(rb"\[?(1\d{18})[\]:]?"), int, monotonic=False),
    _Time(re.compile(rb"\[?(1\d{15})[\]:]?"), lambda text: int(text) * 1_000, monotonic=False),
    _Time(re.compile(rb"\[?(1\d{12})[\]:]?"), lambda text: int(text) * 1_000_000, monotonic=False),
    _Time(re.compile(rb"\[?(1\d{9}\.\d{3,9})[\]:]?"), _decimal_seconds, monotonic=False),
    _Time(re.compile(rb"\[?(\d{1,9}\.\d{6,9})[\]:]?"), _decimal_seconds, monotonic=True),
    _Time(re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3,9}(?:Z|[+-]\d\d:?\d\d))"), _iso, monotonic=False),
)


class Shape(NamedTuple):
    """The common text of some lines around their events.

    Attributes:
        sample: The text from which the shape was made; a checkpoint keeps it.
        find: Searches a line for the envelope.
        time: The format of the time in the envelope, or None.
        is_quoted: True if the part is between quotes, in the match's last group.
    """

    sample: bytes
    find: Callable[[bytes], re.Match[bytes] | None]
    time: _Time | None
    is_quoted: bool

    def open(self, line: bytes) -> tuple[bytes, int | None] | None:
        """Return the part inside the envelope and its time; None if the line has another shape."""
        match = self.find(line)
        if match is None:
            return None
        if self.is_quoted:
            return _unescape(match[1]), None
        return line[match.end() :], self._at_ns(match)

    def _at_ns(self, match: re.Match[bytes]) -> int | None:
        if self.time is None:
            return None
        try:
            return self.time.read(match[1])
        except (ValueError, OverflowError):  # 2026-02-30: the event is read, its time is unknown
            return None


_COLOURS: Final = Shape(_ESCAPE, _COLOUR.search, None, is_quoted=False)


class Envelopes:
    """The shapes of one stream.

    Args:
        vocabulary: The events to look for.
        samples: The samples of an earlier stream's shapes.
    """

    def __init__(self, vocabulary: Vocabulary, samples: tuple[bytes, ...] = ()) -> None:
        self._vocabulary = vocabulary
        self.shapes = [_COLOURS if sample == _ESCAPE else _shape(sample) for sample in samples]
        self._failed_shapes = 0
        self._barren: set[bytes] = set()

    @property
    def samples(self) -> tuple[bytes, ...]:
        """A sample of each shape, from which the shape can be made again."""
        return tuple(shape.sample for shape in self.shapes)

    @property
    def time(self) -> _Time | None:
        """The time format of the first shape with a time."""
        return next((shape.time for shape in self.shapes if shape.time is not None), None)

    def open(self, line: bytes) -> Iterator[tuple[bytes, int | None]]:
        """Return the part inside the line by each shape that fits, with the time in the envelope."""
        for shape in self.shapes:
            if shape is _COLOURS:  # the first shape
                line = _COLOUR.sub(b"", line)
                yield line, None
                continue
            opened = shape.open(line)
            if opened is not None:
                yield opened

    def learn(self, line: bytes, is_event: Callable[[bytes], bool]) -> bool:
        """Learn a shape from a line that is not an event; return whether a part of the line is an event.

        Args:
            line: The line.
            is_event: Returns whether the stream's format reads a part as an event.
        """
        if len(self.shapes) >= _MAX_SHAPES or self._failed_shapes >= _MAX_FAILED_SHAPES:
            return False
        if _ESCAPE in line and _COLOURS not in self.shapes:
            plain = _COLOUR.sub(b"", line)
            has_event = is_event(plain) or self._learn_shape(plain, is_event)
            if has_event and plain != line:
                self.shapes.insert(0, _COLOURS)
            return has_event
        if line in self._barren:
            return False
        has_event = self._learn_shape(line, is_event)
        if not has_event and len(self._barren) < _MAX_BARREN and len(line) <= _MAX_PREFIX_BYTES:
            self._barren.add(line)
        return has_event

    def _learn_shape(self, line: bytes, is_event: Callable[[bytes], bool]) -> bool:
        for part in islice(_part_pattern(self._vocabulary).finditer(line), _MAX_PARTS):
            prefix = line[: part.start()]
            if not prefix:
                continue
            key = _QUOTED_KEY.search(prefix[-_MAX_PREFIX_BYTES:])
            sample = key[1] if key else prefix
            if key is None and not self._is_prefix(prefix):
                continue
            shape = _shape(sample)
            opened = shape.open(line)
            if opened is not None and _is_strong(opened[0]) and is_event(opened[0]):
                self.shapes.append(shape)
                return True
            self._failed_shapes += 1
        return False

    def _is_prefix(self, prefix: bytes) -> bool:
        return (
            len(prefix) <= _MAX_PREFIX_BYTES
            and prefix.endswith(_PREFIX_END)
            and _TORN.search(prefix) is None
            and _TRACEPOINT.search(prefix) is None
            and not any(self._is_name(word) for word in _WORD.findall(prefix))
        )

    def _is_name(self, word: bytes) -> bool:
        """Return whether a word is a name of the vocabulary, or the torn beginning of a name."""
        return word in self._vocabulary.layouts or (b"_" in word and self._vocabulary.is_torn_name(word))


@cache
def _part_pattern(vocabulary: Vocabulary) -> re.Pattern[bytes]:
    """Return the pattern of the beginning of an event inside a line."""
    name = vocabulary.name_pattern
    return re.compile(
        rb"(?<!\d)\d{1,10}@\d{9,11}\.\d{6}:" + name
        + rb"|(?<!\d)\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z " + name
        + rb"|(?<![\d/])\d{1,10}(?:/\d{1,10})?@\d{6,20} " + name
        + rb'|(?<=[ \t"`|>:=+])(?:anchor \d+ \d+\b|process\("|(?:' + alternation(FUNCTIONS) + rb") \w+[:=])"
        + rb'|(?<=[ \t"`|>:=+])' + name + rb"(?!:)"  # perf and LTTng put a colon behind it
    )  # fmt: skip


def _is_strong(part: bytes) -> bool:
    """Return whether a part has a time or arguments in addition to a name."""
    return bool(part.partition(b" ")[2].strip()) or b"@" in part or b"(" in part


def _shape(sample: bytes) -> Shape:
    quote = sample[-1:]
    if quote in _QUOTED_TEXT:
        before = rb"^\s*" + quote if sample.strip() == quote else re.escape(sample)
        return Shape(sample, re.compile(before + _QUOTED_TEXT[quote]).search, None, is_quoted=True)
    pattern, time = b"", None
    for token in re.findall(rb"[ \t]+|[^ \t]+", sample):
        found = None if time is not None else next((way for way in _TIMES if way.pattern.fullmatch(token)), None)
        if found is not None:
            time = found
            pattern += found.pattern.pattern
        else:
            pattern += _token_pattern(token)
    trailing = sample[len(sample.rstrip(b" \t")) :]
    if trailing:  # a surplus blank belongs to the part: a backtrace's frame begins with a blank
        pattern = pattern.removesuffix(_BLANKS) + re.escape(trailing)
    elif time is None:
        pattern += _PART
    return Shape(sample, re.compile(pattern).match, time, is_quoted=False)


_BLANKS: Final = rb"[ \t]+"


def _token_pattern(token: bytes) -> bytes:
    """Return a pattern that matches similar tokens; behind the last token, a part may follow without a blank."""
    if token.isspace():
        return _BLANKS
    if token[:1].isdigit():
        return re.sub(rb"\d+", rb"\\d+", re.sub(rb"[^\w]", lambda sign: re.escape(sign[0]), token))
    if not re.search(rb"\w", token):
        return re.escape(token)
    start, end = re.match(rb"\W*", token), re.search(rb"\W*$", token)
    return re.escape(start[0] if start else b"") + rb"[^ \t]*?" + re.escape(end[0] if end else b"")


def _unescape(text: bytes) -> bytes:
    if b"\\" not in text:
        return text
    try:
        value: str = json.loads(b'"' + text + b'"', strict=False)
    except ValueError:  # an escape that JSON does not have: nothing to undo
        return text
    return value.rstrip("\r\n").encode("utf-8", "replace")
