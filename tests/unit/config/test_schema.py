"""Configuration file: valid contents, and the message for each mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from qemu_migration_exporter.cli import main
from qemu_migration_exporter.config.errors import ConfigError
from qemu_migration_exporter.config.schema import Config, dump, load

from tests.support.paths import ROOT

SHIPPED = ROOT / "config" / "exporter.yml"


def _load(tmp_path: Path, text: str | bytes) -> Config:
    path = tmp_path / "c.yml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load(str(path))


def test_shipped_file_has_every_default() -> None:
    """The documentation is complete, and the file changes nothing."""
    assert load(str(SHIPPED)) == Config()
    assert yaml.safe_load(SHIPPED.read_text()) == yaml.safe_load(dump(Config()))


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}", "page_size_bytes: 4096"])
def test_missing_key_has_default(tmp_path: Path, text: str) -> None:
    """An empty file is the program without one."""
    assert _load(tmp_path, text) == Config()


def test_added_events_are_tried_first(tmp_path: Path) -> None:
    """A vendor's layout of a known name wins over QEMU's."""
    config = _load(
        tmp_path,
        "events:\n"
        "  - {name: migrate_pending, format: 'p %u %u %x', meaning: pending, fields: size threshold _}\n"
        "  - {name: vendor_loop, meaning: after_loop}\n"
        "  - {name: vendor_transferred, like: migrate_transferred}\n",
    )

    rows = config.rows()
    assert (rows[0].name, rows[0].format, rows[1].name) == ("migrate_pending", "p %u %u %x", "vendor_loop")
    assert {row.fields for row in rows if row.name == "vendor_transferred"} == {
        row.fields for row in rows if row.name == "migrate_transferred"
    }


@pytest.mark.parametrize(
    ("text", "mistakes"),
    [
        ("page_size: 4096", ["1: page_size: unknown key, did you mean page_size_bytes?"]),
        ("\npage_size_bytes: many", ["2: page_size_bytes: input should be a valid integer, got 'many'"]),
        ("page_size_bytes: 512", ["1: page_size_bytes: input should be greater than or equal to 1024, got 512"]),
        ("page_size_bytes: 5000", ["1: page_size_bytes: expected a power of two, got 5000"]),
        ("page_size_bytes: 4096\npage_size_bytes: 8192", ["2: page_size_bytes: duplicate key"]),
        ("events: all", ["1: events: expected a list, got 'all'"]),
        ("- 1", ["1: expected keys with values"]),
        ("events:\n  - name: 7x\n    like: migrate_pending",
         ["2: events.0.name: expected a name of letters, digits and _, got '7x'"]),
        ("events:\n  - {name: x, like: nothing}", ["2: events.0.like: no event of the vocabulary has this name, got 'nothing'"]),
        ("events:\n  - {name: x}", ["2: events.0: expected either like or meaning"]),
        ("events:\n  - {name: x, like: migrate_pending, meaning: pending}", ["2: events.0: expected either like or meaning"]),
        ("events:\n  - {name: x, meaning: pending, format: '%q', fields: size}",
         ["2: events.0: format: expected conversions of %d, %g, %s, %u, %w, %x, got %q"]),
        ("events:\n  - {name: x, meaning: pending, format: '%u %u', fields: size}",
         ["2: events.0: expected a field for each of 2 conversions, got 1"]),
        ("events:\n  - {name: x, meaning: pending, format: '%u', fields: weight}",
         ["2: events.0: expected fields of size, threshold, postcopy or _, got weight"]),
        ("events:\n  - {name: x, meaning: header, format: '%u', fields: size}",
         ["2: events.0: expected fields of none or _, got size"]),
        ("web: {listen_address: here}", ["1: web.listen_address: expected HOST:PORT such as 127.0.0.1:9871, got 'here'"]),
        ("web: {trace_url: nowhere}", ["1: web.trace_url: expected a URL such as https://jaeger.example/trace/{trace_id}, got 'nowhere'"]),
        ("sources:\n  - {file: a, fifo: b}", ["2: sources.0: expected exactly one of file, fifo, socket, stdin and command"]),
        ("sources:\n  - {file: a, format: xml}", ["2: sources.0.format: expected one of lttng, probe, qemu-log, qemu-log-bare, simpletrace, systemtap, systemtap-log, got 'xml'"]),
        ("metrics: {retention: soon}", ["1: metrics.retention: expected a duration such as 90s, 15m or 2h, got 'soon'"]),
        ("metrics: {retention: 15}", ["1: metrics.retention: expected a duration with a unit such as 15s, got 15"]),
        ("verdict: {window: 40}", ["1: verdict.window: expected a duration with a unit such as 40s, got 40"]),
        ("verdict: {window: true}", ["1: verdict.window: expected a text, got True"]),
        ("verdict: {horizon: 0m}", ["1: verdict.horizon: expected a duration greater than 0, got '0m'"]),
        ("state-file: x", ["1: state-file: unknown key, did you mean state_file?"]),
        ("web: {listen_adress: ':1'}", ["1: web.listen_adress: unknown key, did you mean listen_address?"]),
        ("sources:\n  - {files: a}", ["2: sources.0.files: unknown key, did you mean file?"]),
        ("web: {retention: 15m}", ["1: web.retention: unknown key"]),
        ("a: [", ["1: expected the node content, but found '<stream end>'"]),
        ("a: b: c", ["1: mapping values are not allowed here"]),
        ("a: 2026-99-99", [": month must be in 1..12"]),
        (b"\xff\xfe", [": is not UTF-8 text"]),
        ("colour: red\npage_size_bytes: 1\nsize: 2",
         ["1: colour: unknown key", "2: page_size_bytes: input should be greater than or equal to 1024, got 1", "3: size: unknown key"]),
    ],
)  # fmt: skip
def test_every_mistake_has_its_place(tmp_path: Path, text: str | bytes, mistakes: list[str]) -> None:
    """All at once: file, line, key, expected and found value."""
    with pytest.raises(ConfigError) as raised:
        _load(tmp_path, text)

    path = f"{tmp_path}/c.yml:"
    assert [mistake.removeprefix(path) for mistake in raised.value.mistakes] == [m.removeprefix(":") for m in mistakes]


def test_wrong_meaning_lists_valid_ones(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"events\.0\.meaning: expected one of after_loop, all_saved, .*, got 'pendingg'"
    ):
        _load(tmp_path, "events:\n  - {name: x, meaning: pendingg}")


def test_check_prints_effective_config(capsys: pytest.CaptureFixture[str]) -> None:
    """Defaults included."""
    assert main(["check", str(SHIPPED)]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == yaml.safe_load(dump(Config()))


def test_check_fails_with_every_mistake(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """On standard error, with status 1."""
    assert main(["check", str(tmp_path / "missing.yml")]) == 1
    assert capsys.readouterr().err == f"{tmp_path}/missing.yml: No such file or directory\n"
