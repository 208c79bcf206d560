"""The parts of a downtime as rows that add up to it, for every frontend that lists them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from qemu_migration_exporter.core.model import DowntimePartName, Side
from qemu_migration_exporter.present.units import UNKNOWN, duration
from qemu_migration_exporter.present.view import DowntimePartView, MigrationView
from qemu_migration_exporter.present.wording.styled import literal

_MAX_DEVICES: Final = 5
_MAX_DEVICE_CELLS: Final = 36
#: Durations from here on are shown without microseconds.
_LONG_SECONDS: Final = 0.010

_NAMES: Final = {
    DowntimePartName.STOP: "stopping the CPUs, flushing disks",
    DowntimePartName.PRE_SWITCHOVER: "waiting for migrate-continue",
    DowntimePartName.BITMAP_SYNC: "last bitmap sync",
    DowntimePartName.RAM: "sending the last memory",
    DowntimePartName.DESTINATION: "waiting for the destination",
    DowntimePartName.UNACCOUNTED: "not explained by the stream",
}
#: On a destination, parts are the loads of the state that the source saved.
_DESTINATION_NAMES: Final = {DowntimePartName.RAM: "loading the last memory"}


@dataclass(frozen=True, slots=True)
class DowntimeRow:
    """A part of the downtime; `is_rest` for the devices that are counted together."""

    name: str
    seconds: float
    is_device: bool = False
    is_rest: bool = False

    @property
    def activity(self) -> str:
        """The part as an action, for a sentence."""
        return f"saving the state of {self.name}" if self.is_device else self.name


def downtime_rows(view: MigrationView) -> list[DowntimeRow]:
    """Return the parts of the downtime: devices from the slowest to the fastest, other parts in their order.

    If a stream has no marks of the parts, the result has only the timed devices.
    """
    if not view.downtime_parts:
        timed = [
            DowntimeRow(
                device_name(device.name or device.vmsd_name, device.instance), device.duration_seconds, is_device=True
            )
            for device in view.devices
            if device.duration_seconds is not None
        ]
        return _slowest(timed)
    parts = sorted(view.downtime_parts, key=_order)
    before = [_row(part, view) for part in parts if _order(part) < _DEVICES]
    devices = [_row(part, view) for part in parts if _order(part) == _DEVICES]
    after = [_row(part, view) for part in parts if _order(part) > _DEVICES]
    return [*_summed(before), *_slowest(devices), *_summed(after)]


def downtime_title(view: MigrationView) -> tuple[str, str]:
    """Return the heading of the parts, and the name of their sum."""
    if view.downtime_seconds is None:
        return "Loads", "memory and devices at the destination"
    return "Downtime", f"{duration(view.downtime_seconds)}, by its parts"


def longest_part(view: MigrationView) -> DowntimeRow | None:
    """Return the part that took at least half of the downtime, without the unexplained rest."""
    unexplained = _NAMES[DowntimePartName.UNACCOUNTED]
    rows = [row for row in downtime_rows(view) if row.name != unexplained and not row.is_rest]
    longest = max(rows, key=lambda row: row.seconds, default=None)
    if longest is None or not view.downtime_parts or longest.seconds < (view.downtime_seconds or 0) / 2:
        return None
    return longest


def part_time(seconds: float, longest: float) -> str:
    """Return the time of a part in the unit and decimals that fit the longest part."""
    if longest >= 1:
        return f"{seconds:.3f} s"
    return f"{1_000 * seconds:.3f} ms" if longest < _LONG_SECONDS else f"{1_000 * seconds:.1f} ms"


def device_name(name: str | None, instance: int | None = None) -> str:
    """Return a device's name for a table, with its instance unless it is the first."""
    if name is None:
        return UNKNOWN
    return literal(name, _MAX_DEVICE_CELLS) + (f" #{instance}" if instance else "")


_ORDER: Final = list(DowntimePartName)
_DEVICES: Final = _ORDER.index(DowntimePartName.DEVICE)


def _order(part: DowntimePartView) -> int:
    return _ORDER.index(part.name)


def _row(part: DowntimePartView, view: MigrationView) -> DowntimeRow:
    if part.name is DowntimePartName.DEVICE:
        return DowntimeRow(device_name(part.device), part.duration_seconds, is_device=True)
    names = {**_NAMES, **_DESTINATION_NAMES} if view.side is Side.DESTINATION else _NAMES
    return DowntimeRow(names[part.name], part.duration_seconds)


def _summed(rows: list[DowntimeRow]) -> list[DowntimeRow]:
    """Add up rows of one name, such as several unexplained gaps."""
    sums: dict[str, float] = {}
    for row in rows:
        sums[row.name] = sums.get(row.name, 0.0) + row.seconds
    return [DowntimeRow(name, seconds) for name, seconds in sums.items()]


def _slowest(rows: list[DowntimeRow]) -> list[DowntimeRow]:
    """Return the slowest rows, and the rest as a single row."""
    ordered = sorted(rows, key=lambda row: -row.seconds)
    rest = ordered[_MAX_DEVICES:]
    together = [DowntimeRow(f"and {len(rest)} more, together", sum(row.seconds for row in rest), is_rest=True)]
    return [*ordered[:_MAX_DEVICES], *(together if rest else [])]
