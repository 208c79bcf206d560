"""Span attributes: names, types, units, and the spans that have them.

`make reference` writes docs/attributes.md from this table. Its last rows are the numbers of
`qemu_migration_exporter.present.numbers`, which metrics and the report have by the same names. `code.stacktrace` and
`error.type` are names of OpenTelemetry, which has no convention for hypervisors, so the other names are defined here.
Times are in seconds and sizes in bytes. A value that the stream does not have is left out, and is never 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final, Literal, NamedTuple

from qemu_migration_exporter.core.model import DowntimePartName, Kind, PauseCause, PhaseName, Result
from qemu_migration_exporter.core.stalls.reasons import REASONS
from qemu_migration_exporter.present.numbers import NUMBERS

Type = Literal["string", "boolean", "int", "double"]


class Attribute(NamedTuple):
    """One attribute.

    Attributes:
        unit: In UCUM's notation, as in OpenTelemetry: `s`, `By`, `By/s`, `{round}`; empty for none.
        spans: Names of the spans that may have the attribute.
        meaning: Description, with QEMU's trace event if there is one.
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
_ROUNDS: Final = ("iterate", "iterate.batch")
_BATCH: Final = ("iterate.batch",)
_STALLS: Final = ("stalled", "stall_cleared")
_DEVICES: Final = ("migrate", "save.batch")


def _add(name: str, kind: Type, unit: str, spans: tuple[str, ...], meaning: str) -> str:
    TABLE.append(Attribute(name, kind, unit, spans, meaning))
    return name


def attribute_of(number: str) -> str:
    """Return the name of a number's attribute."""
    return f"qemu.migration.{number}"


def _words(states: Iterable[StrEnum]) -> str:
    return ", ".join(f"`{state}`" for state in states)


VM_NAME: Final = _add("qemu.vm.name", "string", "", (*_BEGIN, *_STALLS), "Name of the virtual machine.")
VM_UUID: Final = _add("qemu.vm.uuid", "string", "", _BEGIN, "Its uuid, if the process's command line has it.")
KIND: Final = _add(
    "qemu.migration.kind", "string", "", _BEGIN,
    f"Kind of job: {_words(Kind)}. Evidence may come late, so only `migrate` has the final one.",
)  # fmt: skip
SIDE: Final = _add("qemu.migration.side", "string", "", _BEGIN, "`source` or `destination`.")
RETRY_OF: Final = _add(
    "qemu.migration.retry_of", "string", "", _BEGIN, "Trace id of the attempt before, if that did not complete."
)
CLOCK: Final = _add(
    "qemu.migration.clock", "string", "", _ALL,
    "Only if the probe has no times: `arrival` of the lines, or `reconstructed`; durations are then rough.",
)  # fmt: skip
RESULT: Final = _add(
    "qemu.migration.result", "string", "", _ROOT, f"{_words(Result)}; `unknown` if the stream ended first."
)
RESULT_INFERRED: Final = _add(
    "qemu.migration.result_inferred", "boolean", "", _ROOT,
    "True if the stream has no states (migrate_set_state) and the result follows from other events.",
)  # fmt: skip
PARTIAL: Final = _add("qemu.migration.partial", "boolean", "", _ROOT, "True if the beginning or the end is missing.")
MODE: Final = _add("qemu.migration.mode", "string", "", _ROOT, "`precopy` or `postcopy`.")
DURATION: Final = _add("qemu.migration.duration_seconds", "double", "s", _ROOT, "QEMU's total-time.")
SETUP: Final = _add("qemu.migration.setup_seconds", "double", "s", _ROOT, "QEMU's setup-time.")
DOWNTIME: Final = _add("qemu.migration.downtime_seconds", "double", "s", _ROOT, "QEMU's downtime.")
BLACKOUT: Final = _add(
    "qemu.migration.blackout_seconds", "double", "s", _ROOT,
    "Time in which the guest did not run before the outcome: the downtime and all other pauses.",
)  # fmt: skip
PAUSES: Final = _add("qemu.migration.pauses", "int", "{pause}", _ROOT, "Pauses of the guest, the downtime included.")
PAUSE_CAUSE: Final = _add(
    "qemu.migration.pause.cause", "string", "", ("paused",),
    f"Cause of the pause: {_words(cause for cause in PauseCause if cause is not PauseCause.DOWNTIME)}.",
)  # fmt: skip

