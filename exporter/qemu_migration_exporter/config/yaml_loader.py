"""YAML file → checked values of a model; all mistakes are found at once, each with its file, line and key.

The text is parsed twice: into values for pydantic, and into nodes that still have their lines. A mistake that
pydantic reports by its path is looked up among the nodes, so that the message can name file, line and key. Duplicate
keys, which YAML loaders accept, are found among the nodes too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from qemu_migration_exporter.config.errors import ConfigError

_Model = TypeVar("_Model", bound=BaseModel)
_Place = tuple[int | str, ...]


def read(path: str, model: type[_Model]) -> _Model:
    """Read and check a file; an empty file has every default.

    The model is given the file's `directory` as context, for the paths in it. A value refused by an error of the type
    `secret` is not quoted.

    Raises:
        ConfigError: The file cannot be read, is not YAML, or has mistakes; the error lists all of them.
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
    except RecursionError as error:
        raise ConfigError([f"{path}: is nested too deeply"]) from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError([f"{path}: {' '.join(str(error).split())}"]) from error
    except (LookupError, AttributeError) as error:  # the loader's own, of a value that does not match its tag
        raise ConfigError([f"{path}: a value is not of the type that it is tagged with"]) from error
    lines = dict(_lines(root, (), set())) if root is not None else {}
    mistakes = [(line, f"{_dotted(place)}: duplicate key") for place, line in _duplicates(root, (), set())]
    checked: _Model | None = None
    try:
        checked = model.model_validate({} if value is None else value, context={"directory": Path(path).parent})
    except ValidationError as error:
        mistakes += [_mistake(lines, model, found) for found in error.errors()]
    if mistakes or checked is None:
        raise ConfigError([f"{path}:{line}: {mistake}" for line, mistake in sorted(mistakes)])
    return checked


_UNKNOWN_KEY: Final = "unknown key"

#: Replacements of pydantic's messages about Python's types.
_PLAINLY: Final = {
    "extra_forbidden": _UNKNOWN_KEY,
    "model_type": "expected keys with values",
    "dict_type": "expected keys with values",
    "list_type": "expected a list",
    "string_type": "expected a text",
    "bool_type": "expected true or false",
    "missing": "the key is missing",
    "string_pattern_mismatch": "expected a name of letters, digits and _",
}


def _mistake(lines: Mapping[_Place, int], model: type[BaseModel], error: Mapping[str, Any]) -> tuple[int, str]:
    # A mapping's key that is not a text is placed at `[key]`.
    place: _Place = tuple(step for step in error["loc"] if step != "[key]")
    problem = str(error["msg"]).removeprefix("Value error, ")
    known = next((place[:end] for end in range(len(place), -1, -1) if place[:end] in lines), ())
    problem = _PLAINLY.get(error["type"], problem[0].lower() + problem[1:])
    if problem == _UNKNOWN_KEY:
        return lines.get(place, 1), f"{_dotted(place)}: {problem}{_suggestion(model, place)}"
    given = error["input"]
    is_shown = isinstance(given, str | int | float | bool) and error["type"] != "secret"
    is_shown = is_shown and ", got " not in problem
    where = f"{_dotted(place)}: " if place else ""
    return lines.get(known, 1), f"{where}{problem}{f', got {given!r}' if is_shown else ''}"


def _suggestion(model: type[BaseModel], place: _Place) -> str:
    """Return a suggestion for an unknown key, as an addition to the message."""
    from difflib import get_close_matches  # noqa: PLC0415 - only a mistake needs it

    keys = _section(model, place[:-1]).model_fields
    close = get_close_matches(str(place[-1]), keys, n=1)
    return f", did you mean {close[0]}?" if close else ""


def _section(model: type[BaseModel], place: _Place) -> type[BaseModel]:
    """Return the model of the section at a place."""
    for step in place:
        if isinstance(step, str) and step in model.model_fields:
            annotation = model.model_fields[step].annotation
            found = [part for part in (annotation, *get_args(annotation)) if _is_model(part)]
            model = found[0] if found else model
    return model


def _is_model(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _dotted(place: _Place) -> str:
    return ".".join(map(str, place))


def _lines(node: yaml.Node, place: _Place, met: set[int]) -> Iterator[tuple[_Place, int]]:
    """Yield the line of each key and list item; an alias has the line of its anchor."""
    yield place, node.start_mark.line + 1
    for step, child, line in _children(node, met):
        yield from _lines(child, (*place, step), met)
        yield (*place, step), line


def _duplicates(node: yaml.Node | None, place: _Place, met: set[int]) -> Iterator[tuple[_Place, int]]:
    """Yield duplicate keys of a mapping, of which YAML's loader silently uses the last."""
    seen: set[int | str] = set()
    for step, child, line in _children(node, met):
        if step in seen:
            yield (*place, step), line
        seen.add(step)
        yield from _duplicates(child, (*place, step), met)


def _children(node: yaml.Node | None, met: set[int]) -> Iterator[tuple[int | str, yaml.Node, int]]:
    """Yield the children of a node once: aliases can make a million nodes of twenty lines, or a node its own child."""
    if id(node) in met:
        return
    met.add(id(node))
    if isinstance(node, yaml.MappingNode):
        for key, child in node.value:
            yield str(key.value), child, key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            yield index, child, child.start_mark.line + 1
