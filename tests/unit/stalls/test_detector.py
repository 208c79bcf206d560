"""Verdict on whole migrations: stalls with start, reason and end, and the final report."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest
from qemu_migration_exporter.core.changes import Change, StallCleared, Stalled
from qemu_migration_exporter.core.measures.precopy import Precopy
from qemu_migration_exporter.core.model import Migration, PhaseName, StallReason, Verdict
from qemu_migration_exporter.core.qmp_parameters import Parameters
from qemu_migration_exporter.core.stalls import detector as detector_module
from qemu_migration_exporter.core.stalls.detector import StallDetector, StallPolicy
from qemu_migration_exporter.core.tracking.stream import Stream
from qemu_migration_exporter.present.advice import advice_for

from tests.support.core_helpers import EPOCH_NS, NS_PER_MS, Reading, log_lines, made, new_stream, read, recording

MIB: Final = 1 << 20
SECOND: Final = 1_000_000_000

BEGIN: Final = """
M migrate_set_state new state setup
M migration_socket_outgoing_connected hostname=
savevm_state_header
migration_bitmap_sync_start
migration_bitmap_sync_end dirty_pages 0
migrate_set_state new state active
migration_thread_setup_complete
"""
END: Final = """
migration_thread_low_pending 4096
savevm_state_complete_precopy
migrate_set_state new state completed
migration_thread_after_loop
"""


def windows(count: int, *, mib: float = 3.2, pending: float = 20, postcopy: float = 0) -> str:
    """Iterate for so many windows of 100 ms with this bandwidth (MiB a window), limit 300 ms."""
    sent = round(mib * MIB)
    return (
        f"migrate_pending pending size {round(pending * MIB)} max {3 * sent}"
        f" (pre = 0 compat={round(postcopy * MIB)} post=0)\n"
        "savevm_state_iterate\n"
        f"+97 migrate_transferred transferred {sent} time_spent 100 bandwidth {sent // 100} max_size {3 * sent}\n"
    ) * count


def rounds(count: int, *, pending: float = 47, each: int = 12, mib: float = 3.2, postcopy: float = 0) -> str:
    """Go through rounds that begin with so many MiB pending, and last so many windows."""
    boundary = (
        "migration_bitmap_sync_start\n"
        "migration_bitmap_sync_end dirty_pages 9816\n"
        f"migrate_pending pending size {round(pending * MIB)} max {round(3 * mib * MIB)} (pre = 0 compat=0 post=0)\n"
    )
    return (boundary + windows(each, mib=mib, postcopy=postcopy)) * count


STUCK: Final = BEGIN + windows(12) + rounds(9)


def stalls(reading: Reading) -> list[tuple[str, float, float | None]]:
    """Return reason, beginning and end of each stall, in s after the migration's start."""
    migration = reading.migration
    start_ns = migration.identity.start_ns
    return [
        (
            stall.reason.value,
            round((stall.start_ns - start_ns) / SECOND, 1),
            None if stall.end_ns is None else round((stall.end_ns - start_ns) / SECOND, 1),
        )
        for stall in migration.stalls
    ]


def verdict(events: str) -> Verdict:
    """Return the verdict on the migration that is open at the end of a stream."""
    stream = new_stream()
    stream.feed(log_lines(events).encode())
    (migration,) = stream.running()
    return migration.progress.verdict


