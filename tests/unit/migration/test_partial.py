"""Jobs that are recognised by the order of their marks, and streams that lack a mark."""

from __future__ import annotations

from typing import Final

import pytest
from qemu_migration_exporter.core.model import Kind, Result
from qemu_migration_exporter.present.view_builder import migration_view
from qemu_migration_exporter.present.wording.sentences import headline_text

from tests.support.core_helpers import NS_PER_MS, log_lines, read

LIBVIRT: Final = b"2023-11-14 22:13:20.900+0000: shutting down, reason=%s\n"
HEADER: Final = "T savevm_state_header\nT migration_thread_setup_complete\n"
STATES: Final = "M migrate_set_state new state setup\nT migrate_set_state new state active\n"
STOP: Final = "T vmstate_downtime_checkpoint src-downtime-start\n+9 T vmstate_downtime_checkpoint src-vm-stopped\n"
SAVED: Final = "T vmstate_downtime_checkpoint src-non-iterable-saved\n"
END: Final = "T vmstate_downtime_checkpoint src-downtime-end\nT migration_thread_after_loop"

KINDS: Final = [
    # a background snapshot saves devices first, and runs the guest while it sends memory
    (STATES + STOP + SAVED + END + "\n+700 T migrate_set_state new state completed", Kind.SNAPSHOT),
    (STATES + HEADER + STOP + "T savevm_state_iterate\n" + END, Kind.SNAPSHOT),
    (STATES + STOP + "T vmstate_downtime_checkpoint src-iterable-saved\n" + SAVED + END, Kind.LIVE),
    (STOP + SAVED + END, Kind.LIVE),
    # cpr-transfer stops the guest before setup
    (STOP + HEADER + "T migration_thread_low_pending 0\nT vmstate_downtime_checkpoint src-iterable-saved\n" + END, Kind.CPR),
    ("T migration_completion_vm_stop ret 0\n", Kind.LIVE),
    # memory that is sent in setup is savevm's, until the state shows a migration thread
    ("M migrate_set_state new state setup\nT savevm_state_iterate\nT migrate_set_state new state active", Kind.LIVE),
    # a recording that ends in setup, which may take a minute
    ("M migrate_set_state new state setup\nT savevm_state_header\nT migration_bitmap_sync_start", Kind.LIVE),
    ("M migrate_set_state new state setup\nT savevm_state_header\nM migrate_set_state new state failed", Kind.LIVE),
    ("M migrate_set_state new state setup\nM savevm_state_header\nM migrate_set_state new state completed", Kind.SNAPSHOT),
]  # fmt: skip


@pytest.mark.parametrize(("events", "kind"), KINDS, ids=range(len(KINDS)))
def test_kind_by_the_order_of_marks(events: str, kind: Kind) -> None:
    migrations = read(log_lines(events)).migrations
    assert [kind] * len(migrations) == [migration.identity.kind for migration in migrations]


def test_guest_stopped_before_setup_counts_from_there() -> None:
    """Without states the stop comes first, and a later mark of the switchover is no stop."""
    events = STOP + "+90 " + HEADER + "T migration_thread_low_pending 0\n" + SAVED + END
    migration = read(log_lines(events)).migration
    assert (105 * NS_PER_MS, False, False) == (migration.downtime_ns, migration.partial, migration.downtime_is_partial)


def test_checkpoints_without_the_first_show_no_start() -> None:
    """The guest was stopped before the recording, by a mode of cpr."""
    events = (
        HEADER + "T migration_thread_low_pending 0\nT vmstate_downtime_checkpoint src-iterable-saved\n" + SAVED + END
    )
    migration = read(log_lines(events)).migration
    assert (Result.COMPLETED, None) == (migration.result, migration.downtime_ns)


def test_cancel_at_exit_is_no_cancel() -> None:
    """It is printed after the end, where states are not enabled."""
    events = HEADER + "T migration_thread_after_loop\n+9 M migrate_fd_cancel"
    assert Result.UNKNOWN is read(log_lines(events)).migration.result


BLACKOUTS: Final = [
    ("T vmstate_downtime_checkpoint src-vm-stopped\n", None),
    ("", None),
    ("T migrate_set_state new state active\n+9 M runstate_set current_run_state 9 (running) new_state 4 (paused)\n", 1),
]  # fmt: skip


@pytest.mark.parametrize(("before", "blackout_ms"), BLACKOUTS, ids=["stop", "run state", "pause"])
def test_blackout_from_before_a_stream_is_unknown(before: str, blackout_ms: int | None) -> None:
    events = (
        before
        + "M migrate_set_state new state cancelling\nM runstate_set current_run_state 7 (finish-migrate) new_state 9 (running)\n"
        "M migrate_set_state new state cancelled"
    )
    migration = read(log_lines(events)).migration
    assert blackout_ms == (migration.blackout_ns and round(migration.blackout_ns / NS_PER_MS / 2))


def test_downtime_does_not_last_until_libvirts_line() -> None:
    """QEMU's own marks of the end are not enabled."""
    data = (
        log_lines("T migration_thread_low_pending 0").encode()
        + b"2023-11-14 22:13:25.000+0000: shutting down, reason=migrated\n"
    )
    migration = read(data).migration
    assert (Result.COMPLETED, None, None) == (migration.result, migration.downtime_ns, migration.blackout_ns)


def test_guest_paused_at_first_was_so_from_the_start() -> None:
    """Run states are enabled, and QEMU would have printed the pause."""
    paused = "M runstate_set current_run_state 4 (paused) new_state 7 (finish-migrate)"
    events = f"{STATES}{HEADER}+900 {paused}\n+9 M migrate_set_state new state completed"
    migration = read(log_lines(events)).migration
    assert [("suspended", 904), ("downtime", 10)] == [
        (pause.by, round(((pause.end_ns or 0) - pause.start_ns) / NS_PER_MS)) for pause in migration.pauses
    ]


def test_standstill_of_a_save_without_run_states_is_unknown() -> None:
    """libvirt pauses the guest before it saves it."""
    commands = (
        'M qmp_enter_migrate_set_capabilities {"capabilities": [{"capability": "return-path", "state": false},'
        ' {"capability": "pause-before-switchover", "state": false}]}\n'
        'M qmp_enter_migrate_set_parameters {"max-bandwidth": 9223372036853727232}\n'
        'M qmp_enter_migrate {"uri": "fd:migrate"}\n'
    )
    end = "T migration_thread_low_pending 0\n+9 T migrate_set_state new state completed"
    data = log_lines(commands + STATES + HEADER + end).encode() + LIBVIRT % b"saved"
    migration = read(data).migration
    assert (Kind.SAVE, None) == (migration.identity.kind, migration.blackout_ns)
    assert "stood still" not in headline_text(migration_view(migration))
