"""The span attributes: names, types and units. `make reference` makes ATTRIBUTES.md of the table here.

`code.stacktrace` and `error.type` are OpenTelemetry's; there is no convention for hypervisors, so the rest is ours.
Times are seconds and sizes bytes, no other units; a value that the stream does not give is left out and never 0.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

Type = Literal["string", "boolean", "int", "double", "string[]"]


class Attribute(NamedTuple):
    """One attribute.

    Attributes:
        unit: In UCUM's notation, as OpenTelemetry has it: `s`, `By`, `By/s`, `{round}`; empty where there is none.
        spans: The names of the spans that may carry it.
        meaning: What it says, and QEMU's event where one says it.
    """

    name: str
    type: Type
    unit: str
    spans: tuple[str, ...]
    meaning: str


#: Every attribute, in the order of the documentation.
TABLE: Final[list[Attribute]] = []

_ALL: Final = ("all",)
_ROOT: Final = ("migrate",)
_BEGIN: Final = ("migrate", "migrate.start")
_ROUNDS: Final = ("iterate", "iterate and more")
_BATCH: Final = ("iterate and more",)
_STALLS: Final = ("stalled", "stall_cleared")


def _add(name: str, kind: Type, unit: str, spans: tuple[str, ...], meaning: str) -> str:
    TABLE.append(Attribute(name, kind, unit, spans, meaning))
    return name


VM_NAME: Final = _add("qemu.vm.name", "string", "", _BEGIN, "The virtual machine.")
VM_UUID: Final = _add("qemu.vm.uuid", "string", "", _BEGIN, "Its uuid, where the process's command line told it.")
SIDE: Final = _add("qemu.migration.side", "string", "", _BEGIN, "`source` or `destination`.")
CLOCK: Final = _add(
    "qemu.migration.clock", "string", "", _ALL,
    "Only where the probe gave no times: `arrival`, when the lines came, or `reconstructed`; durations are then rough.",
)  # fmt: skip
RESULT: Final = _add(
    "qemu.migration.result", "string", "", _ROOT, "`completed`, `failed`, `cancelled`, or `unknown`: the stream ended."
)
RESULT_INFERRED: Final = _add(
    "qemu.migration.result_inferred", "boolean", "", _ROOT,
    "The stream has no states (migrate_set_state); the result follows from other events.",
)  # fmt: skip
PARTIAL: Final = _add("qemu.migration.partial", "boolean", "", _ROOT, "The beginning or the end is missing.")
MODE: Final = _add("qemu.migration.mode", "string", "", _ROOT, "`precopy` or `postcopy`.")
DURATION: Final = _add("qemu.migration.duration_seconds", "double", "s", _ROOT, "As QEMU's total-time.")
SETUP: Final = _add("qemu.migration.setup_seconds", "double", "s", _ROOT, "As QEMU's setup-time.")
DOWNTIME: Final = _add("qemu.migration.downtime_seconds", "double", "s", _ROOT, "As QEMU's downtime.")
DOWNTIME_LIMIT: Final = _add(
    "qemu.migration.downtime_limit_seconds", "double", "s", ("migrate", *_STALLS), "downtime-limit, as it was last."
)
REQUIRED_DOWNTIME: Final = _add(
    "qemu.migration.required_downtime_seconds", "double", "s", ("migrate", *_STALLS),
    "What the last boundary's pending memory takes at the bandwidth of the last seconds.",
)  # fmt: skip
REQUIRED_BANDWIDTH: Final = _add(
    "qemu.migration.required_bandwidth_bytes_per_second", "double", "By/s", _STALLS,
    "What would send that within the downtime limit.",
)  # fmt: skip
STALLS: Final = _add("qemu.migration.stalls", "int", "{stall}", _ROOT, "Times in which it got no nearer to its end.")
STALL_REASON: Final = _add(
    "qemu.migration.stall.reason", "string", "", _STALLS,
    "`dirty_rate`, `bandwidth_cap`, `no_throughput`, `throttled_max`, `blocked_setup`, `blocked_wait_unplug`,"
    " `blocked_pre_switchover` or `postcopy_paused`.",
)  # fmt: skip
STALL_DURATION: Final = _add(
    "qemu.migration.stall.duration_seconds", "double", "s", _STALLS,
    "How long it had lasted by then: since the best boundary, or since it waits.",
)  # fmt: skip
ADVICE: Final = _add(
    "qemu.migration.advice", "string", "", ("stalled",), "What would end it: a command a line, with its price."
)
DEVICES: Final = _add(
    "qemu.migration.devices", "int", "{device}", ("migrate", "save and more"),
    "Devices saved in the downtime; on `save and more`, how many it stands for.",
)  # fmt: skip
DEVICES_SECONDS: Final = _add(
    "qemu.migration.devices_seconds", "double", "s", ("migrate", "save and more"), "What their saves took together."
)
SLOWEST_DEVICE: Final = _add(
    "qemu.migration.slowest_device.idstr", "string", "", ("migrate", "save and more"), "The one that took longest."
)
SLOWEST_DEVICE_SECONDS: Final = _add(
    "qemu.migration.slowest_device.duration_seconds", "double", "s", ("migrate", "save and more"), "What that took."
)
ROUNDS: Final = _add(
    "qemu.migration.rounds", "int", "{round}", ("migrate", "iterate and more"),
    "Passes over the dirty bitmap; on `iterate and more`, how many it stands for.",
)  # fmt: skip
ROUND: Final = _add(
    "qemu.migration.round", "int", "", (*_ROUNDS, *_STALLS), "Which round, 1 for the bulk round; of several, the first."
)
LAST_ROUND: Final = _add("qemu.migration.last_round", "int", "", _BATCH, "The last of several.")
BEST_ROUND: Final = _add(
    "qemu.migration.best_round",
    "int",
    "",
    ("migrate", "iterate and more", *_STALLS),
    "The round that began with the least pending.",
)
BEST_PENDING_BYTES: Final = _add(
    "qemu.migration.best_pending_bytes", "int", "By", ("migrate", "iterate and more", *_STALLS),
    "The least memory pending just after a bitmap sync, the bulk round left out.",
)  # fmt: skip
ITERATIONS: Final = _add(
    "qemu.migration.iterations", "int", "{iteration}", ("migrate", *_ROUNDS), "Slices (savevm_state_iterate)."
)
TRANSFERRED_BYTES: Final = _add(
    "qemu.migration.transferred_bytes", "int", "By", ("migrate", *_ROUNDS),
    "Sum of the bandwidth windows (migrate_transferred); of a round, its share by time.",
)  # fmt: skip
PENDING_AT_START_BYTES: Final = _add(
    "qemu.migration.pending_at_start_bytes", "int", "By", _ROUNDS,
    "Memory still to send just after the round's bitmap sync: comparable between rounds.",
)  # fmt: skip
PENDING_AT_END_BYTES: Final = _add(
    "qemu.migration.pending_at_end_bytes", "int", "By", _ROUNDS, "The last value in it; it always falls in a round."
)
PENDING_BYTES: Final = _add("qemu.migration.pending_bytes", "int", "By", _STALLS, "At the last boundary.")
DIRTIED_BYTES: Final = _add(
    "qemu.migration.dirtied_bytes", "int", "By", (*_ROUNDS, "bitmap_sync"),
    "Memory newly dirtied: found by the sync, or during the round, by the sync that ended it.",
)  # fmt: skip
DIRTY_BYTES_PER_SECOND: Final = _add(
    "qemu.migration.dirty_bytes_per_second", "double", "By/s", ("iterate", *_STALLS),
    "How fast the guest dirtied memory in it; of a stall, in the last round before.",
)  # fmt: skip
BANDWIDTH_BYTES_PER_SECOND: Final = _add(
    "qemu.migration.bandwidth_bytes_per_second", "double", "By/s", (*_ROUNDS, *_STALLS),
    "Of the round's last bandwidth window; of a stall, smoothed over some seconds.",
)  # fmt: skip
RAM_BYTES: Final = _add("qemu.migration.ram_bytes", "int", "By", _ROOT, "The first pending: the guest's memory.")
THRESHOLD_BYTES: Final = _add(
    "qemu.migration.threshold_bytes", "int", "By", _ROOT, "Pending below it ends the iterate phase (max_size)."
)
BITMAP_SYNCS: Final = _add("qemu.migration.bitmap_syncs", "int", "{sync}", _ROOT, "As QEMU's dirty-sync-count.")
BITMAP_SYNC: Final = _add("qemu.migration.bitmap_sync", "int", "", ("bitmap_sync",), "Which sync, 1 for the first.")
THROTTLES: Final = _add(
    "qemu.migration.throttles", "int", "{throttle}", _ROOT, "How often auto-converge slowed the guest's CPUs down."
)
POSTCOPY_REQUESTS: Final = _add(
    "qemu.migration.postcopy_requests", "int", "{page}", _ROOT, "Pages the destination asked for in post-copy."
)
DEVICE_IDSTR: Final = _add(
    "qemu.migration.device.idstr", "string", "", ("save",), "The device's name (its idstr), unique with the instance."
)
DEVICE_INSTANCE: Final = _add(
    "qemu.migration.device.instance", "int", "", ("save",),
    "Its instance id (since 8.2). With it the span's length is QEMU's own measure (vmstate_downtime_save),"
    " without it the time between its section's marks.",
)  # fmt: skip
INCOMPLETE: Final = _add(
    "qemu.migration.incomplete", "boolean", "", ("iterate", "setup", "complete_precopy", "postcopy", "bitmap_sync"),
    "Its end was not seen; the span ends with what is known.",
)  # fmt: skip
OMITTED_SPANS: Final = _add(
    "qemu.migration.omitted_spans", "int", "{span}", _ROOT, "Spans over the limit of a trace, which were left out."
)
LINK: Final = _add(
    "qemu.migration.link", "string", "", ("links of migrate", "links of migrate.start"),
    "`retry_of`: the attempt before, which did not complete; `source`, `destination`: the other end of this one.",
)  # fmt: skip
STACKTRACE: Final = _add(
    "code.stacktrace", "string", "", ("migrate", "bitmap_sync"), "The backtrace that a hand-written probe printed."
)
ERROR_TYPE: Final = _add(
    "error.type", "string", "", _ROOT,
    "Where it failed: `setup_failed`, `iterate_failed`, `complete_precopy_failed`, `postcopy_failed` or `failed`.",
)  # fmt: skip
