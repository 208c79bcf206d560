"""The time in which the guest is stopped."""

from __future__ import annotations

import pytest
from qemu_migration_exporter.core.events import DeviceDowntime, DeviceSaved, SectionEnded, SectionStarted
from qemu_migration_exporter.core.measures.downtime import divide
from qemu_migration_exporter.core.measures.switchover import LOW_PENDING_RANK, WORST_RANK, Switchover
from qemu_migration_exporter.core.model import Device, DowntimePart, DowntimePartName
from qemu_migration_exporter.core.signals import RANKS
from qemu_migration_exporter.core.terms import Signal


def section(
    switchover: Switchover, idstr: str | None, start_ns: int, end_ns: int, *, vmsd: str | None = None, number: int = 5
) -> list[Device]:
    """Start and end a section; return the devices that this finished."""
    devices = switchover.section_started(start_ns, SectionStarted(None, None, idstr, number))
    if vmsd is not None:
        devices += switchover.device_saved(start_ns, DeviceSaved(None, None, idstr, vmsd))
    switchover.section_ended(end_ns, SectionEnded(None, None, idstr, number), timed=True)
    return devices


def part(name: DowntimePartName, start_ns: int, end_ns: int) -> DowntimePart:
    """Make a part of the downtime."""
    return DowntimePart(name=name, start_ns=start_ns, end_ns=end_ns)


def downtime(idstr: str, us: int | None, instance: int = 0) -> DeviceDowntime:
    """Make QEMU's own measure of a device."""
    return DeviceDowntime(None, None, "non-iterable", idstr, instance, us)


def test_best_start_mark_wins() -> None:
    """Wherever it comes; of two as good, the first."""
    switchover = Switchover()
    starts = []
    for at_ns, rank in [
        (1, WORST_RANK),
        (2, RANKS[Signal.COMPLETE]),
        (3, LOW_PENDING_RANK),
        (4, RANKS[Signal.VM_STOPPED]),
        (5, RANKS[Signal.DOWNTIME_START]),
        (6, RANKS[Signal.DOWNTIME_START]),
    ]:
        switchover.may_begin(at_ns, rank)
        starts.append(switchover.start_ns)
    assert [1, 2, 3, 3, 5, 5] == starts


def test_section_is_device() -> None:
    """It is reported when the next line shows that it is complete."""
    switchover = Switchover()
    assert [] == section(switchover, "cpu", 10, 30, vmsd="cpu_common")
    expected = Device(number=1, name="cpu", vmsd_name="cpu_common", instance=None, start_ns=10, duration_ns=20)
    assert [expected] == section(switchover, "apic", 40, 50)
    assert ["apic"] == [device.name for device in switchover.flush()]
    assert [] == switchover.flush()


def test_ram_is_no_device() -> None:
    """Its last pass is part of the downtime, and not a device's state."""
    switchover = Switchover()
    switchover.section_started(10, SectionStarted(None, None, "ram", 2))
    assert [part(DowntimePartName.RAM, 10, 30)] == switchover.section_ended(
        30, SectionEnded(None, None, "ram", 2), timed=True
    )
    assert [] == switchover.section_ended(40, SectionEnded(None, None, "ram", 2), timed=True)
    assert [] == switchover.devices


def test_unnamed_section_is_saved_device() -> None:
    """SystemTap's marks have no arguments: vmstate_save alone tells the devices' sections from RAM's."""
    switchover = Switchover()
    section(switchover, None, 10, 30)
    section(switchover, None, 40, 50, vmsd="")
    assert [(None, 40)] == [(device.name, device.start_ns) for device in switchover.devices]


def test_cut_off_section_has_no_duration() -> None:
    """A line is missing in between; nor has one on a clock that does not tell time."""
    for number, timed in [(6, True), (5, False)]:
        switchover = Switchover()
        switchover.section_started(10, SectionStarted(None, None, "cpu", 5))
        switchover.section_ended(30, SectionEnded(None, None, "cpu", number), timed=timed)
        assert [None] == [device.duration_ns for device in switchover.devices]


