"""Naming a virtual machine by its process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from qemu_migration_exporter.sources.procfs import Guest, read_guest

_UUID = "2f1a4e8c-0d3b-4f6e-9a57-5d1c8b7e6f00"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["qemu-kvm", "-name", "guest=web-42,debug-threads=on", "-uuid", _UUID], Guest("web-42", _UUID)),
        (["qemu-system-x86_64", "-name", "web-42,debug-threads=on"], Guest("web-42", None)),
        (["kvm", "-name", "web-42"], Guest("web-42", None)),
        (["kvm", "-name", "debug-threads=on,guest=a,,b"], Guest("a,b", None)),
        (["kvm", "-name", "debug-threads=on"], Guest(None, None)),
        (["bash"], Guest(None, None)),
        (["kvm", "-name"], Guest(None, None)),
        (["kvm", "-name", "n" * 255], Guest("n" * 255, None)),
        (["kvm", "-name", "n" * 256, "-uuid", _UUID], Guest(None, _UUID)),
        (["kvm", "-name", "web-42", "-uuid", f"{_UUID} "], Guest("web-42", None)),
        (["kvm", "-name", "web-42", "-uuid", "u" * 100_000], Guest("web-42", None)),
        (["kvm", "-name", "w\udcff\udcfe"], Guest(r"w\xff\xfe", None)),
        ([], Guest(None, None)),
    ],
)
def test_guest_comes_from_command_line(tmp_path: Path, arguments: list[str], expected: Guest) -> None:
    """As libvirt, Proxmox and people start QEMU."""
    (tmp_path / "4242").mkdir()
    (tmp_path / "4242" / "cmdline").write_bytes(b"".join(os.fsencode(argument) + b"\0" for argument in arguments))

    assert read_guest(4242, tmp_path) == expected


def test_gone_process_has_no_name(tmp_path: Path) -> None:
    """A short migration's QEMU may have ended before anybody asks."""
    assert read_guest(4242, tmp_path) == Guest(None, None)


def test_unreadable_process_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its virtual machine is named by its number, and the log gives the reason."""
    (tmp_path / "4242" / "cmdline").mkdir(parents=True)

    assert read_guest(4242, tmp_path) == Guest(None, None)
    assert caplog.messages == ["cannot read the name of process 4242: Is a directory"]


def test_real_process_is_read_from_proc() -> None:
    """This one is no QEMU."""
    assert read_guest(os.getpid()) == Guest(None, None)
