"""Write dashboards/*.json; `make dashboards` runs `python -m grafana`.

`python -m grafana export DIR` writes a Prometheus mixin instead, with the dashboards in the form of grafana.com beside
it: their data source is an input (`__inputs`), and not a variable.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Final

import yaml

from grafana.builder import Dashboard, Json
from grafana.fleet import FLEET
from grafana.health import EXPORTER_HEALTH
from grafana.migration import ONE_MIGRATION

DIRECTORY: Final = Path(__file__).parent / "dashboards"
_RULES: Final = Path(__file__).parents[1] / "config" / "rules"

#: The dashboards by the name of their file.
DASHBOARDS: Final = {"fleet": FLEET, "one-migration": ONE_MIGRATION, "exporter-health": EXPORTER_HEALTH}

#: The oldest Grafana that loads schema version 39 unchanged.
_REQUIRES: Final = (
    ("grafana", "grafana", "Grafana", "10.4.0"),
    ("datasource", "prometheus", "Prometheus", "1.0.0"),
    *(
        ("panel", kind, name, "")
        for kind, name in (
            ("stat", "Stat"),
            ("state-timeline", "State timeline"),
            ("table", "Table"),
            ("timeseries", "Time series"),
        )
    ),
)


def text(dashboard: Dashboard) -> str:
    """Return the committed JSON; keys are sorted so that a diff shows what changed."""
    return _dump(dashboard.json())


def shared(dashboard: Dashboard) -> Json:
    """Return a dashboard as *Share → Export for sharing externally* writes it and grafana.com takes it."""
    data_source = {
        "name": "DS_PROMETHEUS",
        "label": "Prometheus",
        "description": "The Prometheus that scrapes the exporters.",
        "type": "datasource",
        "pluginId": "prometheus",
        "pluginName": "Prometheus",
    }
    body = json.loads(json.dumps(dashboard.json()).replace("${datasource}", "${DS_PROMETHEUS}"))
    body["templating"]["list"] = [each for each in body["templating"]["list"] if each["name"] != "datasource"]
    requires = [{"type": kind, "id": id_, "name": name, "version": version} for kind, id_, name, version in _REQUIRES]
    return {"__inputs": [data_source], "__elements": {}, "__requires": requires, "id": None, **body}


def export(directory: Path) -> None:
    """Write a mixin, and `grafana.com/` with the dashboards to upload."""
    for folder in ("dashboards", "grafana.com"):
        (directory / folder).mkdir(parents=True, exist_ok=True)
    for name, dashboard in DASHBOARDS.items():
        (directory / "dashboards" / f"{name}.json").write_text(text(dashboard), encoding="utf-8")
        (directory / "grafana.com" / f"{name}.json").write_text(_dump(shared(dashboard)), encoding="utf-8")
    for source, target in (("alerts", "alerts"), ("recording", "rules"), ("fallback", "fallback_alerts")):
        shutil.copyfile(_RULES / f"{source}.yml", directory / f"prometheus_{target}.yaml")
        # jsonnet's YAML has neither anchors nor all kinds of quotes.
        rules = yaml.safe_load((_RULES / f"{source}.yml").read_text(encoding="utf-8"))
        (directory / f"prometheus_{target}.json").write_text(_dump(rules), encoding="utf-8")
    shutil.copyfile(DIRECTORY.parent / "mixin.libsonnet", directory / "mixin.libsonnet")


def _dump(value: Json) -> str:
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _main(arguments: list[str]) -> int:
    match arguments:
        case []:
            for name, dashboard in DASHBOARDS.items():
                (DIRECTORY / f"{name}.json").write_text(text(dashboard), encoding="utf-8")
        case ["export", directory]:
            export(Path(directory))
        case _:
            print("usage: python -m grafana [export DIR]", file=sys.stderr)  # noqa: T201
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
