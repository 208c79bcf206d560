"""Parts common to the scripts for bpftrace and SystemTap: the comment at their top, and their templates."""

from __future__ import annotations

import textwrap
from importlib import resources
from typing import Final

import qemu_migration_exporter
from qemu_migration_exporter.probes import plan
from qemu_migration_exporter.probes.plan import Plan

_WIDTH: Final = 100


def render(template: str, made: Plan, **values: object) -> str:
    """Return the script of a plan by a template of this package."""
    from jinja2 import Environment, StrictUndefined  # noqa: PLC0415 - `attach` imports this package without rendering

    source = resources.files(__package__).joinpath(template).read_text(encoding="utf-8")
    environment = Environment(  # noqa: S701 - a script is no HTML
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    return environment.from_string(source).render(
        plan=made,
        requests_event=plan.REQUESTS_EVENT,
        quiet_ns=plan.QUIET_NS,
        requests_ns=plan.REQUESTS_NS,
        **values,
    )


def header(made: Plan, *, tool: str, usage: str) -> str:
    """Return the comment at the top of a script, each line beginning with `//`."""
    binary = made.binary
    paragraphs = [
        f"QEMU live migrations as lines for qemu-migration-exporter {qemu_migration_exporter.__version__}; for {tool}.",
        (
            f"Made for {binary.path}, build id {binary.build_id or 'unknown'}. "
            f"Make it again when that file changes: probes are attached to the file, not to its name."
        ),
        usage,
        (
            "It prints `anchor NS TIME` once, then `PID/TID@NS EVENT ARGUMENTS`, arguments as QEMU's own log has them; "
            "0 and - are in the place of unused ones. Page requests of post-copy are counted, not printed."
        ),
        _list("This binary does not have: ", made.absent),
        _list("It passes other arguments than any known QEMU, so these are left out: ", made.unknown),
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
