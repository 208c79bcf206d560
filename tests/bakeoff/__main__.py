"""The tables of docs/convergence.md: `python -m tests.bakeoff`."""

from __future__ import annotations

from tests.bakeoff.scores import table

if __name__ == "__main__":
    print(table())  # noqa: T201
