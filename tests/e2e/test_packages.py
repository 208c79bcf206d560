"""Both packages in a clean Debian 12: install, run as their own user, upgrade, remove."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.paths import DATA, ROOT
from tests.support.patience import patience
from tests.support.prometheus import need
from tests.support.qemu import wait_for
from tests.support.rotel import free_port

_NAME = "qemu-migration-exporter"
_LOG = "qemu-7.2-log-nonconverging.log"

_IMPORT_ALL = """
import importlib, pkgutil, sys
sys.path.insert(0, "/usr/lib/qemu-migration-exporter")
import qemu_migration_exporter
for module in pkgutil.walk_packages(qemu_migration_exporter.__path__, "qemu_migration_exporter."):
    if not module.name.endswith((".__main__", ".otlp_grpc")):  # the extra `grpc` is not packaged
        importlib.import_module(module.name)
"""

pytestmark = [pytest.mark.timeout(900), pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]


@pytest.fixture(name="packages", scope="module")
def _packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need("debootstrap", "dh", "fakeroot", "rpmbuild", "lintian", "rpmlint")
    out = tmp_path_factory.mktemp("packages")
    subprocess.run([ROOT / "deploy/packages/build", out], check=True, stdout=subprocess.DEVNULL)
    return out


@pytest.fixture(name="clean", scope="module")
def _clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("clean") / "root"
    subprocess.run(
        ["debootstrap", "--variant=minbase", "--include=python3,systemd", "bookworm", root],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return root


def copy(clean: Path, directory: Path) -> Path:
    root = directory / "root"
    subprocess.run(["cp", "--archive", clean, root], check=True)
    return root


def command(root: Path, *words: str) -> list[str]:
    return ["unshare", "-m", "-p", "-f", "--kill-child", f"--mount-proc={root}/proc", "chroot", str(root), *words]


def run(root: Path, *words: str) -> str:
    done = subprocess.run(command(root, *words), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def newest(packages: Path, suffix: str) -> Path:
    return max(packages.glob(f"*.{suffix}"))


def install(root: Path, package: Path) -> None:
    shutil.copy(package, root / "srv/package.deb")
    run(root, "dpkg", "--install", "/srv/package.deb")


def as_daemon(*words: str) -> Sequence[str]:
    """Return a command with the user and the one capability that the unit and its drop-in give."""
    user = [f"--reuid={_NAME}", f"--regid={_NAME}", "--clear-groups"]
    return ["setpriv", *user, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search", *words]


def follow_log(root: Path) -> None:
    """Follow a log of mode 0600 that belongs to root, as virtlogd makes it."""
    logs = root / "var/log/libvirt/qemu"
    logs.mkdir(parents=True)
    state = root / "var/lib" / _NAME
    run(root, "install", "-d", "-o", _NAME, f"/var/lib/{_NAME}")
    shutil.copy(DATA / _LOG, logs / "web-42.log")
    (logs / "web-42.log").chmod(0o600)
    port = free_port()
    daemon = as_daemon(
        _NAME, "run", f"--config.file=/etc/{_NAME}/exporter.yml", f"--web.listen-address=127.0.0.1:{port}"
    )

    def answer() -> list[object]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready") as ready:
                assert ready.status == 200
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as metrics:
                text = metrics.read().decode()
        except (urllib.error.URLError, ConnectionError):
            return []
        return [line for line in text.splitlines() if "lines_total" in line and "web-42" in line]

    process = subprocess.Popen(command(root, *daemon), stderr=subprocess.PIPE, start_new_session=True)
    try:
        wait_for(answer, 60, "the log is read")
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=patience(30))
    assert state.is_dir()


@pytest.fixture(name="installed", scope="module")
def _installed(packages: Path, clean: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    debian = copy(clean, tmp_path_factory.mktemp("debian"))
    install(debian, newest(packages, "deb"))
    yield debian
    run(debian, "dpkg", "--purge", _NAME)
    assert not (debian / "etc" / _NAME).exists()
    assert not (debian / "usr/lib" / _NAME).exists()
    assert not (debian / "var/lib" / _NAME).exists()


def test_linters_find_no_error(packages: Path) -> None:
    done = subprocess.run(
        ["lintian", "--fail-on=error", newest(packages, "deb")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout

    linted = subprocess.run(
        ["rpmlint", "-r", ROOT / "deploy/packages/rpmlintrc", newest(packages, "rpm")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert " 0 errors" in linted.stdout, linted.stdout


def test_installed_files_have_owner_and_mode(installed: Path) -> None:
    mode = run(installed, "stat", "--format=%a %U %G", f"/etc/{_NAME}/exporter.yml").strip()

    assert f"640 root {_NAME}" == mode
    assert (installed / "usr/share/man/man1" / f"{_NAME}.1.gz").exists()
    assert "listen_address" in run(installed, *as_daemon(_NAME, "check", f"/etc/{_NAME}/exporter.yml"))


def test_packaged_modules_import(installed: Path) -> None:
    """The package has every dependency, and no module of an earlier build."""
    run(installed, "/usr/bin/python3", "-I", "-c", _IMPORT_ALL)


def test_deb_daemon_follows_libvirt_log(installed: Path) -> None:
    follow_log(installed)


def test_upgrade_keeps_configuration(installed: Path, packages: Path) -> None:
    config = installed / "etc" / _NAME / "exporter.yml"
    config.write_text("web: {listen_address: 127.0.0.1:9999}\n")

    install(installed, newest(packages, "deb"))

    assert "127.0.0.1:9999" in run(installed, *as_daemon(_NAME, "check", f"/etc/{_NAME}/exporter.yml"))


def test_removal_leaves_config_and_state(installed: Path, packages: Path) -> None:
    run(installed, "dpkg", "--remove", _NAME)

    assert not (installed / "usr/bin" / _NAME).exists()
    assert (installed / "etc" / _NAME / "exporter.yml").exists()
    install(installed, newest(packages, "deb"))


def test_packaged_program_prints_report(installed: Path) -> None:
    shutil.copy(DATA / _LOG, installed / "srv/web-42.log")

    report = json.loads(run(installed, _NAME, "replay", "/srv/web-42.log", "--report=json"))

    assert "completed" == report["migrations"][0]["result"]


def rpm(root: Path, *words: str | Path) -> None:
    """Run rpm on a root. `--nodeps` is needed there, because its Python is a package of Debian."""
    done = subprocess.run(["rpm", f"--root={root}", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_rpm_runs_upgrades_and_is_erased(packages: Path, clean: Path, tmp_path: Path) -> None:
    root, package = copy(clean, tmp_path), newest(packages, "rpm")
    rpm(root, "--initdb")
    rpm(root, "--install", "--nodeps", package)
    run(root, "/usr/bin/python3", "-I", "-c", _IMPORT_ALL)
    follow_log(root)
    config = root / "etc" / _NAME / "exporter.yml"
    assert f"640 root {_NAME}\n" == run(root, "stat", "--format=%a %U %G", f"/etc/{_NAME}/exporter.yml")
    config.write_text("web: {listen_address: 127.0.0.1:9999}\n")

    rpm(root, "--upgrade", "--nodeps", "--replacepkgs", package)

    assert "127.0.0.1:9999" in run(root, *as_daemon(_NAME, "check", f"/etc/{_NAME}/exporter.yml"))
    rpm(root, "--erase", _NAME)
    assert "127.0.0.1:9999" in config.with_suffix(".yml.rpmsave").read_text()
    assert {root / "etc" / _NAME, root / "var/lib" / _NAME} == set(root.rglob(f"{_NAME}*")), (
        "as other packages leave them"
    )
