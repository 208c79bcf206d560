"""The switchover: start and end of the downtime, the devices saved in it, and the wait before it.

QEMU records the start of the downtime just before it stops the guest. The event nearest to that moment depends on the
release and on the enabled events, so every candidate has a rank, and the best rank seen wins.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from qemu_migration_exporter.core.events import DeviceDowntime, DeviceSaved, SectionEnded, SectionStarted
from qemu_migration_exporter.core.model import Device, DowntimePart, DowntimePartName

#: Further ranks, in addition to the ranks of signals in `qemu_migration_exporter.core.signals`.
BEST_RANK: Final = 0
VM_STOPPING_RANK: Final = 1
LOW_PENDING_RANK: Final = 2
COMPLETE_RANK: Final = 4
WORST_RANK: Final = 5

#: A virtual machine has some hundreds of devices, and QEMU limits their names to 256 bytes (SaveStateEntry.idstr).
_MAX_DEVICES: Final = 4_096
_MAX_NAME: Final = 256

#: RAM is not a device: its last pass is a part of the downtime of its own.
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
    """The time in which the source stops the guest, as plain data."""

    start_ns: int | None = None
    end_ns: int | None = None
    stopped_ns: int | None = None
    all_saved_ns: int | None = None
    parts: list[DowntimePart] = field(default_factory=list)
    devices: list[Device] = field(default_factory=list)
    rank: int = WORST_RANK + 1
    section: OpenSection | None = None
    #: The last device, kept because QEMU's own measure may follow.
    open: bool = False
    sections_seen: bool = False
    pre_switchover_ns: int | None = None
    #: End of the last step before devices are saved; None while the guest runs.
    saving_ns: int | None = None
    #: One of QEMU's checkpoints behind the stop of the guest was seen (8.2 and later).
    checkpoints: bool = False

    @property
    def has_ram_downtime(self) -> bool:
        """True if RAM's last pass has been measured."""
        return any(part.name is DowntimePartName.RAM for part in self.parts)

    def may_begin(self, at_ns: int, rank: int) -> None:
        """Record a candidate for the start of the downtime; the first candidate of the best rank counts."""
        if rank < self.rank:
            self.rank, self.start_ns = rank, at_ns

    def stopped(self, at_ns: int) -> list[DowntimePart]:
        """Record that the guest is stopped; return the part `stop` of the downtime the first time.

        QEMU prints this since 6.1 (migration_completion_vm_stop); before, the next mark is savevm_state_complete.
        """
        is_first, self.saving_ns = self.saving_ns is None, at_ns
        if is_first:
            self.stopped_ns = at_ns
        if not is_first or self.start_ns is None or self.start_ns >= at_ns:
            return []
        return [DowntimePart(name=DowntimePartName.STOP, start_ns=self.start_ns, end_ns=at_ns)]

    def iterable_saved(self, at_ns: int) -> list[DowntimePart]:
        """Record that only devices are left to send; return RAM's last pass if no other event measures it."""
        if self.sections_seen or self.saving_ns is None:
            return []
        return self._ram(self.saving_ns, at_ns)

    def checkpoint_seen(self) -> None:
        """Forget a start of the downtime that is no checkpoint, though those are enabled: the guest stopped before."""
        self.checkpoints = True
        if LOW_PENDING_RANK <= self.rank <= WORST_RANK:
            self.start_ns, self.rank = None, BEST_RANK

    def wait_begins(self, at_ns: int) -> None:
        """Begin the wait for `migrate-continue` (state pre-switchover)."""
        self.pre_switchover_ns = at_ns

    def wait_ends(self, at_ns: int) -> int | None:
        """End the wait for `migrate-continue`; return its start, None without a wait."""
        began, self.pre_switchover_ns = self.pre_switchover_ns, None
        if began is not None:
            self.add(DowntimePartName.PRE_SWITCHOVER, began, at_ns)
        return began

    def add(self, name: DowntimePartName, start_ns: int, end_ns: int) -> None:
        """Add a part of the downtime."""
        if len(self.parts) < _MAX_DEVICES:
            self.parts.append(DowntimePart(name=name, start_ns=start_ns, end_ns=end_ns))

    def section_started(self, at_ns: int, event: SectionStarted) -> list[Device]:
        """Begin a section; return the device before it, which is complete now."""
        finished = self.flush()
        if self.section is not None and self.section.saves_device:  # its end was lost
            self._add(self.section.start_ns, self.section.idstr, self.section.vmsd_name, None)
            finished += self.flush()
        self.sections_seen = True
        saves_device = event.idstr is not None and event.idstr != _RAM
        self.section = OpenSection(at_ns, event.idstr, event.section_id, saves_device)
        return finished

    def device_saved(self, at_ns: int, event: DeviceSaved) -> list[Device]:
        """Record the device in the open section; without section marks this event alone shows the device."""
        if self.section is not None:
            self.section.saves_device = True
            self.section.idstr = event.idstr or self.section.idstr
            self.section.vmsd_name = event.vmsd_name
            return []
        finished = self.flush()
        self._add(at_ns, event.idstr, event.vmsd_name, None)
        return finished

    def section_ended(self, at_ns: int, event: SectionEnded, *, timed: bool) -> list[DowntimePart]:
        """End a section; return RAM's last pass if the section was that.

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
        """Return RAM's last pass by QEMU's own measure, if no section mark shows its start."""
        if event.idstr != _RAM or not event.downtime_us or self.sections_seen:
            return []
        return self._ram(max(at_ns - event.downtime_us * 1_000, self.start_ns or 0), at_ns)

    def device_downtime(self, at_ns: int, event: DeviceDowntime) -> list[Device]:
        """Apply QEMU's own measure of a device; return the devices that this completes.

        The event follows the section's end. Without section marks it alone shows the device; 0 µs is a skipped device.
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
        if self.has_ram_downtime:
            return []
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
        """Return the last device, if it was not returned yet."""
        if not self.open:
            return []
        self.open = False
        return self.devices[-1:]
