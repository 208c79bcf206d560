"""Additions to the vocabulary of trace events."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Annotated, Final

from pydantic import Field, field_validator, model_validator

from qemu_migration_exporter.config.section import Section
from qemu_migration_exporter.core.events import Event
from qemu_migration_exporter.core.parsing.conversions import CONVERSIONS
from qemu_migration_exporter.core.parsing.trace_events import LAYOUTS, EventLayout, meanings
from qemu_migration_exporter.core.parsing.vocabulary import field_names
from qemu_migration_exporter.core.terms import Signal

_MEANINGS: Final = meanings()

_EVENT_NAME: Final = r"^[A-Za-z_][A-Za-z0-9_]*$"


class EventConfig(Section):
    """An event that the vocabulary lacks, or has in another layout.

    Attributes:
        name: The event's name in the stream.
        like: An event of the vocabulary whose layouts and meaning it has.
        format: Its arguments as QEMU's trace-events files write them: %u, %d, %x, %s, %w (a word) and %g.
        meaning: One of `qemu_migration_exporter.core.parsing.trace_events.meanings`.
        fields: A field of the meaning for each conversion of the format, "_" for an unused conversion.
    """

    name: Annotated[str, Field(pattern=_EVENT_NAME)]
    like: str | None = None
    format: str = ""
    meaning: str | None = None
    fields: str = ""

    @field_validator("like")
    @classmethod
    def _validate_like(cls, like: str | None) -> str | None:
        if like is not None and like not in {layout.name for layout in LAYOUTS}:
            raise ValueError("no event of the vocabulary has this name")
        return like

    @field_validator("meaning")
    @classmethod
    def _validate_meaning(cls, meaning: str | None) -> str | None:
        if meaning is not None and meaning not in _MEANINGS:
            raise ValueError(f"expected one of {', '.join(sorted(_MEANINGS))}")
        return meaning

    @model_validator(mode="after")
    def _validate_layout(self) -> EventConfig:
        if (self.like is None) == (self.meaning is None):
            raise ValueError("expected either like or meaning")
        if self.meaning is not None:
            self._validate_fields(_MEANINGS[self.meaning])
        return self

    def _validate_fields(self, meaning: Signal | Callable[..., Event]) -> None:
        conversions = re.findall(r"%([^%])", self.format.replace("%%", ""))
        unknown = [conversion for conversion in conversions if conversion not in CONVERSIONS]
        if unknown:
            raise ValueError(f"format: expected conversions of %{', %'.join(sorted(CONVERSIONS))}, got %{unknown[0]}")
        fields = self.fields.split()
        if len(fields) != len(conversions):
            raise ValueError(f"expected a field for each of {len(conversions)} conversions, got {len(fields)}")
        known = () if isinstance(meaning, Signal) else field_names(meaning)
        strange = [field for field in fields if field != "_" and field not in known]
        if strange:
            raise ValueError(f"expected fields of {', '.join(known) or 'none'} or _, got {strange[0]}")

    def layouts(self) -> Iterator[EventLayout]:
        """Yield the layouts that this adds to the vocabulary."""
        if self.meaning is not None:
            yield EventLayout(self.name, "2.0..", self.format, _MEANINGS[self.meaning], self.fields)
        for layout in LAYOUTS:
            if layout.name == self.like:
                yield layout._replace(name=self.name)
