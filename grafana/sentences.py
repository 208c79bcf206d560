"""The verdict as a sentence, made by Prometheus: count_values makes labels of numbers, a legend puts them in order.

The labels begin with `with_`, which sorts behind the ones that are grouped by: Prometheus 2.42 loses a label that sorts
behind the new one when it is asked for a range.
"""

from __future__ import annotations

from typing import Final

from grafana.builder import Query

_PER_VM: Final = "job, instance, vm"


def _word(label: str, expr: str) -> str:
    """Make a label of a number; what the stream does not give is a question mark, and the sentence still stands."""
    known = f"({expr}) or on ({_PER_VM}) (0 * qemu_migration_active - 1)"
    return f'label_replace(count_values by ({_PER_VM}) ("with_{label}", {known}), "with_{label}", "?", "with_{label}", "-1")'


def _rounded(expr: str, *, digits: int = 2) -> str:
    """Round so that no binary fraction shows."""
    return f"round({expr} * 1e{digits}) / 1e{digits}"


def _with(words: dict[str, str]) -> str:
    """Join words to what stands before, without changing its value."""
    return " ".join(
        f"+ on ({_PER_VM}) group_left (with_{label}) 0 * {_word(label, expr)}" for label, expr in words.items()
    )


#: Leads to the trace from a link of the panel.
_TRACE: Final = f'* on ({_PER_VM}) group_left (trace_id) qemu_migration_info{{side="source"}}'

_VERDICT: Final = (
    f'label_replace(label_replace(count_values by ({_PER_VM}) ("with_verdict", qemu_migration_stalled),'
    ' "with_verdict", "gets nearer to its end", "with_verdict", "0"), "with_verdict", "IS STALLED", "with_verdict", "1")'
)

#: The reason in parentheses, and nothing where there is none.
_REASON: Final = (
    f"0 * (max by ({_PER_VM}, with_reason) (label_replace(qemu_migration_stall_reason == 1,"
    ' "with_reason", " ($1)", "reason", "(.+)"))'
    f" or on ({_PER_VM}) qemu_migration_active)"
)

#: 1 for one that is stalled, 0 for one that is not.
RUNNING: Final = Query(
    f"((qemu_migration_stalled and on ({_PER_VM}) qemu_migration_active == 1)"
    f" + on ({_PER_VM}) group_left (with_verdict) 0 * {_VERDICT}"
    f" + on ({_PER_VM}) group_left (with_reason) {_REASON} "
    + _with(
        {
            "round": "qemu_migration_round",
            "pending": _rounded("qemu_migration_pending_bytes / 2^20", digits=1),
            "best": _rounded("qemu_migration_best_pending_bytes / 2^20", digits=1),
            "best_round": "qemu_migration_best_round",
            "sent": _rounded("qemu_migration_bandwidth_bytes_per_second / 2^20", digits=1),
            "dirtied": _rounded("qemu_migration_dirty_bytes_per_second / 2^20", digits=1),
            "needs": _rounded("qemu_migration_required_downtime_seconds"),
            "limit": _rounded("qemu_migration_downtime_limit_seconds", digits=3),
        }
    )
    + f") {_TRACE}",
    "{{vm}} {{with_verdict}}{{with_reason}}: round {{with_round}}, {{with_pending}} MiB pending, at best {{with_best}} in round {{with_best_round}};"
    " sends {{with_sent}} MiB/s while {{with_dirtied}} MiB/s are dirtied again;"
    " needs {{with_needs}} s of downtime, the limit is {{with_limit}} s.",
    instant=True,
)

#: 1 for one that did not complete, 0 for one that did.
ENDED: Final = Query(
    f'((((qemu_migration_last_result{{result!="completed"}} == 1)'
    ' or 0 * (qemu_migration_last_result{result="completed"} == 1))'
    f" and on ({_PER_VM}) qemu_migration_active == 0) "
    + _with(
        {
            "duration": _rounded("qemu_migration_last_duration_seconds", digits=1),
            "downtime": _rounded("qemu_migration_last_downtime_seconds", digits=3),
        }
    )
    + f") {_TRACE}",
    "{{vm}} {{result}} after {{with_duration}} s; the guest stood still for {{with_downtime}} s.",
    instant=True,
)


def worst(query: Query, number: int) -> Query:
    """Keep so many, those that are stalled first."""
    return Query(f"topk({number}, {query.expr})", query.legend, instant=query.instant)
