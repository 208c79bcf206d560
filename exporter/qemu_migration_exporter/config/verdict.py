"""Numbers of the stall rule; docs/convergence.md explains them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from qemu_migration_exporter.config.durations import Duration, PositiveDuration, seconds
from qemu_migration_exporter.config.section import Section
from qemu_migration_exporter.core.model import StallReason
from qemu_migration_exporter.core.stalls.convergence import Rules
from qemu_migration_exporter.core.stalls.detector import StallPolicy
from qemu_migration_exporter.core.stalls.reasons import DEFAULT_TIMEOUTS, REASONS
from qemu_migration_exporter.core.stalls.wait_timer import WaitTimeouts

_Ratio = Annotated[float, Field(gt=0, lt=1)]


def _timeout(reason: StallReason) -> str:
    return f"{DEFAULT_TIMEOUTS[reason]:g}s"


class VerdictConfig(Section):
    """Conditions under which a migration counts as stalled.

    Attributes:
        horizon, horizon_rounds: Stalled if the threshold is at best further away than both.
        look_back, window, boundaries: Shortest and longest look-back, and its fewest boundaries.
        progress_ratio: Relative fall below the boundaries of the window that ends a stall.
        wander_ratio: Relative change within the horizon that level boundaries cannot exclude.
        dip_ratio, dip: Share of the best bandwidth below which boundaries count as a network dip, and its longest time.
        no_throughput, switchover_ack, setup, wait_unplug, pre_switchover, postcopy_paused: Longest wait of each kind.
    """

    horizon: PositiveDuration = "100s"
    horizon_rounds: Annotated[float, Field(ge=1)] = 20.0
    look_back: Duration = "3.8s"
    window: PositiveDuration = "40s"
    boundaries: Annotated[int, Field(ge=3)] = 3
    progress_ratio: _Ratio = 0.04
    wander_ratio: _Ratio = 0.06
    dip_ratio: _Ratio = 0.6
    dip: PositiveDuration = "25s"
    no_throughput: Duration = _timeout(StallReason.NO_THROUGHPUT)
    switchover_ack: Duration = _timeout(StallReason.SWITCHOVER_ACK)
    setup: Duration = _timeout(StallReason.BLOCKED_SETUP)
    wait_unplug: Duration = _timeout(StallReason.BLOCKED_WAIT_UNPLUG)
    pre_switchover: Duration = _timeout(StallReason.BLOCKED_PRE_SWITCHOVER)
    postcopy_paused: Duration = _timeout(StallReason.POSTCOPY_PAUSED)

    def policy(self) -> StallPolicy:
        """Convert into the core's policy."""
        rules = Rules(
            horizon_seconds=seconds(self.horizon),
            horizon_rounds=self.horizon_rounds,
            look_back_seconds=seconds(self.look_back),
            window_seconds=seconds(self.window),
            boundaries=self.boundaries,
            progress_ratio=self.progress_ratio,
            wander_ratio=self.wander_ratio,
            dip_ratio=self.dip_ratio,
            dip_seconds=seconds(self.dip),
        )
        timeouts = {reason: seconds(getattr(self, row.config_key)) for reason, row in REASONS.items() if row.config_key}
        return StallPolicy(rules=rules, limits=WaitTimeouts(timeouts))
