"""Shipped files for operators: containers, Prometheus, Alertmanager and Collector, each held to a real tool.

No container engine, Grafana, Jaeger or OpenTelemetry Collector is packaged where the tests run. The compose file is read by
an implementation of its specification, the Dockerfile by its linter, and the Collector's configuration by this file alone.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import compose_spec
import pytest
import yaml

from tests.support.demo import migrating
from tests.support.paths import ROOT
from tests.support.prometheus import need
from tests.support.receiver import Receiver, receiving

DEPLOY, CONFIG = ROOT / "deploy", ROOT / "config"

_CONFIGURED = sorted(
    path
    for folder in (DEPLOY, CONFIG, ROOT / "grafana" / "provisioning")
    for path in folder.rglob("*")
    if path.suffix in {".yml", ".service", ".conf", ".py"} or path.name == "Dockerfile"
)


def _yaml(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return loaded


def _services() -> dict[str, dict[str, Any]]:
    services: dict[str, dict[str, Any]] = _yaml(DEPLOY / "compose.yml")["services"]
    return services


@pytest.mark.parametrize("path", _CONFIGURED, ids=lambda path: str(path.relative_to(ROOT)))
def test_file_begins_with_its_purpose(path: Path) -> None:
    """In a sentence, where one opens it."""
    first = path.read_text(encoding="utf-8").splitlines()[0]

    assert re.match(r'(# |""")[A-Z].{30,}', first)


def test_compose_file_is_valid() -> None:
    """The specification allows no unknown key, no wrong type, no volume or network that is not declared."""
    compose = compose_spec.PyCompose.from_yaml((DEPLOY / "compose.yml").read_text(encoding="utf-8"))
    compose.validate()

    with pytest.raises(ValueError, match="extension key `imagee`"):
        compose_spec.PyCompose.from_yaml("services: {a: {imagee: b}}")


def test_compose_mounts_and_names_exist() -> None:
    """Files exist, services that others depend on or send to exist, ports are open on this machine only, images have versions."""
    services = _services()
    for service in services.values():
        for source, *_ in (volume.split(":") for volume in service.get("volumes", [])):
            assert (DEPLOY / source).resolve().exists(), source
        assert set(service.get("depends_on", [])) <= set(services)
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert "build" in service or re.search(r":v?\d+\.\d+\.\d+$", service["image"])
    build = services["exporter"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).resolve() == DEPLOY / "Dockerfile"

    named = set()
    for path in (*DEPLOY.glob("demo/*.yml"), *(ROOT / "grafana" / "provisioning").rglob("*.yml")):
        named |= set(re.findall(r"(?:http://|\[)([a-z]+):\d+", path.read_text(encoding="utf-8")))
    assert {"exporter", "alertmanager", "jaeger", "prometheus"} == named - {"localhost"}
    assert named - {"localhost"} <= set(services)


def test_dashboards_mount_at_provisioned_path() -> None:
    """Grafana's provider names the folder that the compose file fills."""
    (provider,) = _yaml(ROOT / "grafana" / "provisioning" / "dashboards" / "qemu-migration.yml")["providers"]
    targets = {volume.split(":")[0]: volume.split(":")[1] for volume in _services()["grafana"]["volumes"]}

    assert targets["../grafana/dashboards"] == provider["options"]["path"]


def test_dockerfile_passes_linter() -> None:
    """hadolint finds nothing; the program does not run as root."""
    linter = Path(sys.executable).with_name("hadolint")

    done = subprocess.run([linter, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "")
    assert re.search(r"^USER [1-9]\d+", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)


def test_image_build_context_is_complete() -> None:
    """Everything the Dockerfile copies is an exception of .dockerignore."""
    let_in = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE)
    copied = re.findall(r"^COPY (?!--)(.+) \S+$", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)

    assert sorted(let_in) == sorted(" ".join(copied).split())
    assert all((ROOT / name).exists() for name in let_in)


def test_demo_configurations_are_accepted(tmp_path: Path) -> None:
    """In the places that the compose file mounts them to: with the rules that are named."""
    need("promtool", "amtool")
    shutil.copy(DEPLOY / "demo" / "prometheus.yml", tmp_path)
    (tmp_path / "rules").symlink_to(CONFIG / "rules")

    for command in (
        ["promtool", "check", "config", str(tmp_path / "prometheus.yml")],
        ["amtool", "check-config", str(DEPLOY / "demo" / "alertmanager.yml")],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_collector_pipelines_use_declared_parts() -> None:
    """All used parts are declared and all declared parts are used; memory is watched first, batches are made last."""
    config = _yaml(CONFIG / "collector.yml")
    pipelines = config["service"]["pipelines"].values()

    for kind in ("receivers", "processors", "exporters"):
        assert {name for pipeline in pipelines for name in pipeline[kind]} == set(config[kind])
    assert set(config["service"]["extensions"]) == set(config["extensions"])
    assert config["exporters"]["otlp"]["sending_queue"]["storage"] in config["extensions"]
    for pipeline in pipelines:
        assert (pipeline["processors"][0], pipeline["processors"][-1]) == ("memory_limiter", "batch")
    assert not any(name.startswith("tail_sampling") for name in config["processors"])


def test_demo_shows_running_migrations(tmp_path: Path) -> None:
    """The daemon of the compose file, in the places of this machine: both machines migrate, now, and their traces leave."""
    with receiving(Receiver()) as receiver, migrating(tmp_path, receiver.url) as daemon:
        daemon.wait_until(lambda: (daemon.metric("qemu_migration_round", vm="web-42") or 0) >= 2, "round 2 of web-42")
        daemon.wait_until(
            lambda: bool(daemon.metric("qemu_migration_last_result", result="failed", vm="db-7")), "db-7 has failed"
        )
        daemon.wait_until(lambda: "iterate" in {span.name for span in receiver.spans}, "a round is in a trace")

        assert time.time() - (daemon.metric("qemu_migration_start_timestamp_seconds", vm="web-42") or 0) < 60
        assert daemon.metric("qemu_migration_active", vm="web-42") == 1
