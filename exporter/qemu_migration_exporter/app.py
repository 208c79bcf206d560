"""Composition root: the parts of `run` and of `replay`, built in one place.

    streams ─changes→ Sinks {metrics, history, spans} ←reads─ registry, landing page, API ←HTTP─ server

The commands differ in the origin of lines and in the export of spans: `run` queues spans and never waits, `replay`
waits for its receiver. Everything else is built here. Optional parts are imported where they are built: OpenTelemetry
only for a receiver of spans, the HTTP server only for an address, the text for people only when somebody reads it or a
migration is logged.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from prometheus_client import CollectorRegistry

from qemu_migration_exporter.config.schema import Config, SpansConfig
from qemu_migration_exporter.core.tracking.stream import Stream
from qemu_migration_exporter.journal import Journal
from qemu_migration_exporter.metrics.collector import MetricsSink
from qemu_migration_exporter.metrics.registry import ExporterRegistry
from qemu_migration_exporter.metrics.self_collector import ExporterCollector
from qemu_migration_exporter.ops.errors import ErrorCounter
from qemu_migration_exporter.present.history import MigrationHistory
from qemu_migration_exporter.sinks import Sinks
from qemu_migration_exporter.tracing.export.endpoint import REQUEST_SECONDS, connect, find_endpoint

if TYPE_CHECKING:
    from qemu_migration_exporter.present.view import MigrationView, Page
    from qemu_migration_exporter.tracing.trace_limits import TraceLimits
    from qemu_migration_exporter.web import Server


class StreamSet(Protocol):
    """The streams that a daemon follows, or that a replay has read."""

    def all(self) -> Sequence[tuple[Stream, bool]]:
        """Return the streams, with True for a stream that can be read now."""
        ...

    def problems(self) -> Mapping[str, str]:
        """Return why streams cannot be read, by name."""
        ...

    def notice(self) -> str:
        """Return the reason why migrations may not be seen; empty if there is none."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """Parts of one command around its streams.

    Attributes:
        is_ready: True once the content from before the start has been read.
        config_loaded: True if the last configuration read is in force.
        refresh: Brings the numbers of running migrations up to date before an answer; any thread may call it.
        has_metrics: True if the counters have caught up with those of the previous run.
    """

    config: Config
    sinks: Sinks
    streams: StreamSet
    is_ready: Callable[[], bool]
    config_loaded: Callable[[], bool] = lambda: True
    has_metrics: Callable[[], bool] = lambda: True
    refresh: Callable[[], None] = lambda: None

    def registry(self) -> CollectorRegistry:
        """Build the registry of all metrics."""
        return ExporterRegistry(
            self.sinks.metrics,
            ExporterCollector(
                self.streams.all,
                self.sinks.spans,
                lambda: self.sinks.metrics.limited,
                self.config_loaded,
                self.sinks.failures,
            ),
        )

    def server(
        self, address: str, registry: CollectorRegistry, *, reload: Callable[[], str | None] | None = None
    ) -> Server:
        """Build and start the HTTP server.

        Raises:
            OSError: The address cannot be listened on.
            ConfigError: The web configuration file has mistakes.
        """
        from qemu_migration_exporter.web import Endpoints, Server  # noqa: PLC0415 - see the module

        server = Server(
            address,
            Endpoints(
                registry=registry,
                is_ready=self.is_ready,
                refresh=self.refresh,
                has_metrics=self.has_metrics,
                telemetry_path=self.config.web.telemetry_path,
                page=self._page,
                migrations=self._documents,
                notice=self.streams.notice,
                migration=self._migration,
                trace_url=self.config.web.trace_url,
                reload=reload,
            ),
            config_file=self.config.web.config_file,
            failures=self.sinks.failures,
        )
        server.start()
        return server

    def _documents(self) -> Sequence[Mapping[str, Any]]:
        from qemu_migration_exporter.present.document import view_document  # noqa: PLC0415 - see the module

        history = self.sinks.history
        views = (*history.running_views(time.time_ns()), *history.recent_views())
        return [view_document(view) for view in views]

    def _migration(self, trace_id: str) -> MigrationView | None:
        return self.sinks.history.find(trace_id, time.time_ns())

    def _page(self) -> Page:
        from qemu_migration_exporter.present.units import moment_of  # noqa: PLC0415 - see the module
        from qemu_migration_exporter.present.view import Page  # noqa: PLC0415
        from qemu_migration_exporter.present.view_builder import stream_view  # noqa: PLC0415

        now_ns = time.time_ns()
        history, problems = self.sinks.history, self.streams.problems()
        return Page(
            now=moment_of(now_ns),
            running=history.running_views(now_ns),
            recent=history.recent_views(),
            streams=tuple(
                stream_view(stream, is_up=is_up, problem=problems.get(stream.name))
                for stream, is_up in self.streams.all()
            ),
            notice=self.streams.notice(),
            trace_url=self.config.web.trace_url,
        )


def live_sinks(config: Config) -> Sinks:
    """Build the sinks of a daemon: spans are queued, and a spool keeps spans while the receiver is away.

    Raises:
        OtlpError: The endpoint or the protocol cannot be used.
        OSError: The spool's directory cannot be used.
    """
    metrics, history, failures = MetricsSink(max_vms=config.metrics.max_vms), MigrationHistory(), ErrorCounter()
    spans = config.spans
    endpoint = find_endpoint(spans.otlp_endpoint, spans.otlp_protocol)
    if endpoint is None:
        return Sinks(metrics, history, failures=failures, journal=Journal())

    from qemu_migration_exporter.tracing.export.batch_config import BatchConfig  # noqa: PLC0415 - see the module
    from qemu_migration_exporter.tracing.export.queued import HOLD_SECONDS, QueuedSpanProcessor  # noqa: PLC0415
    from qemu_migration_exporter.tracing.export.spool import Spool  # noqa: PLC0415
    from qemu_migration_exporter.tracing.spans import SpansSink  # noqa: PLC0415

    spool = None
    if spans.spool_directory is not None:
        spool = Spool(Path(spans.spool_directory), max_bytes=spans.spool_max_bytes, failures=failures)
        spool.open()
    queue = QueuedSpanProcessor(
        connect(endpoint),
        config=BatchConfig.of(spans.queue_size),
        spool=spool,
        failures=failures,
        hold_seconds=0.0 if config.state_file is None else HOLD_SECONDS,
    )
    return Sinks(
        metrics,
        history,
        SpansSink([queue], _host(), _trace_limits(spans), vm_services=spans.vm_services),
        queue,
        failures,
        Journal(),
    )


def replay_sinks(config: Config, *, spans_out: TextIO | None) -> Sinks:
    """Build the sinks of a replay: spans go to a file, to a receiver that the replay waits for, or to both.

    The resource of a replay has no attributes of the host.

    Raises:
        OtlpError: The endpoint or the protocol cannot be used.
    """
    metrics, history = MetricsSink(max_vms=config.metrics.max_vms), MigrationHistory()
    endpoint = find_endpoint(config.spans.otlp_endpoint, config.spans.otlp_protocol, REQUEST_SECONDS)
    if spans_out is None and endpoint is None:
        return Sinks(metrics, history)

    from qemu_migration_exporter.tracing.export.blocking import BlockingSpanProcessor  # noqa: PLC0415 - see the module
    from qemu_migration_exporter.tracing.export.json_lines import OtlpJsonWriter  # noqa: PLC0415
    from qemu_migration_exporter.tracing.spans import SpansSink  # noqa: PLC0415

    senders = [] if spans_out is None else [OtlpJsonWriter(spans_out)]
    processors = [BlockingSpanProcessor(sender) for sender in (*senders, *([connect(endpoint)] if endpoint else []))]
    return Sinks(
        metrics, history, SpansSink(processors, None, _trace_limits(config.spans), vm_services=config.spans.vm_services)
    )


def _trace_limits(spans: SpansConfig) -> TraceLimits:
    from qemu_migration_exporter.tracing.trace_limits import TraceLimits  # noqa: PLC0415 - see the module

    return TraceLimits(max_rounds=spans.max_rounds, max_devices=spans.max_devices, max_spans=spans.max_spans)


def _host() -> Mapping[str, str]:
    """Return the attributes of this host, and of the daemon on it: stable over restarts and updates.

    Source: machine-id(5).
    """
    import uuid  # noqa: PLC0415 - only with a receiver of spans

    try:
        machine = Path("/etc/machine-id").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):  # without a machine id, use the host name, which changes more often
        machine = socket.gethostname()
    instance = uuid.uuid5(uuid.NAMESPACE_OID, f"qemu-migration-exporter/{machine}")
    return {"host.name": os.uname().nodename, "service.instance.id": str(instance)}
