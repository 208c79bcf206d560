"""The shells' completions in bash, zsh and fish, with files, values after `=`, and the machines that run."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import pytest

from tests.support.prometheus import need
from tools.completions import text

_NAME = "qemu-migration-exporter"

#: Words of a command line → some of the completions of the last word.
_CASES = [
    ("", {"run", "replay", "watch", "attach", "files", "check", "probe"}),
    ("at", {"attach"}),
    ("attach --al", {"--all"}),
    ("attach we", {"web-42"}),
    ("replay --rep", {"--report"}),
    ("replay --report h", {"html"}),
    ("replay --report=h", {"html"}),
    ("replay db", {"db-7.log"}),
    ("run --config.file db", {"db-7.log"}),
    ("run --config.file=db", {"db-7.log"}),
    ("probe bp", {"bpftrace"}),
]

_BASH = """
source ./bash
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
$(complete -p qemu-migration-exporter | sed 's/.* -F \\([^ ]*\\).*/\\1/') qemu-migration-exporter
printf '%s\\n' "${COMPREPLY[@]}"
"""

_ZSH = """
fpath=($PWD $fpath); autoload -U compinit; compinit -u -D
bindkey '^I' complete-word; PS1='> '
"""


@pytest.fixture(name="directory")
def _directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the scripts, a log and a virsh that lists one machine; it is the working directory."""
    for name, content in (("virsh", "echo web-42\n"), (_NAME, "")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{content}")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "db-7.log").touch()
    for shell, file in (("bash", "bash"), ("zsh", f"_{_NAME}"), ("fish", "fish")):
        (tmp_path / file).write_text(text(shell))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


@pytest.mark.usefixtures("directory")
@pytest.mark.parametrize(("words", "expected"), _CASES)
def test_bash_completes(words: str, expected: set[str]) -> None:
    """bash hands over `--report=h` as three words."""
    split = words.replace("=", " = ").split(" ")
    done = subprocess.run(["bash", "-c", _BASH, "bash", _NAME, *split], capture_output=True, text=True, check=True)

    assert expected <= set(done.stdout.split()), done.stdout + done.stderr


@pytest.mark.usefixtures("directory")
@pytest.mark.parametrize(("words", "expected"), _CASES)
def test_fish_completes(words: str, expected: set[str]) -> None:
    need("fish")
    script = f"source ./fish; complete -C '{_NAME} {words}'"
    done = subprocess.run(["fish", "--no-config", "-c", script], capture_output=True, text=True, check=True)

    shown = {line.split("\t")[0].rpartition("=")[2] for line in done.stdout.splitlines()}
    assert expected <= shown, done.stdout + done.stderr


@pytest.mark.usefixtures("directory")
@pytest.mark.parametrize(("words", "expected"), [case for case in _CASES if len(case[1]) == 1])
def test_zsh_completes(words: str, expected: set[str]) -> None:
    """zsh completes in its line editor only, which needs a terminal."""
    need("zsh")
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "dumb"}
    with subprocess.Popen(["zsh", "-f", "-i"], stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as shell:
        os.close(theirs)
        os.write(ours, f"{_ZSH}echo ready\n".encode())
        _read_until(ours, "ready\r\n")
        os.write(ours, f"{_NAME} {words}\t".encode())
        before, separator, _ = words.rpartition("=" if "=" in words else " ")
        try:
            _read_until(ours, f"{_NAME} {before}{separator}{min(expected)}")
        finally:
            shell.kill()
    os.close(ours)


def _read_until(descriptor: int, words: str) -> None:
    shown = ""
    while words not in shown:
        data = os.read(descriptor, 4096)
        shown += data.decode(errors="replace")
