"""A real QEMU under software emulation, with a guest that dirties memory and needs no image."""

from __future__ import annotations

import asyncio
import shutil
import struct
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from qemu.qmp import QMPClient

from tests.support.patience import patience

_MIB: Final = 1 << 20
_PAGES_PER_MIB: Final = 256
_ORIGIN: Final = 0x7C00
#: As the BIOS leaves the PC's timer: 1,193,182 Hz / 65,536.
_TICKS_PER_SECOND: Final = 18.2
#: A flat 32-bit code segment and a flat data segment.
_CODE, _DATA = 0x00CF9A000000FFFF, 0x00CF92000000FFFF

#: Where Debian keeps the firmware; others find it themselves.
_FIRMWARE: Final = ("/usr/share/seabios", "/usr/share/qemu")

#: The `-trace` patterns that the tests enable: all of the vocabulary, and nothing that floods.
TRACE: Final = (
    "migrate_set_state", "migrate_fd_*", "migrate_error", "migration_cancel", "migration_cleanup", "migrate_pending*",
    "migrate_transferred", "migration_thread_*", "migration_completion_*", "migration_precopy_complete",
    "migration_bitmap_sync_*", "migration_throttle", "cpu_throttle_*", "savevm_state_*", "savevm_section_*",
    "savevm_send_*", "vmstate_save", "vmstate_downtime_*", "postcopy_start*", "migrate_handle_rp_req_pages",
    "migration_socket_*", "migration_set_*", "qmp_enter_migrate*", "runstate_set", "loadvm_state_*",
    "process_incoming_migration_co_end",
)  # fmt: skip


def boot_sector(working_set_mib: int, pages_per_tick: int = 0) -> bytes:
    """Assemble a boot sector that increments one byte of every page of a range, for ever.

    It enters protected mode and walks from 1 MiB to 1 MiB + `working_set_mib`; 0 makes a guest that halts.
    With `pages_per_tick` it walks once as fast as it can, and then so many pages a tick of the PC's timer.
    """
    if working_set_mib == 0:
        return _sector(b"\xe6\xe9\xf4\xeb\xfd")  # a byte to the debug console; hlt; jmp back
    enter = b"\xfa\x31\xc0\x8e\xd8\xe4\x92\x0c\x02\xe6\x92"  # cli; ds = 0; A20 by port 0x92
    load = b"\x0f\x01\x16" + b"\0\0"  # lgdt, its address to be filled in
    switch = b"\x0f\x20\xc0\x66\x83\xc8\x01\x0f\x22\xc0"  # cr0 |= 1
    protected = _ORIGIN + len(enter + load + switch) + 5
    jump = b"\xea" + struct.pack("<HH", protected, 8)
    segment = b"\x66\xb8\x10\x00\x8e\xd8"  # ds = the data segment
    load_interrupts = b"\x0f\x01\x1d" + b"\0\0\0\0"  # lidt, its address to be filled in
    timer = pace = b""
    if pages_per_tick:
        stack = b"\x8e\xd0\xbc" + struct.pack("<I", _ORIGIN)  # ss = the data segment; esp = below this code
        only = b"\xb0\xfe\xe6\x21"  # no interrupt but the timer's
        first = b"\xb9" + struct.pack("<I", working_set_mib * _PAGES_PER_MIB)  # ecx = all pages
        timer = stack + load_interrupts + only + first + b"\xfb"  # sti
        wait = b"\xf4\xb9" + struct.pack("<I", pages_per_tick)  # hlt; ecx = pages of a tick
        pace = b"\x49\x75" + struct.pack("b", len(wait)) + wait  # ecx -= 1; unless it is 0 skip the wait
    start = b"\xbf" + struct.pack("<I", _MIB)  # edi = 1 MiB
    touch = b"\xfe\x07\x81\xc7" + struct.pack("<I", 4096)  # inc byte [edi]; edi += 4096
    compare = b"\x81\xff" + struct.pack("<I", (1 + working_set_mib) * _MIB)
    again = b"\x72" + struct.pack("b", -len(touch + pace + compare) - 2)
    tell = b"\xe6\xe9"  # a byte to the debug console: every page was written once more
    forever = b"\xeb" + struct.pack("b", -len(start + touch + pace + compare + again + tell) - 2)
    code = enter + load + switch + jump + segment + timer + start + touch + pace + compare + again + tell + forever
    segments = (len(code) + 7) & ~7
    tick, gate = segments + 32, segments + 40
    code = code.replace(load, load[:3] + struct.pack("<H", _ORIGIN + segments + 24), 1)
    code = code.replace(load_interrupts, load_interrupts[:3] + struct.pack("<I", _ORIGIN + gate + 8), 1)
    code = code.ljust(segments, b"\0") + struct.pack("<QQQHI", 0, _CODE, _DATA, 23, _ORIGIN + segments)
    code = code.ljust(tick, b"\0") + b"\x50\xb0\x20\xe6\x20\x58\xcf"  # the timer is heard: eax kept; end of interrupt
    # The table of interrupts begins before it, for the timer's is number 8 and the only one.
    code = code.ljust(gate, b"\0") + struct.pack("<HHHH", _ORIGIN + tick, 8, 0x8E00, 0)
    return _sector(code + struct.pack("<HI", 71, _ORIGIN + gate - 64))


