"""Lines a second and memory: recordings repeated, beside mtail, a loop in Python, and wc."""

from __future__ import annotations

import gzip
import json
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

from tests.bench import measure
from tests.bench.measure import Cost
from tests.bench.table import Row

DATA: Final = Path(__file__).parents[1] / "data"

DENSE: Final = DATA / "qemu-kvm-2.6-systemtap.log"
NOISE: Final = DATA / "qemu-10.0-log-nonconverging.log.gz"
LOG: Final = DATA / "qemu-7.2-log-nonconverging.log"

_NOISE_TIMES: Final = 3


def repeated(recording: Path, lines: int, directory: Path) -> tuple[Path, int]:
    """Write a recording over and over, each time later, until it has about so many lines; return where, and how many."""
    data = recording.read_bytes()
    if recording.suffix == ".gz":
        data = gzip.decompress(data)
    times = max(1, round(lines / data.count(b"\n")))
    seconds = [int(each) for each in re.findall(rb"^\d+@(\d+)\.", data, re.MULTILINE)] or [0]
    period = max(seconds) - min(seconds) + 60
    path = directory / "repeated.log"
    with path.open("wb") as out:
        for number in range(times):
            out.write(_later(data, number * period))
    return path, times * data.count(b"\n")


def _later(data: bytes, seconds: int) -> bytes:
    return re.sub(rb"^(\d+@)(\d+)", lambda each: b"%s%d" % (each[1], int(each[2]) + seconds), data, flags=re.MULTILINE)


def rates(lines: int, directory: Path, *, times: int) -> Iterator[Row]:
    """Read each kind of stream, with the metrics written at its end."""
    empty = directory / "empty.log"
    empty.write_bytes(b"begin\n")
    readers: dict[str, Callable[[Path], Cost]] = {
        "exporter": lambda log: measure.replay(log, f"--metrics.out={directory / 'metrics'}", times=times),
        "mtail": lambda log: measure.mtail(log, times=min(times, 2)),
        "for line": lambda log: measure.for_line(log, times=times),
        "wc -l": lambda log: measure.wc(log, times=times),
    }
    start = {name: read(empty).cpu_seconds for name, read in readers.items()}
    for title, recording in (("systemtap, dense", DENSE), ("QEMU 10 log, 99 % noise", NOISE), ("7.2 log, dense", LOG)):
        # Of noise it takes more, or starting up is most of the time.
        log, count = repeated(recording, lines * _NOISE_TIMES if recording is NOISE else lines, directory)
        costs = {name: read(log) for name, read in readers.items()}
        log.unlink()
        seconds = {name: max(cost.cpu_seconds - start[name], 1e-4) for name, cost in costs.items()}
        for name, cost in costs.items():
            rate = f"{count / seconds[name] / 1e6:.2f} M lines/s, {seconds[name]:.2f} s, {cost.rss_mib:.0f} MiB"
            yield Row(f"{title}: {name}", rate)
        yield Row(
            f"{title}: exporter / mtail",
            f"{seconds['mtail'] / seconds['exporter']:.2f}",
            ">= 1.5" if recording is DENSE else "",
        )
        yield Row(
            f"{title}: exporter / for line",
            f"{seconds['for line'] / seconds['exporter']:.2f}",
            ">= 0.3" if recording is NOISE else "",
        )


def growth(lines: int, directory: Path, *, times: int) -> Iterator[Row]:
    """Read a tenth of the lines, all of them and ten times as many: the time a line and the memory must not grow."""
    empty = directory / "empty.log"
    empty.write_bytes(b"begin\n")
    start = measure.replay(empty, times=times).cpu_seconds
    first: float | None = None
    for wanted in (lines // 10, lines, lines * 10):
        log, count = repeated(DENSE, wanted, directory)
        cost = measure.replay(log, times=times if wanted <= lines else 1)
        log.unlink()
        a_line = (cost.cpu_seconds - start) / count
        first = first or a_line
        yield Row(
            f"systemtap, {count:,} lines: time a line",
            f"{a_line * 1e6:.2f} µs, {a_line / first:.2f} of the first",
            "<= 1.1",
        )
        yield Row(f"systemtap, {count:,} lines: peak memory", f"{cost.rss_mib:.0f} MiB", "<= 120 MiB")


def spans(lines: int, directory: Path, *, times: int) -> Iterator[Row]:
    """Read with spans, and let the SDK alone make and send the same spans."""
    one = directory / "spans.json"
    measure.replay(DENSE, f"--spans.out={one}")
    count = sum(
        len(scope["spans"])
        for line in one.read_text(encoding="utf-8").splitlines()
        for resource in json.loads(line)["resourceSpans"]
        for scope in resource["scopeSpans"]
    )
    log, number = repeated(DENSE, lines, directory)
    repeats = number // DENSE.read_bytes().count(b"\n")
    with receiver() as endpoint:
        plain = measure.replay(log, times=times)
        with_spans = measure.replay(log, f"--otlp.endpoint={endpoint}", times=times)
        alone = str(Path(__file__).with_name("sdk.py"))
        sdk = measure.run(sys.executable, alone, str(one), str(repeats), endpoint, times=times)
        sdk_start = measure.run(sys.executable, alone, str(one), "0", endpoint, times=times)
    log.unlink()
    sdk_seconds = sdk.cpu_seconds - sdk_start.cpu_seconds
    yield Row("systemtap, metrics only", f"{plain.cpu_seconds:.2f} s")
    yield Row("systemtap, with spans", f"{with_spans.cpu_seconds:.2f} s for {count * repeats:,} spans")
    yield Row("the SDK alone for these spans", f"{sdk_seconds:.2f} s")
    yield Row(
        "with spans / (metrics + SDK)", f"{with_spans.cpu_seconds / (plain.cpu_seconds + sdk_seconds):.2f}", "<= 1.3"
    )


@contextmanager
def receiver() -> Iterator[str]:
    """Take spans and forget them."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
