"""What the tests ask of the committed dashboards: their panels, and expressions with the variables filled in."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from grafana.__main__ import DASHBOARDS, DIRECTORY


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel as it is committed."""

    dashboard: str
    json: dict[str, Any]

    def __str__(self) -> str:
        """Name it as people do."""
        return f"{self.dashboard}: {self.title}"

    @property
    def title(self) -> str:
        """Its title."""
        title: str = self.json["title"]
        return title

    @property
    def targets(self) -> list[dict[str, Any]]:
        """Its queries."""
        targets: list[dict[str, Any]] = self.json["targets"]
        return targets


def _panels(name: str) -> list[Panel]:
    dashboard = json.loads((DIRECTORY / f"{name}.json").read_text(encoding="utf-8"))
    return [Panel(name, panel) for panel in dashboard["panels"] if panel["type"] != "row"]


#: Every panel of every dashboard.
ALL = [panel for name in sorted(DASHBOARDS) for panel in _panels(name)]


def substituted(expr: str, *, rate_interval: str = "5m", span: str = "1h") -> str:
    """Fill in the variables as Grafana does, with everything chosen."""
    for variable, value in {
        "$__rate_interval": rate_interval,
        "$__range": span,
        "$job": ".+",
        "$instance": ".+",
        "$vm": ".+",
    }.items():
        expr = expr.replace(variable, value)
    return expr
