"""The first event of a migration: which event it may be, and the kind of the job that it begins."""

from __future__ import annotations

from qemu_migration_exporter.core.events import ChannelFailed, Event, Signal, StateSet
from qemu_migration_exporter.core.migration import states
from qemu_migration_exporter.core.model import Kind, Side
from qemu_migration_exporter.core.signals import JOINING, Meaning
from qemu_migration_exporter.core.tracking.snapshot import TrackerState


def begins(tracker: TrackerState, event: Event, meaning: Meaning) -> bool:
    """Return whether this event is the first of a migration, possibly joined in its middle."""
    machine = tracker.machine
    state = event.state if type(event) is StateSet else None
    if machine is not None and machine.outcome.at_ns is None:
        # A second beginning is another attempt, unless no event came since the first.
        if meaning is Signal.HEADER:
            return not tracker.states_enabled and machine.has_left_setup
        return state == "setup" and machine.outcome.state not in {None, "setup"}
    if state == "setup":
        return True
    if meaning is Signal.HEADER:
        return not tracker.states_enabled  # where states are printed, one of them comes first
    if machine is not None:
        return False
    if meaning is ChannelFailed:  # the first mark of an attempt without an answer
        return not tracker.states_enabled
    return meaning is Signal.INCOMING or meaning in JOINING or state in states.JOINING


def next_kind(state: TrackerState) -> Kind:
    """Return the kind of the next job; live without evidence."""
    parameters = state.parameters
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
