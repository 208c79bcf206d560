"""Draw dashboards and traces with their own frontends: `make renders GRAFANA=/path/to/public JAEGER=/path/to/build`.

    scenes ─logs─> a daemon for each host <─scrape─ Prometheus <─ grafana_backend <─ Chromium ─> pictures
                            └───────────spans─────────> jaeger_backend <──────┘

`public` is the folder of that name in a built Grafana 12, `build` that of Jaeger's UI with its `index.html`; nothing of
either is kept here, and without a path its pictures are left out. Needs Chromium and Prometheus. The scenes play for
some minutes first. Look at what comes out.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Final
from urllib.parse import urlencode

import yaml

from tests.renders.grafana_backend import Backend, serving_grafana
from tests.renders.jaeger_backend import JaegerBackend, serving_jaeger
from tests.renders.scenes import SCENES, Player, Scene
from tests.support.daemon import running
from tests.support.paths import ROOT
from tests.support.prometheus import CONFIG, free_address

_FLAGS: Final = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--force-color-profile=srgb",
)  # fmt: skip
_SCRAPE_SECONDS: Final = 2
_HEIGHTS: Final = {"qemu-migration-fleet": 3_100, "qemu-migration-one": 1_950, "qemu-migration-exporter": 2_050}
#: So that Jaeger's lists name the virtual machines.
_SERVICE_PER_VM: Final = "spans: {vm_services: true}\n"


@dataclass(frozen=True, slots=True)
class Picture:
    """One dashboard of one scene, at one width, in one theme."""

    scene: str
    dashboard: str
    width: int
    theme: str
    host: str = ""
    vm: str = ""

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        vm = f"-{self.vm}" if self.vm else ""
        return f"{self.scene}-{self.dashboard.removeprefix('qemu-migration-')}{vm}-{self.width}-{self.theme}"

    def url(self, server: str, minutes: int) -> str:
        """Return the address of the dashboard with the scene's job chosen."""
        chosen = {
            "var-job": self.scene,
            **({"var-instance": f"{self.host}:9871", "var-vm": self.vm} if self.vm else {}),
        }
        times = {"from": f"now-{minutes}m", "to": "now", "theme": self.theme, "orgId": "1", "kiosk": "1"}
        return f"{server}/d/{self.dashboard}/x?{urlencode({**chosen, **times})}"


def _of_grafana() -> Iterator[Picture]:
    """Yield every picture of a dashboard."""
    for scene in SCENES:
        for width, theme in ((1_440, "light"), (1_440, "dark"), (1_920, "light"), (1_920, "dark")):
            yield Picture(scene.name, "qemu-migration-fleet", width, theme)
            yield Picture(scene.name, "qemu-migration-exporter", width, theme)
            for host, vm in scene.shown:
                yield Picture(scene.name, "qemu-migration-one", width, theme, host, vm)


def _of_jaeger(backend: JaegerBackend, server: str) -> Iterator[tuple[str, str]]:
    """Yield the name and the address of every picture of Jaeger's UI."""
    now = time.time_ns() // 1_000
    times = {"lookback": "custom", "start": now - 3_600_000_000, "end": now, "limit": 20}
    stuck, failed, finished = (backend.trace_of(vm) for vm in ("db-primary", "web-03", "web-42"))
    of_a_vm = json.dumps({"qemu.vm.name": "web-42"})
    yield "list", f"{server}/search?{urlencode({**times, 'service': 'qemu-migration'})}"
    yield "search", f"{server}/search?{urlencode({**times, 'service': 'qemu-migration', 'tags': of_a_vm})}"
    yield "stuck", f"{server}/trace/{stuck}"
    yield "round", f"{server}/trace/{stuck}?{urlencode({'uiFind': 'round=7'})}"
    yield "failed", f"{server}/trace/{failed}"
    yield "finished", f"{server}/trace/{finished}"


def _of_pages(address: str) -> Iterator[tuple[str, str, int]]:
    """Yield name, address and width of the pictures of an exporter's own pages, which need no frontend."""
    server = f"http://{address}"
    with urllib.request.urlopen(f"{server}/api/v1/migrations", timeout=10) as answer:
        migrations = json.loads(answer.read())["data"]["migrations"]
    stuck = next(migration["trace_id"] for migration in migrations if migration["vm"] == "db-primary")
    for width in (390, 1_000, 1_440):
        yield f"page-all-{width}", server, width
        yield f"page-one-{width}", f"{server}/migrations/{stuck}", width


