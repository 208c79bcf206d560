"""Tests with hostile lines: no line takes long, and the memory and series they cost are bounded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest
from prometheus_client import CollectorRegistry
from qemu_migration_exporter.core.changes import Change, DeviceFinished, RoundEnded
from qemu_migration_exporter.core.measures import rounds, switchover
from qemu_migration_exporter.core.measures.precopy import MAX_ROUNDS
from qemu_migration_exporter.core.model import SurpriseKind
from qemu_migration_exporter.core.parsing.formats import FORMATS
from qemu_migration_exporter.core.parsing.line_splitter import MAX_LINE_BYTES
from qemu_migration_exporter.core.tracking import processes
from qemu_migration_exporter.core.tracking.processes import MAX_PROCESSES
from qemu_migration_exporter.core.tracking.stream import Stream
from qemu_migration_exporter.metrics.collector import MetricsSink
from qemu_migration_exporter.present.document import migration_document
from qemu_migration_exporter.present.view_builder import migration_view

from tests.support.core_helpers import EPOCH_NS, EPOCH_SECONDS, log_lines, read

#: Lines as long as they may be, of what a regular expression tries again from each of its places.
_SLOW: Final[dict[str, tuple[str, bytes]]] = {
    "blanks": ("qemu-log", b"migrate_error error=%s\0" % (b" " * MAX_LINE_BYTES)),
    "devices": ("qemu-log", b"vmstate_downtime_save type=" + b" idstr=" * 9_000),
    "channels": ("qemu-log", b"migration_set_outgoing_channel ioc=" + b" ioctype= hostname= err=" * 2_700 + b"\0"),
    "channels apart": (
        "qemu-log", b"migration_set_outgoing_channel ioc=" + b" ioctype=" * 3_600 + b" hostname=" * 3_200
    ),
    "names": ("qemu-log", b"vmstate_save " + b", " * 32_000 + b"\0"),
    "sections": ("qemu-log", b"savevm_section_end " + b", section_id 1 ->" * 4_000),
    "pages": ("qemu-log", b"migrate_handle_rp_req_pages in " + b" at 0x1 len 0x" * 4_500),
    "glued": ("qemu-log", b"1@1700000000.000001:a" * 3_000),
    "error reports": ("qemu-log", b"qemu-: kvm: " * 5_000),
    "keys": ("systemtap", b"migrate_pending " + b"a" * MAX_LINE_BYTES),
    "pairs": ("systemtap", b"migrate_pending " + b"pending:1 " * 6_000 + b"\0"),
    "marks": ("systemtap", b'process("' * 7_000),
    "digits": ("probe", b"1" * MAX_LINE_BYTES),
    "prefixes": ("probe", b"1@123456 " * 7_000),
    "nested": ("qemu-log", b"qmp_enter_migrate_set_parameters " + b'{"a":[' * 10_000),
    "a number": ("qemu-log", b'qmp_enter_migrate_set_parameters {"downtime-limit":' + b"9" * 60_000 + b"}"),
}  # fmt: skip


@pytest.mark.timeout(10)
@pytest.mark.parametrize("name", _SLOW)
def test_no_line_takes_long(name: str) -> None:
    """A line that takes minutes would stop all streams."""
    form, line = _SLOW[name]
    reading = Stream("guest.log", vm="guest", format_name=form)
    for prefix in (b"1@1700000000.000001:", b""):
        reading.feed(prefix + line + b"\n")
    assert 2 == reading.counts.lines


@pytest.mark.timeout(20)
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("byte", [b" ", b"1", b"a", b":", b"\0", b'"', b"@", b"\xff"])
def test_repeated_byte_takes_no_long_time(form: str, byte: bytes) -> None:
    """Behind a known name and alone, in endless lines and in very many."""
    reading = Stream("guest.log", vm="guest", format_name=form)
    long = byte * MAX_LINE_BYTES
    reading.feed(b"migrate_set_state " + long + b"\n" + long + b"\n" + (byte * 10 + b"\n") * 6_000)
    assert 6_002 == reading.counts.lines


@pytest.mark.timeout(10)
def test_glued_lines_take_no_longer() -> None:
    """Digits before a glued line are looked up among the processes, not compared with each."""
    seen = b"".join(b"%d@%d migration_thread_setup_complete \n" % (each, EPOCH_NS) for each in range(100_000, 110_000))
    reading = Stream("probe", vm="probe", format_name="systemtap-log")
    reading.feed(seen)
    reading.feed(b"1@1700000000000 migrate_s1100001@%d migration_thread_setup_complete \n" % EPOCH_NS * 5_000)
    assert 5_000 == reading.counts.malformed


def test_endless_line_has_bounded_memory() -> None:
    """Only 64 KiB of a gigabyte without a newline are kept, and the next lines are read."""
    reading = Stream("guest.log", vm="guest")
    for _ in range(4_096):
        reading.feed(b"\0" * 262_144)
    assert MAX_LINE_BYTES + 1 == len(reading.snapshot().tail)
    reading.feed(b"\n" + log_lines("migrate_set_state new state setup").encode())
    assert (2, 1) == (reading.counts.lines, reading.counts.events)


# Processes


def _at(number: int) -> int:
    return EPOCH_NS + number


def _open_migrations(count: int) -> Iterator[bytes]:
    for first in range(1, count, 1_000):
        yield b"".join(
            b"%d@%d migrate_set_state new state setup\n%d@%d migration_thread_setup_complete \n"
            % (each, _at(each), each, _at(each))
            for each in range(first, first + 1_000)
        )


def test_invented_processes_are_capped() -> None:
    """A hundred thousand of them: a thousand are followed, and those over the cap have no series."""
    many = Stream("probe", vm="probe")
    sink = MetricsSink(max_vms=100)
    for chunk in _open_migrations(100_000):
        sink.apply(many.feed(chunk))
    sink.apply(many.tick(_at(0) + 1_000_000_000))

    assert MAX_PROCESSES == len(many.running())
    assert 200_000 == many.counts.events
    assert {SurpriseKind.TOO_MANY_PROCESSES: 200_000 - 2 * MAX_PROCESSES} == many.counts.surprises
    assert MAX_PROCESSES - 100 == sink.limited
    assert 100 == len(_infos(sink))


def test_ended_processes_make_room_each_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    """An invented process a line must not cost a look at all others."""
    monkeypatch.setattr(processes, "MAX_PROCESSES", 2)
    events = "".join(
        f"{process}@{_at(process * 3_000_000_000)} migrate_set_state new state {state}\n"
        f"{process}@{_at(process * 3_000_000_000)} migration_thread_setup_complete \n"
        for process in range(1, 6)
        for state in ("setup", "failed")
    )
    assert 5 == len(read(events).migrations)


def test_incoming_series_are_capped() -> None:
    incoming = Stream("probe", vm="probe")
    sink = MetricsSink(max_vms=100)
    for process in range(1, 301):
        now_ns = _at(process * 10_000_000)
        said = ("migration_socket_incoming_accepted ", "migrate_set_state new state active", "migrate_set_state new state completed")  # fmt: skip
        sink.apply(incoming.feed("".join(f"{process}@{now_ns} {each}\n" for each in said).encode()))
    sink.apply(incoming.close())

    assert (100, 200) == (len(_infos(sink)), sink.limited)
    sink.expire(1, 0)
    sink.expire(2, 0)
    assert 0 == len(_infos(sink))


@pytest.mark.timeout(15)
def test_ticks_per_line_are_bounded() -> None:
    """A thousand open migrations, lines a second apart: each line ticks some of them, and all end in time."""
    moving = Stream("probe", vm="probe")
    changes = [change for chunk in _open_migrations(1_000) for change in moving.feed(chunk)]
    lines = range(_at(10_000_000_000), _at(20_010_000_000_000), 1_000_000_000)
    changes += moving.feed(b"".join(b"1@%d savevm_state_iterate\n" % each for each in lines))
    assert 20_000 == len(lines)
    assert 1_000 == len(moving.running())

    changes += moving.feed(
        b"".join(b"1@%d savevm_state_iterate\n" % _at(90_000_000_000_000 + each) for each in range(64))
    )
    changes += moving.feed(b"1@%d savevm_state_iterate\n" % _at(91_000_000_000_000))
    assert [] == [each for each in moving.running() if each.identity.vm != "probe/1"]


def _infos(sink: MetricsSink) -> list[dict[str, str]]:
    registry = CollectorRegistry(auto_describe=True)
    registry.register(sink)
    return [
        sample.labels
        for family in registry.collect()
        if family.name == "qemu_migration_info"
        for sample in family.samples
    ]


# What never ends

_BEGINNING: Final = """
    migrate_set_state new state setup
    migrate_set_state new state active
    migration_thread_setup_complete
    """


def _repeated(events: str, count: int, *, after: str = _BEGINNING) -> str:
    """Repeat events of 20 µs; `{}` in them is the number of the repetition."""
    end_us = 10_000 + 20 * count
    lines = log_lines(after)
    for number, us in enumerate(range(10_000, end_us, 20)):
        for event in events.splitlines():
            second, micros = divmod(us, 1_000_000)
            lines += f"4100@{EPOCH_SECONDS + second}.{micros:06d}:{event.format(number)}\n"
    return lines


def _of(changes: list[Change], kind: type[RoundEnded | DeviceFinished]) -> int:
    return sum(isinstance(change, kind) for change in changes)


def test_endless_rounds_are_bounded() -> None:
    """The first and the last are kept, and their numbers show the gap."""
    count = 3 * MAX_ROUNDS
    reading = read(
        _repeated(
            "migration_bitmap_sync_start \nmigration_bitmap_sync_end dirty_pages 7\nsavevm_state_iterate ", count
        ),
        chunks=50,
    )
    numbers = [each.number for each in reading.migration.rounds]

    assert count == _of(reading.changes, RoundEnded) == numbers[-1]
    assert len(numbers) <= MAX_ROUNDS
    assert list(range(1, MAX_ROUNDS // 4 + 1)) == numbers[: MAX_ROUNDS // 4]
    assert numbers[-MAX_ROUNDS // 2 :] == list(range(count + 1 - MAX_ROUNDS // 2, count + 1))
    assert sorted(set(numbers)) == numbers
    assert count == migration_document(migration_view(reading.migration))["rounds"][-1]["number"]


def test_unmeasured_rounds_are_released() -> None:
    """Without bandwidth windows a tenth of a second of rounds may wait."""
    waiting = rounds.Rounds()
    given = 0
    for at_ns in range(5_000):
        given += len(waiting.begin(at_ns, by_sync=False))
        waiting.iterate()
    assert 4_999 - rounds._MAX_WAITING == given  # noqa: SLF001 - how many is its own business, that it is bounded is not


def test_endless_devices_are_bounded() -> None:
    """Their names have at most the length of QEMU's."""
    most, longest = switchover._MAX_DEVICES, switchover._MAX_NAME  # noqa: SLF001 - as above
    name = "v" * 5_000
    reading = read(
        _repeated(f"vmstate_save d{{}}, {name}", most + 500, after=_BEGINNING + "migration_thread_low_pending 0"),
        chunks=50,
    )

    assert most == len(reading.migration.devices) == _of(reading.changes, DeviceFinished)
    assert {longest} == {len(each.vmsd_name or "") for each in reading.migration.devices}


