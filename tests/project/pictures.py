"""Make the pictures of the README, by `make pictures`: a browser looks at the demo and at a Prometheus that scraped it.

Needs Chromium (Debian: chromium) and Prometheus. Look at what comes out before committing it.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from tests.support.demo import migrating
from tests.support.paths import ROOT
from tests.support.prometheus import scraping
from tests.support.qemu import wait_for
from tests.support.receiver import Receiver, receiving

_PICTURES: Final = ROOT / "deploy" / "pictures"
_FLAGS: Final = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars",
)  # fmt: skip

#: Of config/rules/recording.yml: how many times the downtime limit it would take to stop the guest now.
_RATIO: Final = "vm:qemu_migration_required_downtime_per_limit:ratio"


def _photograph(url: str, name: str, size: str, *, seconds: int) -> None:
    """Photograph a page in a browser after a delay."""
    picture = _PICTURES / f"{name}.png"
    subprocess.run(
        ["chromium", *_FLAGS, f"--window-size={size}", f"--timeout={seconds}000", f"--screenshot={picture}", url],
        capture_output=True,
        check=True,
        timeout=60,
    )


def _main() -> None:
    with (
        tempfile.TemporaryDirectory() as name,
        receiving(Receiver()) as receiver,
        migrating(Path(name), receiver.url) as daemon,
        scraping(Path(name), daemon.url.removeprefix("http://")) as prometheus,
    ):
        ended = 'qemu_migrations_finished_total{kind="live",result="completed",side="source"}'
        wait_for(lambda: (prometheus.value(ended) or 0) >= 5, 180, "some migrations completed")
        wait_for(lambda: daemon.metric("qemu_migration_stalled", vm="web-42") == 1, 60, "web-42 is stalled")
        _photograph(daemon.url, "landing-page", "1000,760", seconds=3)
        graph = {"g0.expr": _RATIO, "g0.tab": "0", "g0.range_input": "3m", "g0.step_input": "1"}
        _photograph(f"{prometheus.url}/graph?{urlencode(graph)}", "prometheus", "1000,830", seconds=10)


if __name__ == "__main__":
    _main()
