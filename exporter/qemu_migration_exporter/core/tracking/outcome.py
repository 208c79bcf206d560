"""How a migration ended, and why: by QEMU's own states where they are printed, inferred from other marks where not."""

from __future__ import annotations

from dataclasses import dataclass

from qemu_migration_exporter.core.model import Result
from qemu_migration_exporter.core.tracking import states


@dataclass(slots=True)
class Outcome:
    """Collect what speaks of one migration's end.

    Attributes:
        state: QEMU's last word for the status.
        at_ns: When it ended; None while it runs.
        left_loop_ns: When the migration thread left its loop (after_loop), else the first cleanup mark.
        completing: The guest's last state was being saved, the guest stopped.
        failing: Something broke, or an error text was printed, of which it fails.
        cancelling: The same after somebody asked to cancel, and because of that: the sockets are shut down.
        cancel_requested: Somebody asked, or QEMU exits.
    """

    state: str | None = None
    at_ns: int | None = None
    left_loop_ns: int | None = None
    completing: bool = False
    failing: bool = False
    cancelling: bool = False
    cancel_requested: bool = False
    error_text: str | None = None
    report_before_text: str | None = None
    report_after_text: str | None = None

    def error_set(self, text: str | None) -> None:
        """Note QEMU's own error. It keeps the first and drops what follows from it: migrate_set_error()."""
        self._fails()
        self.error_text = self.error_text or text

    def broke(self) -> None:
        """Note that something broke; what breaks after the end is only being closed."""
        if self.at_ns is None:
            self._fails()

    def _fails(self) -> None:
        if self.cancel_requested:
            self.cancelling = True
        else:
            self.failing = True

    def resumed(self) -> None:
        """Forget what broke: post-copy goes on after it, and QEMU drops its error too (migrate_fd_connect())."""
        self.failing = False
        self.error_text = self.report_before_text = None

    def error_reported(self, text: str) -> None:
        """Note a line of error_report(): in 7.2 only the one after the cleanup says why a running migration failed."""
        if self.at_ns is None:
            self.report_before_text = text
        else:
            self.report_after_text = self.report_after_text or text

    def assume_end(self) -> None:
        """Take the loop's end for the end, because no terminal state came."""
        if self.at_ns is None:
            self.at_ns = self.left_loop_ns

    def result(self) -> tuple[Result, bool]:
        """Say how it ended, and whether that is inferred.

        Success and a failure during completion look the same without states, so completed is a guess, the better one.
        """
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
        """Return QEMU's own text of a failure."""
        if self.result()[0] is not Result.FAILED:
            return None
        return self.error_text or self.report_after_text or self.report_before_text