@contextmanager
def _host(directory: Path, player: Player, scene: Scene, name: str, arguments: Sequence[str]) -> Iterator[str]:
    """Run the daemon of one host; yield its HOST:PORT."""
    logs = directory / scene.name / name
    logs.mkdir(parents=True)
    for vm, played in scene.hosts[name].items():
        player.add(logs / f"{vm}.log", played)
    with running(logs, f"--source={logs}/*.log", *arguments) as daemon:
        yield daemon.url.removeprefix("http://")


@contextmanager
def _prometheus(directory: Path, targets: dict[tuple[str, str], str]) -> Iterator[str]:
    """Run a Prometheus with the shipped rules, a job for each scene; yield its URL."""
    config = yaml.safe_load((CONFIG / "prometheus.yml").read_text())
    config["global"] = dict.fromkeys(config["global"], f"{_SCRAPE_SECONDS}s")
    config["rule_files"] = [str(CONFIG / name) for name in config["rule_files"]]
    del config["alerting"]
    jobs: dict[str, list[dict[str, object]]] = {}
    for (job, host), address in targets.items():
        jobs.setdefault(job, []).append({"targets": [address], "labels": {"instance": f"{host}:9871"}})
    config["scrape_configs"] = [{"job_name": job, "static_configs": hosts} for job, hosts in jobs.items()]
    path, address = directory / "prometheus.yml", free_address()
    path.write_text(yaml.safe_dump(config))
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            ["prometheus", f"--config.file={path}", f"--web.listen-address={address}",
             f"--storage.tsdb.path={directory}/tsdb", "--enable-feature=exemplar-storage"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(timeout=20)


@contextmanager
def _playing(player: Player) -> Iterator[None]:
    """Play in a thread of its own; drawing takes a while."""
    over = Event()

    def play() -> None:
        while not over.wait(0.1):
            player.step()

    player.began = time.time()
    thread = Thread(target=play)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def photograph(url: str, path: Path, width: int, height: int, *, seconds: int = 40) -> None:
    """Photograph a page with Chromium; the seconds are virtual ones that pass while no resource is loading."""
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            ["chromium", *_FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}",
             f"--virtual-time-budget={seconds}000", f"--screenshot={path}", url],
            capture_output=True, check=True, timeout=120,
        )  # fmt: skip


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.renders", description=__doc__)
    parser.add_argument("--grafana", type=Path, help="the folder public of a built Grafana 12")
    parser.add_argument("--jaeger", type=Path, help="the folder of Jaeger's built UI")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "renders", help="where the pictures go")
    parser.add_argument("--only", default="", help="draw the pictures whose name contains this")
    parser.add_argument("--minutes", type=int, default=6, help="how long the scenes play before")
    parser.add_argument("--keep", action="store_true", help="serve on until interrupted, draw nothing")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    # Its daemons end with it. A shell's job in the background ignores SIGINT.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))

    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        player, jaeger, traces, arguments = Player(), None, "", []
        if options.jaeger is not None:
            jaeger = JaegerBackend(options.jaeger)
            traces = stack.enter_context(serving_jaeger(jaeger))
            config = directory / "exporter.yml"
            config.write_text(_SERVICE_PER_VM)
            arguments = [f"--otlp.endpoint={traces}", f"--config.file={config}"]
        targets = {(scene.name, host): free_address() for scene in SCENES for host in scene.dead}
        for scene in SCENES:
            for host in scene.hosts:
                targets[scene.name, host] = stack.enter_context(_host(directory, player, scene, host, arguments))
        prometheus = stack.enter_context(_prometheus(directory, targets))
        stack.enter_context(_playing(player))
        print(f"Prometheus: {prometheus}, Jaeger's UI: {traces}/search", flush=True)  # noqa: T201
        if options.grafana is not None:
            server = stack.enter_context(serving_grafana(Backend(options.grafana, prometheus, _SCRAPE_SECONDS)))
            print(f"Grafana's frontend: {server}/d/qemu-migration-fleet", flush=True)  # noqa: T201
        time.sleep(86_400 if options.keep else options.minutes * 60)

        def draw(name: str, url: str, width: int, height: int) -> None:
            if options.only in name:
                photograph(url, options.out / f"{name}.png", width, height)
                print(options.out / f"{name}.png", file=sys.stderr)  # noqa: T201

        for name, url, width in _of_pages(targets["ten", "hv-11"]):
            draw(name, url, width, 1_600)
        for name, url in () if jaeger is None else _of_jaeger(jaeger, traces):
            draw(f"jaeger-{name}", url, 1_440, 900)
        for picture in () if options.grafana is None else _of_grafana():
            url = picture.url(server, 2 * options.minutes)
            draw(picture.name, url, picture.width, _HEIGHTS[picture.dashboard])


if __name__ == "__main__":
    _main()
