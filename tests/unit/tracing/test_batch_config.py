"""Sizes of queue and batch, from the configuration and OpenTelemetry's variables."""

from __future__ import annotations

import pytest
from qemu_migration_exporter.tracing.export.batch_config import BatchConfig


@pytest.mark.parametrize(
    ("configured", "variables", "expected"),
    [
        (None, {}, BatchConfig(queue_spans=16_384, batch_spans=512, linger_seconds=1.0)),
        (2_000, {}, BatchConfig(queue_spans=2_000)),
        (
            None,
            {"MAX_QUEUE_SIZE": "300", "SCHEDULE_DELAY": "250"},
            BatchConfig(queue_spans=300, batch_spans=300, linger_seconds=0.25),
        ),
        (
            2_000,
            {"MAX_QUEUE_SIZE": "300", "MAX_EXPORT_BATCH_SIZE": "64"},
            BatchConfig(queue_spans=2_000, batch_spans=64),
        ),
        (None, {"MAX_QUEUE_SIZE": "many", "SCHEDULE_DELAY": "0"}, BatchConfig()),
    ],
)
def test_variables_set_defaults(
    otel: pytest.MonkeyPatch, configured: int | None, variables: dict[str, str], expected: BatchConfig
) -> None:
    for name, value in variables.items():
        otel.setenv(f"OTEL_BSP_{name}", value)

    assert BatchConfig.of(configured) == expected