@pytest.mark.parametrize("event", ["migrate_set_state new state s{}", "migrate_set_state new state active", "cpu_throttle_set set guest CPU throttled by 20%"])  # fmt: skip
def test_endless_states_stay_one_migration(event: str) -> None:
    """Known or not: the memory for them does not grow."""
    few, many = (len(repr(read(_repeated(event, count)).migration)) for count in (10, 20_000))
    assert many < few + 100


@pytest.mark.parametrize(
    "line",
    [
        "anchor 1 99999999999999999999.5\n7/8@1000000 migrate_set_state new state setup",
        "anchor 99999999999999999999 0\n7/8@1000000 migrate_set_state new state setup",
        "7@99999999999999999999 migrate_set_state new state setup",
        "7@99999999999.999999:migrate_set_state new state setup",
        "9999-12-31T23:59:59.999999Z migrate_set_state new state setup",
        "0001-01-01T00:00:00Z migrate_set_state new state setup",
    ],
)
def test_time_beyond_calendar_is_reported(line: str) -> None:
    """As the first or the last time there is."""
    reading = read(f"{line}\n{line.splitlines()[-1].replace('migrate_set_state new state setup', 'migration_thread_setup_complete')}\n")  # fmt: skip
    assert migration_document(migration_view(reading.migrations[0]))["start_time"].endswith("Z")
