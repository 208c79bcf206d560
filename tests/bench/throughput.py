"""Lines a second and memory: recordings repeated, beside mtail, a loop in Python, and wc."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import statistics
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

from qemu_migration_exporter.config.schema import Config
from qemu_migration_exporter.core.tracking.stream import Stream

from tests.bench import measure
from tests.bench.table import Row
from tests.support.paths import DATA

DENSE: Final = DATA / "qemu-kvm-2.6-systemtap.log"
NOISE: Final = DATA / "qemu-10.0-log-nonconverging.log.gz"
LOG: Final = DATA / "qemu-7.2-log-nonconverging.log"
PROBE: Final = DATA / "qemu-10.0-bpftrace-nonconverging.log"

#: Recording and peer → the limit of the ratio, and the ratio before the work.
_RATIOS: Final = {
    (DENSE, "mtail"): (">= 2.2", "1.45"),
    (LOG, "mtail"): (">= 2.2", "1.34"),
    (NOISE, "for line"): (">= 0.5", "0.42"),
    (NOISE, "mtail"): ("", "20"),
}

#: Of noise it takes more lines, or starting up is most of the time; mtail, which is slower, gets a part of them.
_NOISE_TIMES: Final = 10


def repeated(recording: Path, lines: int, path: Path) -> int:
    """Write a recording over and over, each time later, until it has about so many lines; return how many it has."""
    data = recording.read_bytes()
    if recording.suffix == ".gz":
        data = gzip.decompress(data)
    times = max(1, round(lines / data.count(b"\n")))
    seconds = [int(each) for each in re.findall(rb"^\d+@(\d+)\.", data, re.MULTILINE)] or [0]
    period = max(seconds) - min(seconds) + 60
    with path.open("wb") as out:
        for number in range(times):
            out.write(_later(data, number * period))
    return times * data.count(b"\n")


def _later(data: bytes, seconds: int) -> bytes:
    return re.sub(rb"^(\d+@)(\d+)", lambda each: b"%s%d" % (each[1], int(each[2]) + seconds), data, flags=re.MULTILINE)


def rates(lines: int, directory: Path, *, times: int) -> Iterator[Row]:
    """Read each kind of stream, with the metrics written at its end."""
    empty, log, part = directory / "empty.log", directory / "repeated.log", directory / "part.log"
    empty.write_bytes(b"begin\n")
    readers: dict[str, Callable[[Path], Sequence[str]]] = {
        "exporter": lambda log: measure.replay(log, f"--metrics.out={directory / 'metrics'}"),
        "mtail": measure.mtail,
        "for line": measure.for_line,
        "wc -l": measure.wc,
    }
    if shutil.which("mtail") is None:
        del readers["mtail"]
        yield Row("mtail", "not installed; on Debian: apt install mtail")
    for title, recording in (("systemtap, dense", DENSE), ("QEMU 10 log, 99 % noise", NOISE), ("7.2 log, dense", LOG)):
        logs, counts = dict.fromkeys(readers, log), dict.fromkeys(readers, 0)
        if recording is NOISE:
            counts = dict.fromkeys(readers, repeated(recording, lines * _NOISE_TIMES, log))
            logs["mtail"], counts["mtail"] = part, repeated(recording, lines // 2, part)
        else:
            counts = dict.fromkeys(readers, repeated(recording, lines, log))
        costs = measure.in_turn(
            {name: read(logs[name]) for name, read in readers.items()}
            | {f"{name} alone": read(empty) for name, read in readers.items()},
            times=times,
        )
        rate = {}
        for name in readers:
            cost, alone = costs[name], costs[f"{name} alone"]
            seconds = max(cost.cpu_seconds - alone.cpu_seconds, 1e-4)
            rate[name] = counts[name] / seconds
            figure = (
                f"{rate[name] / 1e6:.2f} M lines/s, {seconds:.2f} s ± {cost.spread / 2:.0%}, {cost.rss_mib:.0f} MiB"
            )
            yield Row(f"{title}: {name}", figure)
        for name in [name for name in ("mtail", "for line") if name in rate]:
            target, before = _RATIOS.get((recording, name), ("", ""))
            yield Row(f"{title}: exporter / {name}", f"{rate['exporter'] / rate[name]:.2f}", target, before)
        log.unlink()


def probe(lines: int, directory: Path, *, times: int) -> Iterator[Row]:
    """Read the output of bpftrace, which mtail cannot: its process, its clock and its order are part of the work."""
    empty, log = directory / "empty.log", directory / "repeated.log"
    empty.write_bytes(b"begin\n")
    count = _repeated_probe(lines, log)
    costs = measure.in_turn(
        {"read": measure.replay(log), "alone": measure.replay(empty), "for line": measure.for_line(log)}, times=times
    )
    log.unlink()
    seconds = max(costs["read"].cpu_seconds - costs["alone"].cpu_seconds, 1e-4)
    yield Row(
        "bpftrace: of a line", f"{seconds / count * 1e6:.2f} µs ± {costs['read'].spread / 2:.0%}", "<= 6 µs", "10 µs"
    )
    yield Row("bpftrace: exporter / for line", f"{costs['for line'].cpu_seconds / seconds:.2f}")


def _repeated_probe(lines: int, path: Path) -> int:
    """Write bpftrace's output over and over, each time later behind the one anchor; return the number of lines."""
    anchor, _, data = PROBE.read_bytes().partition(b"\n")
    times = [int(at) for at in re.findall(rb"^\d+/\d+@(\d+) ", data, re.MULTILINE)]
    period = max(times) - min(times) + 60 * 10**9
    count = max(1, round(lines / data.count(b"\n")))
    with path.open("wb") as out:
        out.write(anchor + b"\n")
        for number in range(count):
            out.write(_later_probe(data, number * period))
    return count * data.count(b"\n") + 1


