"""The kinds of panels the dashboards use, each with its look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from qemu_migration_exporter.core.model import StallReason

from grafana.builder import BLUE, DASH, GREEN, GREY, ORANGE, PURPLE, RED, YELLOW, Json, Panel, Query, named, shown_as

Steps = Sequence[tuple[float | None, str]]

#: For a number that is neither good nor bad, however high.
NEUTRAL: Final[Steps] = ((None, BLUE),)

#: Phases of a migration: their name and colour.
PHASES: Final = {
    "setup": ("setup", PURPLE),
    "iterate": ("rounds", BLUE),
    "complete_precopy": ("switchover, guest stopped", ORANGE),
    "postcopy": ("post-copy", GREEN),
    "cleanup": ("cleanup", GREY),
}

#: Red, orange and yellow for what an operator can end; purple for a device and for post-copy.
REASON_COLOURS: Final = dict(
    zip(
        StallReason,
        (
            "dark-red", "red", "super-light-red", "light-red", "dark-orange", "orange", "dark-yellow", "yellow",
            "dark-purple", "purple",
        ),
        strict=True,
    )
)  # fmt: skip

RESULTS: Final = {"completed": GREEN, "failed": RED, "cancelled": YELLOW, "unknown": GREY}

#: Shown for a number that the stream does not give; queries put -1 in its place, so that a column never goes away.
_UNKNOWN: Final = named({"-1": (DASH, GREY)})


_STATE: Final = '{"datasource":"${traces}","queries":[{"refId":"A","query":"${__value.raw}"}],"range":{"from":"now-24h","to":"now"}}'

#: From a trace id to its trace, in the data source of the variable `traces`. The raw value, because the cell shows a word.
TO_ITS_TRACE: Final[Json] = {
    "title": "Trace",
    "url": f"/explore?left={quote(_STATE, safe='${}._')}",
    "targetBlank": True,
}

#: From a trace id to the exporter's own page of the migration, at the address that Prometheus scrapes.
TO_ITS_REPORT: Final[Json] = {
    "title": "Report of the exporter",
    "url": "http://${__data.fields.instance}/migrations/${__value.raw}",
    "targetBlank": True,
}

#: Keeps the time range and the choices, and goes to one virtual machine.
TO_ONE_MIGRATION: Final[Json] = {
    "title": "This migration",
    "url": "/d/qemu-migration-one?${__url_time_range}&${datasource:queryparam}&${job:queryparam}"
    "&var-instance=${__data.fields.instance:percentencode}&var-vm=${__data.fields.vm:percentencode}",
}


def good_to(warning: float, critical: float | None = None) -> Steps:
    """Return thresholds: green, yellow from `warning` on, red from `critical` on; without that, red from `warning` on."""
    if critical is None:
        return ((None, GREEN), (warning, RED))
    return ((None, GREEN), (warning, YELLOW), (critical, RED))


def fixed(colors: Mapping[str, str]) -> Mapping[str, Json]:
    """Return overrides that give series a colour by their name."""
    return {name: {"color": {"mode": "fixed", "fixedColor": color}} for name, color in colors.items()}


def stat(
    title: str,
    description: str,
    expr: str,
    unit: str,
    *,
    steps: Steps = NEUTRAL,
    width: int = 4,
    mappings: Sequence[Json] = (),
    empty: str = DASH,
    decimals: int | None = None,
) -> Panel:
    """Return one number, as it is at the end of the time range."""
    return Panel(
        title=title,
        description=description,
        kind="stat",
        unit=unit,
        queries=[Query(expr, instant=True)],
        empty=empty,
        width=width,
        height=3,
        steps=steps,
        mappings=mappings,
        defaults={} if decimals is None else {"decimals": decimals},
        options={
            "colorMode": "value",
            "graphMode": "none",
            "justifyMode": "auto",
            "orientation": "auto",
            "percentChangeColorMode": "standard",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "showPercentChange": False,
            "textMode": "value",
            "wideLayout": True,
        },
    )


def _renamed(regex: str, pattern: str) -> Json:
    return {"id": "renameByRegex", "options": {"regex": regex, "renamePattern": pattern}}


#: A longer name would push the values out of the legend. Its end has the host.
_SHORT_NAME: Final = _renamed("^(.{14}).{4,}(.{12})$", "$1\N{HORIZONTAL ELLIPSIS}$2")


def graph(
    title: str,
    description: str,
    queries: Sequence[Query],
    unit: str,
    *,
    empty: str,
    width: int = 12,
    height: int = 8,
    steps: Steps = NEUTRAL,
    stacked: bool = False,
    bars: bool = False,
    log: int | None = None,
    few: bool = False,
    ends: bool = False,
    overrides: Mapping[str, Json] | None = None,
    highest: float | None = None,
    at_least: float | None = None,
    step: str = "",
    rename: str = "^(.*[^:\\]]):[0-9]+$",
    hue: str = "",
) -> Panel:
    """Return lines or bars over time, with their thresholds.

    `few` series with short names have a legend of one line below; else it is a table beside the plot, the highest last
    value first. `log` is the base of a logarithmic axis: 2 for bytes, so that its marks are whole, 10 for other units.
    Bars are counts, and the legend has their totals.
    If a series `ends` with its migration, the legend has no values: Grafana would show the last one long after.
    An axis goes up to `at_least`, because Grafana draws zeros on an axis to 100. `rename` is a regular expression whose
    first group is the name in the legend; the default drops a host's port. Series are in shades of a `hue`; without one
    their colours only tell them apart.
    """
    table: Json = {"displayMode": "table", "placement": "right", "width": 290}
    if not ends:
        table |= {"sortBy": "Total" if bars else "Last", "sortDesc": True}
    calculations = [] if ends else ["sum" if bars else "last"]
    lowest: Json = {} if log else {"min": 0}
    return Panel(
        title=title,
        description=description,
        kind="timeseries",
        unit=unit,
        queries=queries,
        empty=empty,
        width=width,
        height=height,
        steps=steps,
        defaults=lowest
        | ({} if highest is None else {"max": highest})
        | ({"color": {"mode": "shades", "fixedColor": hue}} if hue else {}),
        overrides=overrides or {},
        custom={
            "drawStyle": "bars" if bars else "line",
            "fillOpacity": 60 if bars else 30 if stacked else 0 if log else 8,
            "lineWidth": 1 if bars or stacked else 2,
            "scaleDistribution": {"type": "log", "log": log} if log else {"type": "linear"},
            "showPoints": "never",
            "spanNulls": False,
            "stacking": {"group": "A", "mode": "normal" if stacked else "none"},
            "thresholdsStyle": {"mode": "dashed" if len(steps) > 1 else "off"},
            **({} if at_least is None else {"axisSoftMax": at_least}),
        },
        options={
            "legend": {"calcs": calculations, "showLegend": True}
            | ({"displayMode": "list", "placement": "bottom"} if few else table),
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        transformations=() if few else [_renamed(rename, "$1"), _SHORT_NAME],
        least_step=step,
    )


def timeline(
    title: str,
    description: str,
    queries: Sequence[Query],
    states: Mapping[str, tuple[str, str]],
    *,
    empty: str,
    width: int = 24,
    height: int = 5,
) -> Panel:
    """Return states over time, a line for each series; `states` maps a value to its text and colour.

    `mergeValues` stays off: with it, and colours by threshold, Grafana ignores the colours of the mapping.
    """
    return Panel(
        title=title,
        description=description,
        kind="state-timeline",
        unit="none",
        queries=queries,
        empty=empty,
        width=width,
        height=height,
        steps=((None, "transparent"),),
        mappings=[named(states)],
        custom={"fillOpacity": 80, "lineWidth": 0},
        options={
            "alignValue": "center",
            "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": True},
            "mergeValues": False,
            "rowHeight": 0.85,
            "showValue": "never",
            "tooltip": {"mode": "single", "sort": "none"},
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a table.

    Attributes:
        title: Its heading; an empty one hides the column, whose value links still use.
        width: In pixels; None for the column that takes the rest.
        unit: Grafana's name of the unit.
        wraps: True if long text is broken into lines.
        states: Texts and colours for values.
        text: The text in place of every value.
        steps: Colours by value.
    """

    title: str
    width: int | None = None
    unit: str | None = None
    wraps: bool = False
    states: Mapping[str, tuple[str, str]] | None = None
    text: str = ""
    steps: Steps | None = None
    links: Sequence[Json] = ()

    def look(self) -> Json:
        """Return the field configuration."""
        is_coloured = self.states is not None or self.steps is not None
        steps = [{"value": value, "color": color} for value, color in self.steps or ((None, "text"),)]
        look: Json = {
            "displayName": self.title,
            "filterable": False,  # else icons for a filter lie over the links
            "noValue": DASH,
            "mappings": [shown_as(self.text) if self.text else named(self.states) if self.states else _UNKNOWN],
            "thresholds": {"mode": "absolute", "steps": steps},
            "custom.cellOptions": {"type": "color-text" if is_coloured else "auto", "wrapText": self.wraps},
        }
        if not self.title:
            return {"custom.hidden": True}
        if self.width is not None:
            look["custom.width"] = self.width
        if self.wraps:
            look["custom.wrapText"] = True
        if self.unit is not None:
            look["unit"] = self.unit
        if self.links:
            look["links"] = list(self.links)
        return look


