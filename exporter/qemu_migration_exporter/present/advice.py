"""Commands that would end a stall, computed from the stall's numbers when a report is read.

Commands are offered only if QEMU and libvirt would accept them by the evidence. They are shown with their cost, and
sorted by the cost for the guest: a downtime limit that stops the guest for long comes last. Numbers have a margin of
10 % over the measured values, because working sets and networks vary.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from qemu_migration_exporter.core.model import Capabilities, Identity, Kind, Mode, Stall, StallReason, Verdict
from qemu_migration_exporter.core.qmp_parameters import MAX_LIMIT_MS
from qemu_migration_exporter.core.stalls.reasons import ROUND_REASONS

_MIB: Final = 1 << 20
_MARGIN: Final = 1.1

#: Downtime limits are rounded up to whole tenths of a second.
_STEP_MS: Final = 100

#: A longer standstill breaks TCP connections and cluster heartbeats, so its command is not first and has a warning.
_LONG_STANDSTILL_MS: Final = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """One command that would end a stall.

    Attributes:
        virsh: The command for a guest of libvirt.
        price: Its cost or precondition.
        qmp: The equivalent command for QEMU's own monitor.
    """

    virsh: str
    price: str
    qmp: str

    def __str__(self) -> str:
        """Return one line for a shell, with the rest as a comment after the command."""
        return f"{self.virsh}  # {self.price}; QMP: {self.qmp}"

    @classmethod
    def parse(cls, line: str) -> Advice:
        """Parse a line made by `str`."""
        command, _, qmp = line.rpartition("; QMP: ")
        virsh, _, price = command.rpartition("  # ")
        return cls(virsh=virsh, price=price, qmp=qmp)


def advise(
    vm: str,
    reason: StallReason,
    *,
    required_downtime_seconds: float | None,
    required_bandwidth_bytes_per_second: float | None,
    capabilities: Capabilities,
    pending_bytes: int | None = None,
    kind: Kind = Kind.LIVE,
    mode: Mode | None = None,
) -> tuple[Advice, ...]:
    """Return the commands that would end a stall of this reason, the cheapest for the guest first.

    Args:
        vm: The guest's name.
        reason: The stall's reason.
        required_downtime_seconds: As in `core.model.Verdict`.
        required_bandwidth_bytes_per_second: As there.
        capabilities: As there.
        pending_bytes: The least pending bytes at a boundary.
        kind: The kind of job; a job other than a live migration can only be cancelled.
        mode: In post-copy, a cancel would lose the guest; None if unknown, which returns only safe commands.
    """
    word = _quoted(vm)
    if kind is not Kind.LIVE:  # libvirt refuses to change the parameters of such a job
        return (_give_up(word, "gives up; the guest goes on here"),)
    if reason is StallReason.DEVICE_STATE:
        return tuple(_device_state(word, required_downtime_seconds, pending_bytes))
    if reason in ROUND_REASONS:
        bandwidth = required_bandwidth_bytes_per_second if reason is StallReason.BANDWIDTH_CAP else None
        return tuple(_let_it_end(word, bandwidth, required_downtime_seconds, capabilities))
    return tuple(_end_the_wait(word, reason, mode))


def advice_for(identity: Identity, evidence: Stall | Verdict, mode: Mode | None = None) -> tuple[Advice, ...]:
    """Return the commands for a stall, or for the reason that a verdict gives; none without a reason."""
    if evidence.reason is None:
        return ()
    return advise(
        identity.vm,
        evidence.reason,
        required_downtime_seconds=evidence.required_downtime_seconds,
        required_bandwidth_bytes_per_second=evidence.required_bandwidth_bytes_per_second,
        capabilities=evidence.capabilities,
        pending_bytes=evidence.best_pending_bytes,
        kind=identity.kind,
        mode=mode,
    )


def _end_the_wait(vm: str, reason: StallReason, mode: Mode | None) -> Iterator[Advice]:
    match reason:
        case StallReason.POSTCOPY_PAUSED:
            yield _advice(
                f"virsh migrate --live --postcopy --postcopy-resume {vm} DESTINATION_URI",
                "connects again, once the network is back; to give up now would lose the guest",
                _command("migrate", uri="DESTINATION_URI", resume=True),
            )
        case StallReason.NO_THROUGHPUT if mode is None:
            return
        case _ if mode is Mode.POSTCOPY:  # the guest's memory is on both hosts, and a cancel would lose it
            yield _advice(
                f"virsh domjobabort --postcopy {vm}",
                "pauses post-copy, to connect again over a working network; the guest waits for its memory meanwhile",
                _command("migrate-pause"),
            )
        case StallReason.BLOCKED_PRE_SWITCHOVER:
            yield _advice(
                f"virsh domjobinfo {vm}",
                "it is for libvirt to go on, when the disks are copied; the guest stands still until then",
                _command("migrate-continue", state="pre-switchover"),
            )
            yield _give_up(vm)
        case _:
            yield _give_up(vm)


def _let_it_end(
    vm: str, bandwidth: float | None, downtime_seconds: float | None, capabilities: Capabilities
) -> Iterator[Advice]:
    if bandwidth:
        mib = math.ceil(bandwidth * _MARGIN / _MIB)
        yield _advice(
            f"virsh migrate-setspeed {vm} {mib}",
            f"lifts QEMU's cap; the network has to carry {mib} MiB/s",
            _command("migrate-set-parameters", max_bandwidth=mib * _MIB),
        )
    limit_ms = _limit_ms(downtime_seconds)
    is_long = limit_ms > _LONG_STANDSTILL_MS
    if not is_long:
        yield from _raise_limit(vm, limit_ms)
    if capabilities.postcopy:
        yield _advice(
            f"virsh migrate-postcopy {vm}",
            "the guest goes on at the destination and waits for each page it touches; if the network fails, for long",
            _command("migrate-start-postcopy"),
        )
    if not (capabilities.auto_converge or capabilities.dirty_limit):
        yield _advice(
            f"virsh domjobabort {vm} && virsh migrate --live --auto-converge {vm} DESTINATION_URI",
            "begins again, with the guest's CPUs slowed down by 20 to 99 %: that cannot be switched on while it runs",
            _command("migrate_cancel"),
            _command("migrate-set-capabilities", capabilities=[{"capability": "auto-converge", "state": True}]),
        )
    if is_long:
        yield from _raise_limit(vm, limit_ms)


def _device_state(vm: str, downtime_seconds: float | None, pending: int | None) -> Iterator[Advice]:
    """Advise for device state, which rounds do not shrink.

    QEMU estimates the bandwidth of the switchover from the little memory that the rounds send, so a higher limit is not
    enough. The command also sets the bandwidth from which the required downtime was computed.
    """
    limit_ms = _limit_ms(downtime_seconds)
    if not downtime_seconds or not pending or limit_ms > MAX_LIMIT_MS:
        return
    bandwidth = int(pending / downtime_seconds)
    qmp = _command("migrate-set-parameters", downtime_limit=limit_ms, avail_switchover_bandwidth=bandwidth)
    yield _advice(
        f"virsh qemu-monitor-command --hmp {vm} migrate_set_parameter avail-switchover-bandwidth {bandwidth}B"
        f" && virsh migrate-setmaxdowntime {vm} {limit_ms}",
        f"{_standstill(limit_ms)}; QEMU counts on the {bandwidth // _MIB} MiB/s that were seen, not on its estimate"
        " (8.2 or later)",
        qmp,
    )


def _standstill(limit_ms: int) -> str:
    price = f"the guest stands still for up to {limit_ms / 1_000:g} s"
    if limit_ms > _LONG_STANDSTILL_MS:
        return f"WARNING: {price}, which breaks connections and cluster heartbeats"
    return price


def _limit_ms(downtime_seconds: float | None) -> int:
    return math.ceil((downtime_seconds or 0) * 1_000 * _MARGIN / _STEP_MS) * _STEP_MS


def _raise_limit(vm: str, limit_ms: int) -> Iterator[Advice]:
    if not 0 < limit_ms <= MAX_LIMIT_MS:
        return
    yield _advice(
        f"virsh migrate-setmaxdowntime {vm} {limit_ms}",
        _standstill(limit_ms),
        _command("migrate-set-parameters", downtime_limit=limit_ms),
    )


def _give_up(vm: str, price: str = "gives up; the guest stays here") -> Advice:
    return _advice(f"virsh domjobabort {vm}", price, _command("migrate_cancel"))


def _advice(virsh: str, price: str, *commands: str) -> Advice:
    return Advice(virsh=virsh, price=price, qmp=", ".join(commands))


def _command(execute: str, **arguments: Any) -> str:  # noqa: ANN401 - any JSON that QEMU takes
    """Return a QMP command; underscores in argument names become hyphens."""
    spelled = {name.replace("_", "-"): value for name, value in arguments.items()}
    command = {"execute": execute, "arguments": spelled} if spelled else {"execute": execute}
    return json.dumps(command, separators=(", ", ":"))


def _quoted(vm: str) -> str:
    """Return a guest's name quoted for a shell, because its owner may use any characters."""
    if vm.isprintable():
        word = shlex.quote(vm)
    else:
        spelled = (
            char if char.isprintable() and char not in "'\\" else "".join(f"\\x{byte:02x}" for byte in _bytes(char))
            for char in vm
        )
        word = f"$'{''.join(spelled)}'"
    return f"--domain {word}" if vm.startswith("-") else word


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
