"""Scripts for bpftrace and SystemTap: their common parts, and the templates that they fill."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Final, NamedTuple

import qemu_migration_exporter
from qemu_migration_exporter.probes import binary, plan
from qemu_migration_exporter.probes.plan import Plan, Printed

_WIDTH: Final = 100


class Dialect(NamedTuple):
    """The parts in which the scripts differ.

    Attributes:
        tool: The tool's name, for the comment at the top.
        usage: How to run the script.
        point: Returns the probe's point for an event of this name.
        text: Returns the argument with an event's long text.
        print: Returns the statement that prints an event.
        values: Further values for the template.
    """

    tool: str
    template: str
    usage: str
    point: Callable[[Plan, str], str]
    text: Callable[[Printed], str]
    print: Callable[[Printed], str]
    is_postcopy: Callable[[Plan], str]
    values: Mapping[str, object]


def render(path: Path, dialect: Dialect) -> str:
    """Return a script that prints the migrations of every process of a QEMU binary.

    Raises:
        ProbeError: See `probes.binary.read_traced` and `probes.plan.make`.
    """
    from jinja2 import Environment, StrictUndefined  # noqa: PLC0415 - `attach` imports this package without rendering

    made = plan.make(binary.read_traced(path))
    source = resources.files(__package__).joinpath(dialect.template).read_text(encoding="utf-8")
    environment = Environment(  # noqa: S701 - a script is no HTML
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    return environment.from_string(source).render(
        plan=made,
        requests_event=plan.REQUESTS_EVENT,
        quiet_ns=plan.QUIET_NS,
        requests_ns=plan.REQUESTS_NS,
        header=header(made, tool=dialect.tool, usage=dialect.usage),
        maps=_maps(made),
        events=[_event(made, printed, dialect) for printed in made.printed],
        request=dialect.point(made, made.request) if made.request else None,
        is_postcopy=dialect.is_postcopy(made),
        **dialect.values,
    )


def _maps(made: Plan) -> list[str]:
    """Return the names of the maps that a script writes; a tool refuses a map that no statement writes."""
    maps: list[str] = []
    if made.sees_postcopy:
        maps += ["postcopy", *(f"last_{printed.name}" for printed in made.printed if printed.quiet)]
    if made.request:
        maps += ["requests", "told"]
    return maps


def _event(made: Plan, printed: Printed, dialect: Dialect) -> dict[str, Any]:
    return {
        "name": printed.name,
        "point": dialect.point(made, printed.name),
        "is_state": printed.name == plan.STATE_EVENT,
        "quiet": printed.quiet and made.sees_postcopy,
        "ends": printed.ends,
        "long_text": dialect.text(printed) if printed.long_text else None,
        "print": dialect.print(printed),
    }


def header(made: Plan, *, tool: str, usage: str) -> str:
    """Return the comment at the top of a script, each line beginning with `//`."""
    traced = made.binary
    paragraphs = [
        f"QEMU live migrations as lines for qemu-migration-exporter {qemu_migration_exporter.__version__}; for {tool}.",
        (
            f"Made for {traced.path}, build id {traced.build_id or 'unknown'}. "
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
