"""Output for terminals without Unicode."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import qemu_migration_exporter
from qemu_migration_exporter.ops.ascii_output import use_ascii
from rich.cells import cell_len


@pytest.mark.parametrize(
    ("encoding", "text", "expected"),
    [
        ("ascii", "▸ web-42 ▁▃▇ rounds 2\u20139 …", "> web-42 _-# rounds 2-9 ~"),
        ("ascii", "日本 é\udc80", "???? ??"),
        ("latin-1", "5 µs ─ é", "5 µs - é"),
        ("utf-8", "▸ 日本 …", "▸ 日本 …"),
    ],
)
def test_missing_characters_are_replaced(encoding: str, text: str, expected: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    use_ascii(stream)
    stream.write(text)
    stream.flush()

    assert stream.buffer.getvalue().decode(encoding) == expected


def test_every_printed_character_has_replacement() -> None:
    """The characters in the program's own texts, at their width."""
    folder = Path(qemu_migration_exporter.__file__).parent / "present"
    printed = {char for path in folder.rglob("*.py") for char in path.read_text(encoding="utf-8") if not char.isascii()}
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    use_ascii(stream)
    for char in sorted(printed):
        stream.write(char)
        stream.flush()
        shown = stream.buffer.getvalue().decode()
        assert "?" not in shown, char
        stream.buffer.seek(0)
        stream.buffer.truncate()
        assert len(shown) == cell_len(char)
