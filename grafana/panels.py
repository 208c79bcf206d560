"""The few kinds of panels the dashboards use, each with how it looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote

from grafana.builder import BLUE, GREEN, GREY, RED, YELLOW, Json, Panel, Query, named

Steps = Sequence[tuple[float | None, str]]

#: For what is neither good nor bad, however high.
NEUTRAL: Final[Steps] = ((None, BLUE),)

RESULTS: Final[Mapping[str, Json]] = {
    "completed": {"color": {"mode": "fixed", "fixedColor": GREEN}},
    "failed": {"color": {"mode": "fixed", "fixedColor": RED}},
    "cancelled": {"color": {"mode": "fixed", "fixedColor": YELLOW}},
    "unknown": {"color": {"mode": "fixed", "fixedColor": GREY}},
}

YES_OR_NO: Final = named({"0": ("no", GREEN), "1": ("yes", RED)})


def trace_link(label: str) -> Json:
    """Lead from a column or series to its trace, in whatever the variable `traces` names."""
    state = '{"datasource":"${traces}","queries":[{"refId":"A","query":"%s"}],"range":{"from":"now-24h","to":"now"}}'
    return {"title": "Trace", "url": f"/explore?left={quote(state % label, safe='${}._')}"}


#: Keeps the time range and the choices, and goes to one virtual machine.
TO_ONE_MIGRATION: Final[Json] = {
    "title": "This migration",
    "url": "/d/qemu-migration-one?${__url_time_range}&${datasource:queryparam}&${job:queryparam}"
    "&var-instance=${__data.fields.instance}&var-vm=${__data.fields.vm}",
}


def good_to(warning: float, critical: float | None = None) -> Steps:
    """Green, yellow from `warning` on, red from `critical` on; without that, red from `warning` on."""
    if critical is None:
        return ((None, GREEN), (warning, RED))
    return ((None, GREEN), (warning, YELLOW), (critical, RED))


def stat(
    title: str,
    description: str,
    expr: str,
    unit: str,
    *,
    steps: Steps = NEUTRAL,
    width: int = 4,
    legend: str = "",
    mappings: Sequence[Json] = (),
    no_value: str = "-",
) -> Panel:
    """One number, as it is at the end of the time range."""
    return Panel(
        title=title,
        description=description,
        kind="stat",
        unit=unit,
        queries=[Query(expr, legend, instant=True)],
        width=width,
        height=4,
        steps=steps,
        mappings=mappings,
        defaults={"noValue": no_value},
        options={
            "colorMode": "value",
            "graphMode": "none",
            "justifyMode": "auto",
            "orientation": "auto",
            "percentChangeColorMode": "standard",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "showPercentChange": False,
            "textMode": "auto",
            "wideLayout": True,
        },
    )


def sentence(title: str, description: str, queries: Sequence[Query], *, height: int = 4) -> Panel:
    """Sentences: the series' names, coloured by their values: 0 where all is well, 1 where it is not."""
    return Panel(
        title=title,
        description=description,
        kind="stat",
        unit="none",
        queries=queries,
        width=24,
        height=height,
        steps=good_to(1),
        defaults={
            "links": [trace_link("${__field.labels.trace_id}")],
            "noValue": "Nothing migrates, and nothing has in the exporters' retention.",
        },
        options={
            "colorMode": "value",
            "graphMode": "none",
            "justifyMode": "auto",
            "orientation": "horizontal",
            "percentChangeColorMode": "standard",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "showPercentChange": False,
            "text": {"titleSize": 16},
            "textMode": "name",
            "wideLayout": True,
        },
    )


