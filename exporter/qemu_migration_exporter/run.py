"""The daemon with everything around it, until SIGTERM or SIGINT."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from qemu_migration_exporter.app import App, live_sinks
from qemu_migration_exporter.config.schema import Config
from qemu_migration_exporter.daemon import Daemon
from qemu_migration_exporter.tracing.export.endpoint import OtlpError

logger = logging.getLogger(__name__)

#: The reading thread takes a request within a second; sources of a new configuration are opened before the answer.
_RELOAD_SECONDS: Final = 30.0


def run(config: Config, reload: Callable[[], Config]) -> int:
    """Follow live streams until SIGTERM or SIGINT; return the exit status."""
    try:
        sinks = live_sinks(config)
    except OtlpError as error:
        logger.error("span receiver unusable", extra={"error": str(error)})  # noqa: TRY400 - no bug of ours
        return 1
    except OSError as error:
        logger.error("spool unusable", extra={"directory": config.spans.spool_directory, "error": error.strerror})  # noqa: TRY400
        return 1
    try:
        daemon = Daemon(config, sinks, reload=reload)
    except OSError as error:
        logger.error("start failed", extra={"error": error.strerror})  # noqa: TRY400 - no bug of ours
        return 1
    app = App(
        config=config,
        sinks=sinks,
        streams=daemon.streams,
        is_ready=lambda: daemon.is_ready,
        config_loaded=lambda: daemon.config_loaded,
        # Counters of a checkpoint are behind those of the killed daemon until its bytes are read again.
        has_metrics=lambda: daemon.is_ready or not daemon.streams.is_restored,
        refresh=daemon.refresh,
    )
    try:
        server = app.server(
            config.web.listen_address,
            app.registry(),
            reload=(lambda: _reload(daemon)) if config.web.enable_reload else None,
        )
    except OSError as error:
        reason = error.strerror or str(error)
        logger.error("listen failed", extra={"address": config.web.listen_address, "error": reason})  # noqa: TRY400
        return 1
    logger.info("listening", extra={"url": server.url})
    try:
        daemon.run()
    finally:
        server.stop()
    return 0


def _reload(daemon: Daemon) -> str | None:
    """Reload the configuration and wait for the result: the mistakes, None if there are none."""
    try:
        return daemon.requests.reload().result(_RELOAD_SECONDS)
    except TimeoutError:  # the request stays, and the log has its result
        return f"no answer within {_RELOAD_SECONDS:.0f} s; the log will have the result"
