"""The same recording gives the same ids, another gives others."""

from __future__ import annotations

import re

from qemu_migration_exporter.core.tracking import trace_ids

from tests.support.core_helpers import EPOCH_NS, made, read


def test_ids_have_w3c_shape() -> None:
    """16 and 8 bytes as hexadecimal digits, never all zero."""
    trace = trace_ids.trace_id("web-42", b"line", 1)
    assert re.fullmatch("[0-9a-f]{32}", trace)
    assert re.fullmatch("[0-9a-f]{16}", trace_ids.span_id(trace, "iterate", 7))


def test_trace_id_is_of_vm_line_and_place() -> None:
    """And where lines repeat themselves, of the time one came."""
    given = ("web-42", b"line", 1)
    others = [("web-43", b"line", 1), ("web-42", b"lime", 1), ("web-42", b"line", 2)]
    traces = [
        trace_ids.trace_id(*given),
        *(trace_ids.trace_id(*other) for other in others),
        trace_ids.trace_id(*given, arrival_ns=0),
    ]
    assert len(traces) == len(set(traces))
    assert traces[0] == trace_ids.trace_id(*given)


def test_span_ids_are_unique() -> None:
    """Also where names and numbers meet."""
    spans = [
        name(trace)
        for trace in ("a" * 32, "b" * 32)
        for name in (
            trace_ids.root_span,
            lambda each: trace_ids.phase_span(each, "setup"),
            lambda each: trace_ids.phase_span(each, "cleanup"),
            lambda each: trace_ids.round_span(each, 1),
            lambda each: trace_ids.round_span(each, 2),
            lambda each: trace_ids.sync_span(each, 1),
        )
    ]
    assert len(spans) == len(set(spans))


def test_replay_ids_ignore_clock_start() -> None:
    """The start time of a recording without times is not part of its identity."""
    traces = {
        read(made("7.2-libvirt-bare"), start_ns=start_ns).migration.identity.trace_id for start_ns in (0, EPOCH_NS)
    }
    assert 1 == len(traces)
