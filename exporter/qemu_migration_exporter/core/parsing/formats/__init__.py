"""Wire formats, one file each, and the detection of a stream's format from its lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Final, Protocol

from qemu_migration_exporter.core.parsing.columns import Columns
from qemu_migration_exporter.core.parsing.decoder import Decoder, Parsed
from qemu_migration_exporter.core.parsing.formats import lttng, probe_output, qemu_log, simpletrace, systemtap
from qemu_migration_exporter.core.parsing.prefilter import LinePrefilter
from qemu_migration_exporter.core.parsing.vocabulary import Vocabulary


class Format(Protocol):
    """A way to write events as lines, for one stream.

    Attributes:
        name: The name on the command line and in the report.
        timed: True if the lines carry the time of their event.
        per_cpu: True if several CPUs write the lines, each in its own order.
        monotonic: True if the times count from an unknown moment, such as the boot of the host.
        process: The process of the line parsed last, if the format names it.
    """

    name: str
    timed: bool
    per_cpu: bool
    monotonic: bool
    process: int | None

    @property
    def prefilter(self) -> LinePrefilter:
        """The prefilter of this format; see `qemu_migration_exporter.core.parsing.prefilter`."""
        ...

    def claims(self, line: bytes) -> bool:
        """Return whether the line's beginning is unique to this format, so that it has no envelope."""
        ...

    def parse(self, line: bytes) -> Parsed:
        """Parse one line: an event, noise (None) or `Malformed`. Never raises."""
        ...

    def split(self, lines: Sequence[bytes]) -> Columns | None:
        """Split lines into prefixes and texts; a line with another prefix has neither. None if the format has none."""
        ...

    def accept(self, processes: Sequence[int | None]) -> None:
        """Record the processes of lines that were split and are events."""
        ...


#: Name → constructor of the format for a new stream.
FORMATS: Final[Mapping[str, Callable[[Decoder], Format]]] = {
    "qemu-log": lambda decoder: qemu_log.QemuLog(decoder, timed=True),
    "qemu-log-bare": lambda decoder: qemu_log.QemuLog(decoder, timed=False),
    "systemtap": systemtap.SystemTap,
    "systemtap-log": lambda decoder: probe_output.ProbeOutput(decoder, "systemtap-log"),
    "lttng": lttng.Lttng,
    "simpletrace": simpletrace.Simpletrace,
    "probe": lambda decoder: probe_output.ProbeOutput(decoder, "probe"),
}


def detect(line: bytes, decoder: Decoder) -> str | None:
    """Return the format of a stream by a line, None if the line is not evidence for a format."""
    detectors = probe_output.detect, lttng.detect, simpletrace.detect, systemtap.detect, qemu_log.detect
    return next((name for detector in detectors if (name := detector(line, decoder)) is not None), None)


@cache
def detection_prefilter(vocabulary: Vocabulary) -> LinePrefilter:
    """Return the prefilter of a stream whose format is not known yet: it drops lines that are noise in all formats.

    LTTng shows a name behind a colon as QEMU's log does, simpletrace.py at the beginning of a line.
    """
    return LinePrefilter(
        *qemu_log.signal_patterns(vocabulary),
        *probe_output.signal_patterns(vocabulary),
        *systemtap.signal_patterns(vocabulary),
        rb'[ \t"|>]' + vocabulary.name_pattern,  # in an envelope
        rb'[ \t"|>]process\("',
    )
