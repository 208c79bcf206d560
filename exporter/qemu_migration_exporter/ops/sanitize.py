"""Words that somebody else chose, such as the names of files, machines and devices: made fit to be written anywhere."""

from __future__ import annotations

import os


def readable(name: str) -> str:
    r"""Write a file's name that is no UTF-8, so that it can be a label or a line of JSON: its bytes as `\xff`."""
    return os.fsencode(name).decode(errors="backslashreplace")


def printable(words: str) -> str:
    """Escape what a terminal would act on, and what turns the direction of writing; the result is one line."""
    if words.isprintable():
        return words
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in words)
