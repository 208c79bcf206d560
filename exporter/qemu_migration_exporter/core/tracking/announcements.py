"""Evidence for the next migration: QMP commands, libvirt's lines and backtraces that come before its first event.

    migrate, migrate_incoming          side and destination
    migrate_set_parameters, …          downtime limit, capabilities
    backtraces                         the functions that called qmp_migrate and the bitmap sync

The evidence is kept in the tracker's state until a migration begins. Parameters stay in force after that, in QEMU too.
"""

from __future__ import annotations

from typing import Final

from qemu_migration_exporter.core.events import BacktraceFrame, Event, FunctionCalled, QmpCommand
from qemu_migration_exporter.core.model import Side
from qemu_migration_exporter.core.qmp_parameters import read_object
from qemu_migration_exporter.core.tracking.snapshot import TrackerState

_MAX_FRAMES: Final = 64


def add_command(state: TrackerState, command: QmpCommand) -> None:
    """Record a command that requests or configures a migration."""
    arguments = command.arguments or ""
    match command.name:
        case "migrate_set_parameters":
            _set_parameters(state, arguments)
        case "migrate_set_capabilities":
            state.parameters.note_capabilities(arguments)
        case "migrate":
            if read_object(arguments).get("resume") is not True:  # otherwise post-copy continues
                _announce(state, Side.SOURCE, arguments)
        case "migrate_incoming":
            _announce(state, Side.DESTINATION, arguments)
        case _:
            pass


def _set_parameters(state: TrackerState, arguments: str) -> None:
    before = state.parameters.downtime_limit_seconds
    state.parameters.note_parameters(arguments)
    limit_seconds = state.parameters.downtime_limit_seconds
    if state.machine is not None and limit_seconds is not None and limit_seconds != before:
        state.machine.precopy.downtime_limit_seconds = limit_seconds


def _announce(state: TrackerState, side: Side, arguments: str) -> None:
    uri = read_object(arguments).get("uri")
    state.announced, state.uri = side, uri if isinstance(uri, str) else ""


def add_backtrace(state: TrackerState, event: Event) -> None:
    """Record a function probe, or a frame of the last one."""
    if isinstance(event, FunctionCalled):
        state.function = event.function
        state.frames[event.function] = []
        if event.function == "qmp_migrate":
            state.announced = Side.SOURCE
        return
    frames = state.frames.get(state.function or "")
    if isinstance(event, BacktraceFrame) and frames is not None and len(frames) < _MAX_FRAMES:
        frames.append(event.frame)


def take_frames(state: TrackerState, function: str) -> tuple[str, ...]:
    """Return the frames of a function's last call, once."""
    return tuple(state.frames.pop(function, ()))
