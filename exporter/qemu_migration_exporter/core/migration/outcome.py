"""The end of a migration and its cause, from QEMU's own states if they are printed, else inferred from other marks.

The cause is the most specific text about the failure, in this order: the error QEMU keeps for query-migrate, the error
of the connection, the lines of error_report() around the end. Warnings and lines from long before the end are left out.
A line with the fault itself precedes a line that only reports the failure (`load of migration failed`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from qemu_migration_exporter.core.migration import states
from qemu_migration_exporter.core.model import Result

#: An older line before the end has nothing to do with it: QEMU prints the cause and fails at once.
_RELATED_NS: Final = 5_000_000_000

#: Beginning of a destination's line that reports a failure; the cause is in the lines before.
LOAD_FAILED: Final = "load of migration failed"

#: A cause has up to three lines: fault, part of the device, device.
_MAX_CAUSE_LINES: Final = 3
_MAX_REPORTS: Final = 8

#: The error text for a return path that ended with an error, if QEMU printed no reason.
REFUSED: Final = "the destination ended the migration: its log has the reason"


@dataclass(slots=True)
class Report:
    """A line of error_report()."""

    at_ns: int
    text: str


@dataclass(slots=True)
class Outcome:
    """The evidence of one migration's end, as plain data.

    Attributes:
        state: The last migration state that QEMU printed.
        at_ns: When it ended; None while it runs.
        stated_ns: When the terminal state was printed.
        left_loop_ns: When the migration thread left its loop (after_loop), else the first cleanup mark.
        is_all_sent: Post-copy has sent all memory.
        is_late: The outcome has the time of libvirt's line, which comes after it.
        is_all_read: A destination has read the stream without an error.
        completing: The guest's last state was being saved, the guest stopped.
        failing: A failure or an error text was printed.
        cancelling: A failure was printed because of a request to cancel, which shuts the sockets down.
        cancel_requested: A cancel was requested, or QEMU exits.
        refused: The return path from the destination ended with an error.
        qemu_ended: The line that shows the end of QEMU itself, which ended the migration.
        error_text: QEMU's own error.
        channel_text: The error of the connection.
        reports: The last lines of error_report() before the end, and the first after it.
    """

    state: str | None = None
    at_ns: int | None = None
    stated_ns: int | None = None
    left_loop_ns: int | None = None
    is_all_sent: bool = False
    is_late: bool = False
    is_all_read: bool = False
    completing: bool = False
    failing: bool = False
    cancelling: bool = False
    cancel_requested: bool = False
    refused: bool = False
    qemu_ended: str | None = None
    error_text: str | None = None
    channel_text: str | None = None
    reports: list[Report] = field(default_factory=list)

    def error_set(self, text: str | None) -> None:
        """Record QEMU's own error. QEMU keeps the first error and drops later ones: migrate_set_error()."""
        self._fails()
        self.error_text = self.error_text or text

    def channel_failed(self, text: str | None) -> None:
        """Record the error of the connection."""
        self.broke()
        self.channel_text = self.channel_text or text

    def broke(self) -> None:
        """Mark the migration as failing; failures after the end are only channels being closed."""
        if self.at_ns is None:
            self._fails()

    def _fails(self) -> None:
        if self.cancel_requested:
            self.cancelling = True
        else:
            self.failing = True

    def resumed(self) -> None:
        """Forget failures: post-copy continues after them, and QEMU drops its error too (migrate_fd_connect())."""
        self.failing = self.refused = False
        self.error_text = self.channel_text = None
        self.reports.clear()

    def error_reported(self, at_ns: int, text: str) -> None:
        """Record a line of error_report(); QEMU 7.2 prints the cause after the cleanup."""
        if "warning:" in text or text.startswith("info:"):
            return
        if len(self.reports) >= _MAX_REPORTS:
            if self.at_ns is not None:
                return
            del self.reports[0]
        self.reports.append(Report(at_ns, text))

    def assume_end(self) -> None:
        """End the migration at the end of its thread's loop, because no terminal state came."""
        if self.at_ns is None:
            self.at_ns = self.left_loop_ns

    def result(self) -> tuple[Result, bool]:
        """Return the result, and whether it is inferred.

        Without states, success and a failure during completion print the same marks. Success is more likely.
        """
        if self.qemu_ended is not None:
            return Result.FAILED, True
        stated = states.RESULTS.get(self.state or "")
        if stated is not None:
            return stated, False
        if self.at_ns is None:
            return Result.UNKNOWN, False
        heralded = states.IMPLIED_RESULTS.get(self.state or "")
        if heralded is not None:
            return heralded, True
        if self.failing:
            return Result.FAILED, True
        if self.cancelling:
            return Result.CANCELLED, True
        if self.completing:
            return Result.COMPLETED, True
        return (Result.CANCELLED, True) if self.cancel_requested else (Result.UNKNOWN, False)

    def error(self) -> str | None:
        """Return the cause of a failure."""
        if self.result()[0] is not Result.FAILED:
            return None
        if self.qemu_ended is not None:
            return f"QEMU ended: {self.qemu_ended}"
        return self.error_text or self.channel_text or self._reported() or (REFUSED if self.refused else None)

    def _reported(self) -> str | None:
        end_ns = self.at_ns or 0
        after = [report.text for report in self.reports if report.at_ns > end_ns]
        before = [report.text for report in self.reports if end_ns - _RELATED_NS <= report.at_ns <= end_ns]
        # A source prints its cause after the end, a destination before it.
        for texts in (after[:1], before):
            causes = [text for text in texts if not text.startswith(LOAD_FAILED)]
            if causes:
                return "; ".join(causes[:_MAX_CAUSE_LINES])
        return next(iter([*after, *before]), None)
