"""The formats of a replay's report, by their names on the command line.

A format is one function that writes a `Report`. The function imports its own renderer, because a replay uses only one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from qemu_migration_exporter.present.view import Report


def _write_text(report: Report, out: TextIO) -> None:
    from rich.console import Console  # noqa: PLC0415 - see the module

    from qemu_migration_exporter.present.text.report import print_report  # noqa: PLC0415

    print_report(report, Console(file=out, highlight=False))


def _write_json(report: Report, out: TextIO) -> None:
    from qemu_migration_exporter.present.document import report_document  # noqa: PLC0415 - see the module

    json.dump(report_document(report), out, indent=2, ensure_ascii=False)
    out.write("\n")


def _write_html(report: Report, out: TextIO) -> None:
    from datetime import UTC, datetime  # noqa: PLC0415 - see the module

    from qemu_migration_exporter.present.html.report import html_report  # noqa: PLC0415

    out.write(html_report(report, datetime.now(UTC)))


REPORTS: Final[Mapping[str, Callable[[Report, TextIO], None]]] = {
    "text": _write_text,
    "json": _write_json,
    "html": _write_html,
    "none": lambda _report, _out: None,
}
