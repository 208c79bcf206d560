"""Arguments printed as `key=value` or `key:value`, and the event fields that their keys mean.

A key is looked up in this order:

1. the names that the configuration gives (`argument_names`),
2. QEMU's own argument names and frequent names of script authors (`_FIELDS`),
3. the words in the key, if exactly one field is described by them: `sent_bytes` is `transferred`, `elapsed_ms` is
   `time_spent`. A key that names another unit (`time_us`, `sent_kb`) is never understood this way.

The other keys are unknown. They are reported only if the event lacks a field that matters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from qemu_migration_exporter.core.parsing.conversions import read_text

_PENDING: Final[Mapping[str, str]] = {
    "size": "size", "pending_size": "size", "pending": "size", "pend": "size",
    "max": "threshold", "max_size": "threshold", "threshold": "threshold",
    "pre": "", "compat": "", "post": "", "nonpost": "",  # their meaning depends on the release
}  # fmt: skip

#: Event → key → field; "" for an argument without use.
_FIELDS: Final[Mapping[bytes, Mapping[str, str]]] = {
    b"migrate_set_state": {"new_state": "state", "state": "state"},
    b"runstate_set": {"new_state": "state", "current_state": "", "current_state_str": "", "new_state_str": "state"},
    b"migration_socket_outgoing_error": {"err": "text", "error": "text"},
    b"migration_tls_outgoing_handshake_error": {"err": "text"},
    b"migrate_pending": _PENDING,
    b"migrate_pending_estimate": _PENDING,
    b"migrate_pending_exact": _PENDING,
    b"migrate_transferred": {
        "tranferred": "transferred", "transferred": "transferred", "transferred_bytes": "transferred",
        "transterred_bytes": "transferred", "time_spent": "time_spent_ms", "bandwidth": "",
        "avail_bw": "switchover_bandwidth", "size": "threshold", "max_size": "threshold", "threshold": "threshold",
    },
    b"migration_bitmap_sync_end": {"dirty_pages": "dirty_pages", "dirty": "dirty_pages"},
    b"migration_thread_low_pending": {"pending": "pending", "pending_size": "pending"},
    b"savevm_section_start": {"id": "idstr", "idstr": "idstr", "section_id": "section_id"},
    b"savevm_section_end": {"id": "idstr", "idstr": "idstr", "section_id": "section_id", "ret": ""},
    b"vmstate_save": {"idstr": "idstr", "id": "idstr", "vmsd_name": "vmsd_name", "vmsd": "vmsd_name"},
    b"vmstate_downtime_save": {
        "type": "kind", "idstr": "idstr", "instance_id": "instance_id", "downtime": "downtime_us",
    },
    b"savevm_send_ping": {"val": "value", "value": "value"},
    b"cpu_throttle_set": {"new_throttle_pct": "percentage", "pct": "percentage"},
    b"migrate_fd_error": {"error_desc": "text", "error": "text"},
    b"migrate_error": {"error_desc": "text", "error": "text"},
}  # fmt: skip

#: Event → field → words that describe it in a key.
_PENDING_WORDS: Final = {
    "size": frozenset({"size", "pending", "pend", "remaining", "remain", "left", "bytes"}),
    "threshold": frozenset({"threshold", "max", "limit"}),
    "": frozenset({"pre", "precopy", "compat", "nonpost", "post", "postcopy", "pend", "pending"}),
}
_WORDS: Final[Mapping[bytes, Mapping[str, frozenset[str]]]] = {
    b"migrate_pending": _PENDING_WORDS,
    b"migrate_pending_estimate": _PENDING_WORDS,
    b"migrate_pending_exact": _PENDING_WORDS,
    b"migrate_transferred": {
        "transferred": frozenset({"transferred", "bytes", "sent", "xfer"}),
        "time_spent_ms": frozenset({"time", "spent", "elapsed", "duration", "ms", "msec"}),
        "": frozenset({"bandwidth", "bw", "rate", "speed"}),
        "threshold": frozenset({"threshold", "max", "limit"}),
    },
    b"migration_bitmap_sync_end": {"dirty_pages": frozenset({"dirty", "pages"})},
    b"migration_thread_low_pending": {"pending": frozenset({"pending", "pend", "size", "remaining", "bytes"})},
}
#: Words that qualify a field without another meaning.
_NEUTRAL: Final = frozenset({"size", "total", "bytes", "now", "cur", "current", "in", "the", "of", "is"})

#: Fields without which an event is useless.
_ESSENTIAL: Final[Mapping[bytes, frozenset[str]]] = {
    b"migrate_set_state": frozenset({"state"}),
    b"migrate_pending": frozenset({"size"}),
    b"migrate_pending_estimate": frozenset({"size"}),
    b"migrate_pending_exact": frozenset({"size"}),
    b"migrate_transferred": frozenset({"transferred", "time_spent_ms"}),
    b"migration_bitmap_sync_end": frozenset({"dirty_pages"}),
}

#: Bounds memory: distinct keys in one stream.
_MAX_RESOLVED: Final = 1_024

#: A sign and the digits of 64 bits.
_MAX_DIGITS: Final = 21


def read_whole(printed: bytes) -> int:
    """Parse a whole number, decimal or hexadecimal.

    Raises:
        ValueError: `printed` is not a number of 64 bits.
    """
    if len(printed) > _MAX_DIGITS:
        raise ValueError(printed)
    return int(printed, 16 if printed.startswith(b"0x") else 10)


#: Fields that are not whole numbers → the function that reads them.
_READERS: Final[Mapping[str, Callable[[bytes], Any]]] = {
    "state": read_text, "text": read_text, "idstr": read_text, "vmsd_name": read_text, "kind": read_text,
}  # fmt: skip

Reader = Callable[[bytes], Any]


class ArgumentNames:
    """The keys of each event, with those of a configuration.

    Args:
        configured: Event → key as printed → argument's name in QEMU, or field.
    """

    def __init__(self, configured: Mapping[str, Mapping[str, str]] | None = None) -> None:
        self._configured = configured or {}
        self._resolved: dict[tuple[bytes, bytes], tuple[str, Reader] | None] = {}

    def field(self, event: bytes, key: bytes) -> tuple[str, Reader] | None:
        """Return the field that a key of an event fills and its reader; "" is a field without use, None unknown."""
        place = event, key
        if place not in self._resolved:
            if len(self._resolved) > _MAX_RESOLVED:
                self._resolved.clear()
            name = self._name(event, read_text(key))
            self._resolved[place] = None if name is None else (name, _READERS.get(name, read_whole))
        return self._resolved[place]

    def _name(self, event: bytes, key: str) -> str | None:
        fields = _FIELDS.get(event, {})
        alias = self._configured.get(read_text(event), {}).get(key)
        if alias is not None:
            return fields.get(alias, alias)
        return fields[key] if key in fields else _described(event, key)

    def values(self, event: bytes, pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, Any] | None:
        """Return the fields of an event from its pairs; None if no key is known or a value is unreadable."""
        values: dict[str, Any] = {}
        try:
            for key, value in pairs:
                field = self.field(event, key)
                if field is not None and field[0]:
                    values[field[0]] = field[1](value)
            if values.get("state", "").isdecimal():
                values["number"] = read_whole(values.pop("state").encode())  # up to 2.10 the state is a number
        except ValueError:  # the line counts as malformed
            return None
        return values or None

    def unknown(self, event: bytes, keys: Iterable[bytes]) -> list[str]:
        """Return the unknown keys, if a required field is missing."""
        fields = {key: self.field(event, key) for key in keys}
        given = {field[0] for field in fields.values() if field is not None}
        if _ESSENTIAL.get(event, frozenset()) <= given:
            return []
        return [read_text(key) for key, field in fields.items() if field is None]


def argument_names(event: str) -> tuple[str, ...]:
    """Return the argument names and fields that a configuration may give to a key of an event."""
    fields = _FIELDS.get(event.encode(), {})
    return tuple(dict.fromkeys([*fields, *filter(None, fields.values())]))


def _described(event: bytes, key: str) -> str | None:
    """Return the only field that all words of a key describe."""
    words = set(re.findall(r"[a-z]+|[A-Z][a-z]*|\d+", key.replace("_", " ")))
    words = {word.lower() for word in words}
    fields = _WORDS.get(event, {})
    matching = [field for field, described in fields.items() if words & described and words <= described | _NEUTRAL]
    if len(matching) > 1:  # `pending_size`: ignore words that only qualify
        matching = [field for field in matching if (words - _NEUTRAL) & fields[field]]
    return matching[0] if len(matching) == 1 else None