def _sector(code: bytes) -> bytes:
    return code.ljust(510, b"\0") + b"\x55\xaa"


class Qemu:
    """A running QEMU; `log` is its trace log, `query` its view of the migration.

    Args:
        name: The guest's name.
        directory: For its sockets, its image and its log.
        dirty_mib_per_second: How fast its guest dirties its working set, to within a twentieth; 0 is without a limit.
        binary: Which QEMU.
        incoming: Whether it waits for a migration, at `directory/migration.sock`.
        boot: Another boot sector, which does not write to the debug console.
        arguments: More arguments.
    """

    def __init__(
        self,
        name: str,
        directory: Path,
        *,
        working_set_mib: int,
        dirty_mib_per_second: float = 0,
        incoming: bool = False,
        binary: str = "qemu-system-x86_64",
        trace: tuple[str, ...] = TRACE,
        uuid: str | None = None,
        boot: bytes | None = None,
        arguments: tuple[str, ...] = (),
    ) -> None:
        self.log = directory / f"{name}.log"
        image = directory / f"{name}.img"
        pages_per_tick = round(dirty_mib_per_second * _PAGES_PER_MIB / _TICKS_PER_SECOND)
        image.write_bytes(boot or boot_sector(working_set_mib, pages_per_tick))
        console = directory / f"{name}.console"
        monitor = directory / f"{name}.qmp"
        self._loop = asyncio.Runner()
        self._monitor = QMPClient(name)
        self._loop.run(self._monitor.start_server(str(monitor)))
        command = [
            shutil.which(binary) or binary, "-accel", "tcg", "-m", "160", "-nodefaults", "-display", "none",
            "-name", f"guest={name},debug-threads=on", "-msg", "timestamp=on", "-qmp", f"unix:{monitor}",
            "-drive", f"file={image},format=raw,if=ide,file.locking=off", "-debugcon", f"file:{console}",
        ]  # fmt: skip
        command += [argument for path in _FIRMWARE for argument in ("-L", path)]
        command += [argument for pattern in trace for argument in ("-trace", pattern)]
        command += ["-uuid", uuid] if uuid else []
        command += ["-incoming", "defer"] if incoming else []
        command += arguments
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._loop.run(self._monitor.accept())
        self._address = f"unix:{directory}/migration.sock"
        if incoming:
            self.command("migrate-incoming", uri=self._address)
        elif boot is None:
            wait_for(lambda: console.exists() and console.stat().st_size > 0, 20, "the guest wrote all of its memory")

    def command(self, name: str, **arguments: Any) -> Any:  # noqa: ANN401 - whatever JSON QEMU takes and gives
        """Send a QMP command; underscores in argument names become hyphens."""
        spelled = {key.replace("_", "-"): value for key, value in arguments.items()}
        return self._loop.run(self._monitor.execute(name, spelled))

    def execute(self, command: dict[str, Any]) -> Any:  # noqa: ANN401 - whatever JSON QEMU gives
        """Send a QMP command unchanged."""
        return self._loop.run(self._monitor.execute(command["execute"], command.get("arguments")))

    def query(self) -> dict[str, Any]:
        """Return QEMU's answer to query-migrate."""
        answer: dict[str, Any] = self.command("query-migrate")
        return answer

    def migrate(self, *, max_bandwidth: int = 32 * _MIB, downtime_limit: int = 300) -> None:
        """Begin to migrate to the QEMU of the same directory that waits for it."""
        self.command("migrate-set-parameters", max_bandwidth=max_bandwidth, downtime_limit=downtime_limit)
        self.command("migrate", uri=self._address)

    def wait_until(self, *states: str, seconds: float = 40) -> dict[str, Any]:
        """Poll until the migration has one of these states."""
        wait_for(lambda: self.query().get("status") in states, seconds, f"the migration is {' or '.join(states)}")
        return self.query()

    def wait_until_synced(self, times: int, seconds: float = 40) -> None:
        """Poll until the dirty bitmap has been synchronised so often."""
        wait_for(lambda: self.query().get("ram", {}).get("dirty-sync-count", 0) >= times, seconds, f"{times} syncs")

    def quit(self) -> None:
        """End the process, if it has not ended, and wait for it."""
        with suppress(EOFError):  # it has ended by itself
            self._loop.run(self._monitor.disconnect())
        self._loop.close()
        self.process.terminate()
        self.process.wait(timeout=patience(20))


def wait_for(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Poll until a condition holds; the description is part of the failure message."""
    seconds = patience(seconds)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.01)
