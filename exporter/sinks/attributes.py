"""Names of the span attributes. Bytes and seconds, no other units.

`code.stacktrace` and `error.type` are OpenTelemetry's; there is no convention for hypervisors, so the rest is ours.
"""

from __future__ import annotations

from typing import Final

VM_NAME: Final = "qemu.vm.name"
VM_UUID: Final = "qemu.vm.uuid"

SIDE: Final = "qemu.migration.side"
CLOCK: Final = "qemu.migration.clock"
RESULT: Final = "qemu.migration.result"
RESULT_INFERRED: Final = "qemu.migration.result_inferred"
PARTIAL: Final = "qemu.migration.partial"
INCOMPLETE: Final = "qemu.migration.incomplete"
MODE: Final = "qemu.migration.mode"
DURATION: Final = "qemu.migration.duration_seconds"
SETUP: Final = "qemu.migration.setup_seconds"
DOWNTIME: Final = "qemu.migration.downtime_seconds"
DOWNTIME_LIMIT: Final = "qemu.migration.downtime_limit_seconds"
REQUIRED_DOWNTIME: Final = "qemu.migration.required_downtime_seconds"
REQUIRED_BANDWIDTH: Final = "qemu.migration.required_bandwidth_bytes_per_second"
STALLS: Final = "qemu.migration.stalls"
STALL_REASON: Final = "qemu.migration.stall.reason"
STALL_DURATION: Final = "qemu.migration.stall.duration_seconds"
ADVICE: Final = "qemu.migration.advice"
ROUNDS: Final = "qemu.migration.rounds"
ROUND: Final = "qemu.migration.round"
BEST_ROUND: Final = "qemu.migration.best_round"
BITMAP_SYNCS: Final = "qemu.migration.bitmap_syncs"
BITMAP_SYNC: Final = "qemu.migration.bitmap_sync"
ITERATIONS: Final = "qemu.migration.iterations"
THROTTLES: Final = "qemu.migration.throttles"
POSTCOPY_REQUESTS: Final = "qemu.migration.postcopy_requests"
TRANSFERRED_BYTES: Final = "qemu.migration.transferred_bytes"
RAM_BYTES: Final = "qemu.migration.ram_bytes"
THRESHOLD_BYTES: Final = "qemu.migration.threshold_bytes"
BEST_PENDING_BYTES: Final = "qemu.migration.best_pending_bytes"
PENDING_AT_START_BYTES: Final = "qemu.migration.pending_at_start_bytes"
PENDING_AT_END_BYTES: Final = "qemu.migration.pending_at_end_bytes"
PENDING_BYTES: Final = "qemu.migration.pending_bytes"
DIRTIED_BYTES: Final = "qemu.migration.dirtied_bytes"
DIRTY_BYTES_PER_SECOND: Final = "qemu.migration.dirty_bytes_per_second"
BANDWIDTH_BYTES_PER_SECOND: Final = "qemu.migration.bandwidth_bytes_per_second"
DEVICE_IDSTR: Final = "qemu.migration.device.idstr"
DEVICE_INSTANCE: Final = "qemu.migration.device.instance"

STACKTRACE: Final = "code.stacktrace"
ERROR_TYPE: Final = "error.type"
