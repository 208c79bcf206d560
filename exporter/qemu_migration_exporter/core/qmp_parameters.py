"""Migration parameters and capabilities set by management, from the QMP commands in the trace (7.0 and later)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, Final

#: MAX_MIGRATE_DOWNTIME of migration/options.c: QEMU refuses more.
MAX_LIMIT_MS: Final = 2_000_000

#: Without a limit, libvirt sets max-bandwidth to the largest number of whole MiB/s, above the speed of any network.
UNBOUNDED: Final = 1 << 62

#: Capabilities that change the meaning of `migrate` (6.0 and later, 2.8 and later).
_OTHER_USES: Final = frozenset({"x-colo"})
_CLOSING: Final = {"{": "}", "[": "]"}
_MAX_DEPTH: Final = 16
_KNOWN: Final = {
    *_OTHER_USES, "background-snapshot", "postcopy-ram", "auto-converge", "dirty-limit", "multifd", "switchover-ack",
    "return-path", "pause-before-switchover",
}  # fmt: skip


@dataclass(slots=True)
class Parameters:
    """The parameters and capabilities in use; the defaults are QEMU's (qapi/migration.json, 2.5 to 11.0).

    Attributes:
        downtime_limit_seconds: None if unset.
        max_bandwidth: Bytes per second, None if unset.
        mode: The migration mode, None for `normal` (8.2 and later).
        switchover_bandwidth: avail-switchover-bandwidth, None if unset (8.2 and later).
        throttle_initial, throttle_increment, throttle_max: The settings of auto-converge, in per cent.
        capabilities: The capabilities that were switched, by name.
    """

    downtime_limit_seconds: float | None = None
    max_bandwidth: int | None = None
    mode: str | None = None
    switchover_bandwidth: int | None = None
    throttle_initial: int = 20
    throttle_increment: int = 10
    throttle_max: int = 99
    capabilities: dict[str, bool] = field(default_factory=dict)

    def note_parameters(self, arguments: str) -> None:
        """Apply the arguments of migrate-set-parameters, a JSON text."""
        given = read_object(arguments)
        limit_ms = _whole(given, "downtime-limit", MAX_LIMIT_MS)
        if limit_ms is not None:
            self.downtime_limit_seconds = limit_ms / 1_000
        bandwidth = _whole(given, "max-bandwidth", 1 << 64)
        if bandwidth is not None:
            self.max_bandwidth = bandwidth or None  # 0 is no limit
        if isinstance(given.get("mode"), str):
            self.mode = given["mode"]
        switchover_bandwidth = _whole(given, "avail-switchover-bandwidth", 1 << 64)
        if switchover_bandwidth is not None:
            self.switchover_bandwidth = switchover_bandwidth or None
        self.throttle_initial = _whole(given, "cpu-throttle-initial", 99) or self.throttle_initial
        self.throttle_increment = _whole(given, "cpu-throttle-increment", 99) or self.throttle_increment
        self.throttle_max = _whole(given, "max-cpu-throttle", 99) or self.throttle_max

    def note_capabilities(self, arguments: str) -> None:
        """Apply the arguments of migrate-set-capabilities, a JSON text."""
        capabilities = read_object(arguments).get("capabilities")
        for each in capabilities if isinstance(capabilities, list) else []:
            name = each.get("capability") if isinstance(each, dict) else None
            if isinstance(name, str) and name in _KNOWN and isinstance(each.get("state"), bool):
                self.capabilities[name] = each["state"]

    @property
    def is_other_use(self) -> bool:
        """True if `migrate` would begin COLO now, which is not a migration."""
        return any(self.capabilities.get(name) for name in _OTHER_USES)

    @property
    def is_background_snapshot(self) -> bool:
        """True if `migrate` would begin a snapshot of a running guest now."""
        return bool(self.capabilities.get("background-snapshot"))

    @property
    def is_cpr(self) -> bool:
        """True if `migrate` would begin a checkpoint for a restart of QEMU or of its host now."""
        return self.mode is not None and self.mode.startswith("cpr-")

    @property
    def is_unbounded_without_return_path(self) -> bool:
        """True if the parameters are those that libvirt sets for a save, a dump or a snapshot to a file."""
        switched_off = (self.capabilities.get(name) is False for name in ("return-path", "pause-before-switchover"))
        return (self.max_bandwidth or 0) >= UNBOUNDED and all(switched_off)

    def throttle_steps(self) -> int:
        """Return the number of steps up to auto-converge's greatest throttle."""
        return 1 + max(0, -(-(self.throttle_max - self.throttle_initial) // self.throttle_increment))


def read_object(text: str) -> dict[str, Any]:
    """Parse a JSON object, or the complete members of an object that a probe cut; other text gives an empty dict."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):  # cut, or not JSON
        value = _read_cut(text)
    return value if isinstance(value, dict) else {}


def _read_cut(text: str) -> object:
    """Parse JSON whose end is missing: SystemTap cuts texts at 511 bytes, bpftrace at 63 or 127.

    The text is cut again after the last complete value, and the open brackets are closed.
    """
    open_brackets: list[str] = []
    whole = ""
    for token in re.finditer(r'"(?:[^"\\]|\\.)*+"?|[][{},]', text, re.DOTALL):
        sign = token[0]
        if sign in _CLOSING:
            open_brackets.append(_CLOSING[sign])
        elif sign in "]}":
            if not open_brackets:
                return None
            open_brackets.pop()
        if len(open_brackets) > _MAX_DEPTH:
            return None
        if sign in "]},":
            whole = text[: token.start() if sign == "," else token.end()] + "".join(reversed(open_brackets))
    try:
        value: object = json.loads(whole)
    except ValueError:  # not JSON at all
        return None
    return value


def _whole(given: dict[str, Any], name: str, most: int) -> int | None:
    value = given.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most else None
