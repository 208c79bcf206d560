"""The parts of the downtime, which add up to it.

The marks of the switchover give times that overlap (the last bitmap sync is inside of RAM's last pass) and leave gaps.
Here the downtime is divided among them:

    start                                                                             end
      |----- stop -----|-- ram --|- bitmap_sync -|-- ram --|- device -|- device -|-- destination --|

A more special part is cut out of the part around it. A gap of 0.1 ms or more between two parts is `unaccounted`. A
shorter gap, between two lines of QEMU's log, belongs to the part before it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from operator import attrgetter
from typing import Final

from qemu_migration_exporter.core.measures.switchover import Switchover
from qemu_migration_exporter.core.model import DowntimePart, DowntimePartName

_SHORTEST_GAP_NS: Final = 100_000

_START_NS: Final = attrgetter("start_ns")
_END_NS: Final = attrgetter("end_ns")

#: From the most special part to the least.
_ORDER: Final = (
    DowntimePartName.BITMAP_SYNC,
    DowntimePartName.PRE_SWITCHOVER,
    DowntimePartName.DEVICE,
    DowntimePartName.RAM,
    DowntimePartName.STOP,
    DowntimePartName.DESTINATION,
)


def divide(switchover: Switchover, start_ns: int, end_ns: int) -> tuple[DowntimePart, ...]:
    """Return the parts of the downtime from `start_ns` to `end_ns`, in their order and without gaps."""
    taken: list[DowntimePart] = []
    for part in sorted(_measured(switchover, start_ns, end_ns), key=lambda part: _ORDER.index(part.name)):
        for piece in [*_outside_of(taken, part, start_ns, end_ns)]:
            insort(taken, piece, key=_START_NS)
    return tuple(_filled(taken, start_ns, end_ns))


def _measured(switchover: Switchover, start_ns: int, end_ns: int) -> Iterator[DowntimePart]:
    yield from switchover.parts
    if switchover.stopped_ns is not None:
        yield DowntimePart(name=DowntimePartName.STOP, start_ns=start_ns, end_ns=switchover.stopped_ns)
    for device in switchover.devices:
        if device.duration_ns:
            yield DowntimePart(
                name=DowntimePartName.DEVICE,
                device=device.name,
                start_ns=device.start_ns,
                end_ns=device.start_ns + device.duration_ns,
            )
    if switchover.all_saved_ns is not None:
        yield DowntimePart(name=DowntimePartName.DESTINATION, start_ns=switchover.all_saved_ns, end_ns=end_ns)
    if switchover.pre_switchover_ns is not None:
        yield DowntimePart(name=DowntimePartName.PRE_SWITCHOVER, start_ns=switchover.pre_switchover_ns, end_ns=end_ns)


def _outside_of(taken: list[DowntimePart], part: DowntimePart, start_ns: int, end_ns: int) -> Iterator[DowntimePart]:
    """Yield the pieces of a part that no other part has taken; `taken` is in order and does not overlap."""
    at_ns, until_ns = max(part.start_ns, start_ns), min(part.end_ns, end_ns)
    first = bisect_right(taken, at_ns, key=_END_NS)  # a machine has hundreds of devices
    last = bisect_left(taken, until_ns, key=_START_NS)
    for other in taken[first:last]:
        if other.start_ns > at_ns:
            yield _piece(part, at_ns, other.start_ns)
        at_ns = other.end_ns
    if at_ns < until_ns:
        yield _piece(part, at_ns, until_ns)


def _piece(part: DowntimePart, start_ns: int, end_ns: int) -> DowntimePart:
    is_whole = (start_ns, end_ns) == (part.start_ns, part.end_ns)
    return part if is_whole else DowntimePart(name=part.name, device=part.device, start_ns=start_ns, end_ns=end_ns)


def _filled(taken: list[DowntimePart], start_ns: int, end_ns: int) -> Iterator[DowntimePart]:
    """Yield the parts with the gaps between them."""
    at_ns = start_ns
    for number, part in enumerate(taken):
        if part.start_ns > at_ns:
            yield DowntimePart(name=DowntimePartName.UNACCOUNTED, start_ns=at_ns, end_ns=part.start_ns)
        next_ns = taken[number + 1].start_ns if number + 1 < len(taken) else end_ns
        at_ns = next_ns if next_ns - part.end_ns < _SHORTEST_GAP_NS else part.end_ns
        yield _piece(part, part.start_ns, at_ns)
    if at_ns < end_ns:
        yield DowntimePart(name=DowntimePartName.UNACCOUNTED, start_ns=at_ns, end_ns=end_ns)
