"""How a migration ended, and why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from qemu_migration_exporter.core.migration.outcome import REFUSED, Outcome
from qemu_migration_exporter.core.model import Result


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("completed", (Result.COMPLETED, False)),
        ("failed", (Result.FAILED, False)),
        ("cancelled", (Result.CANCELLED, False)),
        ("cancelling", (Result.CANCELLED, True)),
        ("failing", (Result.FAILED, True)),
        ("active", (Result.UNKNOWN, False)),
        (None, (Result.UNKNOWN, False)),
    ],
)
def test_states_give_outcome(state: str | None, expected: tuple[Result, bool]) -> None:
    """A terminal state states it; the state before one, where it was the last, allows to infer it."""
    assert expected == Outcome(state=state, at_ns=5).result()


@pytest.mark.parametrize("state", [None, "active", "cancelling", "failing"])
def test_open_migration_has_no_result(state: str | None) -> None:
    """No outcome is inferred from a stream that ended first."""
    assert (Result.UNKNOWN, False) == Outcome(state=state, completing=True, failing=True).result()


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Outcome(at_ns=5, completing=True), Result.COMPLETED),
        (Outcome(at_ns=5, failing=True), Result.FAILED),
        (Outcome(at_ns=5, cancel_requested=True), Result.CANCELLED),
        (Outcome(at_ns=5, completing=True, failing=True), Result.FAILED),
        (Outcome(at_ns=5, completing=True, cancel_requested=True), Result.COMPLETED),
        (Outcome(at_ns=5, failing=True, cancel_requested=True), Result.FAILED),
    ],
)
def test_missing_states_infer_outcome(outcome: Outcome, expected: Result) -> None:
    """Printed events decide; migrate_fd_cancel is printed at every exit of QEMU and so is the weakest evidence."""
    assert (expected, True) == outcome.result()


def test_loop_end_replaces_terminal_state() -> None:
    """And changes nothing where one did."""
    outcome = Outcome(left_loop_ns=7)
    outcome.assume_end()
    assert 7 == outcome.at_ns
    ended = Outcome(at_ns=5, left_loop_ns=7)
    ended.assume_end()
    assert 5 == ended.at_ns


def test_first_error_wins() -> None:
    """Later errors follow from the first, as in QEMU; one without text (up to 2.6) leaves room for a text."""
    outcome = Outcome(state="failed", at_ns=5)
    for text in (None, "Broken pipe", "Channel error"):
        outcome.error_set(text)
    assert (True, "Broken pipe") == (outcome.failing, outcome.error())


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        (Outcome(), (Result.FAILED, True)),
        (Outcome(completing=True), (Result.FAILED, True)),
        (Outcome(cancel_requested=True), (Result.CANCELLED, True)),
        (Outcome(cancel_requested=True, completing=True), (Result.CANCELLED, True)),
        (Outcome(state="completed"), (Result.COMPLETED, False)),
    ],
    ids=["running", "switching over", "cancelled", "cancelled in the switchover", "QEMU says otherwise"],
)
@pytest.mark.parametrize("how", ["broke", "error"])
def test_broken_channel_fails(before: Outcome, expected: tuple[Result, bool], how: str) -> None:
    """Exceptions are a cancel requested before, which shuts the sockets down, and QEMU's own state."""
    outcome = replace(before)
    if how == "broke":
        outcome.broke()
    else:
        outcome.error_set("Channel error")
    outcome.at_ns = 5
    outcome.cancel_requested = True  # QEMU exits
    assert expected == outcome.result()


def test_break_after_end_is_ignored() -> None:
    """The cleanup closes the return path and multifd's channels under their threads."""
    outcome = Outcome(at_ns=5, completing=True)
    outcome.broke()
    assert (Result.COMPLETED, True) == outcome.result()


def test_postcopy_resume_forgets_break() -> None:
    """The cause is forgotten too; a later break counts again."""
    outcome = Outcome(completing=True)
    outcome.error_reported(1, "Detected IO failure for postcopy. Migration paused.")
    outcome.error_set("Broken pipe")
    outcome.resumed()
    assert (Result.COMPLETED, True) == replace(outcome, at_ns=5).result()
    assert None is replace(outcome, state="failed", at_ns=5).error()
    outcome.error_set("Channel error")
    outcome.at_ns = 5
    assert ((Result.FAILED, True), "Channel error") == (outcome.result(), outcome.error())


SECOND_NS = 1_000_000_000
GENERIC = "load of migration failed: Invalid argument"


@pytest.mark.parametrize(
    ("before", "after", "error"),
    [
        ([], [], None),
        ([(99, "Broken pipe")], [], "Broken pipe"),
        ([(99, "early"), (99, "late")], [], "early; late"),
        ([(94, "of long before")], [], None),
        ([(95, "of just before")], [], "of just before"),
        ([(99, "before")], ["after", "later"], "after"),
        ([(99, "the device"), (99, "its section")], [GENERIC], "the device; its section"),
        ([], [GENERIC], GENERIC),
        ([(99, GENERIC)], [], GENERIC),
        ([(99, "the device")], [GENERIC], "the device"),
        ([(99, "1"), (99, "2"), (99, "3"), (99, "4")], [], "1; 2; 3"),
        ([(99, "warning: TSC frequency mismatch"), (99, "info: x")], [], None),
    ],
)
def test_error_is_report_nearest_fault(before: list[tuple[int, str]], after: list[str], error: str | None) -> None:
    outcome = Outcome(state="failed")
    for at_s, text in before:
        outcome.error_reported(at_s * SECOND_NS, text)
    outcome.at_ns = 100 * SECOND_NS
    for text in after:
        outcome.error_reported(outcome.at_ns + 1, text)
    assert error == outcome.error()


def test_reports_surround_end() -> None:
    outcome = Outcome(state="failed")
    for number in range(20):
        outcome.error_reported(number, str(number))
    assert [str(number) for number in range(12, 20)] == [report.text for report in outcome.reports]
    outcome.at_ns = 20
    outcome.error_reported(21, "too late")
    assert "too late" not in {report.text for report in outcome.reports}


@pytest.mark.parametrize(
    ("texts", "error"),
    [
        ({"error_text": "a", "channel_text": "b", "refused": True}, "a"),
        ({"channel_text": "b", "refused": True}, "b"),
        ({"refused": True}, REFUSED),
        ({}, None),
        (
            {"error_text": "a", "qemu_ended": "shutting down, reason=crashed"},
            "QEMU ended: shutting down, reason=crashed",
        ),
    ],
)
def test_error_is_most_specific_cause(texts: dict[str, Any], error: str | None) -> None:
    assert error == Outcome(state="failed", at_ns=5, **texts).error()


def test_channel_error_fails_until_end() -> None:
    outcome = Outcome()
    outcome.channel_failed("refused")
    assert outcome.failing
    ended = Outcome(at_ns=5)
    ended.channel_failed(None)
    assert not ended.failing


def test_qemu_exit_is_always_failure() -> None:
    assert (Result.FAILED, True) == Outcome(state="cancelling", at_ns=5, qemu_ended="gone").result()


def test_only_failure_has_error() -> None:
    """A cancelled migration often prints one on its way out."""
    outcome = Outcome(state="cancelled", at_ns=5)
    outcome.error_reported(5, "Unable to write to socket: Broken pipe")
    assert None is outcome.error()