#: Columns by the label or value that fills them.
VM: Final = {"vm": Column(title="VM", width=190, wraps=True, links=[TO_ONE_MIGRATION])}
WIDE_VM: Final = {"vm": Column(title="VM", wraps=True, links=[TO_ONE_MIGRATION])}
HOST: Final = {"instance": Column(title="Host", width=150, wraps=True)}
TRACE: Final = {"trace_id": Column(title="Trace", width=75, text="open", links=[TO_ITS_TRACE, TO_ITS_REPORT])}


def table(
    title: str,
    description: str,
    queries: Sequence[str],
    columns: Mapping[str, Column],
    *,
    sort: str,
    empty: str,
    height: int = 8,
    width: int = 24,
) -> Panel:
    """Return a table with a row for each set of labels that all queries share, their values side by side.

    `columns` are in their order, by label or `Value`, which is `Value #A` where there are several queries. The rows are
    in falling order of the column with the heading `sort`.
    """
    return Panel(
        title=title,
        description=description,
        kind="table",
        unit="short",
        queries=[Query(expr, instant=True, shape="table") for expr in queries],
        empty=empty,
        width=width,
        height=height,
        steps=((None, "text"),),
        custom={"align": "left", "cellOptions": {"type": "auto"}, "filterable": False, "inspect": False},
        overrides={name: column.look() for name, column in columns.items()},
        options={
            "cellHeight": "sm",
            "frameIndex": 0,
            "showHeader": True,
            "sortBy": [{"displayName": sort, "desc": True}],
        },
        transformations=[
            {"id": "merge", "options": {}},
            {"id": "filterFieldsByName", "options": {"include": {"names": list(columns)}}},
            {
                "id": "organize",
                "options": {
                    "excludeByName": {},
                    "indexByName": {name: index for index, name in enumerate(columns)},
                    "renameByName": {},
                },
            },
        ],
    )
