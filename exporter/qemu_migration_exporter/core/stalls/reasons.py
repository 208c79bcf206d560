"""Sets of stall reasons that the detector and the presentation treat alike."""

from __future__ import annotations

from typing import Final

from qemu_migration_exporter.core.model import StallReason

#: Reasons that boundaries between rounds prove: the rounds lead nowhere. The others are waits.
ROUND_REASONS: Final = frozenset({StallReason.DIRTY_RATE, StallReason.BANDWIDTH_CAP, StallReason.THROTTLED_MAX})
