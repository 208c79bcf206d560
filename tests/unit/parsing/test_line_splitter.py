"""Tests of `core.parsing.line_splitter`."""

from __future__ import annotations

import pytest
from qemu_migration_exporter.core.parsing.line_splitter import MAX_LINE_BYTES, LineSplitter


def feed(splitter: LineSplitter, chunk: bytes) -> list[bytes]:
    """Return all lines that a chunk completes."""
    lines, block = splitter.take(chunk)
    return [*lines, *splitter.split(block)]


def split(*chunks: bytes, limit: int = MAX_LINE_BYTES) -> list[bytes]:
    """Split a whole stream."""
    splitter = LineSplitter(limit)
    lines = [line for chunk in chunks for line in feed(splitter, chunk)]
    return lines + splitter.close()


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([], []),
        ([b""], []),
        ([b"one\ntwo\n"], [b"one", b"two"]),
        ([b"on", b"e\nt", b"wo\n"], [b"one", b"two"]),
        ([b"one", b"\n", b"two\n"], [b"one", b"two"]),
        ([b"\n\n"], [b"", b""]),
        ([b"one\r\ntwo\r\n"], [b"one", b"two"]),
        ([b"one\r", b"\ntwo"], [b"one", b"two"]),
        ([b"one\rtwo\n"], [b"one\rtwo"]),
        ([b"\xff\x00\xfe\n"], [b"\xff\x00\xfe"]),
    ],
)
def test_lines_do_not_depend_on_chunks(chunks: list[bytes], expected: list[bytes]) -> None:
    """A newline ends a line, a carriage return before it is dropped, and other bytes belong to the line."""
    assert expected == split(*chunks)


def test_torn_last_line_waits_for_newline() -> None:
    splitter = LineSplitter()
    assert [b"whole"] == feed(splitter, b"whole\nmigrate_set_state new sta")
    assert [] == feed(splitter, b"te set")
    assert [b"migrate_set_state new state setup"] == feed(splitter, b"up\n")
    assert [] == splitter.close()


def test_close_ends_last_line_once() -> None:
    splitter = LineSplitter()
    feed(splitter, b"one\ntwo")
    assert [b"two"] == splitter.close()
    assert [] == splitter.close()


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([b"12345678\n"], [b"12345678"]),
        ([b"123456789\nnext\n"], [b"12345678", b"next"]),
        ([b"12345678\r\n"], [b"12345678"]),
        ([b"1234", b"5678", b"9abc", b"def\nnext\n"], [b"12345678", b"next"]),
        ([b"123456789"], [b"12345678"]),
    ],
)
def test_overlong_line_is_cut(chunks: list[bytes], expected: list[bytes]) -> None:
    """Its beginning keeps its kind; the line after it is whole."""
    assert expected == split(*chunks, limit=8)


def test_no_newline_has_bounded_memory() -> None:
    splitter = LineSplitter(8)
    for _ in range(1_000):
        assert [] == feed(splitter, b"x" * 1_000)
    assert [b"x" * 8] == splitter.close()