def test_without_sections_device_is_alone() -> None:
    """vmstate_save may be all that is enabled."""
    switchover = Switchover()
    assert [] == switchover.device_saved(10, DeviceSaved(None, None, "cpu", "cpu_common"))
    (device,) = switchover.device_saved(20, DeviceSaved(None, None, "apic", "apic"))
    assert Device(number=1, name="cpu", vmsd_name="cpu_common", instance=None, start_ns=10, duration_ns=None) == device


def test_qemu_device_measure_wins() -> None:
    """It follows the section's end, and names the instance."""
    switchover = Switchover()
    section(switchover, "cpu", 10_000, 30_000, vmsd="cpu_common")
    (device,) = switchover.device_downtime(40_000, downtime("cpu", 25, instance=1))
    assert (
        Device(number=1, name="cpu", vmsd_name="cpu_common", instance=1, start_ns=10_000, duration_ns=25_000) == device
    )


def test_skipped_device_was_not_saved() -> None:
    """QEMU prints its 3 µs all the same."""
    switchover = Switchover()
    section(switchover, "cpu", 10, 30, vmsd="cpu_common")
    assert ["cpu"] == [device.name for device in switchover.device_downtime(50, downtime("smbus-eeprom", 3))]
    assert 1 == len(switchover.devices)


def test_qemu_measure_replaces_sections() -> None:
    """One that took no time was skipped, one of unknown time may have been, and RAM is none."""
    switchover = Switchover(start_ns=20_000)
    finished = [
        switchover.device_downtime(40_000, downtime(idstr, us))
        for idstr, us in [("cpu", 15), ("smbus-eeprom", 0), ("apic", None), ("ram", 99), ("virtio-net", 1_000)]
    ]
    assert [["cpu"], [], [], [], ["virtio-net"]] == [[device.name for device in devices] for devices in finished]
    assert [25_000, 20_000] == [device.start_ns for device in switchover.devices]


def test_wait_ends_once() -> None:
    """And only if it began."""
    switchover = Switchover()
    assert None is switchover.wait_ends(9)
    switchover.wait_begins(5)
    assert 5 == switchover.wait_ends(9)
    assert [DowntimePart(name=DowntimePartName.PRE_SWITCHOVER, start_ns=5, end_ns=9)] == switchover.parts
    assert None is switchover.wait_ends(9)


def test_stop_ends_at_first_stopped_mark() -> None:
    """QEMU prints two of them since 8.2; where nothing came before the mark, the stop's length is not known."""
    switchover = Switchover()
    switchover.may_begin(10, LOW_PENDING_RANK)
    assert [part(DowntimePartName.STOP, 10, 25)] == switchover.stopped(25)
    assert [] == switchover.stopped(26)

    assert [] == Switchover().stopped(25)
    assert [] == Switchover(start_ns=25).stopped(25)


def test_ram_pass_without_sections() -> None:
    """One of them, once; devices' measures and a RAM that was skipped tell nothing."""
    switchover = Switchover(start_ns=10_000)
    assert [] == switchover.iterable_saved(20_000)
    switchover.stopped(30_000)
    measures = [downtime("cpu", 5), downtime("ram", None), downtime("ram", 0), downtime("ram", 12), downtime("ram", 9)]
    told = [switchover.ram_downtime(50_000, each) for each in measures]
    assert [[], [], [], [part(DowntimePartName.RAM, 38_000, 50_000)], []] == told
    assert [] == switchover.iterable_saved(51_000)

    other = Switchover(start_ns=10_000)
    other.stopped(30_000)
    other.stopped(31_000)
    assert [part(DowntimePartName.RAM, 31_000, 51_000)] == other.iterable_saved(51_000)


