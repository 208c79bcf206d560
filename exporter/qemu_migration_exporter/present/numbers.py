"""The numbers of a migration: one row each with name, unit and description, for metrics, span attributes and JSON.

A number has one name: the field of the core's record, the key in the report's JSON, the metric `qemu_migration_NAME`
and the span attribute `qemu.migration.NAME`. So no renderer maps names, and a row here makes the metric and the
attribute.
A metric's description names the trace event and the first QEMU release that has it.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final, Literal

from qemu_migration_exporter.core.model import Progress

_STALLS: Final = ("stalled", "stall_cleared")
_ROUNDS: Final = ("iterate", "iterate.batch")

#: Units of numbers with a fraction; all other numbers are whole.
_FRACTIONS: Final = frozenset({"s", "By/s", "1"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """One number.

    Attributes:
        name: The name, which ends with the unit.
        unit: In UCUM's notation, as in OpenTelemetry: `s`, `By`, `By/s`, `1` for a ratio, `{round}`; empty for none.
        description: One sentence.
        metric: The type of the metric of a virtual machine; None if there is no such metric.
        spans: Names of the spans that may have the attribute.
        note: An addition for the attribute, if spans have the number of something smaller than a migration.
    """

    name: str
    unit: str
    description: str
    metric: Literal["gauge", "counter"] | None = None
    spans: tuple[str, ...] = ()
    note: str = ""

    @property
    def is_whole(self) -> bool:
        """True if the number has no fraction."""
        return self.unit not in _FRACTIONS

    def read(self, progress: Progress) -> Any:  # noqa: ANN401 - int, float or None, by the unit
        """Return the number of a migration, None if it is not known."""
        return _PROGRESS_READERS[self.name](progress)


def _gauge(name: str, unit: str, description: str, *spans: str, note: str = "") -> Number:
    return Number(name=name, unit=unit, description=description, metric="gauge", spans=spans, note=note)


def _counter(name: str, unit: str, description: str, *spans: str, note: str = "") -> Number:
    return Number(name=name, unit=unit, description=description, metric="counter", spans=spans, note=note)


def _only_spans(name: str, unit: str, description: str, *spans: str) -> Number:
    return Number(name=name, unit=unit, description=description, spans=spans)


#: Every number that a metric and a span, or several spans, have; metrics in the order of the exposition.
_ROWS: Final = (
    _gauge(
        "pending_bytes", "By",
        "Bytes still to send: migrate_pending (2.0 to 7.2), migrate_pending_estimate and _exact (8.0 to 11.0).",
        *_STALLS, note="At the last boundary.",
    ),
    _gauge(
        "best_pending_bytes", "By", "Least bytes pending just after a bitmap sync, without the first round.",
        "migrate", "iterate.batch", *_STALLS,
    ),
    _gauge(
        "threshold_bytes", "By",
        "Pending bytes below which QEMU stops the guest: max_size of migrate_transferred (2.0 and later).",
        "migrate",
    ),
    _gauge("ram_bytes", "By", "First pending bytes after setup: all memory to send.", "migrate"),
    _gauge(
        "round", "",
        "Current pass over the dirty bitmap, which migration_bitmap_sync_start begins (2.0 and later).",
        *_ROUNDS, *_STALLS, note="1 for the bulk round; of a batch, the first.",
    ),
    _gauge("best_round", "", "Round that began with the least bytes pending.", "migrate", "iterate.batch", *_STALLS),
    _gauge(
        "bandwidth_bytes_per_second", "By/s", "Bandwidth of the last window of migrate_transferred (2.0 and later).",
        *_ROUNDS, *_STALLS, note="Of a round, its last window; of a stall, smoothed over some seconds.",
    ),
    _gauge(
        "dirty_bytes_per_second", "By/s",
        "Rate at which the guest dirtied memory in the last round: migration_bitmap_sync_end (2.0 and later).",
        "iterate", *_STALLS, note="Of a round, in that round.",
    ),
    _gauge(
        "throttle_ratio", "1",
        "Share of time that auto-converge takes from the guest's CPUs: cpu_throttle_set (9.2 and later).",
        "migrate",
    ),
    _gauge(
        "downtime_limit_seconds", "s",
        "Downtime limit: max_size over bandwidth of migrate_transferred, else qmp_enter_migrate_set_parameters.",
        "migrate", *_STALLS,
    ),
    _gauge(
        "required_downtime_seconds", "s",
        "Downtime in which the last boundary's pending bytes could be sent at the measured bandwidth.",
        "migrate", *_STALLS,
    ),
    _gauge(
        "required_bandwidth_bytes_per_second", "By/s",
        "Bandwidth that would send the last boundary's pending bytes within the downtime limit.",
        *_STALLS,
    ),
    _gauge(
        "best_case_seconds", "s",
        "Least time that a stalled migration would take at the most favourable rate that its rounds allow.",
        *_STALLS,
    ),
    _counter(
        "transferred_bytes", "By",
        "Bytes sent, without those of the downtime: sum of migrate_transferred (2.0 and later).",
        "migrate", *_ROUNDS, note="Of a round, its share by time.",
    ),
    _counter("bitmap_syncs", "{sync}", "Dirty bitmap syncs: migration_bitmap_sync_start (2.0 and later).", "migrate"),
    _counter(
        "iterations", "{iteration}", "Slices of at most 50 to 100 ms: savevm_state_iterate (2.0 and later).",
        "migrate", *_ROUNDS,
    ),
    _counter(
        "throttles", "{throttle}",
        "Times auto-converge slowed the guest down further: migration_throttle (2.0 and later).",
        "migrate",
    ),
    _counter(
        "postcopy_requests", "{page}",
        "Pages the destination requested: migrate_handle_rp_req_pages (2.5 and later).",
        "migrate",
    ),
    _only_spans(
        "pending_at_start_bytes", "By",
        "Memory still to send just after the round's bitmap sync: comparable between rounds.",
        *_ROUNDS,
    ),
    _only_spans("pending_at_end_bytes", "By", "Last value in the round; it falls in every round.", *_ROUNDS),
    _only_spans(
        "dirtied_bytes", "By",
        "Newly dirtied memory: found by the sync, or during the round, by the sync that ended it.",
        *_ROUNDS, "bitmap_sync",
    ),
)  # fmt: skip

NUMBERS: Final = {number.name: number for number in _ROWS}
GAUGES: Final = tuple(number for number in _ROWS if number.metric == "gauge")
COUNTERS: Final = tuple(number for number in _ROWS if number.metric == "counter")

#: A number of the verdict has its name there.
_PROGRESS_READERS: Final = {
    number.name: attrgetter(number.name if number.name in Progress.__dataclass_fields__ else f"verdict.{number.name}")
    for number in (*GAUGES, *COUNTERS)
}
