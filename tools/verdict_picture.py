"""Draw how a verdict comes about, from a recording of a real migration: `python -m tools.verdict_picture`.

The boundaries between rounds, the threshold and the verdict are those of the program. The line is that of the
look-back that puts the threshold furthest away, with the falls that its boundaries allow.
"""

from __future__ import annotations

import gzip
import math
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Final

from qemu_migration_exporter.core.changes import Change, MigrationEnded, Stalled
from qemu_migration_exporter.core.stalls.convergence import Rules
from qemu_migration_exporter.core.stalls.trend import Line, Point, lines
from qemu_migration_exporter.core.tracking.stream import Stream

_ROOT: Final = Path(__file__).parents[1]
PICTURE: Final = _ROOT / "docs" / "pictures" / "verdict.svg"

#: Its guest has 20 MiB that are always dirty and 120 MiB that are written slowly, so pending falls to a plateau.
RECORDING: Final = _ROOT / "tests" / "data" / "bakeoff" / "plateau-10.0-shrinks-then-stuck.log.gz"

_NS: Final = 1e9
_MIB: Final = 1 << 20
_SECONDS: Final = 58.0
_TICKS_MIB: Final = (8, 16, 32, 64, 128)
_WIDTH, _HEIGHT = 760, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 18, 16, 44

_STYLE: Final = """
  svg { --paper: #ffffff; --ink: #24292f; --faint: #d0d7de; --line: #0550ae; --limit: #a35200; --verdict: #a40e26 }
  @media (prefers-color-scheme: dark) {
    svg { --paper: #0d1117; --ink: #e6edf3; --faint: #30363d; --line: #79c0ff; --limit: #e3a14f; --verdict: #ff8182 }
  }
  text { font: 13px system-ui, sans-serif; fill: var(--ink) }
  .paper { fill: var(--paper) } .grid { stroke: var(--faint) } .look { fill: var(--line); opacity: .1 }
  .band { fill: var(--line); opacity: .25 } .fit { stroke: var(--line); stroke-width: 2; fill: none }
  .dot { fill: var(--ink) } .later { fill: none; stroke: var(--ink); opacity: .6 }
  .threshold { stroke: var(--limit); stroke-width: 2; fill: none } .of-threshold { fill: var(--limit) }
  .verdict { stroke: var(--verdict); stroke-width: 2; stroke-dasharray: 6 4 } .of-verdict { fill: var(--verdict) }
  .of-line { fill: var(--line) }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Content of the picture, in seconds since the start of the migration and in bytes.

    Attributes:
        boundaries: All of the migration.
        thresholds: As QEMU printed them.
        verdict_seconds: When the program called it stalled.
        best_case_seconds: As it reported then.
        line: Through the last boundaries before the verdict.
    """

    boundaries: tuple[Point, ...]
    thresholds: tuple[Point, ...]
    verdict_seconds: float
    best_case_seconds: float
    line: Line

    @property
    def look_back(self) -> tuple[Point, ...]:
        """Boundaries that the line is fitted to."""
        return tuple(point for point in self.boundaries if point.seconds <= self.verdict_seconds)[-self.line.points :]


def scene() -> Scene:
    """Play the recording through the program."""
    stream = Stream("recording.log", vm="guest", start_ns=10**18)
    changes: list[Change] = []
    seen: list[tuple[int, int]] = []
    for line in gzip.decompress(RECORDING.read_bytes()).splitlines(keepends=True):
        changes += stream.feed(line)
        seen += [
            (stream.last_event_ns or 0, running.progress.threshold_bytes)
            for running in stream.running()
            if running.progress.threshold_bytes is not None
        ]
    changes += stream.close()
    (migration,) = [change.migration for change in changes if isinstance(change, MigrationEnded)]
    stall = next(change.stall for change in changes if isinstance(change, Stalled))
    start_ns = migration.identity.start_ns
    boundaries = tuple(
        Point((row.start_ns - start_ns) / _NS, row.pending_at_start_bytes)
        for _before, row in pairwise(migration.rounds)
        if row.pending_at_start_bytes is not None
    )
    thresholds = tuple(Point((at_ns - start_ns) / _NS, size) for at_ns, size in seen)
    verdict_seconds = (stall.start_ns - start_ns) / _NS
    known = [point for point in boundaries if point.seconds <= verdict_seconds]
    proofs = [line for line in lines(known) if line.span >= Rules().look_back_seconds]
    return Scene(
        boundaries=boundaries,
        thresholds=thresholds,
        verdict_seconds=verdict_seconds,
        best_case_seconds=stall.best_case_seconds or 0.0,
        line=min(proofs, key=lambda line: line.steepest_fall),
    )


