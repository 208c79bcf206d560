"""The wire formats, one file each, and how a stream's format is recognised from its lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from qemu_migration_exporter.core.parsing.decoder import Decoder, Parsed
from qemu_migration_exporter.core.parsing.formats import probe_output, qemu_log, systemtap
from qemu_migration_exporter.core.parsing.prefilter import LinePrefilter


class Format(Protocol):
    """A way to write events as lines, for one stream."""

    name: str
    #: Whether the lines carry the time of their event.
    timed: bool
    #: Whether several CPUs write them, each in its own time; such formats also tell the process.
    per_cpu: bool
    #: The process that spoke in the line parsed last, where the format tells.
    process: int | None

    @property
    def sieve(self) -> LinePrefilter:
        """Keeps at least the lines that are no noise."""
        ...

    def parse(self, line: bytes) -> Parsed:
        """Read one line: an event, noise (None) or `Malformed`. Never raises."""
        ...


#: Name on the command line and in the report → what makes it for a new stream.
FORMATS: Final[Mapping[str, Callable[[Decoder], Format]]] = {
    "qemu-log": lambda decoder: qemu_log.QemuLog(decoder, timed=True),
    "qemu-log-bare": lambda decoder: qemu_log.QemuLog(decoder, timed=False),
    "systemtap": systemtap.SystemTap,
    "systemtap-log": lambda decoder: probe_output.ProbeOutput(decoder, "systemtap-log"),
    "probe": lambda decoder: probe_output.ProbeOutput(decoder, "probe"),
}


def recognise(line: bytes, decoder: Decoder) -> str | None:
    """Name the format of a stream by one of its lines, or None where the line does not tell."""
    return (
        probe_output.recognise(line, decoder) or systemtap.recognise(line, decoder) or qemu_log.recognise(line, decoder)
    )


def undecided(decoder: Decoder) -> LinePrefilter:
    """Make the sieve of a stream whose format is not known yet: what it drops is noise in all of them."""
    return LinePrefilter(*qemu_log.telling(decoder), *probe_output.telling(decoder), *systemtap.telling(decoder))
