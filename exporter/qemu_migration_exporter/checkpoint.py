"""State file: the daemon's memory over a restart, as versioned data.

JSON lines. The first line is the header, then one line per stream and per batch of spans:

    {"version":1,"saved_ns":…,"exporter":"0.1.0","sources":["/var/log/libvirt/qemu/*.log"],"streams":2,"batches":0}
    {"name":"/var/log/libvirt/qemu/web-42.log","position":[2049,1310,88123,0],"state":{…}}
    …

Streams, their positions, and the spans that are neither sent nor spooled are written to one file, which replaces the
old file in one step. So they are always of the same moment, even if the program is killed.

The core's states are dataclasses of plain values, which msgspec turns into JSON and back, checking every type. Fields
that this release does not know are ignored, and missing fields get their defaults, so releases of the same schema
version can read each other's files. Other changes raise the version and add a step to `MIGRATIONS`.
A file is as untrusted as a log: its size is bounded, a damaged line only loses its own stream, and every loss is
counted and logged.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

import qemu_migration_exporter
from qemu_migration_exporter.checkpoint_data import Checkpoint, StreamCheckpoint
from qemu_migration_exporter.core import changes
from qemu_migration_exporter.core.model import SurpriseKind
from qemu_migration_exporter.core.tracking.snapshot import StreamState, Withheld
from qemu_migration_exporter.core.tracking.stream import Counts
from qemu_migration_exporter.ops.errors import Component, ErrorCounter
from qemu_migration_exporter.ops.outputs import replace_file
from qemu_migration_exporter.sources import Position
from qemu_migration_exporter.tracing.export.sender import SpanBatch

#: Schema of the files written here. Adding a field with a default leaves it; renaming or retyping one raises it.
VERSION: Final = 1

_COUNTS: Final = ("lines", "events", "noise", "malformed")

#: Steps from a version to the next version, applied to a stream's line as parsed JSON.
MIGRATIONS: Final[Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]]] = {}

#: A stream is some 5 KB, and a round 230 bytes: a thousand migrations of 250 rounds, or 28 of the 10,000 that are kept.
MAX_BYTES: Final = 64 * 1024 * 1024


class _Header(msgspec.Struct, omit_defaults=True):
    version: int
    saved_ns: int = 0
    exporter: str = ""
    sources: tuple[str, ...] = ()
    streams: int = 0
    batches: int = 0
    reading: tuple[str, ...] = ()
    counters: dict[str, Any] = {}


class _StreamLine(msgspec.Struct, omit_defaults=True):
    """A stream; `raw_name` is a file name that is not UTF-8, and `boot` the boot in which its processes started."""

    position: Position
    state: StreamState
    name: str = ""
    raw_name: bytes = b""
    counts: dict[str, int] = {}
    surprises: dict[str, int] = {}
    processes: dict[int, int] = {}
    boot: str = ""


#: Changes that a tracker may withhold, by the name written beside them in the file.
_CHANGES: Final = {kind.__name__: kind for kind in changes.Change.__args__}


def _encode_custom(value: object) -> object:
    if isinstance(value, Withheld):
        return [[type(change).__name__, change] for change in value.changes]
    raise TypeError(f"no encoding for {type(value).__name__}")


def _decode_custom(kind: type, value: Any) -> object:  # noqa: ANN401 - parsed JSON
    if kind is Withheld:
        return Withheld([_decode_change(*tagged) for tagged in msgspec.convert(value, list[tuple[str, Any]])])
    raise TypeError(f"no decoding for {kind.__name__}")


def _decode_change(name: str, value: object) -> changes.Change:
    if name not in _CHANGES:
        raise ValueError(f"unknown change {name!r}")
    change: changes.Change = msgspec.convert(value, _CHANGES[name])
    return change


_ENCODER: Final = msgspec.json.Encoder(enc_hook=_encode_custom)
_STREAM_DECODER: Final = msgspec.json.Decoder(_StreamLine, dec_hook=_decode_custom)


def encode_stream(name: str, stream: StreamCheckpoint) -> bytes:
    """Encode one stream as its line of the file."""
    counts = stream.counts
    line = _StreamLine(position=stream.position, state=stream.state, processes=dict(stream.processes), boot=stream.boot)
    line.counts = {kind: getattr(counts, kind) for kind in _COUNTS}
    line.surprises = {str(kind): number for kind, number in counts.surprises.items()}
    try:
        name.encode()
        line.name = name
    except UnicodeEncodeError:  # a file's name may be any bytes
        line.raw_name = os.fsencode(name)
    return _ENCODER.encode(line)


def encode(
    streams: Sequence[bytes],
    sources: Sequence[str] = (),
    spans: Sequence[SpanBatch] = (),
    *,
    saved_ns: int = 0,
    reading: Sequence[str] = (),
    counters: Mapping[str, Any] | None = None,
) -> list[bytes]:
    """Build the lines of a file from those of its streams; joining them takes longer, and another thread may do it.

    Raises:
        OSError: The file would be larger than the limit for reading it back.
    """
    header = _Header(
        version=VERSION,
        saved_ns=saved_ns,
        exporter=qemu_migration_exporter.__version__,
        sources=tuple(source for source in sources if source.isprintable()),
        streams=len(streams),
        batches=len(spans),
        reading=tuple(name for name in reading if name.isprintable()),
        counters=dict(counters or {}),
    )
    lines = [_ENCODER.encode(header), *streams, *map(_ENCODER.encode, spans), b""]
    size = sum(map(len, lines)) + len(lines) - 1
    if size > MAX_BYTES:
        raise OSError(errno.EFBIG, f"it has {size} bytes, and at most {MAX_BYTES} are read back")
    return lines


def save(path: Path, lines: Sequence[bytes]) -> None:
    """Replace the state file; after a crash or on a full disk, the old file is kept.

    Raises:
        OSError: The file could not be replaced; the old file is unchanged.
    """
    replace_file(path, b"\n".join(lines), sync=True)


def load(path: Path, failures: ErrorCounter) -> Checkpoint:
    """Read a state file; a missing file is empty, and unusable content is counted and logged."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:  # as at the first start
        return Checkpoint()
    except OSError as error:
        failures.record(Component.STATE, "state file not read: %s: %s", path, error.strerror)
        return Checkpoint()
    try:
        return _decode(path, content, failures)
    except _UnusableError as error:
        failures.record(Component.STATE, "ignoring state file %s: %s", path, error)
        return Checkpoint()