CASES: Final[list[tuple[str, str, list[tuple[str, float, float | None]]]]] = [
    ("rounds that lead nowhere, then less pending", STUCK + rounds(1, pending=20) + END, [("bandwidth_cap", 6.1, 12.0)]),
    ("rounds that lead nowhere, and a cancel", STUCK + "M migrate_set_state new state cancelling\n", [("bandwidth_cap", 6.1, None)]),
    ("bandwidth that was lifted", STUCK + windows(1, mib=300) + END, [("bandwidth_cap", 6.1, 12.1)]),
    ("post-copy that was started", STUCK + "migrate_set_state new state postcopy-active\npostcopy_start\n", [("bandwidth_cap", 6.1, 12.0)]),
    ("a bandwidth that varies is no cap", BEGIN + windows(12) + (rounds(1, each=1) + (windows(1, mib=3.0) + windows(1)) * 6) * 9 + END, [("dirty_rate", 5.2, 12.9)]),
    ("the network is gone for 40 s", BEGIN + windows(12) + "+40000 " + windows(3) + END, [("no_throughput", 31.2, 41.3)]),
    ("and for 20 s", BEGIN + windows(12) + "+20000 " + windows(3) + END, []),
    ("windows of no bytes are no throughput", BEGIN + windows(2) + windows(400, mib=0) + END, [("no_throughput", 30.2, 40.2)]),
    ("pre-switchover held for 20 s", BEGIN + windows(12) + "migration_thread_low_pending 4096\nmigrate_set_state new state pre-switchover\n+20000 M migrate_set_state new state device\n" + END, [("blocked_pre_switchover", 11.2, 21.2)]),
    ("setup for 100 s", "M migrate_set_state new state setup\nM migration_socket_outgoing_connected hostname=\n+100000 savevm_state_header\n" + BEGIN.partition("savevm_state_header")[2] + END, [("blocked_setup", 60.0, 100.0)]),
    ("wait-unplug for 100 s", BEGIN.replace("new state active", "new state wait-unplug\n+100000 migrate_set_state new state active") + END, [("blocked_wait_unplug", 60.0, 100.0)]),
    ("states alone are silent for long", "M migrate_set_state new state setup\nM migration_socket_outgoing_connected hostname=\nmigrate_set_state new state active\n+900000 migrate_set_state new state completed\n", []),
    ("states and marks of phases are silent for long", BEGIN + "+900000 migrate_set_state new state completed\n", []),
    ("a stall that turns into another", STUCK + "+40000 " + windows(3) + "M migrate_set_state new state failed\n", [("bandwidth_cap", 6.1, 42.0), ("no_throughput", 42.0, 52.1), ("bandwidth_cap", 52.2, None)]),
    ("a network that is gone until the end", BEGIN + windows(3) + "+900000 migrate_set_state new state failed\n", [("no_throughput", 30.3, None)]),
]  # fmt: skip


@pytest.mark.parametrize(("what", "events", "expected"), CASES, ids=[what for what, _, _ in CASES])
def test_stalls_and_their_ends(what: str, events: str, expected: list[tuple[str, float, float | None]]) -> None:
    """Reason, when it turned out, when it was over; None where it held until the end."""
    assert stalls(read(log_lines(events))) == expected, what


def test_postcopy_network_loss_stalls_at_once() -> None:
    """The guest stops as soon as it needs a missing page; progress clears the stall."""
    found = stalls(read(made("7.2-postcopy-recovered")))
    assert [reason for reason, _, _ in found] == ["postcopy_paused"]
    assert found[0][2] is not None


@pytest.mark.parametrize(
    "name",
    [
        "qemu-7.2-log-idle",
        "qemu-7.2-log-cancelled",
        "qemu-7.2-log-destination-killed",
        "qemu-7.2-log-refused",
        "qemu-7.2-log-postcopy",
        "qemu-kvm-2.6-systemtap",
    ],
)
def test_progress_reports_no_stall(name: str) -> None:
    """No stall is reported in the bulk round, nor of a migration that ends, is cancelled, fails or goes to post-copy in time."""
    migration = read(recording(name)).migration
    assert (migration.stalls, migration.progress.verdict.reason) == ((), None)


@pytest.mark.parametrize("name", ["qemu-7.2-log-nonconverging", "qemu-10.0-log-nonconverging"])
def test_real_stuck_migration_is_found_early(name: str) -> None:
    """47 MiB at 32 MiB/s take 1.5 s, the limit is 0.3 s; the advised values would have been enough."""
    migration = read(recording(name)).migration
    (stall,) = migration.stalls

    assert stall.bandwidth_bytes_per_second == pytest.approx(32 * MIB, rel=0.05)
    assert stall.end_ns is not None
    assert stall.end_ns - stall.start_ns > 0.5 * SECOND
    assert stall.reason is StallReason.BANDWIDTH_CAP
    assert stall.required_downtime_seconds == pytest.approx(1.47, abs=0.05)
    assert stall.downtime_limit_seconds == 0.3
    assert stall.best_pending_bytes == stall.pending_bytes == 49_283_072
    speed, downtime = (int(each.virsh.rpartition(" ")[2]) for each in advice_for(migration.identity, stall)[:2])
    assert speed * MIB * 0.3 > 49_283_072
    assert downtime / 1_000 * 33_000_000 > 49_283_072
    assert migration.progress.verdict == _like_the_stall(migration)


def _like_the_stall(migration: Migration) -> Verdict:
    """Return the verdict expected after the end: converging, with the numbers of its only stall."""
    (stall,) = migration.stalls
    return Verdict(
        converging=True,
        reason=stall.reason,
        best_pending_bytes=stall.best_pending_bytes,
        best_round=stall.best_round,
        required_downtime_seconds=stall.required_downtime_seconds,
        required_bandwidth_bytes_per_second=stall.required_bandwidth_bytes_per_second,
        bandwidth_bytes_per_second=stall.bandwidth_bytes_per_second,
        capabilities=stall.capabilities,
    )


