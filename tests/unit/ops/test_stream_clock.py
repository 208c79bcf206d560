"""Time in a stream is independent of changes to the wall clock."""

from __future__ import annotations

import time

from qemu_migration_exporter.ops.stream_clock import StreamTime

_HOUR_NS = 3_600 * 1_000_000_000


def test_open_stream_time_is_monotonic() -> None:
    """It begins as the wall's, where lines may have been read late; a later line moves it on, an older one does not."""
    stream, wall_ns = StreamTime(), time.time_ns()

    opened_ns = stream.now_ns(wall_ns, is_open=True)
    assert opened_ns >= wall_ns
    for set_to_ns in (wall_ns - _HOUR_NS, wall_ns + _HOUR_NS):
        assert opened_ns <= stream.now_ns(set_to_ns, is_open=True) < opened_ns + _HOUR_NS / 2

    stream.observe(wall_ns - _HOUR_NS, is_news=True)
    assert stream.now_ns(wall_ns, is_open=True) >= opened_ns
    stream.observe(wall_ns + _HOUR_NS, is_news=False)
    assert stream.now_ns(wall_ns, is_open=True) >= wall_ns + _HOUR_NS

    assert stream.now_ns(wall_ns, is_open=False) == wall_ns


def test_new_line_sets_time() -> None:
    """A probe's clock was mapped to the wall's when it began; since then the wall's was set."""
    stream, said_ns = StreamTime(), time.time_ns() - _HOUR_NS
    stream.observe(said_ns, is_news=False)
    assert stream.now_ns(time.time_ns(), is_open=True) > said_ns + _HOUR_NS / 2

    stream = StreamTime()
    stream.observe(said_ns, is_news=True)
    assert said_ns <= stream.now_ns(time.time_ns(), is_open=True) < said_ns + _HOUR_NS / 2
