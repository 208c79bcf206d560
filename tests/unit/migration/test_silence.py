"""Events as proof that data moves, which postpones the stall of a silent network."""

from __future__ import annotations

import pytest
from qemu_migration_exporter.core.changes import Stalled

from tests.support.core_helpers import EPOCH_NS, log_lines, new_stream

SECOND = 1_000_000_000

BEGIN = """
M migrate_set_state new state setup
M migration_socket_outgoing_connected hostname=
savevm_state_header
migrate_set_state new state active
migration_thread_setup_complete
migrate_pending pending size 9000 max 9
savevm_state_iterate
migrate_transferred transferred 900 time_spent 100 bandwidth 9 max_size 9
"""

MOVES = [
    "migrate_pending pending size 8000 max 9",
    "migrate_transferred transferred 900 time_spent 100 bandwidth 9 max_size 9",
    "migration_bitmap_sync_start",
    "migration_bitmap_sync_end dirty_pages 5",
    "migrate_set_state new state device",
    "migration_thread_low_pending 0",
    "vmstate_downtime_checkpoint src-downtime-start",
    "vmstate_downtime_checkpoint src-vm-stopped",
    "vmstate_downtime_checkpoint src-iterable-saved",
    "vmstate_downtime_checkpoint src-non-iterable-saved",
    "vmstate_downtime_checkpoint src-downtime-end",
    "savevm_state_complete_precopy",
    "savevm_section_start ram, section_id 2",
    "savevm_section_end ram, section_id 2 -> 0",
    "vmstate_save cpu, cpu_common",
    "vmstate_downtime_save type=non-iterable idstr=cpu instance_id=0 downtime=9",
    "postcopy_start",
    "savevm_send_postcopy_run",
    "savevm_send_ping 0x1",
]
OTHERS = [
    "migrate_pending pending size 9000 max 9",
    "migrate_transferred transferred 0 time_spent 100 bandwidth 0 max_size 9",
    "savevm_state_iterate",
    "migration_throttle",
    "M cpu_throttle_set set guest CPU throttled by 20%",
    "M qmp_enter_migrate_set_parameters {}",
    "M qemu_of_no_meaning",
]


def is_stalled(line: str) -> bool:
    """Return whether 40 s are a stall if a line comes after 20 s."""
    stream = new_stream()
    changes = stream.feed(log_lines(f"{BEGIN}+20000 {line}").encode())
    changes += stream.tick(EPOCH_NS + 40 * SECOND)
    return any(isinstance(change, Stalled) for change in changes)


@pytest.mark.parametrize("line", MOVES)
def test_progress_restarts_the_silence(line: str) -> None:
    assert not is_stalled(line)


@pytest.mark.parametrize("line", OTHERS)
def test_other_lines_do_not_end_the_silence(line: str) -> None:
    """QEMU prints slices and empty windows without a network, and pending bytes that stay the same."""
    assert is_stalled(line)