def test_sections_decide_ram_pass() -> None:
    """They are printed for RAM, too."""
    switchover = Switchover(start_ns=10_000)
    switchover.stopped(30_000)
    section(switchover, "cpu", 31_000, 32_000)
    assert [] == switchover.iterable_saved(51_000)
    assert [] == switchover.ram_downtime(51_000, downtime("ram", 12))


def test_first_4096_devices_and_parts_are_kept() -> None:
    """A hostile log may have any number of them."""
    switchover = Switchover()
    for start_ns in range(4_097):
        switchover.add(DowntimePartName.BITMAP_SYNC, start_ns, start_ns + 1)
        section(switchover, "cpu", start_ns, start_ns + 1)
    assert list(range(4_096)) == [each.start_ns for each in switchover.parts]
    assert list(range(4_096)) == [each.start_ns for each in switchover.devices]


def test_section_without_its_end_is_a_device_of_no_duration() -> None:
    """The next section shows that the line of its end was lost."""
    switchover = Switchover()
    switchover.section_started(10, SectionStarted(None, None, "cpu", 5))
    (device,) = switchover.section_started(20, SectionStarted(None, None, "apic", 6))
    assert ("cpu", 10, None) == (device.name, device.start_ns, device.duration_ns)


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ([], [("device", 10, 40), ("unaccounted", 40, 400_000)]),
        ([(20, 30)], [("device", 10, 20), ("bitmap_sync", 20, 30), ("device", 30, 40)]),
        ([(5, 15)], [("bitmap_sync", 5, 15), ("device", 15, 40)]),
        ([(50, 60)], [("device", 10, 40), ("bitmap_sync", 50, 60)]),
        ([(1, 5)], [("bitmap_sync", 1, 5), ("device", 10, 40)]),
        ([(10, 40)], [("bitmap_sync", 10, 40)]),
    ],
    ids=["alone", "around another", "behind another", "before another", "after another", "covered by another"],
)
def test_part_gives_way_to_a_more_special_one(
    others: list[tuple[int, int]], expected: list[tuple[str, int, int]]
) -> None:
    switchover = Switchover()
    section(switchover, "cpu", 10, 40)
    for start_ns, end_ns in others:
        switchover.add(DowntimePartName.BITMAP_SYNC, start_ns, end_ns)
    parts = divide(switchover, 0, 400_000)
    starts = [(each.name.value, each.start_ns) for each in parts if each.name is not DowntimePartName.UNACCOUNTED]
    assert starts == [(name, start_ns) for name, start_ns, _ in expected if name != "unaccounted"]
    assert parts[0].start_ns == 0
    assert [each.end_ns for each in parts[:-1]] == [each.start_ns for each in parts[1:]]
    assert parts[-1].end_ns == 400_000


def test_wait_without_its_end_lasts_as_long_as_the_downtime() -> None:
    """The stream was cut while QEMU waited for migrate-continue."""
    switchover = Switchover()
    switchover.wait_begins(0)
    parts = [(each.name, each.start_ns, each.end_ns) for each in divide(switchover, 0, 400_000)]
    assert parts == [(DowntimePartName.PRE_SWITCHOVER, 0, 400_000)]


@pytest.mark.parametrize(
    ("start_ns", "us", "expected_ns"),
    [(None, 15, 25_000), (20_000, 15, 25_000), (30_000, 15, 30_000), (None, 50, 0)],
    ids=["no start", "later start", "cut by the start", "longer than the time so far"],
)
@pytest.mark.parametrize("idstr", ["cpu", "ram"])
def test_qemu_measure_begins_in_downtime(idstr: str, start_ns: int | None, us: int, expected_ns: int) -> None:
    """QEMU measures on a clock of its own, which may begin before the first line of the downtime."""
    switchover = Switchover(start_ns=start_ns)
    devices = switchover.device_downtime(40_000, downtime(idstr, us))
    parts = switchover.ram_downtime(40_000, downtime(idstr, us))
    assert [expected_ns] == [device.start_ns for device in devices] + [part.start_ns for part in parts]
