"""The demo of deploy/compose.yml on this machine: its daemon, in the places of this machine, without containers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.daemon import Daemon, running
from tests.support.paths import ROOT


@contextmanager
def migrating(directory: Path, otlp: str) -> Iterator[Daemon]:
    """Run the daemon with two virtual machines that migrate again and again; its spans go to a URL."""
    config = (ROOT / "deploy" / "demo" / "exporter.yml").read_text(encoding="utf-8")
    for there, here in {
        "[python,": f"[{sys.executable},",
        "- python\n": f"- {sys.executable}\n",
        "/demo/": f"{ROOT}/deploy/demo/",
        "/recordings/": f"{ROOT}/tests/data/",
        "http://jaeger:4318": otlp,
    }.items():
        assert there in config
        config = config.replace(there, here)
    (directory / "exporter.yml").write_text(config)
    with running(directory, f"--config.file={directory}/exporter.yml") as daemon:
        yield daemon
