"""The report as JSON, and views rebuilt from JSON. Seconds and bytes; null is unknown.

A migration has two forms. The report of a replay has a small set of stable keys. The API of a running daemon adds the
sentence and every other field of the view, so that a program on another machine can rebuild and render the view.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from qemu_migration_exporter import __version__
from qemu_migration_exporter.present.advice import Advice
from qemu_migration_exporter.present.view import MigrationView, Report, StreamView
from qemu_migration_exporter.present.wording.sentences import headline_text

Document = Mapping[str, Any]

_STREAM_KEYS: Final = ("name", "format", "clock", "lines", "events", "noise", "malformed")
_MIGRATION_KEYS: Final = (
    "vm", "uuid", "trace_id", "side", "kind", "stream", "result", "result_inferred", "partial", "error", "guest_lost",
    "mode", "state", "wait", "clock", "start_time", "duration_seconds", "setup_seconds", "downtime_seconds",
    "downtime_is_partial", "blackout_seconds", "pauses", "downtime_parts", "bitmap_syncs", "dirty_sync_count",
    "iterations", "transferred_bytes", "transferred_is_partial", "ram_bytes", "downtime_limit_seconds", "throttles",
    "throttle_ratio", "postcopy_requests", "rounds", "phases", "devices", "stalls", "verdict",
)  # fmt: skip
_ROW_KEYS: Final = {
    "rounds": (
        "number", "start_seconds", "duration_seconds", "iterations", "transferred_bytes", "pending_at_start_bytes",
        "pending_at_end_bytes", "dirtied_bytes", "dirty_bytes_per_second", "bandwidth_bytes_per_second",
    ),
    "phases": ("name", "start_seconds", "duration_seconds"),
    "devices": ("name", "instance", "duration_seconds"),
    "stalls": ("start_seconds", "end_seconds", "reason"),
}  # fmt: skip


class DocumentError(ValueError):
    """JSON that is not a migration in the form of the API."""


def report_document(report: Report) -> Document:
    """Return the whole report of a replay, ready for `json.dumps`."""
    return {
        "streams": [stream_document(stream) for stream in report.streams],
        "migrations": [migration_document(view) for view in report.migrations],
    }


def stream_document(stream: StreamView) -> Document:
    """Return a stream and the counts of its lines."""
    fields = msgspec.to_builtins(stream)
    return {**{key: fields[key] for key in _STREAM_KEYS}, "surprises": sum(stream.surprises.values())}


def migration_document(view: MigrationView) -> Document:
    """Return a migration in the form of the report."""
    document = {key: value for key, value in view_document(view).items() if key in _MIGRATION_KEYS}
    for name, keys in _ROW_KEYS.items():
        document[name] = [{key: row[key] for key in keys} for row in document[name]]
    del document["verdict"]["past_advice"]
    return {key: document[key] for key in _MIGRATION_KEYS}


def view_document(view: MigrationView) -> dict[str, Any]:
    """Return a migration in the form of the API: every field of its view, and its sentence."""
    fields: dict[str, Any] = msgspec.to_builtins(view)
    fields["start_time"] = rfc3339(view.start_time)
    for key in ("advice", "past_advice"):
        fields["verdict"][key] = [str(advice) for advice in getattr(view.verdict, key)]
    return {**fields, "sentence": headline_text(view)}


def migration_from_document(document: object) -> MigrationView:
    """Rebuild a view from a migration in the form of the API.

    Raises:
        DocumentError: The JSON is not a migration in the form of the API.
    """
    if not isinstance(document, dict) or not isinstance(document.get("verdict"), dict):
        raise DocumentError("expected a migration as a JSON object with a verdict")
    verdict = dict(document["verdict"])
    try:
        for key in ("advice", "past_advice"):
            verdict[key] = [msgspec.to_builtins(Advice.parse(line)) for line in verdict.get(key, ())]
        return msgspec.convert({**document, "verdict": verdict}, MigrationView)
    except (msgspec.ValidationError, AttributeError, TypeError) as error:
        raise DocumentError(f"expected a migration as release {__version__} sends it: {error}") from error


def rfc3339(at: datetime) -> str:
    """Return a time as RFC 3339, in UTC and to the microsecond."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