def _x(seconds: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * seconds / _SECONDS


def _y(size: float) -> float:
    low, high = math.log(_TICKS_MIB[0] * _MIB), math.log(_TICKS_MIB[-1] * _MIB)
    return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (high - math.log(size)) / (high - low)


def _path(points: list[tuple[float, float]]) -> str:
    """Return the path through points of seconds and bytes."""
    return "M" + " L".join(f"{_x(seconds):.1f} {_y(size):.1f}" for seconds, size in points)


def _text(x: float, y: float, words: str, *, css: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{css}" text-anchor="{anchor}">{words}</text>'


def _axes() -> list[str]:
    parts = []
    for size in _TICKS_MIB:
        y = _y(size * _MIB)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(_LEFT - 8, y + 4, f"{size} MiB", anchor="end"))
    parts += [_text(_x(second), _HEIGHT - 24, f"{second} s", anchor="middle") for second in range(0, 51, 10)]
    return [*parts, _text(_WIDTH / 2, _HEIGHT - 6, "time since the migration began", anchor="middle")]


def _line(scene: Scene) -> list[str]:
    """Return the look-back, the fitted line and its band up to the edge of the picture."""
    look_back = scene.look_back
    start = look_back[0].seconds
    middle = Point(fmean(point.seconds for point in look_back), fmean(point.pending for point in look_back))

    def at(seconds: float, fall: float) -> tuple[float, float]:
        return seconds, middle.pending - fall * (seconds - middle.seconds)

    times = [start + (_SECONDS - start) * step / 40 for step in range(41)]
    band = [at(second, scene.line.shallowest_fall) for second in times]
    band += [at(second, scene.line.steepest_fall) for second in reversed(times)]
    x, width = _x(start), _x(scene.verdict_seconds) - _x(start)
    return [
        f'<rect class="look" x="{x:.1f}" y="{_TOP}" width="{width:.1f}" height="{_HEIGHT - _TOP - _BOTTOM}"/>',
        f'<path class="band" d="{_path(band)} Z"/>',
        f'<path class="fit" d="{_path([at(second, scene.line.fall) for second in times])}"/>',
        _text(x + width / 2, _y(10.3 * _MIB), "look-back", css="of-line", anchor="middle"),
        _text(_x(36), _y(52 * _MIB), "fitted line, with the falls that", css="of-line"),
        _text(_x(36), _y(52 * _MIB) + 17, "the look-back allows (95 %)", css="of-line"),
    ]


def _dots(scene: Scene) -> list[str]:
    return [
        f'<circle class="{"dot" if point.seconds <= scene.verdict_seconds else "later"}"'
        f' cx="{_x(point.seconds):.1f}" cy="{_y(point.pending):.1f}" r="3"/>'
        for point in scene.boundaries
        if point.seconds <= _SECONDS
    ]


def picture() -> str:
    """Return the picture as SVG."""
    shown = scene()
    threshold = [(point.seconds, point.pending) for point in shown.thresholds if point.seconds <= _SECONDS]
    x = _x(shown.verdict_seconds)
    parts = [
        f'<rect class="paper" width="{_WIDTH}" height="{_HEIGHT}"/>',
        *_axes(),
        *_line(shown),
        f'<path class="threshold" d="{_path(threshold)}"/>',
        _text(_x(29), _y(9.7 * _MIB) + 20, "threshold: QEMU stops the guest below it", css="of-threshold"),
        *_dots(shown),
        _text(_x(7.4), _y(57 * _MIB), "pending at a boundary"),
        f'<line class="verdict" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>',
        _text(x + 8, _y(112 * _MIB), f"stalled, after {shown.verdict_seconds:.1f} s", css="of-verdict"),
        _text(x + 8, _y(112 * _MIB) + 17, f"best case: {shown.best_case_seconds:.0f} s more", css="of-verdict"),
    ]
    title = "Pending bytes of a migration that falls to a plateau above its threshold and is called stalled"
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">'
        f"<title>{title}</title><style>{_STYLE}</style>"
    )
    return "\n".join([head, *parts, "</svg>", ""])


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
    sys.stdout.write(f"{PICTURE}\n")
