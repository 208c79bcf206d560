"""How a migration ended, and why."""

from __future__ import annotations

from dataclasses import replace

import pytest
from qemu_migration_exporter.core.model import Result
from qemu_migration_exporter.core.tracking.outcome import Outcome


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
def test_states_say_how_it_ended(state: str | None, expected: tuple[Result, bool]) -> None:
    """A terminal state states it; the state before one, where it was the last, allows to infer it."""
    assert expected == Outcome(state=state, at_ns=5).result()


@pytest.mark.parametrize("state", [None, "active", "cancelling", "failing"])
def test_what_has_not_ended_has_no_result(state: str | None) -> None:
    """Nothing is inferred from a stream that ended first."""
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
def test_without_states_the_outcome_is_inferred(outcome: Outcome, expected: Result) -> None:
    """From what was printed; migrate_fd_cancel is printed at every exit of QEMU and so says least."""
    assert (expected, True) == outcome.result()


def test_the_loops_end_stands_for_a_terminal_state_that_never_came() -> None:
    """And changes nothing where one did."""
    outcome = Outcome(left_loop_ns=7)
    outcome.assume_end()
    assert 7 == outcome.at_ns
    ended = Outcome(at_ns=5, left_loop_ns=7)
    ended.assume_end()
    assert 5 == ended.at_ns


def test_the_first_error_is_the_one() -> None:
    """What follows it follows from it, as QEMU sees it too; one without text (up to 2.6) leaves room for a text."""
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
def test_what_breaks_fails(before: Outcome, expected: tuple[Result, bool], how: str) -> None:
    """Unless somebody asked to cancel before, which shuts the sockets down; and QEMU's own state says more."""
    outcome = replace(before)
    if how == "broke":
        outcome.broke()
    else:
        outcome.error_set("Channel error")
    outcome.at_ns = 5
    outcome.cancel_requested = True  # QEMU exits
    assert expected == outcome.result()


def test_what_breaks_after_the_end_is_being_closed() -> None:
    """The cleanup closes the return path and multifd's channels under their threads."""
    outcome = Outcome(at_ns=5, completing=True)
    outcome.broke()
    assert (Result.COMPLETED, True) == outcome.result()


def test_what_broke_before_post_copy_went_on_is_forgotten() -> None:
    """Also why; what breaks later counts again."""
    outcome = Outcome(completing=True)
    outcome.error_reported("Detected IO failure for postcopy. Migration paused.")
    outcome.error_set("Broken pipe")
    outcome.resumed()
    assert (Result.COMPLETED, True) == replace(outcome, at_ns=5).result()
    assert None is replace(outcome, state="failed", at_ns=5).error()
    outcome.error_set("Channel error")
    outcome.at_ns = 5
    assert ((Result.FAILED, True), "Channel error") == (outcome.result(), outcome.error())


def test_error_reports_stand_in_for_an_error() -> None:
    """The first after the end, which 7.2 prints when all is over; else the last before it."""
    outcome = Outcome(state="failed")
    outcome.error_reported("a warning")
    outcome.error_reported("Broken pipe, before")
    assert "Broken pipe, before" == Outcome(state="failed", at_ns=5, report_before_text="Broken pipe, before").error()
    outcome.at_ns = 5
    outcome.error_reported("Broken pipe")
    outcome.error_reported("something else")
    assert "Broken pipe" == outcome.error()


def test_only_a_failure_has_an_error() -> None:
    """A cancelled migration often prints one on its way out."""
    outcome = Outcome(state="cancelled", at_ns=5)
    outcome.error_reported("Unable to write to socket: Broken pipe")
    assert None is outcome.error()
