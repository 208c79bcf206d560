"""A destination of which only part of the events is enabled."""

from __future__ import annotations

from typing import Any, Final

import pytest
from qemu_migration_exporter.core.model import Kind, Result, Side
from qemu_migration_exporter.present.view_builder import migration_view
from qemu_migration_exporter.present.wording.sentences import headline_text, notes

from tests.support.core_helpers import EPOCH_NS, log_lines, read

RAM: Final = "M vmstate_downtime_load type=iterable idstr=ram instance_id=0 downtime=900"
CPU: Final = "M vmstate_downtime_load type=non-iterable idstr=cpu instance_id=0 downtime=150"
TIMER: Final = "M vmstate_downtime_load type=non-iterable idstr=timer instance_id=0 downtime=0"
LOADED: Final = "M vmstate_downtime_checkpoint dst-precopy-loadvm-completed"
STARTED: Final = "M vmstate_downtime_checkpoint dst-precopy-bh-vm-started"
POSTCOPY: Final = "M vmstate_downtime_checkpoint dst-postcopy-bh-vm-started"
RETURNED: Final = "M process_incoming_migration_co_end ret=%d postcopy-state=%d"
CLEANUP: Final = "M loadvm_state_cleanup"

ENDS: Final = [
    # events, the result, a phrase
    ([RAM, CPU, TIMER], Result.UNKNOWN, "(loading its state) was seen for at least 2.9 ms, and the recording does not"),
    ([CPU], Result.UNKNOWN, "is unfinished"),
    ([RAM, LOADED, STARTED], Result.COMPLETED, "completed, as far as the trace shows, in at least 2.9 ms"),
    ([LOADED], Result.UNKNOWN, "was seen for"),
    ([LOADED, STARTED], Result.COMPLETED, "(incoming) completed"),
    ([RAM, RETURNED % (0, 0)], Result.COMPLETED, "(incoming) completed"),
    ([RAM, RETURNED % (0, 0), STARTED, CLEANUP], Result.COMPLETED, "in at least 3.9 ms"),
    ([RAM, RETURNED % (-22, 0), CLEANUP], Result.FAILED, "(incoming) failed, as far as the trace shows"),
    ([RAM, RETURNED % (0, 3)], Result.UNKNOWN, "(incoming) was seen for"),
    ([RAM, RETURNED % (0, 3), "+900 " + CLEANUP], Result.COMPLETED, "(incoming) completed"),
    ([RAM, POSTCOPY], Result.UNKNOWN, "(incoming) was seen for"),
    ([RAM, "M process_incoming_migration_co_end ret=0"], Result.UNKNOWN, "was seen for"),
    ([RAM, "M process_incoming_migration_co_end ret=0", CLEANUP], Result.COMPLETED, "(incoming) completed"),
    ([RAM, CLEANUP, "+9 M migrate_fd_cancel"], Result.UNKNOWN, "was seen for"),
    (["M migrate_set_state new state active", RAM, RETURNED % (0, 0)], Result.UNKNOWN, "(incoming) is unfinished"),
]  # fmt: skip


@pytest.mark.parametrize(("events", "result", "phrase"), ENDS, ids=range(len(ENDS)))
def test_last_mark_ends_without_states(events: list[str], result: Result, phrase: str) -> None:
    migration = read(log_lines("\n".join(events))).migration
    view = migration_view(migration)
    words = " ".join([headline_text(view), *notes(view)])
    assert (Side.DESTINATION, result) == (migration.identity.side, migration.result), words
    assert phrase in words


