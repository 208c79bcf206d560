"""The wire formats, one file each, and how a stream's format is recognised from its lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from exporter.core.decoder import Decoder, Parsed
from exporter.core.formats import probes, qemu_log, systemtap
from exporter.core.sieve import Sieve


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
    def sieve(self) -> Sieve:
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
    "systemtap-log": lambda decoder: probes.Probes(decoder, "systemtap-log"),
    "probe": lambda decoder: probes.Probes(decoder, "probe"),
}


def recognise(line: bytes, decoder: Decoder) -> str | None:
    """Name the format of a stream by one of its lines, or None where the line does not tell."""
    return probes.recognise(line, decoder) or systemtap.recognise(line, decoder) or qemu_log.recognise(line, decoder)


def undecided(decoder: Decoder) -> Sieve:
    """Make the sieve of a stream whose format is not known yet: what it drops is noise in all of them."""
    return Sieve(*qemu_log.telling(decoder), *probes.telling(decoder), *systemtap.telling(decoder))
