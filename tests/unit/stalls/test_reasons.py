"""The table of stall reasons."""

from __future__ import annotations

import pytest
from qemu_migration_exporter.config.verdict import VerdictConfig
from qemu_migration_exporter.core.model import StallReason
from qemu_migration_exporter.core.stalls.reasons import DEFAULT_TIMEOUTS, REASONS, ROUND_REASONS, Evidence

from tests.support.paths import ROOT


def test_every_reason_has_row() -> None:
    assert set(REASONS) == set(StallReason)
    assert ROUND_REASONS.isdisjoint(DEFAULT_TIMEOUTS)
    assert ROUND_REASONS | set(DEFAULT_TIMEOUTS) == set(StallReason)


@pytest.mark.parametrize("reason", list(StallReason))
def test_row_of_reason_is_complete(reason: StallReason) -> None:
    row = REASONS[reason]
    is_wait = row.evidence is Evidence.WAIT
    assert (row.timeout_seconds is not None, row.config_key is not None, row.why is not None) == (is_wait,) * 3
    assert row.cause.endswith(".")
    assert (ROOT / "config" / "runbooks" / row.runbook).is_file()
    assert f"alert: {row.alert}\n" in (ROOT / "config" / "rules" / "alerts.yml").read_text(encoding="utf-8")


def test_config_has_table_keys() -> None:
    limits = VerdictConfig().policy().limits
    for reason, seconds in DEFAULT_TIMEOUTS.items():
        assert REASONS[reason].config_key in VerdictConfig.model_fields
        assert limits.limit_ns(reason) == seconds * 1_000_000_000
