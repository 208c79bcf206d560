"""The commands that would end the stall, or would have ended the last stall, as lines for a shell."""

from __future__ import annotations

from rich.text import Text

from qemu_migration_exporter.present.advice import Advice
from qemu_migration_exporter.present.text.layout import ACCENT, BOLD, DIM, INDENT, command
from qemu_migration_exporter.present.view import MigrationView


def advice_lines(view: MigrationView, width: int) -> list[Text]:
    """Return the block of advice; empty if there is none."""
    options = view.verdict.advice or view.verdict.past_advice
    if not options:
        return []
    title = "What would end it" if view.verdict.advice else "What would have ended it"
    return [Text.assemble(INDENT, (title, BOLD)), *(line for option in options for line in _option(option, width))]


def _option(option: Advice, width: int) -> list[Text]:
    deeper = INDENT * 2
    return [
        *command(option.virsh, INDENT, width, style=ACCENT, continuation=" \\"),
        *command(option.price, deeper, width),
        *command(f"QMP: {option.qmp}", deeper, width, style=DIM),
    ]
