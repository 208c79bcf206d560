"""Write dashboards/*.json; `make dashboards` runs `python -m grafana`.

`python -m grafana export DIR` writes them in the form of grafana.com instead, with `__inputs`, beside the rules as a
mixin-compatible bundle.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Final

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
    """Write the bundle: `dashboards/` for grafana.com, `prometheus_alerts.yaml` and `prometheus_rules.yaml` as a mixin has."""
    dashboards = directory / "dashboards"
    dashboards.mkdir(parents=True, exist_ok=True)
    for name, dashboard in DASHBOARDS.items():
        (dashboards / f"{name}.json").write_text(_dump(shared(dashboard)), encoding="utf-8")
    for source, target in (("alerts", "alerts"), ("recording", "rules"), ("fallback", "fallback_alerts")):
        shutil.copyfile(_RULES / f"{source}.yml", directory / f"prometheus_{target}.yaml")


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