def graph(
    title: str,
    description: str,
    queries: Sequence[Query],
    unit: str,
    *,
    width: int = 12,
    steps: Steps = NEUTRAL,
    stacked: bool = False,
    bars: bool = False,
    log: bool = False,
    overrides: Mapping[str, Json] | None = None,
    highest: float | None = None,
) -> Panel:
    """Lines or bars over time; thresholds that say something are drawn."""
    return Panel(
        title=title,
        description=description,
        kind="timeseries",
        unit=unit,
        queries=queries,
        width=width,
        steps=steps,
        defaults={"min": 0} if highest is None else {"min": 0, "max": highest},
        overrides=overrides or {},
        custom={
            "drawStyle": "bars" if bars else "line",
            "fillOpacity": 60 if bars else 30 if stacked else 8,
            "lineWidth": 1,
            "scaleDistribution": {"type": "log", "log": 10} if log else {"type": "linear"},
            "showPoints": "auto",
            "spanNulls": False,
            "stacking": {"group": "A", "mode": "normal" if stacked else "none"},
            "thresholdsStyle": {"mode": "dashed" if len(steps) > 1 else "off"},
        },
        options={
            "legend": {
                "calcs": ["lastNotNull", "max"],
                "displayMode": "table",
                "placement": "bottom",
                "showLegend": True,
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    )


def heatmap(title: str, description: str, expr: str, *, width: int = 12) -> Panel:
    """How observations of a histogram in seconds spread; its exemplars lead to traces."""
    return Panel(
        title=title,
        description=description,
        kind="heatmap",
        unit="short",
        queries=[Query(expr, "{{le}}", shape="heatmap", exemplars=True)],
        width=width,
        custom={"hideFrom": {"legend": False, "tooltip": False, "viz": False}, "scaleDistribution": {"type": "linear"}},
        options={
            "calculate": False,
            "cellGap": 1,
            "color": {
                "exponent": 0.5,
                "fill": "dark-orange",
                "mode": "scheme",
                "reverse": False,
                "scale": "exponential",
                "scheme": "Blues",
                "steps": 64,
            },
            "exemplars": {"color": "rgba(255,0,255,0.7)"},
            "filterValues": {"le": 1e-9},
            "legend": {"show": True},
            "rowsFrame": {"layout": "auto"},
            "showValue": "never",
            "tooltip": {"mode": "single", "showColorScale": False, "yHistogram": False},
            "yAxis": {"axisPlacement": "left", "reverse": False, "unit": "s"},
        },
    )


def timeline(
    title: str, description: str, query: Query, mappings: Sequence[Json], *, width: int = 12, height: int = 8
) -> Panel:
    """States over time, a line for each series."""
    return Panel(
        title=title,
        description=description,
        kind="state-timeline",
        unit="none",
        queries=[query],
        width=width,
        height=height,
        steps=NEUTRAL,
        mappings=mappings,
        custom={"fillOpacity": 80, "lineWidth": 0},
        options={
            "alignValue": "center",
            "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": False},
            "mergeValues": True,
            "rowHeight": 0.85,
            "showValue": "never",
            "tooltip": {"mode": "single", "sort": "none"},
        },
    )


def table(
    title: str,
    description: str,
    queries: Sequence[str],
    columns: Mapping[str, tuple[str, Json]],
    *,
    join: str,
    height: int = 8,
    width: int = 24,
    no_value: str = "-",
) -> Panel:
    """One line for each value of the label `join`, with the labels and values of all queries side by side.

    `columns` says what each field is called and how it looks, in their order; fields that are not there are hidden.
    """
    return Panel(
        title=title,
        description=description,
        kind="table",
        unit="short",
        queries=[Query(expr, instant=True, shape="table") for expr in queries],
        width=width,
        height=height,
        steps=NEUTRAL,
        custom={"align": "auto", "cellOptions": {"type": "auto"}, "filterable": False, "inspect": False},
        defaults={"noValue": no_value},
        overrides={name: {"displayName": shown, **look} for name, (shown, look) in columns.items()},
        options={"cellHeight": "sm", "frameIndex": 0, "showHeader": True},
        transformations=[
            {"id": "joinByField", "options": {"byField": join, "mode": "outer"}},
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
