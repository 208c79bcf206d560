"""Truth about the logs: an undisturbed pipeline over everything that was written, in the order it was written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from qemu_migration_exporter.core.changes import Change, MigrationEnded, Started
from qemu_migration_exporter.core.model import ClockKind
from qemu_migration_exporter.core.tracking.stream import Stream
from qemu_migration_exporter.tracing.spans import SpansSink

from tests.chaos.logs import Log
from tests.support.kept_spans import KeptSpans

#: Trace and span.
SpanId = tuple[bytes, bytes]

#: After the last line, time ends what waits for more.
_AFTER_NS = 30_000_000_000


@dataclass
class Truth:
    """The results that the daemon must report in the end."""

    started: int = 0
    finished: Counter[str] = field(default_factory=Counter)
    spans: dict[SpanId, bytes] = field(default_factory=dict)


def tell(logs: Iterable[Log]) -> Truth:
    """Return the truth about some logs."""
    truth, kept = Truth(), KeptSpans()
    sink = SpansSink([kept])
    for log in logs:
        for segment in log.segments:
            stream = Stream(str(log.path), vm=log.path.stem, untimed=ClockKind.ARRIVAL)
            changes: list[Change] = stream.feed(bytes(segment))
            changes += stream.tick((stream.last_event_ns or 0) + _AFTER_NS)
            sink.apply(changes)
            truth.started += sum(isinstance(change, Started) for change in changes)
            truth.finished.update(
                str(change.migration.result) for change in changes if isinstance(change, MigrationEnded)
            )
    for resource in encode_spans(kept.spans).resource_spans:
        for scope in resource.scope_spans:
            truth.spans |= {(span.trace_id, span.span_id): content(span) for span in scope.spans}
    return truth


def content(span: Span) -> bytes:
    """Return the whole content of a span, in one order.

    Links are left out: they depend on which other end was seen first.
    """
    copy = Span.FromString(span.SerializeToString())
    del copy.links[:]
    attributes = sorted(copy.attributes, key=lambda pair: pair.key)
    del copy.attributes[:]
    copy.attributes.extend(attributes)
    return copy.SerializeToString(deterministic=True)