def test_stuck_verdict_is_stalled() -> None:
    """Since the best boundary, with the numbers of now."""
    now = verdict(STUCK)
    assert (now.converging, now.reason, now.eta_seconds) == (False, StallReason.BANDWIDTH_CAP, None)
    assert now.stalled_since_ns == pytest.approx(EPOCH_NS + 1_200 * NS_PER_MS, abs=0.1 * SECOND)
    assert now.required_downtime_seconds == pytest.approx(47 / 32, abs=0.01)
    assert now.required_bandwidth_bytes_per_second == pytest.approx(47 * MIB / 0.3, rel=0.001)


def test_shrinking_verdict_has_eta() -> None:
    """An interval that a person can plan with."""
    shrinking = BEGIN + windows(12) + "".join(rounds(1, pending=90 * 0.7**n) for n in range(4))
    now = verdict(shrinking)
    assert now.converging is True
    assert now.eta_seconds is not None
    assert 0 <= now.eta_seconds[0] <= now.eta_seconds[1] < 6


def test_near_threshold_eta_is_no_evidence() -> None:
    """4 % above the threshold for 18 s: pending may be below it at any moment, or in minutes."""
    now = verdict(BEGIN + windows(12) + rounds(15, pending=10))
    assert now.converging is None
    assert now.eta_seconds is not None
    assert now.eta_seconds[0] == 0
    assert now.eta_seconds[1] == pytest.approx(9 * 18, rel=0.05)


def test_no_evidence_means_no_verdict() -> None:
    """In the bulk round nothing is known, and nothing is made up."""
    assert replace(verdict(BEGIN + windows(30)), bandwidth_bytes_per_second=None) == Verdict()


@pytest.mark.parametrize(
    ("before", "counted", "offered"),
    [
        ("", 0, False),
        ("", 20, True),  # memory is counted as what may be sent later
        ('M qmp_enter_migrate_set_capabilities {"capabilities": [{"capability": "postcopy-ram", "state": true}]}\n', 0, True),
        ('M qmp_enter_migrate_set_capabilities {"capabilities": [{"capability": "postcopy-ram", "state": false}]}\n', 20, False),
    ],
)  # fmt: skip
def test_enabled_postcopy_is_known(before: str, counted: float, *, offered: bool) -> None:
    """The command that enabled it is evidence, else the way QEMU counts."""
    now = verdict(before + BEGIN + windows(12, postcopy=counted) + rounds(9))
    assert now.capabilities.postcopy is offered


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ("migration_throttle\n" * 3, None),
        ("migration_throttle\n" * 9, StallReason.THROTTLED_MAX),
        ("migration_throttle\ncpu_throttle_set set guest CPU throttled by 99%\n", StallReason.THROTTLED_MAX),
    ],
)
def test_auto_converge_is_waited_for(steps: str, reason: StallReason | None) -> None:
    """As long as it can slow the guest down further; at its maximum the stall is called by its name."""
    now = verdict(BEGIN + windows(12) + rounds(1) + steps + rounds(6))
    assert now.reason is reason
    assert now.capabilities.auto_converge


@pytest.mark.parametrize(("end", "has_eta"), [("", True), ("migration_thread_low_pending 4096\n", False)])
def test_estimate_ends_with_the_rounds(end: str, *, has_eta: bool) -> None:
    """The switchover takes as long as it takes; the lines through the rounds do not show that."""
    falling = "".join(rounds(1, pending=pending, each=4) for pending in (90, 70, 55, 43, 34))
    assert has_eta == (verdict(BEGIN + windows(12) + falling + end).eta_seconds is not None)


def test_stall_in_force_has_present_numbers() -> None:
    """In the list of stalls too, which the report shows while the migration runs."""
    stream = new_stream()
    stream.feed(log_lines(STUCK + rounds(1, pending=48)).encode())
    (migration,) = stream.running()
    assert [48 * MIB] == [stall.pending_bytes for stall in migration.stalls]


def test_promised_switchover_bandwidth_counts() -> None:
    """Since 8.2 QEMU divides by avail-switchover-bandwidth where that is set."""
    lines = log_lines(STUCK).replace(" max_size", " switchover_bw 1048576 max_size")
    stream = new_stream()
    stream.feed(lines.encode())
    (migration,) = stream.running()
    assert migration.progress.verdict.required_downtime_seconds == pytest.approx(47 / 1_000, rel=0.01)


# Silence


def ticked(stream: Stream, *seconds: float) -> list[Change]:
    """Advance the time in a live stream."""
    return [change for each in seconds for change in stream.tick(EPOCH_NS + round(each * SECOND))]


