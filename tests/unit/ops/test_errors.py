"""Failures of the program: always counted, logged once a minute."""

from __future__ import annotations

import errno
import os

import pytest
from qemu_migration_exporter.ops.errors import Component, ErrorCounter


def test_every_part_starts_at_zero() -> None:
    """So that a rate of it can be asked for before anything happened."""
    assert ErrorCounter().counts() == dict.fromkeys(Component, 0)


def test_failure_log_is_rate_limited(caplog: pytest.LogCaptureFixture) -> None:
    """A disk that stays full does not fill the log, and hides nothing of another part."""
    failures = ErrorCounter()
    for _ in range(1_000):
        failures.record(Component.STATE, "%s is full", "the disk")
    failures.record(Component.SPOOL, "it is, too")

    assert [record.getMessage() for record in caplog.records] == ["the disk is full", "it is, too"]
    assert (failures.counts()[Component.STATE], failures.counts()[Component.SPOOL]) == (1_000, 1)


@pytest.mark.parametrize(
    ("error", "level", "message", "has_traceback"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "WARNING", "b was lost: No space left on device", False),
        (OSError("no number"), "WARNING", "b was lost: no number", False),
        (RuntimeError("of ours"), "ERROR", "b was lost", True),
        (MemoryError(), "ERROR", "b was lost", True),
    ],
)
def test_attempt_contains_exception(
    caplog: pytest.LogCaptureFixture, error: Exception, level: str, message: str, *, has_traceback: bool
) -> None:
    """The system's errors in a line, those of ours with where they come from."""
    failures = ErrorCounter()
    with failures.guard(Component.PAGE, "%s was lost", "b") as attempt:
        raise error

    (record,) = caplog.records
    assert attempt.failed
    assert (record.levelname, record.getMessage(), bool(record.exc_info)) == (level, message, has_traceback)
    assert failures.counts()[Component.PAGE] == 1


def test_success_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    """Neither a count nor a message."""
    failures = ErrorCounter()
    with failures.guard(Component.PAGE, "it was lost") as attempt:
        pass

    assert not attempt.failed
    assert failures.counts()[Component.PAGE] == 0
    assert not caplog.records


def test_stop_order_is_no_failure() -> None:
    """KeyboardInterrupt passes through."""
    failures = ErrorCounter()
    with pytest.raises(KeyboardInterrupt), failures.guard(Component.PAGE, "it was lost"):
        raise KeyboardInterrupt

    assert failures.counts()[Component.PAGE] == 0
