"""What hand-written SystemTap scripts print: marks by name, arguments as `key:value`, function probes, backtraces.

    process("/usr/libexec/qemu-kvm").mark("savevm_state_iterate")             pp() of a mark, without its arguments
    migrate_pending pending_size:671830016 max_size:0 pend_post:…             the script author's own printf
    qmp_migrate uri:fd:migrate                                                a function probe
     0x7f9b71b2ee30 : qmp_migrate+0x0/0x2e0 [/usr/libexec/qemu-kvm]           print_ubacktrace()

There is no time and no process in these lines. Keys are whatever their author typed, so each argument has aliases.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from qemu_migration_exporter.core.events import BacktraceFrame, Event, FunctionCalled
from qemu_migration_exporter.core.parsing.decoder import MALFORMED, Decoder, Malformed, Parsed, bandwidth_of
from qemu_migration_exporter.core.parsing.formats import diagnostics
from qemu_migration_exporter.core.parsing.prefilter import LinePrefilter, any_of

_MARK: Final = re.compile(rb'process\("[^"]*"\)\.(?:mark|provider\("\w+"\)\.mark)\("(\w+)"\)\s*')
_MARK_START: Final = b'process("'
_FRAME: Final = re.compile(rb"\s*(0x[0-9a-f]+(?: : .*)?)", re.DOTALL)
_BEFORE_NAME: Final = (b"enter", b"end", b"exit", b"leave", b"return")
_NAMED: Final = re.compile(rb"(?:(?:" + b"|".join(_BEFORE_NAME) + rb") )?([A-Za-z_]\w*)(?: (.*))?", re.DOTALL)
#: A key is looked for at its beginning and taken whole, or a line of one long word would be tried from each letter on.
_PAIR: Final = re.compile(rb"(?<!\w)(\w++)[:=](\S*)")
_PAIRS: Final = re.compile(rb"\w+[:=]\S*(?: \w+[:=]\S*)*")

#: Functions of QEMU that people probe beside its marks. `migrate_fd_connect` is `migration_connect` since 10.2.
FUNCTIONS: Final = frozenset(
    {b"qmp_migrate", b"fd_start_outgoing_migration", b"migrate_fd_connect", b"migration_connect",
     b"migration_bitmap_sync", b"bitmap_set"}
)  # fmt: skip

#: Key as printed → field of the event. QEMU's own argument names come first, then what people type instead.
_KEYS: Final[Mapping[bytes, Mapping[str, str]]] = {
    b"migrate_set_state": {"new_state": "state", "state": "state"},
    b"migrate_pending": {
        "size": "size", "pending_size": "size", "pending": "size", "pend": "size",
        "max": "threshold", "max_size": "threshold", "threshold": "threshold",
    },
    b"migrate_transferred": {
        "tranferred": "transferred", "transferred": "transferred", "transferred_bytes": "transferred",
        "transterred_bytes": "transferred", "time_spent": "time_spent_ms", "bandwidth": "bandwidth",
        "avail_bw": "switchover_bandwidth", "size": "threshold", "max_size": "threshold", "threshold": "threshold",
    },
    b"migration_bitmap_sync_end": {"dirty_pages": "dirty_pages", "dirty": "dirty_pages"},
    b"migration_thread_low_pending": {"pending": "pending", "pending_size": "pending"},
    b"savevm_section_start": {"id": "idstr", "idstr": "idstr", "section_id": "section_id"},
    b"savevm_section_end": {"id": "idstr", "idstr": "idstr", "section_id": "section_id"},
    b"vmstate_save": {"idstr": "idstr", "id": "idstr", "vmsd_name": "vmsd_name", "vmsd": "vmsd_name"},
    b"vmstate_downtime_save": {
        "type": "kind", "idstr": "idstr", "instance_id": "instance_id", "downtime": "downtime_us",
    },
    b"savevm_send_ping": {"val": "value", "value": "value"},
    b"cpu_throttle_set": {"new_throttle_pct": "percentage", "pct": "percentage"},
    b"migrate_fd_error": {"error_desc": "text", "error": "text"},
    b"migrate_error": {"error_desc": "text", "error": "text"},
}  # fmt: skip
_PENDING_KEYS: Final = _KEYS[b"migrate_pending"]
_SAME_KEYS: Final = {b"migrate_pending_estimate": _PENDING_KEYS, b"migrate_pending_exact": _PENDING_KEYS}

#: Lines of marks that are known by heart; QEMU has fewer marks that concern a migration.
_MAX_KNOWN: Final = 512

#: A sign and the digits of 64 bits.
_MAX_DIGITS: Final = 21


def _whole(printed: bytes) -> int:
    if len(printed) > _MAX_DIGITS:
        raise ValueError(printed)
    return int(printed)


def _text(printed: bytes) -> str:
    return printed.decode("utf-8", "replace")


#: How the fields that are not whole numbers are read.
_READERS: Final[Mapping[str, Callable[[bytes], Any]]] = {
    "bandwidth": lambda printed: bandwidth_of(_text(printed)),
    "state": _text, "text": _text, "idstr": _text, "vmsd_name": _text, "kind": _text,
}  # fmt: skip


def recognise(line: bytes, decoder: Decoder) -> str | None:
    """Name this format if the line can be of no other."""
    if _MARK.fullmatch(line):
        return "systemtap"
    match = _NAMED.fullmatch(line)
    if match is None:
        return None
    name, arguments = match.groups()
    if name in FUNCTIONS and arguments is not None:
        return "systemtap"
    pairs = arguments is not None and decoder.knows(name) and _PAIR.match(arguments)
    return "systemtap" if pairs and isinstance(decoder.decode(name, arguments, None, None), Malformed) else None


def telling(decoder: Decoder) -> tuple[bytes, ...]:
    """Write what a line has somewhere in it that is no noise. A mark, whole or torn, begins with a p."""
    beginnings = any_of([b"p", b" ", *_BEFORE_NAME, *FUNCTIONS, *decoder.names])
    return (
        rb'"' + any_of(decoder.names),
        diagnostics.COLON,
        rb"\n(?:" + beginnings + rb"|" + diagnostics.torn_end(decoder) + rb")",
    )


class SystemTap:
    """Read the lines of one script's output."""

    name = "systemtap"
    timed = False
    per_cpu = False

    def __init__(self, decoder: Decoder) -> None:
        self.process: int | None = None
        # What makes noise here are marks that nobody asks for.
        self.sieve = LinePrefilter(
            rb'\n(?!\Z|process\("[^"\n]*"\)\.mark\("(?!' + any_of(decoder.names) + rb')\w+"\)\n)'
        )
        self._decoder = decoder
        self._known = decoder.known_texts
        self._printfs: dict[bytes, _Printf | None] = {}

    def parse(self, line: bytes) -> Parsed:
        """Read one line, see `qemu_migration_exporter.core.parsing.formats.Format`."""
        name, _, arguments = line.partition(b" ")
        printf = self._printfs.get(name)
        if printf is not None and (event := printf.event(arguments)) is not None:
            return event
        mark = _MARK.fullmatch(line)
        if mark is not None:
            return self._marked(mark[1], line)
        if line.startswith(b" "):
            frame = _FRAME.fullmatch(line)
            return BacktraceFrame(None, None, frame[1].decode("utf-8", "replace")) if frame else None
        named = _NAMED.fullmatch(line)
        if named is not None:
            name, arguments = named.groups()
            if name in FUNCTIONS:
                return FunctionCalled(None, None, name.decode())
            if self._decoder.knows(name):
                return self._printed(name, arguments or b"", line)
        return self._torn(line)

    def _marked(self, name: bytes, line: bytes) -> Event | None:
        event = self._decoder.make(name, {})
        if event is not None and len(self._known) < _MAX_KNOWN:
            self._known[line] = event
        return event

    def _printed(self, name: bytes, arguments: bytes, line: bytes) -> Parsed:
        parsed = self._decoder.decode(name, arguments, None, None)
        if not isinstance(parsed, Malformed):
            return parsed
        values = _values(name, arguments)
        if values is None:
            return self._torn(line) or MALFORMED
        if name not in self._printfs and _PAIRS.fullmatch(arguments):
            lasting = self._decoder.kind_of(name, values)
            self._printfs[name] = _Printf(name, arguments, *lasting) if lasting is not None else None
        return self._decoder.make(name, values)

    def _torn(self, line: bytes) -> Parsed:
        if line and _MARK_START.startswith(line[: len(_MARK_START)]):
            return Malformed(self._glued(line))
        glued = self._glued(line)
        return diagnostics.parse(line, self._decoder) if glued is None else Malformed(glued)

    def _glued(self, line: bytes) -> Event | None:
        """Find the event of a whole line behind the torn beginning of another, or of several."""
        mark = _MARK.fullmatch(line, max(0, line.rfind(_MARK_START)))
        return self._decoder.make(mark[1], {}) if mark else None


