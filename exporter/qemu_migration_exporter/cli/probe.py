"""`probe`: a script or event patterns for one QEMU binary."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's flags and arguments."""
    parser.add_argument("kind", choices=("bpftrace", "systemtap", "log"), help="the tool that the probe is for")
    parser.add_argument("--qemu", type=Path, metavar="BINARY", help="such as /usr/libexec/qemu-kvm; log needs none")


def execute(arguments: argparse.Namespace) -> int:
    """Run the command; return the exit status."""
    from qemu_migration_exporter.probes import (  # noqa: PLC0415 - not for --help
        ProbeError,
        bpftrace_script,
        log_advice,
        systemtap_script,
    )

    kind, binary = arguments.kind, arguments.qemu
    try:
        if kind == "log":
            script = log_advice(binary)
        elif binary is None:
            sys.stderr.write(f"probe {kind}: expected --qemu=BINARY, the QEMU to make the probe for\n")
            return 1
        else:
            script = bpftrace_script(binary) if kind == "bpftrace" else systemtap_script(binary)
    except ProbeError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(script)
    return 0
