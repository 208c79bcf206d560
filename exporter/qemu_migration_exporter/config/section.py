"""Base of every section of the configuration."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Section whose keys are all known and whose values have exactly the declared types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def changed_keys(old: Section, new: Section, prefix: str = "") -> list[str]:
    """Return the dotted keys in which two configurations of one schema differ."""
    keys: list[str] = []
    for name in type(old).model_fields:
        before, after = getattr(old, name), getattr(new, name)
        if isinstance(before, Section) and isinstance(after, Section):
            keys += changed_keys(before, after, f"{prefix}{name}.")
        elif before != after:
            keys.append(prefix + name)
    return keys
