"""The switchover: when the downtime began and ended, what was saved in it, and the wait before it.

QEMU takes the start of the downtime just before it stops the guest. Which event stands nearest to that differs by
release and by what is enabled, so each candidate has a rank, and the best one seen wins.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from qemu_migration_exporter.core.events import DeviceDowntime, DeviceSaved, SectionEnded, SectionStarted
from qemu_migration_exporter.core.model import Device, DowntimePart, DowntimePartName

#: Beside the ranks of signals, see `qemu_migration_exporter.core.signals`.
BEST_RANK: Final = 0
VM_STOPPING_RANK: Final = 1
LOW_PENDING_RANK: Final = 2
COMPLETE_RANK: Final = 4
WORST_RANK: Final = 5

#: A machine has some hundreds of devices, and QEMU keeps their names in 256 bytes (SaveStateEntry.idstr). What is
#: beyond is no machine's.
_MAX_DEVICES: Final = 4_096
_MAX_NAME: Final = 256

#: RAM is not a device: its last pass is what the switchover sends, and its cost is the boundary's memory.
_RAM: Final = "ram"


@dataclass(slots=True)
class OpenSection:
    """A section whose end was not seen yet."""

    start_ns: int
    idstr: str | None
    section_id: int | None
    saves_device: bool
    vmsd_name: str | None = None


@dataclass(slots=True)
class Switchover:
    """Follow the time in which the guest is stopped."""

    start_ns: int | None = None
    end_ns: int | None = None
    stopped_ns: int | None = None
    all_saved_ns: int | None = None
    parts: list[DowntimePart] = field(default_factory=list)
    devices: list[Device] = field(default_factory=list)
    rank: int = WORST_RANK + 1
    section: OpenSection | None = None
    #: The last device may still get QEMU's own measure.
    open: bool = False
    sections_seen: bool = False
    pre_switchover_ns: int | None = None
    #: When the last thing before saving happened; None while the guest runs.
    saving_ns: int | None = None
    ram_told: bool = False

    def may_begin(self, at_ns: int, rank: int) -> None:
        """Note a candidate for the start of the downtime; the first of the best rank counts."""
        if rank < self.rank:
            self.rank, self.start_ns = rank, at_ns

    def stopped(self, at_ns: int) -> list[DowntimePart]:
        """Note that the guest stands still, from a mark that only comes after that; return the stop, the first time.

        QEMU says so since 6.1 (migration_completion_vm_stop); before, the next mark is savevm_state_complete.
        """
        is_first, self.saving_ns = self.saving_ns is None, at_ns
        if is_first:
            self.stopped_ns = at_ns
        if not is_first or self.start_ns is None or self.start_ns >= at_ns:
            return []
        return [DowntimePart(name=DowntimePartName.STOP, start_ns=self.start_ns, end_ns=at_ns)]

    def iterable_saved(self, at_ns: int) -> list[DowntimePart]:
        """Note that all but the devices is sent; return RAM's last pass if nothing else tells how long that took."""
        if self.sections_seen or self.saving_ns is None:
            return []
        return self._ram(self.saving_ns, at_ns)

    def wait_begins(self, at_ns: int) -> None:
        """Note that QEMU waits for `migrate-continue` (state pre-switchover)."""
        self.pre_switchover_ns = at_ns

    def wait_ends(self, at_ns: int) -> int | None:
        """Return when the wait that ends now began, if there was one."""
        began, self.pre_switchover_ns = self.pre_switchover_ns, None
        if began is not None:
            self.add(DowntimePartName.PRE_SWITCHOVER, began, at_ns)
        return began

    def add(self, name: DowntimePartName, start_ns: int, end_ns: int) -> None:
        """Add a part of the downtime."""
        if len(self.parts) < _MAX_DEVICES:
            self.parts.append(DowntimePart(name=name, start_ns=start_ns, end_ns=end_ns))

    def section_started(self, at_ns: int, event: SectionStarted) -> list[Device]:
        """Note the start of a section; return the device before it, which nothing can be added to any more."""
        finished = self.flush()
        if self.section is not None and self.section.saves_device:  # its end was lost
            self._add(self.section.start_ns, self.section.idstr, self.section.vmsd_name, None)
            finished += self.flush()
        self.sections_seen = True
        saves_device = event.idstr is not None and event.idstr != _RAM
        self.section = OpenSection(at_ns, event.idstr, event.section_id, saves_device)
        return finished

    def device_saved(self, at_ns: int, event: DeviceSaved) -> list[Device]:
        """Note the device whose state the open section carries; without section marks the event stands alone."""
        if self.section is not None:
            self.section.saves_device = True
            self.section.idstr = event.idstr or self.section.idstr
            self.section.vmsd_name = event.vmsd_name
            return []
        finished = self.flush()
        self._add(at_ns, event.idstr, event.vmsd_name, None)
        return finished

    def section_ended(self, at_ns: int, event: SectionEnded, *, timed: bool) -> list[DowntimePart]:
        """Note the end of a section; return RAM's last pass if it was that.

        QEMU's own measure of its device may follow in the next line.
        """
        section, self.section = self.section, None
        if section is None:
            return []
        paired = timed and section.section_id == event.section_id
        if section.saves_device:
            self._add(section.start_ns, section.idstr, section.vmsd_name, at_ns - section.start_ns if paired else None)
        elif paired and section.idstr == _RAM:
            return self._ram(section.start_ns, at_ns)
        return []

    def ram_downtime(self, at_ns: int, event: DeviceDowntime) -> list[DowntimePart]:
        """Return RAM's last pass by QEMU's own measure, where no section says when that began."""
        if event.idstr != _RAM or not event.downtime_us or self.sections_seen:
            return []
        return self._ram(max(at_ns - event.downtime_us * 1_000, self.start_ns or 0), at_ns)

    def device_downtime(self, at_ns: int, event: DeviceDowntime) -> list[Device]:
        """Take QEMU's own measure of a device; return the devices that are finished by it.

        It follows the section's end. Where sections are not enabled it stands alone, and one of 0 µs was skipped.
        """
        duration_ns = None if event.downtime_us is None else event.downtime_us * 1_000
        if self.open and self.devices[-1].name == event.idstr:
            self.devices[-1] = replace(self.devices[-1], instance=event.instance_id, duration_ns=duration_ns)
            return self.flush()
        finished = self.flush()
        if not self.sections_seen and event.idstr != _RAM and duration_ns:
            self._add(max(at_ns - duration_ns, self.start_ns or 0), event.idstr, None, duration_ns, event.instance_id)
            finished += self.flush()
        return finished

    def _ram(self, start_ns: int, end_ns: int) -> list[DowntimePart]:
        if self.ram_told:
            return []
        self.ram_told = True
        part = DowntimePart(name=DowntimePartName.RAM, start_ns=start_ns, end_ns=end_ns)
        self.parts.append(part)
        return [part]

    def _add(
        self,
        start_ns: int,
        idstr: str | None,
        vmsd_name: str | None,
        duration_ns: int | None,
        instance: int | None = None,
    ) -> None:
        if len(self.devices) >= _MAX_DEVICES:
            return
        self.devices.append(
            Device(
                number=len(self.devices) + 1,
                name=idstr and idstr[:_MAX_NAME],
                vmsd_name=vmsd_name and vmsd_name[:_MAX_NAME],
                instance=instance,
                start_ns=start_ns,
                duration_ns=duration_ns,
            )
        )
        self.open = True

    def flush(self) -> list[Device]:
        """Return the last device if it was not returned before."""
        was_open, self.open = self.open, False
        return self.devices[-1:] if was_open else []
