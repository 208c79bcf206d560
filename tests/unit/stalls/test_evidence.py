"""The numbers that follow from the evidence about one migration."""

from __future__ import annotations

import math

import pytest
from qemu_migration_exporter.core.measures.precopy import Precopy
from qemu_migration_exporter.core.model import Capabilities, Round, Stall, StallReason
from qemu_migration_exporter.core.qmp_parameters import Parameters
from qemu_migration_exporter.core.stalls.convergence import Convergence
from qemu_migration_exporter.core.stalls.evidence import Evidence

SECOND = 1_000_000_000


def numbers(*, dirtied: int | None = None, sent: int | None = None, may_postcopy: bool = False) -> Precopy:
    """Return the numbers of a migration whose last round dirtied and sent so many bytes."""
    precopy = Precopy("trace", page_size=4096, joined=False)
    precopy.may_postcopy = may_postcopy
    precopy.downtime_limit_seconds = 0.5
    precopy.rounds.count = 2
    if dirtied is not None or sent is not None:
        ended = Round(
            number=1,
            start_ns=0,
            end_ns=SECOND,
            iterations=1,
            transferred_bytes=sent,
            pending_at_start_bytes=None,
            pending_at_end_bytes=None,
            dirtied_bytes=dirtied,
            bandwidth_bytes_per_second=None,
        )
        precopy.finished = [ended]
    return precopy


def evidence(pending: int | None = None) -> Evidence:
    """Return the evidence of one boundary, and of a bandwidth of 50 bytes per second that was 80 before."""
    found = Evidence(convergence=Convergence())
    if pending is not None:
        found.convergence.boundary(0, 2, pending)
    found.bandwidth.window(80, 1)
    for _ in range(100):
        found.bandwidth.window(50, 1)
    return found


def stalled(reason: StallReason) -> Stall:
    """Return a stall without numbers."""
    return Stall(number=1, start_ns=0, end_ns=None, since_ns=0, reason=reason, round=2)


@pytest.mark.parametrize(
    ("dirtied", "sent", "is_throttled_max", "expected"),
    [
        (99, 99, False, StallReason.DEVICE_STATE),
        (99, None, True, StallReason.DEVICE_STATE),
        (100, 0, False, StallReason.DIRTY_RATE),
        (0, 100, False, StallReason.DIRTY_RATE),
        (None, 0, False, StallReason.DIRTY_RATE),
        (500, 500, True, StallReason.THROTTLED_MAX),
    ],
)
def test_pending_that_is_no_memory_is_device_state(
    dirtied: int | None, sent: int | None, *, is_throttled_max: bool, expected: StallReason
) -> None:
    """Under a tenth of the pending bytes was newly dirtied or sent, so that the rest stays until the guest stops."""
    found = evidence(1_000)
    found.bandwidth.regularity.value = 0.0
    found.is_throttled_max = is_throttled_max
    assert expected is found.reason_of_rounds(numbers(dirtied=dirtied, sent=sent), Parameters())


@pytest.mark.parametrize(
    ("reason", "switchover_bandwidth", "downtime"),
    [
        (StallReason.DIRTY_RATE, None, 1_000 / 50),
        (StallReason.DEVICE_STATE, None, 1_000 / 80),
        (StallReason.DIRTY_RATE, 20.0, 1_000 / 20),
    ],
    ids=["present bandwidth", "best bandwidth", "the operator's"],
)
def test_required_numbers_send_pending_in_downtime(
    reason: StallReason, switchover_bandwidth: float | None, downtime: float
) -> None:
    found = evidence(1_000)
    found.switchover_bandwidth = switchover_bandwidth
    stall = found.with_numbers(stalled(reason), numbers(), Parameters())
    assert pytest.approx(downtime) == stall.required_downtime_seconds
    assert 2_000 == stall.required_bandwidth_bytes_per_second


def test_bulk_rate_is_smoothed_over_five_seconds() -> None:
    """A run of zero pages is fast; a rise counts as 0, and a second value at one time replaces the first."""
    found = evidence()
    rates = []
    for second, pending in [(0, 1_000), (1, 900), (2, 700), (2, 650), (3, 800)]:
        found.follow_bulk(second * SECOND, pending)
        rates.append(found.bulk_rate.value)
    weight = 1 - math.exp(-1 / 5)
    smoothed = 100 + (200 - 100) * weight
    assert rates[:4] == [None, 100, pytest.approx(smoothed), pytest.approx(smoothed)]
    assert rates[4] == pytest.approx(smoothed * (1 - weight))


@pytest.mark.parametrize(
    ("parameters", "is_throttled", "may_postcopy", "expected"),
    [
        (Parameters(), False, False, Capabilities()),
        (Parameters(), True, True, Capabilities(postcopy=True, auto_converge=True)),
        (
            Parameters(max_bandwidth=7, capabilities={"postcopy-ram": False, "dirty-limit": True, "multifd": True}),
            False,
            True,
            Capabilities(dirty_limit=True, multifd=True, max_bandwidth=7),
        ),
        (Parameters(capabilities={"auto-converge": True}), False, False, Capabilities(auto_converge=True)),
    ],
    ids=["nothing", "seen in the stream", "set over QMP", "switched on and not yet needed"],
)
def test_capabilities_are_those_set_or_seen(
    parameters: Parameters, *, is_throttled: bool, may_postcopy: bool, expected: Capabilities
) -> None:
    """A capability that was switched off is off, even if pending bytes are printed for it."""
    found = evidence()
    found.is_throttled = is_throttled
    stall = found.with_numbers(stalled(StallReason.DIRTY_RATE), numbers(may_postcopy=may_postcopy), parameters)
    assert expected == stall.capabilities
