"""The live view: it draws the newest snapshot and moves the selection by keys."""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.live import Live
from rich.text import Text

from qemu_migration_exporter.present.terminal.screen import frame, plain_lines, report_frame
from qemu_migration_exporter.present.text.layout import MAX_WIDTH
from qemu_migration_exporter.present.text.report import migration_lines
from qemu_migration_exporter.watch.feeds import Feed
from qemu_migration_exporter.watch.keys import Key, raw_terminal, read_keys

#: Fast enough that a key feels immediate after a resize; a frame costs a few milliseconds.
_FRAME_SECONDS: Final = 0.5


class Watch:
    """The state of the view: the selected migration, and the report that is open."""

    def __init__(self, feed: Feed, console: Console) -> None:
        self._feed = feed
        self._console = console
        self._selected: str | None = None
        self._report: str | None = None
        self._offset = 0
        self.is_over = False

    def run(self, descriptor: int) -> None:
        """Draw until `q` is pressed, or `stop` is called."""
        with (
            raw_terminal(descriptor),
            Live(console=self._console, screen=True, auto_refresh=False, redirect_stderr=False) as live,
        ):
            while not self.is_over:
                live.update(Text("\n").join(self.lines()), refresh=True)
                for key in read_keys(descriptor, _FRAME_SECONDS):
                    self.press(key)

    def stop(self) -> None:
        """End at the next frame."""
        self.is_over = True

    def lines(self) -> list[Text]:
        """Return the lines of the present frame, for the terminal's present size."""
        width, height = self._console.size
        snapshot = self._feed.snapshot()
        if self._report is not None:
            view = next((view for view in snapshot.ordered() if view.trace_id == self._report), None)
            if view is not None:
                return report_frame(view, self._offset, width, height)
            self._report = None
        return frame(snapshot, self._selected, width, height)

    def press(self, key: Key) -> None:
        """Apply a key."""
        match key:
            case Key.QUIT:
                self.is_over = True
            case Key.ENTER if self._report is None:
                self._report, self._offset = self._chosen(), 0
            case Key.ENTER | Key.BACK:
                self._report = None
            case Key.UP:
                self._move(-1)
            case Key.DOWN:
                self._move(1)
            case Key.PAGE_UP:
                self._move(-self._console.height // 2)
            case Key.PAGE_DOWN:
                self._move(self._console.height // 2)

    def _move(self, step: int) -> None:
        views = self._feed.snapshot().ordered()
        if self._report is not None:
            view = next((view for view in views if view.trace_id == self._report), None)
            if view is not None:
                width, height = self._console.size
                most = max(0, len(migration_lines(view, min(width, MAX_WIDTH))) - height + 1)
                self._offset = max(0, min(self._offset + step, most))
            return
        ids = [view.trace_id for view in views]
        if ids:
            place = ids.index(self._selected) if self._selected in ids else 0
            self._selected = ids[max(0, min(place + step, len(ids) - 1))]

    def _chosen(self) -> str | None:
        ids = [view.trace_id for view in self._feed.snapshot().ordered()]
        return self._selected if self._selected in ids else ids[0] if ids else None


def print_once(feed: Feed, console: Console) -> None:
    """Print one frame, for an output that is not a terminal."""
    snapshot = feed.snapshot()
    height = 3 * len(snapshot.ordered()) + 24
    lines = frame(snapshot, None, console.width, height)[:-1]  # without the keys
    while lines and not lines[-1].plain.strip():
        del lines[-1]
    console.file.write(plain_lines(lines))