def test_silence_is_found_while_it_lasts() -> None:
    """The daemon's clock finds it; it is reported once, cleared by the next line, and found alike by a replay."""
    before, after = log_lines(BEGIN + windows(12)), log_lines(BEGIN + windows(12) + "+40000 " + windows(3))
    stream = new_stream()
    stream.feed(before.encode())
    silent = ticked(stream, 20, 31, 32, 33)
    told = [change.stall for change in silent if isinstance(change, Stalled)]
    (running,) = stream.running()
    moved = stream.feed(after[len(before) :].encode())
    cleared = [change.stall for change in moved if isinstance(change, StallCleared)]

    assert [(stall.reason, stall.number, stall.end_ns) for stall in told] == [(StallReason.NO_THROUGHPUT, 1, None)]
    assert running.progress.verdict.stalled_since_ns == told[0].since_ns
    replayed = read(after)
    assert [change.stall for change in replayed.of(Stalled)] == told
    assert [change.stall for change in replayed.of(StallCleared)] == cleared


def test_end_in_silence_follows_its_report() -> None:
    """Its markers lie inside of it."""
    stream = new_stream()
    stream.feed(log_lines(BEGIN + windows(12)).encode())
    ticked(stream, 40)
    (running,) = stream.running()
    ended = [change for change in stream.close() if hasattr(change, "migration")]
    assert ended[0].migration.end_ns == running.stalls[0].start_ns


def test_destination_is_not_judged() -> None:
    """It waits for its source, for hours if need be."""
    stream = new_stream()
    stream.feed(made("8.2-destination").partition(b"completed")[0].rpartition(b"\n")[0] + b"\n")
    assert [change for change in ticked(stream, 900) if isinstance(change, Stalled)] == []


def test_all_day_stalls_are_bounded() -> None:
    """The first thousand stalls are kept; all are reported."""
    reading = read(log_lines(BEGIN + windows(1) + ("+31000 " + windows(1)) * 1_002 + END))
    assert (len(reading.of(Stalled)), len(reading.of(StallCleared))) == (1_002, 1_002)
    assert [stall.number for stall in reading.migration.stalls] == list(range(1, 1_001))


def test_every_stall_has_its_number() -> None:
    """A guest that calms down a little, three times."""
    once = "".join(rounds(count, pending=pending) for count, pending in ((6, 47), (12, 40), (24, 30)))
    reading = read(log_lines(BEGIN + windows(12) + once + END))
    assert [change.stall.number for change in reading.of(Stalled)] == [1, 2, 3]
    assert [change.stall for change in reading.of(StallCleared)] == list(reading.migration.stalls)


# Causes other than dirty memory


def below(count: int, pending: float = 2) -> str:
    """Go through rounds that begin below the threshold, and that QEMU does not end."""
    return rounds(count, pending=pending, each=12)


def test_low_boundaries_wait_for_ack() -> None:
    """Since 8.1 QEMU goes on until the destination has acknowledged the switchover."""
    assert verdict(BEGIN + windows(12) + below(12)).reason is StallReason.SWITCHOVER_ACK
    assert verdict(BEGIN + windows(12) + below(5)).reason is None
    assert verdict(BEGIN + windows(12) + below(12) + rounds(1, pending=30)).reason is None


def test_device_state_is_no_dirty_memory() -> None:
    """9 GiB are pending at every boundary, next to nothing is dirtied, and next to nothing is sent."""
    boundary = (
        "migration_bitmap_sync_start\nmigration_bitmap_sync_end dirty_pages 60\n"
        f"migrate_pending pending size {9 << 30} max {2 * MIB} (pre = 0 compat=0 post=0)\n"
    )
    now = verdict(BEGIN + windows(30, mib=64, pending=900) + (boundary + windows(10, mib=0.6, pending=1)) * 60)
    assert now.reason is StallReason.DEVICE_STATE
    assert now.required_downtime_seconds == pytest.approx(9 * 1024 / 640, rel=0.05)


def test_reason_follows_lifted_cap() -> None:
    """Still stuck, by the guest now: the same command is not advised again."""
    setspeed = 'M qmp_enter_migrate_set_parameters {"max-bandwidth": 981467136}\n'
    stuck = rounds(9, pending=300, mib=3.2)
    before, after = (
        verdict(BEGIN + windows(12) + stuck),
        verdict(BEGIN + windows(12) + stuck + setspeed + rounds(20, pending=300, mib=20)),
    )
    assert before.reason is StallReason.BANDWIDTH_CAP
    assert after.reason is StallReason.DIRTY_RATE
    assert after.bandwidth_bytes_per_second == pytest.approx(200 * MIB, rel=0.05)


