"""What the program failed to do: counted always, told now and then."""

from __future__ import annotations

import errno
import os

import pytest

from exporter.failures import Failures, Part


def test_every_part_is_counted_from_the_start() -> None:
    """So that a rate of it can be asked for before anything happened."""
    assert Failures().counts() == dict.fromkeys(Part, 0)


def test_a_part_is_told_once_a_minute_and_counted_each_time(caplog: pytest.LogCaptureFixture) -> None:
    """A disk that stays full does not fill the log, and hides nothing of another part."""
    failures = Failures()
    for _ in range(1_000):
        failures.note(Part.STATE, "%s is full", "the disk")
    failures.note(Part.SPOOL, "it is, too")

    assert [record.getMessage() for record in caplog.records] == ["the disk is full", "it is, too"]
    assert (failures.counts()[Part.STATE], failures.counts()[Part.SPOOL]) == (1_000, 1)


@pytest.mark.parametrize(
    ("error", "level", "message", "has_traceback"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "WARNING", "b was lost: No space left on device", False),
        (OSError("no number"), "WARNING", "b was lost: no number", False),
        (RuntimeError("of ours"), "ERROR", "b was lost", True),
        (MemoryError(), "ERROR", "b was lost", True),
    ],
)
def test_what_fails_in_an_attempt_goes_no_further(
    caplog: pytest.LogCaptureFixture, error: Exception, level: str, message: str, *, has_traceback: bool
) -> None:
    """The system's errors in a line, those of ours with where they come from."""
    failures = Failures()
    with failures.attempt(Part.PAGE, "%s was lost", "b") as attempt:
        raise error

    (record,) = caplog.records
    assert attempt.failed
    assert (record.levelname, record.getMessage(), bool(record.exc_info)) == (level, message, has_traceback)
    assert failures.counts()[Part.PAGE] == 1


def test_what_works_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is counted and nothing told."""
    failures = Failures()
    with failures.attempt(Part.PAGE, "it was lost") as attempt:
        pass

    assert not attempt.failed
    assert failures.counts()[Part.PAGE] == 0
    assert not caplog.records


def test_an_order_to_stop_is_no_failure() -> None:
    """It goes on to whoever has to stop."""
    failures = Failures()
    with pytest.raises(KeyboardInterrupt), failures.attempt(Part.PAGE, "it was lost"):
        raise KeyboardInterrupt

    assert failures.counts()[Part.PAGE] == 0