def test_loads_alone_begin_with_the_first_load() -> None:
    """Its line is printed at its end."""
    migration = read(log_lines(f"{RAM}\n{CPU}")).migration
    assert EPOCH_NS - 900_000 == migration.identity.start_ns
    assert [("ram", None, -900, 0), ("device", "cpu", 850, 1_000)] == [
        (part.name, part.device, (part.start_ns - EPOCH_NS) // 1_000, (part.end_ns - EPOCH_NS) // 1_000)
        for part in migration.downtime_parts
    ]
    assert migration.progress.verdict.converging is None


def test_first_4096_loads_are_kept() -> None:
    """A hostile log may have any number of them."""
    assert 4_096 == len(read(log_lines(f"{CPU}\n" * 4_097)).migration.downtime_parts)


def test_silence_ends_loads_alone() -> None:
    reading = read(log_lines(f"{RAM}\n{CPU}\n+40000 {RAM}\n{CPU}"))
    assert [Result.UNKNOWN] * 2 == [migration.result for migration in reading.migrations]


@pytest.mark.parametrize("header", ["T savevm_state_header", "M migrate_set_state new state setup"])
def test_outgoing_migration_ends_loads(header: str) -> None:
    """It is no surprise, because the end of the loads is not in the stream."""
    reading = read(log_lines(f"{RAM}\n{CPU}\n+5000 {header}\nT migration_thread_setup_complete"))
    assert [Side.DESTINATION, Side.SOURCE] == [migration.identity.side for migration in reading.migrations]
    assert [] == reading.surprises


RESTORES: Final = [
    # the events of a snapshot or its restore, which are no incoming migration
    (["M migrate_set_state new state setup", "M migrate_set_state new state completed", RAM, CPU], Kind.SNAPSHOT),
    (["M runstate_set current_run_state 9 (running) new_state 8 (restore-vm)", RAM, CPU], Kind.SNAPSHOT),
]  # fmt: skip


@pytest.mark.parametrize(("events", "kind"), RESTORES, ids=["saved before", "run state"])
def test_restored_snapshot_is_no_migration(events: list[str], kind: Kind) -> None:
    assert kind is read(log_lines("\n".join(events))).migration.identity.kind


STATES: Final = "{} M migrate_set_state new state active\n{}+900 M migrate_set_state new state {}"
SETUP: Final = "M migrate_set_state new state setup\n+7000"

SIDES: Final[list[tuple[str, dict[str, Any]]]] = [
    # the events, and the facts of it
    (STATES.format(SETUP, "", "completed"), {"side": None, "duration": 7.9, "setup": None, "phrase": "in at most 7.9 s"}),
    (
        STATES.format("M runstate_set current_run_state 6 (prelaunch) new_state 1 (inmigrate)\n" + SETUP, "", "completed"),
        {"side": "destination", "duration": 0.9, "setup": None, "phrase": "(incoming) completed in 901 ms."},
    ),
    (
        STATES.format(SETUP, "M runstate_set current_run_state 1 (inmigrate) new_state 9 (running)\n", "completed"),
        {"side": "destination", "duration": 0.9, "setup": None, "phrase": "(incoming) completed in 902 ms."},
    ),
    (
        STATES.format(SETUP, "", "failed") + "\nM migrate_error error=load of migration failed: Invalid argument",
        {"side": "destination", "duration": 0.9, "setup": None, "phrase": "(incoming) failed after 901 ms"},
    ),
    (
        "M migrate_set_state new state setup\n+7000 M migrate_set_state new state failed",
        {"side": "source", "duration": 7.0, "setup": None, "phrase": "failed after 7.0 s, in setup"},
    ),
    (
        STATES.format("M savevm_state_begin\n" + SETUP, "", "completed"),
        {"side": "source", "duration": 7.9, "setup": 7.0, "phrase": "completed in 7.9 s"},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("events", "facts"), SIDES, ids=range(len(SIDES)))
def test_setup_of_a_destination_is_no_setup(events: str, facts: dict[str, Any]) -> None:
    """It listens, maybe for hours; the states alone do not show which side a QEMU of 8.2 or later is."""
    view = migration_view(read(log_lines(events)).migration)
    assert (facts["side"], facts["setup"]) == (view.side, view.setup_seconds and round(view.setup_seconds, 1))
    assert facts["duration"] == pytest.approx(view.duration_seconds, abs=0.1)
    assert facts["phrase"] in headline_text(view)
    assert not (view.side == "destination" and view.phases)


def test_error_of_loading_is_of_a_destination() -> None:
    """Its log has the line without the event."""
    log = log_lines(STATES.format(SETUP, "", "failed")) + "qemu-system-x86_64: load of migration failed: Broken pipe\n"
    assert Side.DESTINATION is read(log).migration.identity.side


def test_return_without_its_value_ends_nothing() -> None:
    """A script that prints the names of marks alone."""
    names = ["migration_socket_incoming_accepted", "process_incoming_migration_co_end"]
    migration = read("".join(f'process("/q").mark("{name}")\n' for name in names)).migration
    assert Result.UNKNOWN is migration.result
