"""Answers of a receiver: the end of retries, and a sender that fails."""

from __future__ import annotations

import time

import pytest
from qemu_migration_exporter.tracing.export.sender import (
    REJECTED,
    RETRYABLE,
    ExportResult,
    ExportStatus,
    SpanBatch,
    export_batch,
    limit_retries,
)

_LIMITED = ExportResult(ExportStatus.RETRYABLE, give_up_after_seconds=300.0)


@pytest.mark.parametrize(
    ("result", "failing_since", "expected"),
    [
        (RETRYABLE, None, (None, None)),
        (RETRYABLE, 800.0, (None, 800.0)),
        (_LIMITED, None, (None, 1_000.0)),
        (_LIMITED, 700.1, (None, 700.1)),
        (_LIMITED, 700.0, (REJECTED, None)),
        (_LIMITED, 1.0, (REJECTED, None)),
    ],
    ids=["no limit", "no limit now", "first failure", "within the limit", "at the limit", "beyond"],
)
def test_retries_end_at_their_limit(
    monkeypatch: pytest.MonkeyPatch,
    result: ExportResult,
    failing_since: float | None,
    expected: tuple[ExportResult | None, float | None],
) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 1_000.0)

    assert limit_retries(result, failing_since) == expected


def test_failing_sender_rejects_batch(caplog: pytest.LogCaptureFixture) -> None:
    """Retrying a bug would not help."""

    class Failing:
        def send(self, batch: SpanBatch) -> ExportResult:
            raise ZeroDivisionError(batch.spans)

        def close(self) -> None:
            """Close nothing."""

    assert export_batch(Failing(), SpanBatch(b"", 3)) == REJECTED
    assert caplog.messages == ["span export failed: 3 spans"]
