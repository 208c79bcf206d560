"""Keys as terminals send them."""

from __future__ import annotations

import os

import pytest
from qemu_migration_exporter.watch.keys import Key, parse_keys, read_keys


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        (b"", []),
        (b"q", [Key.QUIT]),
        (b"\x1b[A\x1b[B", [Key.UP, Key.DOWN]),
        (b"\x1bOA\x1bOB", [Key.UP, Key.DOWN]),
        (b"kj \x1b[5~\x1b[6~", [Key.UP, Key.DOWN, Key.PAGE_DOWN, Key.PAGE_UP, Key.PAGE_DOWN]),
        (b"\r\x1b", [Key.ENTER, Key.BACK]),
        (b"xyz\xc3\xa9q", [Key.QUIT]),
    ],
)
def test_bytes_become_keys(data: bytes, keys: list[Key]) -> None:
    assert parse_keys(data) == keys


def test_end_of_input_quits() -> None:
    """As when the terminal goes away."""
    reading, writing = os.pipe()
    try:
        assert read_keys(reading, 0) == []
        os.write(writing, b"j")
        assert read_keys(reading, 1) == [Key.DOWN]
        os.close(writing)
        assert read_keys(reading, 1) == [Key.QUIT]
    finally:
        os.close(reading)
