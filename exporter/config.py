"""The configuration file: YAML → a checked `Config`. Every mistake is found at once, each with its place."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from exporter.core.decoder import CONVERSIONS, field_names
from exporter.core.events import Event, Mark
from exporter.core.machine import DEFAULT_PAGE_SIZE_BYTES
from exporter.core.vocabulary import ROWS, Row, meanings

_MEANINGS: Final = meanings()
_EVENT_NAME: Final = r"^[A-Za-z_][A-Za-z0-9_]*$"


class ConfigError(Exception):
    """A configuration that cannot be used.

    Attributes:
        mistakes: One line each: file, line, key, what was expected and what was there.
    """

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class MarkConfig(_Section):
    """An event the vocabulary does not know, or knows in another layout.

    Attributes:
        name: The event's name in the stream.
        like: An event of the vocabulary whose layouts and meaning it has.
        format: Its arguments as QEMU's trace-events files write them: %u, %d, %x, %s, %w (a word) and %g.
        meaning: What it says; see `exporter.core.vocabulary.meanings`.
        fields: A field of the meaning for each conversion of the format, "_" for what nobody asks for.
    """

    name: Annotated[str, Field(pattern=_EVENT_NAME)]
    like: str | None = None
    format: str = ""
    meaning: str | None = None
    fields: str = ""

    @field_validator("like")
    @classmethod
    def _is_known(cls, like: str | None) -> str | None:
        if like is not None and like not in {row.name for row in ROWS}:
            raise ValueError("no event of the vocabulary has this name")
        return like

    @field_validator("meaning")
    @classmethod
    def _is_meaning(cls, meaning: str | None) -> str | None:
        if meaning is not None and meaning not in _MEANINGS:
            raise ValueError(f"expected one of {', '.join(sorted(_MEANINGS))}")
        return meaning

    @model_validator(mode="after")
    def _makes_a_row(self) -> MarkConfig:
        if (self.like is None) == (self.meaning is None):
            raise ValueError("expected either like or meaning")
        if self.meaning is not None:
            self._check_layout(_MEANINGS[self.meaning])
        return self

    def _check_layout(self, meaning: Mark | Callable[..., Event]) -> None:
        conversions = re.findall(r"%([^%])", self.format.replace("%%", ""))
        unknown = [each for each in conversions if each not in CONVERSIONS]
        if unknown:
            raise ValueError(f"format: expected conversions of %{', %'.join(sorted(CONVERSIONS))}, got %{unknown[0]}")
        fields = self.fields.split()
        if len(fields) != len(conversions):
            raise ValueError(f"expected a field for each of {len(conversions)} conversions, got {len(fields)}")
        known = () if isinstance(meaning, Mark) else field_names(meaning)
        strange = [each for each in fields if each != "_" and each not in known]
        if strange:
            raise ValueError(f"expected fields of {', '.join(known) or 'none'} or _, got {strange[0]}")

    def rows(self) -> Iterator[Row]:
        """Make the rows of the vocabulary that this adds."""
        if self.meaning is not None:
            yield Row(self.name, "2.0..", self.format, _MEANINGS[self.meaning], self.fields)
        for row in ROWS:
            if row.name == self.like:
                yield row._replace(name=self.name)


class Config(_Section):
    """Everything that can be configured; the defaults are the program without a file.

    Attributes:
        page_size_bytes: TARGET_PAGE_SIZE of the guests; dirty pages are counted in it, and it is not in the stream.
        marks: Additions to the vocabulary.
    """

    page_size_bytes: Annotated[int, Field(ge=1024, le=1024 * 1024)] = DEFAULT_PAGE_SIZE_BYTES
    marks: tuple[MarkConfig, ...] = ()

    @field_validator("page_size_bytes")
    @classmethod
    def _is_power_of_two(cls, size: int) -> int:
        if size & (size - 1):
            raise ValueError("expected a power of two")
        return size

    @field_validator("marks", mode="before")
    @classmethod
    def _is_list(cls, marks: object) -> object:
        if not isinstance(marks, list | tuple):
            raise ValueError("expected a list")  # noqa: TRY004 - pydantic takes a ValueError for a mistake of the user's
        return tuple(marks)

    def rows(self) -> tuple[Row, ...]:
        """Give the vocabulary with what was added to it; additions are tried first."""
        return (*(row for mark in self.marks for row in mark.rows()), *ROWS)


def load(path: str) -> Config:
    """Read and check a configuration file.

    Raises:
        ConfigError: It cannot be read, is no YAML, or has mistakes; all of them are named.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise ConfigError([f"{path}: {reason}"]) from error
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        value = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError([f"{path}:{line}: {error.problem}"]) from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError([f"{path}: {error}"]) from error
    lines = dict(_lines(root, ())) if root is not None else {}
    mistakes = [(line, f"{_dotted(place)}: the key stands here twice") for place, line in _duplicates(root, ())]
    config = Config()
    try:
        config = Config.model_validate({} if value is None else value)
    except ValidationError as error:
        mistakes += [_mistake(lines, each) for each in error.errors()]
    if mistakes:
        raise ConfigError([f"{path}:{line}: {mistake}" for line, mistake in sorted(mistakes)])
    return config


def dump(config: Config) -> str:
    """Write the configuration in force, defaults included."""
    text: str = yaml.safe_dump(config.model_dump(mode="json", exclude_none=True), sort_keys=False)
    return text


#: Where pydantic's words are about Python.
_PLAINLY: Final = {
    "extra_forbidden": "unknown key",
    "model_type": "expected keys with values",
    "missing": "the key is missing",
    "string_pattern_mismatch": "expected a name of letters, digits and _",
}

_Place = tuple[int | str, ...]


def _mistake(lines: Mapping[_Place, int], error: Mapping[str, Any]) -> tuple[int, str]:
    place: _Place = tuple(error["loc"])
    known = next((place[:end] for end in range(len(place), -1, -1) if place[:end] in lines), ())
    problem = str(error["msg"]).removeprefix("Value error, ")
    problem = _PLAINLY.get(error["type"], problem[0].lower() + problem[1:])
    given = error["input"]
    shown = f", got {given!r}" if isinstance(given, str | int | float | bool) and problem != "unknown key" else ""
    where = f"{_dotted(place)}: " if place else ""
    return lines.get(known, 1), f"{where}{problem}{shown}"


def _dotted(place: _Place) -> str:
    return ".".join(map(str, place))


def _lines(node: yaml.Node, place: _Place) -> Iterator[tuple[_Place, int]]:
    """Say on which line each key and list item stands."""
    yield place, node.start_mark.line + 1
    for step, child, line in _children(node):
        yield from _lines(child, (*place, step))
        yield (*place, step), line


def _duplicates(node: yaml.Node | None, place: _Place) -> Iterator[tuple[_Place, int]]:
    """Find keys that stand in one mapping twice; YAML's loader silently takes the last."""
    seen: set[int | str] = set()
    for step, child, line in _children(node):
        if step in seen:
            yield (*place, step), line
        seen.add(step)
        yield from _duplicates(child, (*place, step))


def _children(node: yaml.Node | None) -> Iterator[tuple[int | str, yaml.Node, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, child in node.value:
            yield str(key.value), child, key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            yield index, child, child.start_mark.line + 1
