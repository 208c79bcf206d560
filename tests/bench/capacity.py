"""Cost of a fleet for Prometheus: 1,000 simulated hosts, scraped by a real one with the shipped rules; by hand.

    python -m tests.bench.capacity --hosts 1000 --seconds 120

Real daemons make the text of four kinds of hosts: with nothing but idle streams, with a migration that is stuck, one
that runs, and one that has ended. One server on the loopback answers for every host, with the numbers of each virtual machine moved a
little at every scrape, so that Prometheus compresses them as it would in life. docs/capacity.md has the figures.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Final

import yaml

from tests.bakeoff.precopy import Guest, Precopy
from tests.support.daemon import running
from tests.support.paths import DATA
from tests.support.prometheus import CONFIG, Prometheus, free_address
from tests.support.qemu import wait_for
from tests.support.recordings import as_of_now

_VMS_PER_HOST: Final = 30
_HEADER: Final = b"2026-11-22 22:39:13.610+0000: starting up libvirt version: 9.0.0, qemu version: 7.2.0\n"
_SAMPLE: Final = re.compile(r'^(\w+\{[^\n]*vm="[^\n]*\}) ([0-9.e+]+)$', re.MULTILINE)


def _expositions(directory: Path) -> dict[str, str]:
    """Return the metrics of the daemons of an idle, a migrating and a lately migrated host."""
    stuck = Precopy(Guest(hot=470, hot_rate=900, zero=3_000, bandwidth=lambda _second: 118), seconds=60).run()
    bulk = Precopy(Guest(cold=50_000, cold_rate=4, bandwidth=lambda _second: 60), seconds=60).run()
    logs = {
        "idle": b"",
        "stuck": stuck,
        "migrating": bulk,
        "ended": (DATA / "qemu-7.2-log-nonconverging.log").read_bytes(),
    }
    texts = {}
    for name, log in logs.items():
        folder = directory / name
        folder.mkdir()
        for number in range(_VMS_PER_HOST):
            (folder / f"vm-{number}.log").write_bytes(_HEADER)
        with running(folder, f"--source={folder}/*.log") as daemon:
            if log:
                with (folder / "vm-0.log").open("ab") as file:
                    file.write(as_of_now(log))
                expected = float(name in {"stuck", "migrating"})
                wait_for(lambda at=expected, of=daemon: of.metric("qemu_migration_active", vm="vm-0") == at, 30, name)  # type: ignore[misc]
            texts[name] = daemon.get("/metrics")
    return texts


def series_of(exposition: str) -> int:
    """Count the samples of an exposition."""
    return sum(bool(line) and not line.startswith("#") for line in exposition.splitlines())


def _moved(text: str, generator: random.Random) -> str:
    """Change the numbers of virtual machines by up to a tenth; flags and times stay."""

    def move(sample: re.Match[str]) -> str:
        value = float(sample[2])
        is_amount = value > 1 and "timestamp" not in sample[1]  # 0 and 1 are flags
        return f"{sample[1]} {value * generator.uniform(0.9, 1.1) if is_amount else value:.10g}"

    return _SAMPLE.sub(move, text)


@contextmanager
def _hosts(texts: dict[str, str], kinds: list[str]) -> Iterator[str]:
    """Serve /N/metrics for every host; yield HOST:PORT."""
    generator = random.Random(1)  # noqa: S311 - a model's noise

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_arguments: object) -> None:
            """Print nothing."""

        def do_GET(self) -> None:
            number = int(self.path.split("/")[1])
            body = _moved(texts[kinds[number]], generator).replace('vm="vm-', f'vm="vm-{number}-').encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def _prometheus(directory: Path, address: str, hosts: int) -> Iterator[Prometheus]:
    config = yaml.safe_load((CONFIG / "prometheus.yml").read_text())
    config["rule_files"] = [str(CONFIG / name) for name in config["rule_files"]]
    del config["alerting"]
    labels = [{"__metrics_path__": f"/{number}/metrics", "instance": f"hv-{number}:9871"} for number in range(hosts)]
    groups = [{"targets": [address], "labels": each} for each in labels]
    config["scrape_configs"][0]["static_configs"] = groups
    own = free_address()
    config["scrape_configs"].append({"job_name": "prometheus", "static_configs": [{"targets": [own]}]})
    path = directory / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            ["prometheus", f"--config.file={path}", f"--web.listen-address={own}", f"--storage.tsdb.path={directory}/tsdb"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield Prometheus(own, process)
    finally:
        process.terminate()
        process.wait(timeout=60)


_QUESTIONS: Final = {
    "hosts that answer": 'count(up{job="qemu-migration"} == 1)',
    "series in the head": "prometheus_tsdb_head_series",
    "samples appended, 1/s": "rate(prometheus_tsdb_head_samples_appended_total[1m])",
    "resident memory, MiB": 'process_resident_memory_bytes{job="prometheus"} / 2^20',
    "CPU, cores": 'rate(process_cpu_seconds_total{job="prometheus"}[1m])',
    "scrape, median, ms": 'quantile(0.5, scrape_duration_seconds{job="qemu-migration"}) * 1e3',
    "scrape, 99th percentile, ms": 'quantile(0.99, scrape_duration_seconds{job="qemu-migration"}) * 1e3',
    "rules, stalls, ms": 'prometheus_rule_group_last_duration_seconds{rule_group=~".*stalls"} * 1e3',
    "rules, others, ms": 'sum(prometheus_rule_group_last_duration_seconds{rule_group!~".*stalls"}) * 1e3',
    "alerts firing": 'count(ALERTS{alertstate="firing"})',
}


def _kind(number: int) -> str:
    """Return the kind of a host: 1 % of 30 virtual machines migrate, a tenth of these is stuck; ended ones are remembered."""
    if number % 100 < 3:
        return "stuck"
    return "migrating" if number % 10 < 3 else "ended" if number % 10 < 7 else "idle"


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.capacity", description=__doc__)
    parser.add_argument("--hosts", type=int, default=1_000)
    parser.add_argument("--seconds", type=int, default=120, help="how long Prometheus scrapes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        texts = _expositions(directory)
        sizes = {kind: {"series": series_of(text), "bytes": len(text)} for kind, text in texts.items()}
        print(json.dumps(sizes))  # noqa: T201 - for the person who runs it
        kinds = [_kind(number) for number in range(options.hosts)]
        with _hosts(texts, kinds) as address, _prometheus(directory, address, options.hosts) as prometheus:
            wait_for(lambda: bool(prometheus.ask("query", query="up")), 60, "Prometheus scrapes")
            time.sleep(options.seconds)
            for what, query in _QUESTIONS.items():
                value = prometheus.value(query)
                print(f"{what:30} {value or 0:12.1f}")  # noqa: T201


if __name__ == "__main__":
    _main()
