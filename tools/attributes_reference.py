"""Generator of docs/attributes.md from the table of span attributes: `make reference`."""

from __future__ import annotations

import sys
from typing import Final

from qemu_migration_exporter.tracing.attribute_table import TABLE, Attribute

_INTRODUCTION: Final = """\
# Traces and span attributes

A trace is one migration of one virtual machine. Its spans are:

    migrate                      the whole migration; ERROR with `error.type` and QEMU's own text if it failed
    ├── migrate.start            sent at once, so that a running migration is found
    ├── setup
    │   └── bitmap_sync
    ├── iterate                  one per round, sent when the round ends; ERROR if the migration failed in it
    │   └── bitmap_sync          the sync that begins the round
    ├── iterate.batch            beyond `max_rounds`: all rounds that ended in the same minute
    ├── stalled · stall_cleared  a stall with its evidence, and its end; sent at once; `stalled` is an ERROR
    ├── paused                   the guest did not run: `virsh suspend`, an I/O error
    ├── exporter.stopped         this program stopped here; its next run continues the trace
    ├── complete_precopy         the switchover, with the guest stopped
    │   ├── stop                 from QEMU's start of the downtime until the CPUs are paused and the disks flushed
    │   ├── pre_switchover       the wait for `migrate-continue`
    │   ├── ram                  RAM's last pass
    │   ├── bitmap_sync          the last sync, inside RAM's pass
    │   ├── save NAME            a device, by the name of its state (vmsd)
    │   ├── save.batch           beyond `max_devices`: the other devices
    │   ├── load NAME            on a destination: the load of a device
    │   └── destination          the source waits until the destination has loaded everything
    ├── postcopy
    └── cleanup

The longest child of `complete_precopy` is what the downtime was spent on. A gap between its children is time that no
trace event explains; `qemu.migration.downtime.unaccounted_seconds` on `migrate` is its sum. `stop` ends with
src-vm-stopped (8.2 and later), migration_completion_vm_stop (6.1 and later), else with savevm_state_complete. `ram` is
the time between its section's marks, else vmstate_downtime_save, else from the stop to src-iterable-saved.

## Finding a migration

In Jaeger, choose the service `qemu-migration` and search by tag:

| search | tags |
|---|---|
| migrations of a virtual machine, running ones included | `qemu.vm.name=web-42` |
| migrations that are or were stalled | operation `stalled`; by virtual machine, add the tag `qemu.vm.name` |
| failed migrations | operation `migrate`, tag `error=true` |
| one round, on the page of a trace | `round=7` in *Find*; the tick at the start of an `iterate` bar shows it too |
| the attempt before, of a retry | the reference of `migrate`, or the trace id in `qemu.migration.retry_of` |

In Tempo: `{ resource.service.name = "qemu-migration" && span.qemu.vm.name = "web-42" }`.
A trace in which a stall was found is marked with an error while the migration is still running.

## Resource

The resource has `service.name` (`qemu-migration`), `service.version`, and for a daemon `host.name` and a
`service.instance.id` that stays the same over restarts. With `spans.vm_services` the service of
`migrate.start` is the virtual machine's name. `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` add to it
and override it. A text that is too long ends with `… and N more` characters.

## Attributes

`make reference` writes this file.
"""


def text() -> str:
    """Return the document."""
    rows = "".join(map(_row, TABLE))
    return f"{_INTRODUCTION}\n| attribute | type | unit | spans | description |\n|---|---|---|---|---|\n{rows}"


def _row(attribute: Attribute) -> str:
    spans = "all" if attribute.spans == ("all",) else ", ".join(f"`{span}`" for span in attribute.spans)
    unit = attribute.unit and f"`{attribute.unit}`"
    return f"| `{attribute.name}` | {attribute.type} | {unit} | {spans} | {attribute.meaning} |\n"


if __name__ == "__main__":
    sys.stdout.write(text())
