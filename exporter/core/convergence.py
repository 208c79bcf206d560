"""What the boundaries between rounds plainly say.

Pending bytes are comparable only just after a bitmap sync: inside a round they always fall. The bulk round begins
with all memory, so its boundary says nothing. What a boundary finds pending would be the downtime's work if the guest
were stopped there and then.
"""

from __future__ import annotations

from dataclasses import dataclass

from exporter.core.model import Verdict


@dataclass(slots=True)
class Convergence:
    """Follow the boundaries of one migration."""

    best_pending: int | None = None
    best_round: int | None = None
    #: The last boundary's pending bytes.
    last_pending: int | None = None

    def boundary(self, round_number: int, pending: int) -> bool:
        """Note the pending bytes at the start of a round after the first; say whether they are the least so far."""
        self.last_pending = pending
        if self.best_pending is not None and pending >= self.best_pending:
            return False
        self.best_pending, self.best_round = pending, round_number
        return True

    def verdict(
        self,
        *,
        threshold: int | None,
        bandwidth_bytes_per_second: float | None,
        downtime_limit_seconds: float | None,
    ) -> Verdict:
        """Say what is known now.

        Args:
            threshold: Pending bytes below which QEMU stops the guest.
            bandwidth_bytes_per_second: Of the last bandwidth window.
            downtime_limit_seconds: The one `threshold` was made of.
        """
        below = self.last_pending is not None and bool(threshold) and self.last_pending < (threshold or 0)
        required_downtime = required_bandwidth = None
        if self.last_pending is not None:
            if bandwidth_bytes_per_second:
                required_downtime = self.last_pending / bandwidth_bytes_per_second
            if downtime_limit_seconds:
                required_bandwidth = self.last_pending / downtime_limit_seconds
        return Verdict(
            converging=True if below else None,
            best_pending_bytes=self.best_pending,
            best_round=self.best_round,
            required_downtime_seconds=required_downtime,
            required_bandwidth_bytes_per_second=required_bandwidth,
        )
