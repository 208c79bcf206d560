"""What a dashboard is made of: queries, panels, rows of them, and the JSON that Grafana 10 and later load.

Expressions are written without the dashboard's variables: every selector of a metric of ours is given them here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from qemu_migration_exporter.metrics.table import MIGRATION

Json = dict[str, Any]

#: Of Grafana 10.4; later ones take it further by themselves.
_SCHEMA_VERSION: Final = 39
_COLUMNS: Final = 24
#: The variables every dashboard has, and what each selects.
_JOB_AND_INSTANCE: Final = 'job=~"$job", instance=~"$instance"'
_SELECTOR: Final = re.compile(r"\b(qemu_migrations?_\w+|up|scrape_duration_seconds|ALERTS)\b(?:\{([^}]*)\})?")
_OF_A_VM: Final = {"ALERTS", *(metric.name for metric in MIGRATION if "vm" in metric.labels)}

DATASOURCE: Final[Json] = {"type": "prometheus", "uid": "${datasource}"}

#: Colours say the same everywhere: of results, and of what a threshold is passed into.
GREEN, YELLOW, RED, BLUE, GREY = "green", "yellow", "red", "blue", "text"


@dataclass(frozen=True, slots=True)
class Query:
    """A question to Prometheus.

    Attributes:
        expr: PromQL, without the dashboard's variables.
        legend: What its series are called, `{{label}}` standing for a label's value.
        instant: Whether it is asked for the end of the time range only.
        shape: As Grafana names it; a heatmap takes buckets, a table takes labels as columns.
        exemplars: Whether to ask for the traces behind it too.
    """

    expr: str
    legend: str = ""
    instant: bool = False
    shape: str = "time_series"
    exemplars: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel.

    Attributes:
        kind: Grafana's plugin.
        unit: Grafana's name of the unit.
        steps: Thresholds, from low to high: the colour from a value on; the first has none.
        custom: The plugin's own field configuration.
        mappings: Texts and colours for values.
        overrides: Field configuration by the name of a series or column.
    """

    title: str
    description: str
    kind: str
    unit: str
    queries: Sequence[Query]
    width: int = 12
    height: int = 8
    steps: Sequence[tuple[float | None, str]] = ((None, GREEN),)
    options: Json = field(default_factory=dict)
    custom: Json = field(default_factory=dict)
    defaults: Json = field(default_factory=dict)
    mappings: Sequence[Json] = ()
    overrides: Mapping[str, Json] = field(default_factory=dict)
    transformations: Sequence[Json] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """A whole dashboard.

    Attributes:
        uid: Stable for ever: links and bookmarks name it.
        vm: Whether it is of one virtual machine, chosen by a variable.
    """

    uid: str
    title: str
    description: str
    rows: Sequence[Row]
    since: str = "now-1h"
    vm: bool = False

    def json(self) -> Json:
        """Build what Grafana loads; panels get ids in the order they stand in."""
        return {
            "annotations": {"list": _annotations(vm=self.vm)},
            "description": self.description,
            "editable": False,
            "graphTooltip": 1,
            "links": [_link_to_the_others()],
            "panels": _place(self.rows, vm=self.vm),
            "refresh": "10s",
            "schemaVersion": _SCHEMA_VERSION,
            "tags": ["qemu-migration"],
            "templating": {"list": _variables(vm=self.vm)},
            "time": {"from": self.since, "to": "now"},
            "timezone": "browser",
            "title": self.title,
            "uid": self.uid,
        }


def select(expr: str, *, vm: bool) -> str:
    """Give every selector in an expression the dashboard's variables; `vm` to those metrics that have the label.

    An alert may be about many hosts and then has no instance: it is left as it is.
    """

    def matchers(found: re.Match[str]) -> str:
        ours = [] if found[1] == "ALERTS" else [_JOB_AND_INSTANCE]
        of_the_vm = ['vm=~"$vm"'] if vm and found[1] in _OF_A_VM else []
        return f"{found[1]}{{{', '.join(filter(None, (found[2], *ours, *of_the_vm)))}}}"

    return _SELECTOR.sub(matchers, " ".join(expr.split()))


def named(values: Mapping[str, tuple[str, str]]) -> Json:
    """Show values as texts in colours: `{"1": ("stalled", RED)}`."""
    return {
        "type": "value",
        "options": {
            value: {"text": text, "color": color, "index": index}
            for index, (value, (text, color)) in enumerate(values.items())
        },
    }