def test_numbers_follow_network_drop() -> None:
    now = verdict(BEGIN + windows(12) + rounds(9, pending=90, mib=10) + rounds(9, pending=90, mib=2))
    assert now.bandwidth_bytes_per_second == pytest.approx(20 * MIB, rel=0.05)
    assert now.required_downtime_seconds == pytest.approx(90 / 20, rel=0.05)


def test_bulk_round_eta_is_no_evidence() -> None:
    """At this rate so long, and nothing is known about convergence."""
    falling = "".join(windows(1, pending=900 - 3.2 * n) for n in range(60))
    now = verdict(BEGIN + falling)
    assert now.converging is None
    assert now.eta_seconds is not None
    assert now.eta_seconds[0] < 710 / 32 < now.eta_seconds[1]


def test_stall_best_case_exceeds_horizon() -> None:
    now = verdict(STUCK)
    assert now.best_case_seconds is not None
    assert now.best_case_seconds > 100
    assert verdict(BEGIN + windows(12) + rounds(2)).best_case_seconds is None


def test_dirty_limit_and_multifd_are_known() -> None:
    """Auto-converge is refused beside the dirty limit."""
    switched = '{"capability": "dirty-limit", "state": true}, {"capability": "multifd", "state": true}'
    now = verdict(f'M qmp_enter_migrate_set_capabilities {{"capabilities": [{switched}]}}\n' + STUCK)
    assert (now.capabilities.dirty_limit, now.capabilities.multifd) == (True, True)


def test_paused_guest_is_not_judged() -> None:
    """A pause ends a stall of the rounds, and boundaries count again after a whole round."""
    detector = StallDetector.begin("0" * 32, 0, StallPolicy())
    for second in range(8):
        detector.convergence.window(second * SECOND, 10 * MIB)
        detector.convergence.boundary(second * SECOND + 1, second + 2, 47 * MIB)
        detector.convergence.window(second * SECOND + 2, 10 * MIB)
        detector.convergence.judge()
    assert detector.convergence.is_stalled
    detector.paused(9 * SECOND)
    assert (detector.convergence.is_stalled, detector.is_paused) == (False, True)
    detector.resumed(10 * SECOND)
    assert (detector.is_paused, detector.rounds_to_skip) == (False, 1)


def in_round(number: int) -> Precopy:
    """Make the numbers of a migration in a later round."""
    numbers = Precopy("0" * 32, page_size=4096, joined=False)
    numbers.begin(0)
    for second in range(1, number):
        numbers.pending_seen(90 * MIB)
        numbers.slice_seen()
        numbers.sync_started(second * SECOND, phase=PhaseName.ITERATE, begins_round=True)
    assert numbers.round == number
    return numbers


def test_boundary_after_a_pause_is_not_judged() -> None:
    """The round that the guest slept through is short, and the next one has more to send."""
    detector = StallDetector.begin("0" * 32, 0, StallPolicy())
    numbers = in_round(2)
    detector.paused(1 * SECOND)
    detector.pending_seen(2 * SECOND, 30 * MIB, is_boundary=True, numbers=numbers)
    detector.resumed(3 * SECOND)
    for second in (4, 5):
        detector.pending_seen(second * SECOND, 40 * MIB, is_boundary=True, numbers=numbers)
    assert [point.pending for point in detector.convergence.boundaries] == [40 * MIB]
    assert detector.rounds_to_skip == 0


def test_throttle_at_its_maximum_stays_there() -> None:
    """QEMU goes on to print steps that change nothing."""
    detector = StallDetector.begin("0" * 32, 0, StallPolicy())
    for steps, ratio in ((1, 0.99), (2, 0.2)):
        detector.throttled(steps * SECOND, steps=steps, ratio=ratio, parameters=Parameters())
    assert (detector.is_throttled, detector.is_throttled_max) == (True, True)


def test_stall_without_dirty_pages_has_a_reason() -> None:
    """A script may not print how many pages a sync found."""
    reading = read(log_lines(STUCK.replace("migration_bitmap_sync_end dirty_pages 9816\n", "")))
    assert [reason for reason, _, _ in stalls(reading)] == ["bandwidth_cap"]


def test_stall_over_the_limit_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in no list, and the verdict is still on it."""
    monkeypatch.setattr(detector_module, "_MAX_STALLS", 0)
    reading = read(log_lines(STUCK + rounds(6)))
    assert ([], StallReason.BANDWIDTH_CAP) == (stalls(reading), reading.of(Stalled)[0].stall.reason)
