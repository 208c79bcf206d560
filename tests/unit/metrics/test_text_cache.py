"""Kept exposition text always equals fresh text of the library."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.exposition import choose_encoder
from qemu_migration_exporter.core.model import SurpriseKind
from qemu_migration_exporter.core.tracking.stream import Stream
from qemu_migration_exporter.metrics.collector import MetricsSink
from qemu_migration_exporter.metrics.registry import ExporterRegistry
from qemu_migration_exporter.metrics.self_collector import ExporterCollector

from tests.support.core_helpers import made

FORMATS = [
    "text/plain;version=0.0.4",
    "application/openmetrics-text;version=1.0.0",
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8",
]
LOGS = ["9.2-auto-converge", "7.2-two-attempts", "8.2-destination"]
#: A name that needs every escape, and one that is a prefix of it.
VMS = ['a\\b"c\nd\re é', "a", "b"]


class Host:
    """Streams of a host with their metrics."""

    def __init__(self, max_vms: int = 10) -> None:
        self.sink = MetricsSink(max_vms=max_vms)
        self.streams: dict[str, tuple[Stream, list[bytes]]] = {}
        health = ExporterCollector(lambda: [(stream, True) for stream, _ in self.streams.values()], None, lambda: 0)
        self.registry = ExporterRegistry(self.sink, health)

    def feed(self, vm: str, log: str, lines: int) -> None:
        """Feed the next lines of a log, from its beginning if the stream is new."""
        key = f"{vm}/{log}"
        if key not in self.streams:
            self.streams[key] = (Stream(f"{key}.log", vm=vm), made(log).splitlines(keepends=True))
        stream, left = self.streams[key]
        self.sink.apply(stream.feed(b"".join(left[:lines])))
        self.sink.update(stream.running())
        del left[:lines]

    def close(self, vm: str, log: str) -> None:
        """End a stream, which ends its migration and drops its health."""
        stream, _ = self.streams.pop(f"{vm}/{log}", (None, None))
        if stream is not None:
            self.sink.apply(stream.close())

    def expire(self) -> None:
        """Drop the series of everything that ended."""
        self.sink.expire(1, 0)
        self.sink.expire(2, 0)

    def check(self, accept: str) -> None:
        """Compare the kept text with a fresh one."""
        encoder, content_type = choose_encoder(accept)
        assert self.registry.render(encoder, content_type) == encoder(self.registry)


STEPS = st.one_of(
    st.tuples(st.just(Host.feed), st.sampled_from(VMS), st.sampled_from(LOGS), st.integers(1, 200)),
    st.tuples(st.just(Host.close), st.sampled_from(VMS), st.sampled_from(LOGS)),
    st.tuples(st.just(Host.expire)),
    st.tuples(st.just(Host.check), st.sampled_from(FORMATS)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, max_size=25))
def test_kept_text_equals_fresh_text(steps: list[tuple[Callable[..., None], ...]]) -> None:
    """The texts stay equal for any changes between two scrapes, in every format."""
    host = Host(max_vms=2)
    for step, *arguments in steps:
        step(host, *arguments)
    for accept in FORMATS:
        host.check(accept)


@pytest.mark.parametrize("accept", FORMATS)
def test_unchanged_series_are_reused(accept: str) -> None:
    host = Host()
    for vm in VMS:
        host.feed(vm, LOGS[0], 500)
    encoder, content_type = choose_encoder(accept)
    rendered: list[int] = []

    def counting(registry: object) -> bytes:
        families = list(registry.collect())  # type: ignore[attr-defined]
        rendered.append(
            sum("vm" in sample.labels or "stream" in sample.labels for each in families for sample in each.samples)
        )
        return encoder(registry)  # type: ignore[arg-type]

    for _ in range(2):
        host.registry.render(counting, content_type)
    stream, _ = host.streams[f"a/{LOGS[0]}"]
    stream.surprise(SurpriseKind.DAMAGED, "cut")
    host.registry.render(counting, content_type)

    first, second, third = (sum(rendered[index : index + 2]) for index in (0, 2, 4))
    assert first > 100
    assert (second, third) == (0, len(SurpriseKind))


def test_unused_format_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator's curl must not double the memory for good."""
    host = Host()
    now = [1_000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    host.check(FORMATS[0])
    now[0] += 200
    host.check(FORMATS[1])
    assert len(host.registry._texts) == 2  # noqa: SLF001 - the test is about memory

    now[0] += 200
    host.check(FORMATS[1])

    assert len(host.registry._texts) == 1  # noqa: SLF001 - as above