def _place(rows: Sequence[Row], *, vm: bool) -> list[Json]:
    """Lay panels out from left to right, a new line where one does not fit."""
    placed: list[Json] = []
    top = 0
    for row in rows:
        placed.append(
            {
                "collapsed": False,
                "gridPos": {"h": 1, "w": _COLUMNS, "x": 0, "y": top},
                "id": len(placed) + 1,
                "panels": [],
                "title": row.title,
                "type": "row",
            }
        )
        top, left, height = top + 1, 0, 0
        for panel in row.panels:
            if left + panel.width > _COLUMNS:
                top, left, height = top + height, 0, 0
            position = {"h": panel.height, "w": panel.width, "x": left, "y": top}
            placed.append({**_panel(panel, vm=vm), "gridPos": position, "id": len(placed) + 1})
            left, height = left + panel.width, max(height, panel.height)
        top += height
    return placed


def _panel(panel: Panel, *, vm: bool) -> Json:
    defaults: Json = {
        "color": {"mode": "thresholds" if panel.kind in {"stat", "table", "state-timeline"} else "palette-classic"},
        "custom": panel.custom,
        "mappings": list(panel.mappings),
        "thresholds": {"mode": "absolute", "steps": [{"value": value, "color": color} for value, color in panel.steps]},
        "unit": panel.unit,
        **panel.defaults,
    }
    return {
        "datasource": DATASOURCE,
        "description": panel.description,
        "fieldConfig": {"defaults": defaults, "overrides": [_override(*each) for each in panel.overrides.items()]},
        "options": panel.options,
        "targets": [_target(query, chr(ord("A") + index), vm=vm) for index, query in enumerate(panel.queries)],
        "title": panel.title,
        "transformations": list(panel.transformations),
        "type": panel.kind,
    }


def _target(query: Query, letter: str, *, vm: bool) -> Json:
    return {
        "datasource": DATASOURCE,
        "editorMode": "code",
        "exemplar": query.exemplars,
        "expr": select(query.expr, vm=vm),
        "format": query.shape,
        "instant": query.instant,
        "legendFormat": query.legend or "__auto",
        "range": not query.instant,
        "refId": letter,
    }


def _override(name: str, properties: Json) -> Json:
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [{"id": key, "value": value} for key, value in properties.items()],
    }


def _variables(*, vm: bool) -> list[Json]:
    variables: list[Json] = [
        {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
        {"name": "traces", "label": "Traces", "type": "datasource", "query": "jaeger"},
        _label_variable("job", "label_values(qemu_migration_exporter_build_info, job)", "Job"),
        _label_variable("instance", 'label_values(qemu_migration_exporter_build_info{job=~"$job"}, instance)', "Host"),
    ]
    if vm:
        query = f"label_values(qemu_migration_active{{{_JOB_AND_INSTANCE}}}, vm)"
        variables.append({**_label_variable("vm", query, "VM"), "multi": False, "includeAll": False})
        variables[-1].pop("allValue")
    return variables


def _label_variable(name: str, query: str, label: str) -> Json:
    return {
        "allValue": ".+",
        "datasource": DATASOURCE,
        "includeAll": True,
        "label": label,
        "multi": True,
        "name": name,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "type": "query",
    }


def _annotations(*, vm: bool) -> list[Json]:
    """Mark the alerts that fire, and where migrations begin and end."""
    marks = (
        (
            "Alerts",
            'ALERTS{alertname=~"QemuMigration.+", alertstate="firing"}',
            RED,
            "{{alertname}}",
            "{{vm}} {{instance}}",
        ),
        ("Start", "qemu_migration_start_timestamp_seconds * 1000", BLUE, "migration starts", "{{vm}}"),
        ("End", "qemu_migration_end_timestamp_seconds * 1000", GREY, "migration ends", "{{vm}}"),
    )
    return [
        {
            "datasource": DATASOURCE,
            "enable": True,
            "expr": select(expr, vm=vm),
            "iconColor": color,
            "name": name,
            "step": "10s",
            "tagKeys": "instance",
            "textFormat": text,
            "titleFormat": title,
            "useValueForTime": name != "Alerts",
        }
        for name, expr, color, title, text in marks
    ]


def _link_to_the_others() -> Json:
    return {
        "asDropdown": False,
        "icon": "external link",
        "includeVars": True,
        "keepTime": True,
        "tags": ["qemu-migration"],
        "targetBlank": False,
        "title": "QEMU migration",
        "tooltip": "",
        "type": "dashboards",
        "url": "",
    }
