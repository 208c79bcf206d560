"""Rendering of a scrape in the thread that answers it, with gzip as Prometheus asks for, by how much has changed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST
from qemu_migration_exporter.app import App, live_sinks
from qemu_migration_exporter.config.schema import Config, SourceConfig
from qemu_migration_exporter.pipeline import Pipeline
from qemu_migration_exporter.sources import Data
from qemu_migration_exporter.web.exposition import Exposition

from tests.bench.table import Row
from tests.bench.throughput import LOG
from tests.support.recordings import as_of_now

_TIMES: Final = 5

#: What one migration prints in a slice: every series of a round changes.
_SLICE: Final = (
    "{at}savevm_state_iterate \n"
    "{at}migrate_pending pending size {size} max 10071270 (pre = 49283072 compat=0 post=0)\n"
    "{at}migrate_transferred transferred {sent} time_spent 100 bandwidth 33570 max_size 10071000\n"
)


class _Host:
    """The streams of a daemon, with running migrations, and its exposition."""

    def __init__(self, migrations: int) -> None:
        config = Config()
        sinks = replace(live_sinks(config), journal=None)  # its lines would be in the table
        self._pipeline = Pipeline(config, sinks)
        self._source = SourceConfig(file="/var/log/libvirt/qemu/*.log")
        app = App(config=config, sinks=sinks, streams=self._pipeline, is_ready=lambda: True)
        self._exposition = Exposition(app.registry())
        self._names = [f"vm-{number}.log" for number in range(migrations)]
        self._slices = 0
        log = as_of_now(LOG.read_bytes())
        half = log[: len(log) // 2].rpartition(b"\n")[0] + b"\n"
        self._feed(self._names, half)

    def _feed(self, names: Sequence[str], data: bytes) -> None:
        self._pipeline.take(self._source, [Data(name, data, None) for name in names])
        self._pipeline.tick(time.time_ns())

    def change(self, migrations: int) -> None:
        """Print a slice of so many migrations."""
        self._slices += 1
        now_us = time.time_ns() // 1_000
        at = f"4100@{now_us // 1_000_000}.{now_us % 1_000_000:06d}:"
        slice_ = _SLICE.format(at=at, size=49_283_072 + self._slices, sent=3_357_000 + self._slices)
        self._feed(self._names[:migrations], slice_.encode())

    def scrape(self) -> float:
        """Return the processor time of a scrape."""
        began = time.process_time()
        self._exposition.write(accept=CONTENT_TYPE_LATEST, accept_encoding="gzip", query="")
        return time.process_time() - began


def renderings(numbers: Sequence[tuple[int, int, str, str]]) -> Iterator[Row]:
    """Scrape hosts with running migrations of which some have changed: the best of some scrapes."""
    hosts: dict[int, _Host] = {}
    for migrations, changed, target, before in numbers:
        if migrations not in hosts:
            hosts = {migrations: _Host(migrations)}
            hosts[migrations].scrape()
        host, times = hosts[migrations], []
        for _ in range(_TIMES):
            host.change(changed)
            times.append(host.scrape())
        yield Row(
            f"rendering, {migrations:,} active, {changed:,} changed", f"{min(times) * 1e3:.1f} ms", target, before
        )


#: Active migrations, changed since the last scrape, limit, before the work.
HOSTS: Final = (
    (100, 100, "<= 15 ms", "30 ms"),
    (100, 0, "<= 3 ms", "30 ms"),
    (1_000, 100, "<= 100 ms", "440 ms"),
)
