"""Pauses between attempts at a receiver: their lengths, and their end."""

from __future__ import annotations

import random
import time

import pytest
from qemu_migration_exporter.tracing.export.backoff import Backoff


class Clock:
    """Monotonic clock that the test sets, and the shortest of the random pauses."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000.0
        self.spread = (0.0, 0.0)
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(random, "uniform", self._uniform)

    def _uniform(self, low: float, high: float) -> float:
        self.spread = low, high
        return low

    def pause(self, backoff: Backoff) -> float:
        """Return the time until the pause is over, to a quarter of a second."""
        began, self.now = self.now, self.now - 0.25
        while backoff.is_pausing or self.now < began:
            self.now += 0.25
        return self.now - began


@pytest.fixture(name="clock")
def _clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_pauses_double_up_to_a_minute(clock: Clock) -> None:
    backoff = Backoff()
    pauses = []
    for _ in range(12):
        backoff.failed()
        pauses.append(clock.pause(backoff))

    assert pauses == [0.75, 1.5, 3, 6, 12, 24, 45, 45, 45, 45, 45, 45]
    assert clock.spread == (0.75, 1.25)


def test_success_starts_over(clock: Clock) -> None:
    backoff = Backoff()
    assert [backoff.failed(), backoff.failed(), backoff.failed()] == [True, False, False]
    assert [backoff.succeeded(), backoff.succeeded()] == [True, False]

    assert backoff.failed()
    assert clock.pause(backoff) == 0.75


@pytest.mark.parametrize(("asked", "pause"), [(0.0, 0.75), (0.5, 0.75), (30.0, 30), (300.0, 300), (86_400.0, 300)])
def test_requested_pause_is_kept_to_five_minutes(clock: Clock, asked: float, pause: float) -> None:
    backoff = Backoff()
    backoff.failed(asked)

    assert clock.pause(backoff) == pause


def test_wait_counts_no_failure(clock: Clock) -> None:
    backoff = Backoff()
    backoff.wait()
    assert clock.pause(backoff) == 1

    assert backoff.failed()


def test_pause_can_be_ended(clock: Clock) -> None:
    backoff = Backoff()
    backoff.failed(60.0)
    backoff.resume()

    assert clock.pause(backoff) == 0
