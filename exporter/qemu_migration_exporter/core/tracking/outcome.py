"""The end of a migration and its cause: by QEMU's own states where they are printed, inferred from other marks if not.

The cause is the most specific text that belongs to the failure: the error QEMU keeps for query-migrate, else that of
the connection, else the lines of error_report() around the end. Of these a warning is no cause, nor is a line from long
before the end, and one that names the fault comes before one that only reports it (`load of migration failed`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from qemu_migration_exporter.core.model import Result
from qemu_migration_exporter.core.tracking import states

#: A line this long before the end is another matter: QEMU prints the cause and fails at once.
_RELATED_NS: Final = 5_000_000_000

#: A line that reports a failure whose cause is in the lines before it.
_GENERIC: Final = "load of migration failed"

#: A cause has up to three lines: the fault, the part of the device, the device.
_MAX_CAUSE_LINES: Final = 3
_MAX_REPORTS: Final = 8

#: The return path ended badly and QEMU gave no reason of its own.
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
        state: QEMU's last word for the status.
        at_ns: When it ended; None while it runs.
        stated_ns: When the terminal state was printed.
        left_loop_ns: When the migration thread left its loop (after_loop), else the first cleanup mark.
        completing: The guest's last state was being saved, the guest stopped.
        failing: Something broke, or an error text was printed, of which it fails.
        cancelling: The same after a cancel was asked for, and because of that: the sockets are shut down.
        cancel_requested: A cancel was asked for, or QEMU exits.
        refused: The return path from the destination ended badly.
        qemu_ended: The line that shows the end of QEMU itself, which ended the migration.
        error_text: QEMU's own error.
        channel_text: The error of the connection.
        reports: The last lines of error_report() before the end, and the first after it.
    """

    state: str | None = None
    at_ns: int | None = None
    stated_ns: int | None = None
    left_loop_ns: int | None = None
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
        """Keep QEMU's own error. QEMU keeps the first and drops what follows from it: migrate_set_error()."""
        self._fails()
        self.error_text = self.error_text or text

    def channel_failed(self, text: str | None) -> None:
        """Keep the error of the connection."""
        self.broke()
        self.channel_text = self.channel_text or text

    def broke(self) -> None:
        """Mark it as failing; what breaks after the end is only being closed."""
        if self.at_ns is None:
            self._fails()

    def _fails(self) -> None:
        if self.cancel_requested:
            self.cancelling = True
        else:
            self.failing = True

    def resumed(self) -> None:
        """Forget what broke: post-copy goes on after it, and QEMU drops its error too (migrate_fd_connect())."""
        self.failing = self.refused = False
        self.error_text = self.channel_text = None
        self.reports.clear()

    def error_reported(self, at_ns: int, text: str) -> None:
        """Keep a line of error_report(); in 7.2 only one after the cleanup has the cause."""
        if "warning:" in text or text.startswith("info:"):
            return
        if len(self.reports) >= _MAX_REPORTS:
            if self.at_ns is not None:
                return
            del self.reports[0]
        self.reports.append(Report(at_ns, text))

    def assume_end(self) -> None:
        """End it with the loop, because no terminal state came."""
        if self.at_ns is None:
            self.at_ns = self.left_loop_ns

    def result(self) -> tuple[Result, bool]:
        """Return the result, and whether it is inferred.

        Success and a failure during completion look the same without states, so completed is a guess, the better one.
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
            causes = [text for text in texts if not text.startswith(_GENERIC)]
            if causes:
                return "; ".join(causes[:_MAX_CAUSE_LINES])
        return next(iter([*after, *before]), None)
