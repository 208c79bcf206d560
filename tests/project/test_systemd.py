"""The units, as systemd itself reads them, in a root of their own."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.prometheus import need

_UNITS = ROOT / "deploy" / "systemd"

#: What the units run, as the root below has it.
_COMMANDS = ("qemu-migration-exporter", "kill", "sh")


@pytest.fixture(name="root")
def _root(tmp_path: Path) -> Path:
    """Make a root with this machine's units and ours."""
    need("systemd-analyze", "systemd-sysusers", "systemd-tmpfiles")
    units = tmp_path / "etc/systemd/system"
    units.mkdir(parents=True)
    for unit in _UNITS.glob("*.service"):
        shutil.copy(unit, units)
    shutil.copytree("/usr/lib/systemd/system", tmp_path / "usr/lib/systemd/system", symlinks=True)
    (tmp_path / "usr/bin").mkdir()
    for command in _COMMANDS:
        (tmp_path / "usr/bin" / command).write_text("#!/bin/sh\n")
        (tmp_path / "usr/bin" / command).chmod(0o755)
    (tmp_path / "bin").symlink_to("usr/bin")
    return tmp_path


def _with_drop_in(root: Path) -> None:
    name = "qemu-migration-exporter.service.d"
    shutil.copytree(_UNITS / name, root / "etc/systemd/system" / name)


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("with_drop_in", [False, True])
def test_systemd_verifies_units(root: Path, *, with_drop_in: bool) -> None:
    """No unknown key, no command that is not there, no unit that is not there."""
    if with_drop_in:
        _with_drop_in(root)

    done = _run(
        "systemd-analyze", "verify", f"--root={root}", "--man=no", *(unit.name for unit in _UNITS.glob("*.service")),
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")


def test_systemd_would_find_mistake(root: Path) -> None:
    """A misspelled key is reported, with its place."""
    unit = root / "etc/systemd/system/qemu-migration-exporter.service"
    unit.write_text(unit.read_text().replace("ProtectClock=", "ProtectClok="))

    done = _run("systemd-analyze", "verify", f"--root={root}", "--man=no", unit.name)

    assert re.search(r"exporter.service:\d+: Unknown key .*'ProtectClok'", done.stderr)


@pytest.mark.parametrize(
    ("unit", "with_drop_in", "exposure"),
    [
        ("qemu-migration-exporter.service", False, 1.5),
        ("qemu-migration-exporter.service", True, 2.0),
        ("qemu-migration-exporter-attach.service", False, 1.5),
        ("qemu-migration-probe.service", False, 3.5),
    ],
)
def test_unit_hardening_is_kept(root: Path, unit: str, *, with_drop_in: bool, exposure: float) -> None:
    """The measure is systemd's exposure level, of 10; the margin is for the different weights of other releases."""
    if with_drop_in:
        _with_drop_in(root)

    done = _run(
        "systemd-analyze", "security", f"--root={root}", "--offline=true", "--no-pager", f"--threshold={exposure * 10:.0f}", unit
    )  # fmt: skip

    assert done.returncode == 0, done.stdout


def test_attach_unit_kills_no_virsh() -> None:
    """libnuma, which virsh is linked with, makes a call that the filter refuses; `make booted` runs the unit."""
    unit = (_UNITS / "qemu-migration-exporter-attach.service").read_text()

    assert "SystemCallFilter=~@privileged @resources\n" in unit
    assert "SystemCallErrorNumber=EPERM\n" in unit


def test_user_and_folder_are_created(root: Path) -> None:
    """systemd-sysusers makes a user without a login, systemd-tmpfiles a folder that only this user may read."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a user, even in a root of its own")
    (root / "etc/qemu-migration-exporter").mkdir()
    (root / "etc/qemu-migration-exporter/web.yml").touch()

    assert _run("systemd-sysusers", f"--root={root}", str(_UNITS / "sysusers.conf")).returncode == 0
    assert _run("systemd-tmpfiles", f"--root={root}", "--create", str(_UNITS / "tmpfiles.conf")).returncode == 0

    name, _, _, group, _, _, shell = (root / "etc/passwd").read_text().strip().split(":")
    assert (name, Path(shell).name) == ("qemu-migration-exporter", "nologin")
    for path, mode in (("etc/qemu-migration-exporter", 0o750), ("etc/qemu-migration-exporter/web.yml", 0o640)):
        made = (root / path).stat()
        assert (stat.S_IMODE(made.st_mode), made.st_uid, made.st_gid) == (mode, 0, int(group))


def test_mode_0600_overrides_default_acl(tmp_path: Path) -> None:
    """Why the drop-in is there: virtlogd's mode masks the access that its folder's ACL would give."""
    need("setfacl", "getfacl")
    if _run("setfacl", "--modify=d:u:nobody:r", str(tmp_path)).returncode != 0:
        pytest.skip("this file system has no ACLs")
    os.close(os.open(tmp_path / "web-42.log", os.O_CREAT | os.O_WRONLY, 0o600))

    assert re.search(
        r"^user:nobody:r--\s+#effective:---$", _run("getfacl", str(tmp_path / "web-42.log")).stdout, re.MULTILINE
    )
