"""The first event of a migration: which event it may be, and the kind of the job that it begins."""

from __future__ import annotations

from qemu_migration_exporter.core.events import ChannelFailed, Event, StateSet
from qemu_migration_exporter.core.migration import states
from qemu_migration_exporter.core.model import Kind, PauseCause, Side
from qemu_migration_exporter.core.signals import JOINING, SIDES, Meaning
from qemu_migration_exporter.core.terms import Signal
from qemu_migration_exporter.core.tracking.snapshot import TrackerState


def begins(tracker: TrackerState, event: Event, meaning: Meaning) -> bool:
    """Return whether this event is the first of a migration, possibly joined in its middle."""
    machine = tracker.machine
    state = event.state if type(event) is StateSet else None
    if machine is not None and machine.outcome.at_ns is None:
        # A second beginning is another attempt, unless no event came since the first. After loads it is one always.
        has_loaded = machine.side is Side.DESTINATION and machine.outcome.left_loop_ns is not None
        if meaning is Signal.HEADER:
            return not tracker.states_enabled and (machine.has_left_setup or has_loaded)
        return state == "setup" and (machine.outcome.state not in {None, "setup"} or has_loaded)
    if state == "setup":  # a destination only begins to listen
        return next_side(tracker) is not Side.DESTINATION
    if meaning is Signal.HEADER:
        return not tracker.states_enabled  # where states are printed, one of them comes first
    if machine is not None:
        return False
    if meaning is ChannelFailed:  # the first mark of an attempt without an answer
        return not tracker.states_enabled
    if meaning in JOINING and SIDES.get(meaning) is Side.DESTINATION:  # a snapshot's loads print no state
        return not tracker.states_enabled
    return meaning is Signal.INCOMING or meaning in JOINING or state in states.JOINING


def next_side(state: TrackerState) -> Side | None:
    """Return the side of the next migration by the evidence before it."""
    return Side.DESTINATION if state.announced is None and state.guest.is_incoming else state.announced


def next_kind(state: TrackerState) -> Kind:
    """Return the kind of the next job; live without evidence."""
    parameters = state.parameters
    if state.guest.by is PauseCause.RESTORE_VM:
        return Kind.SNAPSHOT
    if parameters.is_background_snapshot:
        return Kind.SNAPSHOT
    if parameters.is_cpr:
        return Kind.CPR
    if state.initiated:
        return Kind.LIVE
    if state.uri.startswith("file:") or (state.uri.startswith("exec:") and ">" in state.uri):
        return Kind.FILE
    if state.announced is Side.DESTINATION:
        return Kind.SAVE if state.uri.startswith("fd:") else Kind.LIVE  # libvirt restores what it saved
    if state.uri.startswith("fd:") and parameters.is_unbounded_without_return_path:
        return Kind.SAVE if state.guest.is_suspended else Kind.DUMP
    return Kind.LIVE