#: The sum of the downtime's parts of one name.
DOWNTIME_PARTS: Final = {
    name: _add(
        f"qemu.migration.downtime.{name}_seconds", "double", "s", _ROOT,
        {
            DowntimePartName.STOP: "Downtime in which QEMU stopped the CPUs and flushed the disks.",
            DowntimePartName.PRE_SWITCHOVER: "Downtime in which QEMU waited for `migrate-continue`.",
            DowntimePartName.BITMAP_SYNC: "Downtime of the last bitmap sync.",
            DowntimePartName.RAM: "Downtime in which QEMU sent the memory that was left.",
            DowntimePartName.DEVICE: "Downtime of all devices' states together.",
            DowntimePartName.DESTINATION: "Downtime in which the source waited for the destination.",
            DowntimePartName.UNACCOUNTED: "Downtime that no event in the stream explains.",
        }[name],
    )
    for name in DowntimePartName
}  # fmt: skip
STALLS: Final = _add(
    "qemu.migration.stalls", "int", "{stall}", _ROOT, "Times in which the migration made no progress towards its end."
)
STALL_REASON: Final = _add(
    "qemu.migration.stall.reason", "string", "", _STALLS,
    " ".join(f"`{reason}`: {row.cause}" for reason, row in REASONS.items()),
)  # fmt: skip
STALL_DURATION: Final = _add(
    "qemu.migration.stall.duration_seconds", "double", "s", _STALLS,
    "Duration of the stall by then: since the best boundary, or since the wait began.",
)  # fmt: skip
ADVICE: Final = _add(
    "qemu.migration.advice",
    "string",
    "",
    ("stalled",),
    "Commands that would end the stall, one a line, with their price.",
)
DEVICES: Final = _add(
    "qemu.migration.devices", "int", "{device}", _DEVICES,
    "Devices saved in the downtime; on `save.batch`, the number of devices in it.",
)  # fmt: skip
DEVICES_SECONDS: Final = _add(
    "qemu.migration.devices_seconds", "double", "s", _DEVICES, "Duration of their saves together."
)
SLOWEST_DEVICE: Final = _add(
    "qemu.migration.slowest_device.idstr", "string", "", _DEVICES, "Device whose save took longest."
)
SLOWEST_DEVICE_SECONDS: Final = _add(
    "qemu.migration.slowest_device.duration_seconds", "double", "s", _DEVICES, "Duration of that save."
)
ROUNDS: Final = _add(
    "qemu.migration.rounds", "int", "{round}", ("migrate", "iterate.batch"),
    "Passes over the dirty bitmap; on `iterate.batch`, the number of rounds in it.",
)  # fmt: skip
LAST_ROUND: Final = _add("qemu.migration.last_round", "int", "", _BATCH, "Number of the batch's last round.")
BITMAP_SYNC: Final = _add(
    "qemu.migration.bitmap_sync", "int", "", ("bitmap_sync",), "Number of the sync, 1 for the first."
)
DEVICE_IDSTR: Final = _add(
    "qemu.migration.device.idstr",
    "string",
    "",
    ("save", "load"),
    "Name of the device, unique together with its instance.",
)
DEVICE_INSTANCE: Final = _add(
    "qemu.migration.device.instance", "int", "", ("save",),
    "Instance id of the device (8.2 and later). With it, the span's length is QEMU's own measure"
    " (vmstate_downtime_save), without it the time between the marks of its section.",
)  # fmt: skip
INCOMPLETE: Final = _add(
    "qemu.migration.incomplete", "boolean", "",
    ("iterate", *(phase for phase in PhaseName if phase is not PhaseName.ITERATE), "bitmap_sync", "paused"),
    "True if the end was not seen; the span then ends with the migration.",
)  # fmt: skip
OMITTED_SPANS: Final = _add(
    "qemu.migration.omitted_spans", "int", "{span}", _ROOT, "Spans left out because the trace reached its limit."
)
LINK: Final = _add(
    "qemu.migration.link", "string", "", ("links of migrate",),
    "`retry_of`: the attempt before, which did not complete; `source`, `destination`: the other end of this migration.",
)  # fmt: skip
STACKTRACE: Final = _add(
    "code.stacktrace", "string", "", ("migrate", "bitmap_sync"), "Backtrace that a hand-written probe printed."
)
ERROR_TYPE: Final = _add(
    "error.type", "string", "", _ROOT,
    "Phase that failed: `setup_failed`, `iterate_failed`, `complete_precopy_failed`, `postcopy_failed` or `failed`.",
)  # fmt: skip

TABLE.extend(
    Attribute(
        attribute_of(number.name),
        "int" if number.is_whole else "double",
        number.unit,
        number.spans,
        f"{number.description} {number.note}".rstrip(),
    )
    for number in NUMBERS.values()
    if number.spans
)