def _later_probe(data: bytes, ns: int) -> bytes:
    times = re.compile(rb"^(\d+/\d+@)(\d+) ", re.MULTILINE)
    return times.sub(lambda each: b"%s%d " % (each[1], int(each[2]) + ns), data)


def new_stream() -> Iterator[Row]:
    """Make streams, as a directory of many logs or a socket of many writers does."""
    options, count = Config().parser_options(print), 500
    Stream("first", vm="first", parser=options)  # which compiles the vocabulary for all
    began = time.process_time()
    for _ in range(count):
        Stream("web.log", vm="web", parser=options)
    milliseconds = (time.process_time() - began) / count * 1_000
    tracemalloc.start()
    kept = [Stream("web.log", vm="web", parser=options) for _ in range(count)]
    kibibytes = tracemalloc.get_traced_memory()[0] / len(kept) / 1_024
    tracemalloc.stop()
    yield Row("a new stream", f"{milliseconds:.3f} ms, {kibibytes:.1f} KiB", "<= 0.3 ms, 8 KiB", "3.7 ms, 39 KiB")


def growth(lines: int, directory: Path, *, times: int) -> Iterator[Row]:
    """Read a tenth of the lines, all of them and ten times as many: the memory, and the time of a line, must not grow.

    The time is that of one process as it goes on: between processes, a short one is helped by a cool processor.
    """
    log, count = directory / "repeated.log", 0
    for wanted in (lines // 10, lines, lines * 10):
        count = repeated(DENSE, wanted, log)
        (cost,) = measure.in_turn({"": measure.replay(log)}, times=1).values()
        yield Row(f"systemtap, {count:,} lines: peak memory", f"{cost.rss_mib:.0f} MiB", "<= 120 MiB")
    size = log.stat().st_size
    runs = [measure.along(measure.replay(log), log) for _ in range(times)]
    log.unlink()
    first, last = (
        max(statistics.median(_seconds(run, size * begin, size * end) for run in runs) / (count * (end - begin)), 1e-9)
        for begin, end in ((0.01, 0.1), (0.91, 1.0))
    )
    yield Row(f"systemtap, {count:,} lines: of the first a line", f"{first * 1e6:.2f} µs")
    ratio = f"{last * 1e6:.2f} µs, {last / first:.2f} of the first"
    yield Row(f"systemtap, {count:,} lines: of the last a line", ratio, "<= 1.1")


def _seconds(run: Sequence[tuple[int, float]], begin: float, end: float) -> float:
    """Return the resources used between two bytes, interpolated between the nearest samples."""
    near = [min(run, key=lambda sample: abs(sample[0] - place)) for place in (begin, end)]
    (begin_at, before), (end_at, after) = near
    return (after - before) * (end - begin) / max(end_at - begin_at, 1)


def spans(lines: int, directory: Path, *, times: int) -> Iterator[Row]:
    """Read with spans, and let the SDK alone make and send the same spans."""
    one, log = directory / "spans.json", directory / "repeated.log"
    measure.in_turn({"one": measure.replay(DENSE, f"--spans.out={one}")}, times=1)
    count = sum(
        len(scope["spans"])
        for line in one.read_text(encoding="utf-8").splitlines()
        for resource in json.loads(line)["resourceSpans"]
        for scope in resource["scopeSpans"]
    )
    repeats = repeated(DENSE, lines, log) // DENSE.read_bytes().count(b"\n")
    alone = str(Path(__file__).with_name("sdk.py"))
    with receiver() as endpoint:
        costs = measure.in_turn(
            {
                "plain": measure.replay(log),
                "with spans": measure.replay(log, f"--otlp.endpoint={endpoint}"),
                "sdk": (sys.executable, alone, str(one), str(repeats), endpoint),
                "sdk alone": (sys.executable, alone, str(one), "0", endpoint),
            },
            times=times,
        )
    log.unlink()
    plain, with_spans = costs["plain"].cpu_seconds, costs["with spans"].cpu_seconds
    sdk = costs["sdk"].cpu_seconds - costs["sdk alone"].cpu_seconds
    yield Row("systemtap, metrics only", f"{plain:.2f} s ± {costs['plain'].spread / 2:.0%}")
    figure = f"{with_spans:.2f} s ± {costs['with spans'].spread / 2:.0%} for {count * repeats:,} spans"
    yield Row("systemtap, with spans", figure)
    yield Row("the SDK alone for these spans", f"{sdk:.2f} s ± {costs['sdk'].spread / 2:.0%}")
    yield Row("with spans / (metrics + SDK)", f"{with_spans / (plain + sdk):.2f}", "<= 1.3")


@contextmanager
def receiver() -> Iterator[str]:
    """Discard all spans."""

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
