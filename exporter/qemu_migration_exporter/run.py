"""The daemon with everything around it: its sinks, its metrics, its pages."""

from __future__ import annotations

import logging
import os
import socket
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from prometheus_client import CollectorRegistry

from qemu_migration_exporter.config.schema import Config
from qemu_migration_exporter.core.model import Migration, Result
from qemu_migration_exporter.daemon import Daemon
from qemu_migration_exporter.metrics.collector import MetricsSink
from qemu_migration_exporter.metrics.self_collector import ExporterCollector
from qemu_migration_exporter.ops.errors import ErrorCounter
from qemu_migration_exporter.pipeline import Sinks
from qemu_migration_exporter.present.advice import migration_advice
from qemu_migration_exporter.present.document import migration_document
from qemu_migration_exporter.present.history import MigrationHistory
from qemu_migration_exporter.present.text.verdict import running_sentence, sentence
from qemu_migration_exporter.tracing.export.otlp import OtlpError, otlp
from qemu_migration_exporter.tracing.export.queued import BatchConfig, QueuedSpanProcessor
from qemu_migration_exporter.tracing.export.spool import Spool
from qemu_migration_exporter.tracing.spans import SpansSink
from qemu_migration_exporter.tracing.trace_limits import TraceLimits
from qemu_migration_exporter.web import Endpoints, MigrationView, Page, Server, StreamView

logger = logging.getLogger(__name__)

#: The reading thread takes a request within a second; sources of a new configuration are opened before the answer.
_RELOAD_SECONDS: Final = 30.0


def run(config: Config, reload: Callable[[], Config]) -> int:
    """Follow live streams until SIGTERM or SIGINT; return the exit status."""
    try:
        parts = _parts(config)
    except OtlpError as error:
        logger.error("%s", error)  # noqa: TRY400 - no bug of ours
        return 1
    except OSError as error:
        logger.error("%s cannot be used: %s", config.spans.spool_directory, error.strerror)  # noqa: TRY400
        return 1
    try:
        daemon = Daemon(config, parts, reload=reload)
    except OSError as error:
        logger.error("the daemon cannot be started: %s", error.strerror)  # noqa: TRY400 - no bug of ours
        return 1
    registry = CollectorRegistry(auto_describe=True)
    registry.register(parts.metrics)
    registry.register(
        ExporterCollector(
            daemon.streams.all,
            parts.spans,
            lambda: parts.metrics.limited,
            lambda: daemon.config_loaded,
            parts.failures,
        )
    )
    try:
        server = Server(
            config.web.listen_address,
            Endpoints(
                registry=registry,
                is_ready=lambda: daemon.is_ready,
                telemetry_path=config.web.telemetry_path,
                page=lambda: _page(config, daemon, parts.board),
                migrations=lambda: _documents(parts.board),
                reload=(lambda: _reload(daemon)) if config.web.enable_reload else None,
            ),
            config_file=config.web.config_file,
            failures=parts.failures,
        )
        server.start()
    except OSError as error:
        logger.error("%s cannot be listened on: %s", config.web.listen_address, error.strerror or error)  # noqa: TRY400
        return 1
    logger.info("listening on %s", server.url)
    try:
        daemon.run()
    finally:
        server.stop()
    return 0


def _parts(config: Config) -> Sinks:
    metrics, board, failures = MetricsSink(max_vms=config.metrics.max_vms), MigrationHistory(), ErrorCounter()
    spans = config.spans
    exporter = otlp(spans.otlp_endpoint, spans.otlp_protocol)
    if exporter is None:
        return Sinks(metrics, board, failures=failures)
    spool = None
    if spans.spool_directory is not None:
        spool = Spool(Path(spans.spool_directory), max_bytes=spans.spool_max_bytes, failures=failures)
        spool.open()
    delivery = QueuedSpanProcessor(exporter, pace=BatchConfig.of(spans.queue), spool=spool, failures=failures)
    return Sinks(
        metrics,
        board,
        SpansSink(
            [delivery],
            _host(),
            TraceLimits(max_rounds=spans.max_rounds, max_devices=spans.max_devices, max_spans=spans.max_spans),
        ),
        delivery,
        failures,
    )


def _host() -> Mapping[str, str]:
    """Name the host, and the daemon on it by something that stays over restarts and updates: machine-id(5)."""
    try:
        machine = Path("/etc/machine-id").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):  # not every machine has one; a name is as good until it is changed
        machine = socket.gethostname()
    instance = uuid.uuid5(uuid.NAMESPACE_OID, f"qemu-migration-exporter/{machine}")
    return {"host.name": os.uname().nodename, "service.instance.id": str(instance)}


def _reload(daemon: Daemon) -> str | None:
    """Reload the configuration and wait for the result: the mistakes, None if there are none."""
    try:
        return daemon.request_reload().result(_RELOAD_SECONDS)
    except TimeoutError:  # the request stays, and the log has its result
        return f"no answer within {_RELOAD_SECONDS:.0f} s; the log will have the result"


def _documents(board: MigrationHistory) -> Sequence[Mapping[str, Any]]:
    return [migration_document(migration) for migration in (*board.running, *board.recent)]


def _page(config: Config, daemon: Daemon, board: MigrationHistory) -> Page:
    now_ns = time.time_ns()
    problems = daemon.streams.problems()
    return Page(
        now_ns=now_ns,
        running=tuple(_view(migration, now_ns, running=True) for migration in board.running),
        recent=tuple(_view(migration, now_ns, running=False) for migration in board.recent),
        streams=tuple(
            StreamView(
                name=stream.name,
                format=stream.format_name,
                clock=stream.clock_kind,
                is_up=up,
                last_event_ns=stream.last_event_ns,
                lines=stream.counts.lines,
                events=stream.counts.events,
                malformed=stream.counts.malformed,
                surprises=stream.counts.surprises.total(),
                problem=problems.get(stream.name),
            )
            for stream, up in daemon.streams.all()
        ),
        trace_url=config.web.trace_url,
    )


def _view(migration: Migration, now_ns: int, *, running: bool) -> MigrationView:
    identity = migration.identity
    parts = running_sentence(migration, now_ns) if running else sentence(migration)
    return MigrationView(
        identity=identity,
        progress=migration.progress,
        rounds=migration.rounds,
        result=None if running else Result(migration.result),
        outcome_ns=None if running else migration.outcome_ns,
        duration_ns=now_ns - identity.start_ns if running else migration.duration_ns,
        downtime_ns=migration.downtime_ns,
        advice=migration_advice(migration) if running else (),
        sentence="".join(part if isinstance(part, str) else part[0] for part in parts),
        error=migration.error,
    )
