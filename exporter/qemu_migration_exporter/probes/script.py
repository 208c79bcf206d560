"""What the scripts for bpftrace and SystemTap say alike: the comment at their top."""

from __future__ import annotations

import textwrap
from typing import Final

import qemu_migration_exporter
from qemu_migration_exporter.probes.plan import Plan

_WIDTH: Final = 100


def header(plan: Plan, *, tool: str, usage: str) -> str:
    """Write the comment at the top of a script, each line beginning with `//`."""
    binary = plan.binary
    paragraphs = [
        f"QEMU live migrations as lines for qemu-migration-exporter {qemu_migration_exporter.__version__}; for {tool}.",
        (
            f"Made for {binary.path}, build id {binary.build_id or 'unknown'}. "
            f"Make it anew when that file changes: probes are attached to the file, not to its name."
        ),
        usage,
        (
            "It prints `anchor NS TIME` once, then `PID/TID@NS EVENT ARGUMENTS`, arguments as QEMU's own log has them; "
            "0 and - stand for what nobody asks for. Page requests of post-copy are counted, not printed."
        ),
        _list("This binary does not have: ", plan.absent),
        _list("It passes other arguments than any known QEMU, so these are left out: ", plan.unknown),
    ]
    return "//\n".join(_comment(paragraph) for paragraph in paragraphs if paragraph)


def _list(title: str, names: tuple[str, ...]) -> str:
    return title + ", ".join(names) + "." if names else ""


def _comment(paragraph: str) -> str:
    lines = [
        wrapped
        for line in paragraph.splitlines()
        for wrapped in textwrap.wrap(
            line, _WIDTH, break_long_words=False, break_on_hyphens=False, subsequent_indent=line[: _indent(line)]
        )
    ]
    return "".join(f"// {line}\n" for line in lines)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
