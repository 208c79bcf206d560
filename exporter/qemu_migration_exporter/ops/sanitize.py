"""Names from outside (files, machines, devices), made safe to write anywhere."""

from __future__ import annotations

import os


def readable(name: str) -> str:
    r"""Decode a file's name for labels and JSON; bytes that are no UTF-8 become `\xff`."""
    return os.fsencode(name).decode(errors="backslashreplace")


def printable(text: str) -> str:
    """Escape characters that a terminal acts on or that turn the direction of writing; the result is one line."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)
