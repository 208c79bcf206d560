"""Print the completions for a shell, made from the command line's own parser: `python -m tools.completions bash`."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from typing import Final

import shtab
from qemu_migration_exporter.cli import build_parser

#: Placeholder of an argument → the completion of its values.
_VALUES: Final = {
    "FILE": shtab.FILE,
    "PATH": shtab.FILE,
    "BINARY": shtab.FILE,
    "SOURCE|URL": shtab.FILE,
    "DIR": shtab.DIRECTORY,
    "VM": shtab.cmd("virsh --quiet list --name 2>/dev/null"),
}

#: bash separates words at `=`, so that `--report=html` is three words; the generated function knows `--report html`.
_BASH: Final = """
_qemu_migration_exporter() {
  local words=() index
  for ((index = 0; index <= COMP_CWORD; index++)); do
    if [[ ${COMP_WORDS[index]} != "=" ]]; then
      words+=("${COMP_WORDS[index]}")
    elif ((index == COMP_CWORD)); then
      words+=("")
    fi
  done
  local COMP_WORDS=("${words[@]}") COMP_CWORD=$((${#words[@]} - 1))
  _shtab_qemu_migration_exporter
}

complete -o bashdefault -o default -F _qemu_migration_exporter qemu-migration-exporter
"""


def text(shell: str) -> str:
    """Return the script for bash, zsh or fish."""
    parser = build_parser()
    for action in _actions(parser):
        values = _VALUES.get(str(action.metavar))
        if values is not None:
            setattr(action, "complete", values)  # noqa: B010 - shtab's attribute, which argparse does not declare
    script = str(shtab.complete(parser, shell=shell))
    match shell:
        case "bash":
            return script + _BASH
        case "zsh":
            # `--report=html` beside `--report html`, for the options that take a value.
            return re.sub(r'"(--[\w.-]+)(\[[^"]*?\]:)', r'"\1=\2', script)
        case "fish":
            return script.replace("(commandline -ct)", "(string replace -r -- '^--[^=]*=' '' (commandline -ct))")
    return script


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:  # noqa: SLF001 - argparse lists them nowhere else
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for command in action.choices.values():
                yield from _actions(command)
        else:
            yield action


if __name__ == "__main__":
    sys.stdout.write(text(sys.argv[1]))
