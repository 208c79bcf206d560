"""Escaping of untrusted names: of files, machines and devices."""

from __future__ import annotations

import os


def decode_filename(name: str) -> str:
    r"""Decode a file's name for labels and JSON; bytes that are not UTF-8 become `\xff`."""
    return os.fsencode(name).decode(errors="backslashreplace")


def escape_control(text: str) -> str:
    """Escape control characters and characters that change the direction of text; the result is one line."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)
