"""Spans of the rounds of one migration: `iterate`, and beyond the limit `iterate.batch`.

The newest round waits for the next change, or for two ticks of a second. The last round is an error if the migration
failed in it, and no clock decides that: it waits for a sign of the next phase, or for the end. Rounds beyond the limit
wait for the end of their minute.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from opentelemetry.trace import Status, StatusCode

from qemu_migration_exporter.core.model import Identity, Migration, PhaseName, Result, Round
from qemu_migration_exporter.core.tracking import trace_ids
from qemu_migration_exporter.tracing.emitter import Emitter
from qemu_migration_exporter.tracing.span_attributes import (
    Attributes,
    batch_attributes,
    error_type,
    round_attributes,
)
from qemu_migration_exporter.tracing.trace_limits import RoundBatch, TraceLimits, minute_of

#: Seconds until the newest round is sent, because the next one runs.
_TICKS: Final = 2


class RoundSpans:
    """The ended rounds of a migration that are not sent."""

    def __init__(self, emitter: Emitter, limits: TraceLimits, identity: Identity) -> None:
        self._emitter = emitter
        self._limits = limits
        self._identity = identity
        self._newest: Round | None = None
        self._ticks = 0
        self._is_last = False
        self._batch: RoundBatch | None = None
        #: The first minute whose batch has not been sent.
        self._next_minute = 0

    def resume(self, rounds: Sequence[Round], *, is_last: bool) -> None:
        """Restore the rounds that waited when an earlier run stopped; a killed run may not have sent the newest.

        The newest round is the last if the migration waits for its outcome.
        """
        identity = self._identity
        beyond = [round_ for round_ in rounds if round_.number > self._limits.max_rounds]
        if beyond:
            minute = minute_of(identity, beyond[-1])
            self._batch = RoundBatch(minute, (round_ for round_ in beyond if minute_of(identity, round_) == minute))
        elif rounds and rounds[-1].end_ns is not None:
            self._newest, self._is_last = rounds[-1], is_last

    def add(self, round_: Round) -> None:
        """Add a round that ended."""
        self.send_newest()
        if round_.number <= self._limits.max_rounds:
            self._newest, self._ticks = round_, 0
            return
        # If a slow source delivers a round after its minute was sent, the round joins the next batch.
        minute = max(minute_of(self._identity, round_), self._next_minute)
        if self._batch is not None and self._batch.minute < minute:
            self._send_batch()
        if self._batch is None:
            self._batch = RoundBatch(minute)
        self._batch.add(round_)

    def tick(self, now_ns: int) -> None:
        """Send the rounds that are complete."""
        self._ticks += 1
        if self._ticks >= _TICKS and not self._is_last:
            self.send_newest()
        if self._batch is not None and self._batch.is_complete(self._identity, now_ns):
            self._send_batch()

    def iterate_ended(self) -> None:
        """Keep the newest round, which is the last: the migration may have failed in it."""
        self._is_last = True

    def switchover_seen(self) -> None:
        """Send the newest round with the next ticks: a failure would be one of the switchover."""
        self._is_last = False

    def interrupt(self) -> None:
        """Send the newest round before this run stops, unless the outcome decides if it is an error."""
        if not self._is_last:
            self.send_newest()

    def send_newest(self, *, is_error: bool = False) -> None:
        """Send the newest round, because the migration continued, or failed in the round."""
        newest, self._newest = self._newest, None
        if newest is not None:
            self._send(newest, newest.end_ns or newest.start_ns, is_error=is_error)

    def end(self, migration: Migration) -> None:
        """Send all rounds; a round cut off by the end of the stream ends with the migration."""
        failed = migration.result is Result.FAILED
        self.send_newest(is_error=failed and self._newest is not None and _is_failed(migration, self._newest))
        self._send_batch()
        for round_ in migration.rounds:
            if round_.end_ns is None:
                self._send(round_, migration.end_ns, is_error=failed)

    def _send(self, round_: Round, end_ns: int, *, is_error: bool) -> None:
        span_id = trace_ids.round_span(self._identity.trace_id, round_.number)
        self._emit(
            "iterate",
            span_id,
            (round_.start_ns, end_ns),
            round_attributes(round_),
            status=Status(StatusCode.ERROR) if is_error else None,
            # Jaeger shows events in the timeline, where attributes are not seen.
            event=f"round={round_.number}",
        )

    def _send_batch(self) -> None:
        batch, self._batch = self._batch, None
        if batch is not None:
            self._next_minute = batch.minute + 1
            span_id = trace_ids.span_id(self._identity.trace_id, "iterate", "minute", batch.minute)
            attributes = batch_attributes(batch.rounds)
            numbers = f"rounds={batch.rounds[0].number}..{batch.rounds[-1].number}"
            self._emit("iterate.batch", span_id, (batch.start_ns, batch.end_ns), attributes, event=numbers)

    def _emit(
        self,
        name: str,
        span_id: str,
        times: tuple[int, int],
        attributes: Attributes,
        *,
        event: str,
        status: Status | None = None,
    ) -> None:
        root = trace_ids.root_span(self._identity.trace_id)
        self._emitter.emit(
            self._identity, name, span_id, root, times, attributes=attributes, status=status, event=event
        )


def _is_failed(migration: Migration, newest: Round) -> bool:
    """Return whether a migration failed in a round: the failure ended the phase, and the round with it."""
    ends = {phase.end_ns for phase in migration.phases if phase.name is PhaseName.ITERATE}
    return error_type(migration) == f"{PhaseName.ITERATE}_failed" and newest.end_ns in ends
