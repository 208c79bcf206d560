"""The configuration file: what it may say, and what each mistake in it is answered with."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from qemu_migration_exporter.cli import main
from qemu_migration_exporter.config.schema import Config, dump, load
from qemu_migration_exporter.config.yaml_loader import ConfigError

from tests.support.paths import ROOT

SHIPPED = ROOT / "config" / "exporter.yml"


def _load(tmp_path: Path, text: str | bytes) -> Config:
    path = tmp_path / "c.yml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load(str(path))


def test_the_shipped_file_shows_every_key_with_its_default() -> None:
    """What is documented is what there is, and the file changes nothing."""
    assert load(str(SHIPPED)) == Config()
    assert yaml.safe_load(SHIPPED.read_text()) == yaml.safe_load(dump(Config()))


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}", "page_size_bytes: 4096"])
def test_what_is_left_out_has_its_default(tmp_path: Path, text: str) -> None:
    """An empty file is the program without one."""
    assert _load(tmp_path, text) == Config()


def test_additions_to_the_vocabulary_are_tried_first(tmp_path: Path) -> None:
    """A vendor's layout of a known name wins over QEMU's."""
    config = _load(
        tmp_path,
        "marks:\n"
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
        ("page_size: 4096", ["1: page_size: unknown key"]),
        ("\npage_size_bytes: many", ["2: page_size_bytes: input should be a valid integer, got 'many'"]),
        ("page_size_bytes: 512", ["1: page_size_bytes: input should be greater than or equal to 1024, got 512"]),
        ("page_size_bytes: 5000", ["1: page_size_bytes: expected a power of two, got 5000"]),
        ("page_size_bytes: 4096\npage_size_bytes: 8192", ["2: page_size_bytes: the key stands here twice"]),
        ("marks: all", ["1: marks: expected a list, got 'all'"]),
        ("- 1", ["1: expected keys with values"]),
        ("marks:\n  - name: 7x\n    like: migrate_pending",
         ["2: marks.0.name: expected a name of letters, digits and _, got '7x'"]),
        ("marks:\n  - {name: x, like: nothing}", ["2: marks.0.like: no event of the vocabulary has this name, got 'nothing'"]),
        ("marks:\n  - {name: x}", ["2: marks.0: expected either like or meaning"]),
        ("marks:\n  - {name: x, like: migrate_pending, meaning: pending}", ["2: marks.0: expected either like or meaning"]),
        ("marks:\n  - {name: x, meaning: pending, format: '%q', fields: size}",
         ["2: marks.0: format: expected conversions of %d, %g, %s, %u, %w, %x, got %q"]),
        ("marks:\n  - {name: x, meaning: pending, format: '%u %u', fields: size}",
         ["2: marks.0: expected a field for each of 2 conversions, got 1"]),
        ("marks:\n  - {name: x, meaning: pending, format: '%u', fields: weight}",
         ["2: marks.0: expected fields of size, threshold, postcopy or _, got weight"]),
        ("marks:\n  - {name: x, meaning: header, format: '%u', fields: size}",
         ["2: marks.0: expected fields of none or _, got size"]),
        ("web: {listen_address: here}", ["1: web.listen_address: expected HOST:PORT such as 127.0.0.1:9871, got 'here'"]),
        ("web: {trace_url: nowhere}", ["1: web.trace_url: expected a URL such as https://jaeger.example/trace/{trace_id}, got 'nowhere'"]),
        ("sources:\n  - {file: a, fifo: b}", ["2: sources.0: expected exactly one of file, fifo, socket, stdin and command"]),
        ("sources:\n  - {file: a, format: xml}", ["2: sources.0.format: expected one of lttng, probe, qemu-log, qemu-log-bare, simpletrace, systemtap, systemtap-log, got 'xml'"]),
        ("metrics: {retention: soon}", ["1: metrics.retention: expected a duration such as 90s, 15m or 2h, got 'soon'"]),
        ("a: [", ["1: expected the node content, but found '<stream end>'"]),
        ("a: b: c", ["1: mapping values are not allowed here"]),
        ("a: 2026-99-99", [": month must be in 1..12"]),
        (b"\xff\xfe", [": is not UTF-8 text"]),
        ("colour: red\npage_size_bytes: 1\nsize: 2",
         ["1: colour: unknown key", "2: page_size_bytes: input should be greater than or equal to 1024, got 1", "3: size: unknown key"]),
    ],
)  # fmt: skip
def test_every_mistake_is_named_with_its_place(tmp_path: Path, text: str | bytes, mistakes: list[str]) -> None:
    """All at once: file, line, key, what was expected, what was there."""
    with pytest.raises(ConfigError) as raised:
        _load(tmp_path, text)

    path = f"{tmp_path}/c.yml:"
    assert [mistake.removeprefix(path) for mistake in raised.value.mistakes] == [m.removeprefix(":") for m in mistakes]


def test_a_wrong_meaning_is_answered_with_the_right_ones(tmp_path: Path) -> None:
    """Nobody has to look them up."""
    with pytest.raises(ConfigError, match=r"marks\.0\.meaning: expected one of after_loop, cancel, .*, got 'pendingg'"):
        _load(tmp_path, "marks:\n  - {name: x, meaning: pendingg}")


def test_check_prints_the_configuration_in_force(capsys: pytest.CaptureFixture[str]) -> None:
    """Defaults included."""
    assert main(["check", str(SHIPPED)]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == yaml.safe_load(dump(Config()))


def test_check_fails_with_every_mistake(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """On standard error, with status 1."""
    assert main(["check", str(tmp_path / "missing.yml")]) == 1
    assert capsys.readouterr().err == f"{tmp_path}/missing.yml: No such file or directory\n"
