"""Table of numbers, compared with the records and views that have them."""

from __future__ import annotations

from dataclasses import fields

import pytest
from qemu_migration_exporter.core.model import Progress, Round, Stall, Sync, Verdict
from qemu_migration_exporter.present.numbers import NUMBERS, Number
from qemu_migration_exporter.present.view import MigrationView, RoundView, StallView, VerdictView

_RECORDS = {
    "migrate": (Progress, Verdict),
    "iterate": (Round,),
    "bitmap_sync": (Sync,),
    "stalled": (Stall,),
    "stall_cleared": (Stall,),
}
_VIEWS = {field.name for view in (MigrationView, RoundView, StallView, VerdictView) for field in fields(view)}


@pytest.mark.parametrize("number", NUMBERS.values(), ids=lambda number: number.name)
def test_number_has_one_name(number: Number) -> None:
    """In the records of the core, in spans, in metrics and in the report."""
    for span in number.spans:
        records = _RECORDS.get(span, ())
        name = "number" if (number.name, span) == ("round", "iterate") else number.name
        assert not records or any(hasattr(record, name) for record in records), span
    assert number.name in _VIEWS


@pytest.mark.parametrize(("name", "is_whole"), [("pending_bytes", True), ("throttle_ratio", False), ("round", True)])
def test_unit_gives_type(name: str, *, is_whole: bool) -> None:
    assert NUMBERS[name].is_whole == is_whole
