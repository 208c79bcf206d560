"""Panels of the committed dashboards, and their expressions with the variables filled in."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from grafana.__main__ import DASHBOARDS, DIRECTORY


@dataclass(frozen=True, slots=True)
class Panel:
    """One committed panel."""

    dashboard: str
    json: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.dashboard}: {self.title}"

    @property
    def title(self) -> str:
        title: str = self.json["title"]
        return title

    @property
    def targets(self) -> list[dict[str, Any]]:
        targets: list[dict[str, Any]] = self.json["targets"]
        return targets


def _panels(name: str) -> list[Panel]:
    dashboard = json.loads((DIRECTORY / f"{name}.json").read_text(encoding="utf-8"))
    return [Panel(name, panel) for panel in dashboard["panels"] if panel["type"] != "row"]


ALL = [panel for name in sorted(DASHBOARDS) for panel in _panels(name)]


def substituted(expr: str, *, rate_interval: str = "5m", span: str = "1h") -> str:
    """Return an expression with its variables filled in as Grafana does, everything chosen."""
    for variable, value in {
        "$__rate_interval": rate_interval,
        "$__interval": rate_interval,
        "$__range": span,
        "$job": ".+",
        "$instance": ".+",
        "$vm": ".+",
    }.items():
        expr = expr.replace(variable, value)
    return expr
