"""The reference of traces, ATTRIBUTES.md, made of the single list of attributes: `make reference`."""

from __future__ import annotations

import sys
from typing import Final

from qemu_migration_exporter.tracing.attribute_table import TABLE, Attribute

_INTRODUCTION: Final = """\
# Span attributes

A trace is one migration of one virtual machine, its spans are:

    migrate                      the whole of it; ERROR with `error.type` and QEMU's own text where it failed
    ├── migrate.start            sent at once, so that a migration that runs is found
    ├── setup
    │   └── bitmap_sync
    ├── iterate                  one a round, sent when the round ends
    │   └── bitmap_sync          the sync that begins it
    ├── iterate and more         past `max_rounds`: all rounds that ended in the same minute
    ├── stalled · stall_cleared  when a stall turned out, and when it was over, with the evidence; sent at once
    ├── interrupted              this program stopped here, and its next run goes on with the trace
    ├── complete_precopy         the switchover: the guest stands still
    │   ├── stop                 from QEMU's start of the downtime until the CPUs are paused and the disks flushed
    │   ├── pre_switchover       the wait for `migrate-continue`, the guest stopped all the while
    │   ├── ram                  RAM's last pass
    │   ├── bitmap_sync          the final sync, inside of that
    │   ├── save NAME            a device, by the name of its state (vmsd)
    │   └── save and more        past `max_devices`: the others
    ├── postcopy
    └── cleanup

What the downtime was spent on is what is longest under `complete_precopy`; a gap there is time that QEMU prints nothing
of, such as the destination's answer on the return path. `stop` ends with src-vm-stopped (8.2 and later),
migration_completion_vm_stop (6.1 and later), else with savevm_state_complete. `ram` is the time between its section's
marks, else vmstate_downtime_save, else from the stop to src-iterable-saved.

The resource says `service.name` (`qemu-migration`), `service.version`, and of a daemon `host.name` and a
`service.instance.id` that stays the same over restarts; `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` add to it
and win. A text that is too long ends with `… and N more` characters.

This file is made by `make reference`.
"""


def text() -> str:
    """Give the whole document."""
    rows = "".join(map(_row, TABLE))
    return f"{_INTRODUCTION}\n| attribute | type | unit | on | says |\n|---|---|---|---|---|\n{rows}"


def _row(each: Attribute) -> str:
    spans = "all" if each.spans == ("all",) else ", ".join(f"`{span}`" for span in each.spans)
    unit = each.unit and f"`{each.unit}`"
    return f"| `{each.name}` | {each.type} | {unit} | {spans} | {each.meaning} |\n"


if __name__ == "__main__":
    sys.stdout.write(text())
