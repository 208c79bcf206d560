"""`run`: the configuration that a file and flags make together."""

from __future__ import annotations

from pathlib import Path

import pytest
from qemu_migration_exporter.cli import build_parser
from qemu_migration_exporter.cli.run import effective_config

DEFAULT = "/var/log/libvirt/qemu/*.log"


@pytest.mark.parametrize(
    ("text", "flags", "files"),
    [
        (None, [], [DEFAULT]),
        (None, ["--source=a.log"], ["a.log"]),
        ("{}", [], [DEFAULT]),
        ("{}", ["--source=a.log"], ["a.log"]),
        ("sources: []", [], []),
        ("sources: [{file: b.log}]", ["--source=a.log"], ["b.log", "a.log"]),
    ],
)
def test_no_source_means_default_source(tmp_path: Path, text: str | None, flags: list[str], files: list[str]) -> None:
    if text is not None:
        (tmp_path / "c.yml").write_text(text)
        flags = [f"--config.file={tmp_path}/c.yml", *flags]

    config = effective_config(build_parser().parse_args(["run", *flags]))

    assert [source.file for source in config.sources] == files


@pytest.mark.parametrize(
    ("environment", "flags", "state"),
    [
        ("", [], None),
        ("/var/lib/x", [], "/var/lib/x/state"),
        ("/var/lib/x:/var/lib/y", [], "/var/lib/x/state"),
        ("/var/lib/x", ["--state.file=s"], "s"),
    ],
)
def test_state_is_in_systemds_directory(
    monkeypatch: pytest.MonkeyPatch, environment: str, flags: list[str], state: str | None
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", environment)

    assert effective_config(build_parser().parse_args(["run", *flags])).state_file == state
