"""Every expression of the dashboards, answered by a real Prometheus that scraped a migration as it went on."""

from __future__ import annotations

import math
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import pytest
from qemu_migration_exporter.core.model import Mode, Side

from tests.support.dashboards import ALL, Panel, substituted
from tests.support.paths import DATA
from tests.support.prometheus import Prometheus, free_address, need, scraping
from tests.support.qemu import wait_for

#: It takes 12.3 s, all of it rounds that come to nothing; in the end the bandwidth is raised and it completes.
_RECORDING: Final = DATA / "qemu-7.2-log-nonconverging.log"

#: Queries that have no answer in that recording, and why.
_SILENT: Final = {
    ("exporter-health: Surprises", "A"): "the recording has none",
    ("exporter-health: Failures", "A"): "nothing fails",
    ("exporter-health: Spans", "B"): "every span is exported",
    ("one-migration: Throttle", "A"): "QEMU prints the percentage since 9.2, the recording is of 7.2",
}


#: Queries whose answer depends on whether a scrape came before the migration began.
_RACES: Final = {("exporter-health: Migrations begun, in five minutes", "A")}


#: Labels that are empty in that recording; Prometheus leaves out empty labels.
_EMPTY: Final = {"reason"}


@dataclass(frozen=True, slots=True)
class _Observed:
    """A Prometheus that has scraped the whole migration."""

    prometheus: Prometheus
    start: float
    end: float

    def answer(self, target: dict[str, Any]) -> list[dict[str, Any]]:
        """Evaluate the query of a panel at every second of the migration and a little after."""
        expr = substituted(target["expr"], rate_interval="5s", span="30s")
        return self.prometheus.over_time(expr, self.start, self.end)


@pytest.fixture(name="observed", scope="module")
def _observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Observed]:
    """Replay the recording in real time, to the end, before a Prometheus that scrapes every second."""
    need("prometheus")
    directory = tmp_path_factory.mktemp("dashboards")
    address = free_address()
    start = time.time()
    with scraping(directory, address) as prometheus:
        # Prometheus looks for its targets first; the migration must not be half over then.
        wait_for(lambda: bool(prometheus.ask("query", query="up")), 30, "Prometheus scrapes")
        replay = subprocess.Popen(
            [
                sys.executable, "-m", "qemu_migration_exporter", "replay", str(_RECORDING), "--speed=1", "--report=none",
                f"--web.listen-address={address}", f"--spans.out={directory}/spans.json",
            ],
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            wait_for(lambda: prometheus.value("qemu_migration_active") == 1, 20, "the migration is seen")
            wait_for(lambda: prometheus.value("qemu_migration_active") == 0, 40, "its end is seen")
            seen = prometheus.value("timestamp(qemu_migration_active)")
            assert seen is not None
            wait_for(lambda: (prometheus.value("timestamp(up)") or 0) > seen + 1, 20, "two scrapes more")
            yield _Observed(prometheus, start, time.time())
        finally:
            replay.kill()
            replay.wait()


_targets = pytest.mark.parametrize(
    ("panel", "target"),
    [pytest.param(panel, target, id=f"{panel} {target['refId']}") for panel in ALL for target in panel.targets],
)


@_targets
@pytest.mark.timeout(120)
def test_panel_is_answered(observed: _Observed, panel: Panel, target: dict[str, Any]) -> None:
    """Neither empty nor NaN, and with the labels that its legend names."""
    series = observed.answer(target)
    values = [float(value) for each in series for _, value in each["values"]]

    name = (str(panel), target["refId"])
    assert name in _RACES or bool(values) != (name in _SILENT)
    assert not any(math.isnan(value) for value in values)
    for each in series:
        assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= set(each["metric"]) | _EMPTY


def test_silent_queries_exist() -> None:
    assert set(_SILENT) <= {(str(panel), target["refId"]) for panel in ALL for target in panel.targets}


@pytest.mark.parametrize("panel", [panel for panel in ALL if panel.json["type"] == "table"], ids=str)
def test_table_has_all_columns_at_any_time(observed: _Observed, panel: Panel) -> None:
    """From the bulk round to the end: Grafana drops a column that is empty in every row, and the others move."""
    is_alone = len(panel.targets) == 1
    there: dict[float, set[str]] = {}
    for target in panel.targets:
        for series in observed.answer(target):
            for at, _value in series["values"]:
                columns = there.setdefault(at, set())
                columns |= {"Value" if is_alone else f"Value #{target['refId']}", *series["metric"]}
    expected = set(panel.json["transformations"][1]["options"]["include"]["names"])

    assert all(expected <= columns for columns in there.values())


@pytest.mark.parametrize(
    "target", [target for panel in ALL for target in panel.targets if target["exemplar"]], ids=lambda each: each["expr"]
)
def test_exemplars_lead_to_trace(observed: _Observed, target: dict[str, Any]) -> None:
    """They have the trace id of the migration itself."""
    expr = substituted(target["expr"], rate_interval="5s", span="30s")
    (info,) = observed.prometheus.ask("query", query="qemu_migration_info")
    exemplars = observed.prometheus.ask("query_exemplars", query=expr, start=str(observed.start), end=str(observed.end))

    traces = {exemplar["labels"]["trace_id"] for series in exemplars for exemplar in series["exemplars"]}
    assert traces == {info["metric"]["trace_id"]}
    assert (info["metric"]["side"], info["metric"]["mode"]) == (Side.SOURCE, Mode.PRECOPY)


def _value(answer: list[dict[str, Any]], label: str) -> set[str]:
    return {series["metric"].get(label, "") for series in answer}


def test_sentences_and_commands_have_numbers(observed: _Observed) -> None:
    """PromQL that makes labels of numbers reads as a sentence, from the bulk round to the stall."""
    (panel,) = (panel for panel in ALL if str(panel) == "one-migration: Verdict and command")
    answer = observed.answer(panel.targets[0])

    size = r"\d+(?:\.\d)? [MG]iB"
    bulk = rf"first pass over memory(?:, {size} left)?(?: of {size})?(?:; sends {size}/s)?"
    later = (
        rf"(?:[a-zA-Z', ]+; )?round \d+(?:, at best {size} pending \(round \d+\))?; sends {size}/s"
        rf"(?:, {size}/s dirtied again)?(?:; needs \d+(?:\.\d)? m?s of downtime)?, limit 300 ms"
        r"(?:; would take at best (?:more than another hour|another \d+(?:\.\d)? (?:s|min)))?"
    )
    sentences = _value(answer, "sentence")
    pattern = rf"{bulk}|{later}|in setup|switching over.*|cleaning up.*"
    assert [] == [text for text in sentences if not re.fullmatch(pattern, text)]
    assert any(text.startswith("QEMU's bandwidth cap is too low") for text in sentences)
    commands = _value(answer, "with_command")
    assert "-" in commands
    assert any(re.fullmatch(r"virsh migrate-setspeed qemu-7\.2-log-nonconverging \d{3}", text) for text in commands)