class _Printf:
    """What a script's author had printed of one event, learnt from a line of it: the next ones differ in the values.

    Args:
        name: The event's name.
        arguments: Pairs, and nothing else.
        kind, fields: What the event is, and the fields of that in their order.
    """

    def __init__(self, name: bytes, arguments: bytes, kind: Callable[..., Event], fields: tuple[str, ...]) -> None:
        pairs = _PAIR.findall(arguments)
        self._match = re.compile(b" ".join(re.escape(key) + rb"[:=](\S*)" for key, _ in pairs)).fullmatch
        self._kind = kind
        printed = {_FIELDS[name][key][0]: group for group, (key, _) in enumerate(pairs) if key in _FIELDS[name]}
        self._reads = [(printed[each], _READERS.get(each, _whole)) if each in printed else None for each in fields]

    def event(self, arguments: bytes) -> Event | None:
        """Make the event; None where these arguments were printed in another way, or say no number."""
        match = self._match(arguments)
        if match is None:
            return None
        groups = match.groups()
        try:
            return self._kind(None, None, *[each and each[1](groups[each[0]]) for each in self._reads])
        except ValueError:  # it is counted as malformed
            return None


def _values(name: bytes, arguments: bytes) -> dict[str, Any] | None:
    """Read `key:value` pairs; None where no key is known or a value is not readable."""
    fields = _FIELDS.get(name, {})
    values: dict[str, Any] = {}
    try:
        for key, value in _PAIR.findall(arguments):
            field = fields.get(key)
            if field is not None:
                values[field[0]] = field[1](value)
        if values.get("state", "").isdecimal():
            values["number"] = _whole(values.pop("state").encode())  # up to 2.10 the state is a number
    except ValueError:  # it is counted as malformed
        return None
    return values or None


#: Key as printed → field of the event and how it is read, by the event's name.
_FIELDS: Final[Mapping[bytes, Mapping[bytes, tuple[str, Callable[[bytes], Any]]]]] = {
    name: {key.encode(): (field, _READERS.get(field, _whole)) for key, field in keys.items()}
    for name, keys in {**_KEYS, **_SAME_KEYS}.items()
}
