"""Spans of the downtime: devices, and its other parts, below `complete_precopy`.

Parts that the tracker reports at their end are sent at once. Two parts are known only when the downtime is divided,
after the end of the migration: the wait for the destination, and on a destination the loads of devices. Unexplained
time has no span; the root has its sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from qemu_migration_exporter.core.model import (
    Device,
    DowntimePart,
    DowntimePartName,
    Identity,
    Migration,
    PhaseName,
)
from qemu_migration_exporter.core.tracking import trace_ids
from qemu_migration_exporter.tracing import attribute_table as names
from qemu_migration_exporter.tracing.emitter import Emitter
from qemu_migration_exporter.tracing.span_attributes import Attributes, device_attributes
from qemu_migration_exporter.tracing.trace_limits import TraceLimits

#: Parts that are sent at their end, if a phase has ended by then. They are not sent again from the divided downtime,
#: which moves their borders: a span must not depend on how often the program was restarted.
_SENT_AT_ONCE: Final = frozenset({DowntimePartName.STOP, DowntimePartName.RAM})

#: Parts whose spans are made from other changes, or that have no span.
_WITHOUT_SPAN: Final = frozenset(
    {
        DowntimePartName.DEVICE,
        DowntimePartName.BITMAP_SYNC,
        DowntimePartName.PRE_SWITCHOVER,
        DowntimePartName.UNACCOUNTED,
    }
)


class SwitchoverSpans:
    """Source of the spans below `complete_precopy`."""

    def __init__(self, emitter: Emitter, limits: TraceLimits) -> None:
        self._emitter = emitter
        self._limits = limits

    def device(self, identity: Identity, device: Device) -> None:
        """Send the span of one device's save."""
        self._emit(
            identity,
            "save" if device.vmsd_name is None else f"save {device.vmsd_name}",
            trace_ids.span_id(identity.trace_id, "save", device.number),
            (device.start_ns, _end_of(device)),
            {names.DEVICE_IDSTR: device.name, names.DEVICE_INSTANCE: device.instance},
        )

    def part(self, identity: Identity, part: DowntimePart, occurrence: int = 1, *, parent: str | None = None) -> None:
        """Send the span of a part that is not a device; `occurrence` counts parts of the same name."""
        path = (part.name,) if occurrence == 1 else (part.name, occurrence)
        span_id = trace_ids.span_id(identity.trace_id, "downtime", *path)
        self._emit(identity, part.name, span_id, (part.start_ns, part.end_ns), {}, parent=parent)

    def pre_switchover(self, identity: Identity, start_ns: int, end_ns: int) -> None:
        """Send the span of the wait for `migrate-continue`."""
        span_id = trace_ids.span_id(identity.trace_id, "pre_switchover")
        self._emit(identity, "pre_switchover", span_id, (start_ns, end_ns), {})

    def end(self, migration: Migration) -> None:
        """Send the devices beyond the limit as one span, and the parts that are known only now."""
        identity = migration.identity
        self._send_batch(identity, migration.devices[self._limits.max_devices :])
        occurrences: dict[DowntimePartName, int] = {}
        for part in migration.downtime_parts:
            was_sent = part.name in _SENT_AT_ONCE and _follows_a_phase(migration, part)
            if part.name not in _WITHOUT_SPAN and not was_sent:
                occurrences[part.name] = occurrences.get(part.name, 0) + 1
                self.part(identity, part, occurrences[part.name], parent=_parent(migration, part))
        if not migration.devices:
            loads = [part for part in migration.downtime_parts if part.name is DowntimePartName.DEVICE]
            for number, part in enumerate(loads[: self._limits.max_devices], 1):
                span_id = trace_ids.span_id(identity.trace_id, "load", number)
                name = "load" if part.device is None else f"load {part.device}"
                attributes: Attributes = {names.DEVICE_IDSTR: part.device}
                times = part.start_ns, part.end_ns
                self._emit(identity, name, span_id, times, attributes, parent=_parent(migration, part))

    def _send_batch(self, identity: Identity, devices: Sequence[Device]) -> None:
        if devices:
            span_id = trace_ids.span_id(identity.trace_id, "save", "more")
            times = devices[0].start_ns, max(map(_end_of, devices))
            self._emit(identity, "save.batch", span_id, times, device_attributes(devices))

    def _emit(
        self,
        identity: Identity,
        name: str,
        span_id: str,
        times: tuple[int, int],
        attributes: Attributes,
        *,
        parent: str | None = None,
    ) -> None:
        self._emitter.emit(identity, name, span_id, parent or _switchover_span(identity), times, attributes=attributes)


def _switchover_span(identity: Identity) -> str:
    return trace_ids.phase_span(identity.trace_id, PhaseName.COMPLETE_PRECOPY)


def _parent(migration: Migration, part: DowntimePart) -> str:
    """Return the phase that a part is in, else the root: a destination has no phases, and CPR stops before setup."""
    for phase in migration.phases:
        if phase.name is PhaseName.COMPLETE_PRECOPY and phase.start_ns <= part.start_ns:
            return _switchover_span(migration.identity)
    return trace_ids.root_span(migration.identity.trace_id)


def _follows_a_phase(migration: Migration, part: DowntimePart) -> bool:
    """Return whether a phase had ended when the part ended; CPR stops the guest before setup."""
    if migration.identity.partial:
        return True
    return any(phase.end_ns is not None and phase.end_ns <= part.end_ns for phase in migration.phases)


def _end_of(device: Device) -> int:
    return device.start_ns + (device.duration_ns or 0)
