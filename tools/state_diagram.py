"""Draw the states of QEMU's migrations from the transition table: `python -m tools.state_diagram`.

The diagram is a block of Mermaid in docs/how-it-works.md, between two comments.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

from qemu_migration_exporter.core.migration.states import STATES

DOCUMENT: Final = Path(__file__).parents[1] / "docs" / "how-it-works.md"

_BLOCK: Final = re.compile(r"(?<=<!-- states -->\n).*?(?=<!-- end of states -->)", re.DOTALL)

#: States that any running migration may change to. Their arrows would hide the others.
_ENDINGS: Final = frozenset({"cancelling", "failing", "failed"})


def diagram() -> str:
    """Return the diagram as a Mermaid block."""
    arrows = [
        f"    {_identifier(state)} --> {_identifier(successor)}"
        for state, facts in STATES.items()
        for successor in sorted(facts.successors)
        if successor not in _ENDINGS or state in _ENDINGS
    ]
    final = [f"    {_identifier(state)} --> [*]" for state, facts in STATES.items() if facts.result is not None]
    names = [f'    state "{state}" as {_identifier(state)}' for state in STATES if "-" in state]
    lines = ["stateDiagram-v2", *names, "    [*] --> none", *arrows, *final]
    return "\n".join(["```mermaid", *lines, "```", ""])


def document() -> str:
    """Return the document with the diagram of the present table."""
    return _BLOCK.sub(diagram(), DOCUMENT.read_text(encoding="utf-8"))


def _identifier(state: str) -> str:
    return state.replace("-", "_")


if __name__ == "__main__":
    DOCUMENT.write_text(document(), encoding="utf-8")
    sys.stdout.write(f"{DOCUMENT}\n")
