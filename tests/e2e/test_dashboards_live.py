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

#: What by its nature has no answer in that recording, and why. A query that has one does not belong here.
_SILENT: Final = {
    ("one-migration: Throttle", "A"): "QEMU prints the percentage since 9.2, the recording is of 7.2",
}


#: Labels that are empty in that recording; what is empty Prometheus leaves out.
_EMPTY: Final = {"uuid", "reason", "with_reason"}


@dataclass(frozen=True, slots=True)
class _Observed:
    """A Prometheus that has seen the whole migration."""

    prometheus: Prometheus
    start: float
    end: float

    def answer(self, target: dict[str, Any]) -> list[dict[str, Any]]:
        """Ask what a panel asks, at every second of the migration and a little after."""
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
def test_a_panel_is_answered(observed: _Observed, panel: Panel, target: dict[str, Any]) -> None:
    """Neither empty nor NaN, and with the labels that its legend names."""
    series = observed.answer(target)
    values = [float(value) for each in series for _, value in each["values"]]

    assert bool(values) != ((str(panel), target["refId"]) in _SILENT)
    assert not any(math.isnan(value) for value in values)
    for each in series:
        assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= set(each["metric"]) | _EMPTY


def test_what_is_silent_is_a_query_that_exists() -> None:
    """The list above names panels and queries of theirs."""
    assert set(_SILENT) <= {(str(panel), target["refId"]) for panel in ALL for target in panel.targets}


@pytest.mark.parametrize("panel", [panel for panel in ALL if panel.json["type"] == "table"], ids=str)
def test_a_tables_columns_are_in_the_answers(observed: _Observed, panel: Panel) -> None:
    """What is shown is a label of an answer or the value of one."""
    is_alone = len(panel.targets) == 1
    there = {"Value" if is_alone else f"Value #{target['refId']}" for target in panel.targets}
    for target in panel.targets:
        for each in observed.answer(target):
            there |= set(each["metric"])
    columns = panel.json["transformations"][1]["options"]["include"]["names"]

    assert set(columns) <= there | _EMPTY


@pytest.mark.parametrize(
    "target", [target for panel in ALL for target in panel.targets if target["exemplar"]], ids=lambda each: each["expr"]
)
def test_exemplars_lead_to_the_trace(observed: _Observed, target: dict[str, Any]) -> None:
    """A query that asks for exemplars gets some, of the migration's own trace."""
    expr = substituted(target["expr"], rate_interval="5s", span="30s")
    (info,) = observed.prometheus.ask("query", query="qemu_migration_info")
    exemplars = observed.prometheus.ask("query_exemplars", query=expr, start=str(observed.start), end=str(observed.end))

    traces = {exemplar["labels"]["trace_id"] for series in exemplars for exemplar in series["exemplars"]}
    assert traces == {info["metric"]["trace_id"]}
    assert (info["metric"]["side"], info["metric"]["mode"]) == (Side.SOURCE, Mode.PRECOPY)


def _named(legend: str, labels: dict[str, str]) -> str:
    """Put labels into a legend as Grafana does."""
    return re.sub(r"{{(\w+)}}", lambda name: labels.get(name[1], ""), legend)


def test_the_sentences_say_what_the_numbers_are(observed: _Observed) -> None:
    """A legend of labels that Prometheus made of numbers reads as a sentence, while it runs and after."""
    (panel,) = (panel for panel in ALL if str(panel) == "one-migration: In a sentence")
    running, ended = (
        {_named(target["legendFormat"], series["metric"]) for series in observed.answer(target)}
        for target in panel.targets
    )

    number = r"(?:\?|\d+(?:\.\d{1,3})?)"
    shape = (
        rf"qemu-7.2-log-nonconverging (?:gets nearer to its end|IS STALLED \([a-z_]+\)): round {number}, {number} MiB pending,"
        rf" at best {number} in round {number}; sends {number} MiB/s while {number} MiB/s are dirtied again;"
        rf" needs {number} s of downtime, the limit is {number} s\."
    )
    assert all(re.fullmatch(shape, said) for said in running), running
    assert any("IS STALLED (" in said and "?" not in said for said in running)
    assert any("gets nearer to its end" in said for said in running)
    assert ended == {"qemu-7.2-log-nonconverging completed after 12.3 s; the guest stood still for 0.031 s."}
