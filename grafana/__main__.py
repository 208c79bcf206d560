"""Write dashboards/*.json: `python -m grafana`, which `make dashboards` runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from grafana.builder import Dashboard
from grafana.fleet import FLEET
from grafana.health import EXPORTER_HEALTH
from grafana.migration import ONE_MIGRATION

DIRECTORY: Final = Path(__file__).parent / "dashboards"

#: Every dashboard there is, by its file's name.
DASHBOARDS: Final = {"fleet": FLEET, "one-migration": ONE_MIGRATION, "exporter-health": EXPORTER_HEALTH}


def text(dashboard: Dashboard) -> str:
    """Give the JSON as it is committed: sorted, so that a change shows as the change it is."""
    return json.dumps(dashboard.json(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name, dashboard in DASHBOARDS.items():
        (DIRECTORY / f"{name}.json").write_text(text(dashboard), encoding="utf-8")
