"""Table of span attributes, compared with the spans of every recording."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from qemu_migration_exporter.tracing import attribute_table

from tests.support.paths import ROOT
from tests.support.recordings import RECORDINGS, Recording, run
from tools import attributes_reference

DOCUMENT = ROOT / "docs" / "attributes.md"
_TYPES = {"string": "stringValue", "boolean": "boolValue", "int": "intValue", "double": "doubleValue"}


def _carried(recording: Recording) -> Iterator[tuple[str, str, str]]:
    """Yield the attributes of all spans and links: the span's name, the attribute's name, its type."""
    for span in run([recording.data], vm=recording.name).all_spans:
        name = span["name"].partition(" ")[0]
        places: list[tuple[str, list[dict[str, Any]]]] = [(name, span.get("attributes", []))]
        places += [(f"links of {name}", link["attributes"]) for link in span.get("links", [])]
        for place, pairs in places:
            for pair in pairs:
                yield place, pair["key"], next(iter(pair["value"]))


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda recording: recording.name)
def test_spans_have_table_attributes(recording: Recording) -> None:
    table = {each.name: each for each in attribute_table.TABLE}
    for place, name, kind in _carried(recording):
        row = table[name]
        assert (row.spans == ("all",)) or place in row.spans, f"{name} on {place}"
        assert kind == _TYPES[row.type], name


def test_reference_is_up_to_date() -> None:
    """`make reference` writes it."""
    assert attributes_reference.text() == DOCUMENT.read_text(encoding="utf-8")


def test_names_follow_opentelemetry_rules() -> None:
    """Unique, lower case, no name the namespace of another, and the unit in the name."""
    names = [each.name for each in attribute_table.TABLE]

    assert len(set(names)) == len(names)
    assert not {name for name in names for other in names if other.startswith(f"{name}.")}
    for each in attribute_table.TABLE:
        assert each.name.replace(".", "").replace("_", "").isalpha()
        assert each.name.islower()
        suffix = {"s": "_seconds", "By": "_bytes", "By/s": "_bytes_per_second"}.get(each.unit, "")
        assert each.name.endswith(suffix)
