"""What would end a stall: commands with numbers, only those that work by the evidence, each with what it costs."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from qemu_migration_exporter.core.model import Advice, StallReason
from qemu_migration_exporter.core.qmp_parameters import MAX_LIMIT_MS

_MIB: Final = 1 << 20

#: What is asked for is a tenth more than what was measured: a working set and a network vary.
_MARGIN: Final = 1.1

#: Limits are written in whole tenths of a second.
_STEP_MS: Final = 100

#: Reasons that are told by boundaries: the rounds lead nowhere.
OF_ROUNDS: Final = frozenset({StallReason.DIRTY_RATE, StallReason.BANDWIDTH_CAP, StallReason.THROTTLED_MAX})


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known of a stalled migration.

    Attributes:
        required_downtime_seconds, required_bandwidth_bytes_per_second: As in `core.model.Verdict`.
        may_postcopy: Whether post-copy was enabled before it began, without which it cannot be started.
        may_throttle: Whether auto-converge is off, as far as is known.
    """

    required_downtime_seconds: float | None
    required_bandwidth_bytes_per_second: float | None
    may_postcopy: bool
    may_throttle: bool


def advise(vm: str, reason: StallReason, evidence: Evidence) -> tuple[Advice, ...]:
    """Say what would end a stall, what costs the guest least first."""
    return tuple(_advise(_quoted(vm), reason, evidence))


def _advise(vm: str, reason: StallReason, evidence: Evidence) -> Iterator[Advice]:
    if reason in OF_ROUNDS:
        yield from _let_it_end(vm, reason, evidence)
        return
    match reason:
        case StallReason.POSTCOPY_PAUSED:
            yield _how(
                f"virsh migrate --live --postcopy --postcopy-resume {vm} DESTINATION_URI",
                "connects again, once the network is back; to give up now would lose the guest",
                _command("migrate", uri="DESTINATION_URI", resume=True),
            )
        case StallReason.BLOCKED_PRE_SWITCHOVER:
            yield _how(
                f"virsh domjobinfo {vm}",
                "it is for libvirt to go on, when the disks are copied; the guest stands still until then",
                _command("migrate-continue", state="pre-switchover"),
            )
            yield _give_up(vm)
        case _:
            yield _give_up(vm)


def _let_it_end(vm: str, reason: StallReason, evidence: Evidence) -> Iterator[Advice]:
    bandwidth, downtime = evidence.required_bandwidth_bytes_per_second, evidence.required_downtime_seconds
    if reason is StallReason.BANDWIDTH_CAP and bandwidth:
        mib = math.ceil(bandwidth * _MARGIN / _MIB)
        yield _how(
            f"virsh migrate-setspeed {vm} {mib}",
            f"lifts QEMU's cap; the network has to carry {mib} MiB/s",
            _command("migrate-set-parameters", max_bandwidth=mib * _MIB),
        )
    limit_ms = math.ceil((downtime or 0) * 1_000 * _MARGIN / _STEP_MS) * _STEP_MS
    if 0 < limit_ms <= MAX_LIMIT_MS:
        yield _how(
            f"virsh migrate-setmaxdowntime {vm} {limit_ms}",
            f"the guest stands still for up to {limit_ms / 1_000:g} s",
            _command("migrate-set-parameters", downtime_limit=limit_ms),
        )
    if evidence.may_postcopy:
        yield _how(
            f"virsh migrate-postcopy {vm}",
            "the guest goes on at the destination and waits for each page it touches; if the network fails, for long",
            _command("migrate-start-postcopy"),
        )
    if evidence.may_throttle:
        yield _how(
            f"virsh domjobabort {vm} && virsh migrate --live --auto-converge {vm} DESTINATION_URI",
            "begins again, with the guest's CPUs slowed down by 20 to 99 %: that cannot be switched on while it runs",
            _command("migrate_cancel"),
            _command("migrate-set-capabilities", capabilities=[{"capability": "auto-converge", "state": True}]),
        )


def _quoted(vm: str) -> str:
    """Write a guest's name as one word of a shell, whatever is in it: it is its owner's choice."""
    if vm.isprintable():
        word = shlex.quote(vm)
    else:
        spelled = (
            each if each.isprintable() and each not in "'\\" else "".join(f"\\x{byte:02x}" for byte in _bytes(each))
            for each in vm
        )
        word = f"$'{''.join(spelled)}'"
    return f"--domain {word}" if vm.startswith("-") else word


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _give_up(vm: str) -> Advice:
    return _how(f"virsh domjobabort {vm}", "gives up; the guest stays here", _command("migrate_cancel"))


def _command(execute: str, **arguments: Any) -> str:  # noqa: ANN401 - whatever JSON QEMU takes
    """Write a QMP command; underscores in argument names stand for hyphens."""
    spelled = {name.replace("_", "-"): value for name, value in arguments.items()}
    command = {"execute": execute, "arguments": spelled} if spelled else {"execute": execute}
    return json.dumps(command, separators=(", ", ":"))


def _how(virsh: str, price: str, *commands: str) -> Advice:
    return Advice(virsh=virsh, price=price, qmp=", ".join(commands))