class _UnusableError(ValueError):
    """A file without usable content."""


def _decode(path: Path, content: bytes, failures: ErrorCounter) -> Checkpoint:
    if len(content) > MAX_BYTES:
        raise _UnusableError(f"larger than {MAX_BYTES} bytes")
    first, *lines = content.split(b"\n")
    try:
        header = msgspec.json.decode(first, type=_Header)
    except (ValueError, RecursionError) as error:  # msgspec's own errors are ValueErrors
        raise _UnusableError(f"not a state file: {error}") from error
    if not 1 <= header.version <= VERSION:
        raise _UnusableError(f"schema version {header.version} of release {header.exporter!r}, expected 1 to {VERSION}")
    if lines and not lines[-1]:
        lines.pop()
    if len(lines) != header.streams + header.batches:
        found = f"{len(lines)} of {header.streams + header.batches} lines"
        failures.record(Component.STATE, "state file %s is cut: %s", path, found)
    streams: dict[str, StreamCheckpoint] = {}
    spans: list[SpanBatch] = []
    for number, line in enumerate(lines, start=2):
        try:
            if number < 2 + header.streams:
                name, stream = _decode_stream(line, header.version)
                streams[name] = stream
            else:
                spans.append(msgspec.json.decode(line, type=SpanBatch))
        except (ValueError, RecursionError) as error:  # msgspec's own errors are ValueErrors
            failures.record(Component.STATE, "state file %s: line %d ignored: %s", path, number, error)
    return Checkpoint(
        saved_ns=header.saved_ns,
        sources=frozenset(header.sources),
        streams=streams,
        spans=tuple(spans),
        reading=frozenset(header.reading),
        counters=header.counters,
    )


def _decode_stream(line: bytes, version: int) -> tuple[str, StreamCheckpoint]:
    if version == VERSION:
        decoded = _STREAM_DECODER.decode(line)
    else:
        fields = msgspec.json.decode(line, type=dict[str, Any])
        for step in range(version, VERSION):
            fields = MIGRATIONS[step](fields)
        decoded = msgspec.convert(fields, _StreamLine, dec_hook=_decode_custom)
    if min(decoded.position) < 0:
        raise ValueError("a position is negative")
    name = os.fsdecode(decoded.raw_name) if decoded.raw_name else decoded.name
    counts = Counts()
    for kind in _COUNTS:
        setattr(counts, kind, decoded.counts.get(kind, 0))
    known = {str(kind): kind for kind in SurpriseKind}
    counts.surprises.update({known[kind]: number for kind, number in decoded.surprises.items() if kind in known})
    return name, StreamCheckpoint(
        position=decoded.position,
        state=decoded.state,
        counts=counts,
        processes=decoded.processes,
        boot=decoded.boot,
    )
