"""Numbers of the stall rule; docs/convergence.md explains them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from qemu_migration_exporter.config.durations import Duration, PositiveDuration, seconds
from qemu_migration_exporter.config.section import Section
from qemu_migration_exporter.core.stalls.convergence import Rules
from qemu_migration_exporter.core.stalls.detector import StallPolicy
from qemu_migration_exporter.core.stalls.wait_timer import WaitTimeouts

_Ratio = Annotated[float, Field(gt=0, lt=1)]


class VerdictConfig(Section):
    """Conditions under which a migration counts as stalled.

    Attributes:
        progress_ratio, window, boundaries: Stalled if pending did not fall by this ratio over the window and at least
            so many boundaries.
        level_ratio, fall_ratio, level_time_at_2x, min_level_time: Stalled sooner if it stays level, far above the
            threshold.
        near_ratio, near_time, threshold_decay: Stalled later if it is near the threshold.
        no_throughput, setup, wait_unplug, pre_switchover, postcopy_paused: Longest wait of each kind.
    """

    progress_ratio: _Ratio = 0.04
    window: Duration = "40s"
    boundaries: Annotated[int, Field(ge=2)] = 3
    level_ratio: _Ratio = 0.02
    fall_ratio: _Ratio = 0.005
    level_time_at_2x: Duration = "21s"
    min_level_time: Duration = "4s"
    near_ratio: Annotated[float, Field(ge=1)] = 1.2
    near_time: Duration = "60s"
    threshold_decay: PositiveDuration = "60s"
    no_throughput: Duration = "30s"
    setup: Duration = "60s"
    wait_unplug: Duration = "60s"
    pre_switchover: Duration = "10s"
    postcopy_paused: Duration = "0s"

    def policy(self) -> StallPolicy:
        """Convert into the core's policy."""
        rules = Rules(
            progress_ratio=self.progress_ratio,
            window_seconds=seconds(self.window),
            boundaries=self.boundaries,
            level_ratio=self.level_ratio,
            fall_ratio=self.fall_ratio,
            twice_seconds=seconds(self.level_time_at_2x),
            least_seconds=seconds(self.min_level_time),
            near_ratio=self.near_ratio,
            near_seconds=seconds(self.near_time),
            memory_seconds=seconds(self.threshold_decay),
        )
        limits = WaitTimeouts(
            no_throughput=seconds(self.no_throughput),
            setup=seconds(self.setup),
            wait_unplug=seconds(self.wait_unplug),
            pre_switchover=seconds(self.pre_switchover),
            postcopy_paused=seconds(self.postcopy_paused),
        )
        return StallPolicy(rules=rules, limits=limits)
