"""Registry of the exporter's collectors, which renders them with the text of earlier scrapes."""

from __future__ import annotations

import time
from threading import Lock
from typing import Final

from prometheus_client import CollectorRegistry

from qemu_migration_exporter.metrics.collector import MetricsSink
from qemu_migration_exporter.metrics.self_collector import ExporterCollector
from qemu_migration_exporter.metrics.text_cache import CollectorText, Encoder

#: Text of a format that no client requested for this long is dropped, as after a single curl by an operator.
_UNUSED_SECONDS: Final = 300.0


class ExporterRegistry(CollectorRegistry):
    """Registry that keeps exposition text by format; any thread may render."""

    def __init__(self, *collectors: MetricsSink | ExporterCollector) -> None:
        super().__init__(auto_describe=True)
        self._collectors = collectors
        self._texts: dict[str, list[CollectorText]] = {}
        self._used: dict[str, float] = {}
        self._render_lock = Lock()
        for collector in collectors:
            self.register(collector)

    def render(self, encoder: Encoder, content_type: str) -> bytes:
        """Return the exposition of this registry by the encoder."""
        with self._render_lock:
            self._forget_unused(content_type)
            pages = [text.render(encoder) for text in self._texts[content_type]]
        return b"".join([*(page for page, _ in pages), *(end for _, end in pages[-1:])])

    def _forget_unused(self, content_type: str) -> None:
        now = time.monotonic()
        self._used[content_type] = now
        if content_type not in self._texts:
            self._texts[content_type] = [CollectorText(collector) for collector in self._collectors]
        for unused in [name for name, used in self._used.items() if now - used > _UNUSED_SECONDS]:
            del self._texts[unused], self._used[unused]
