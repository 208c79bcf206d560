"""A script for SystemTap 4.0 and later, as RHEL 8 and its successors have it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from qemu_migration_exporter.probes import binary, plan, script
from qemu_migration_exporter.probes.plan import Plan, Printed, Value

#: QEMU's own tapsets cut texts here; SystemTap's default for a whole string is as long.
_STRING_BYTES: Final = 512

_USAGE: Final = """\
Run it as root, from before the migration to after it:
    stap -s 16 -DMAXSKIPPED=1000000 -DSTP_NO_OVERLOAD THIS_SCRIPT
`-s 16` is its buffer in MiB a CPU. SystemTap stops itself where it had to skip 100 probes or took a busy CPU's time \
for long, both of which post-copy can bring; the two `-D` say to go on. What was lost is told only when it ends. QEMUs \
that run already are traced, and those started later."""

_REQUEST: Final = """\
{{
  postcopy[pid()] = 1
  requests[pid()]++
  if (ktime_get_ns() - told[pid()] >= {every_ns}) {{
    told[pid()] = ktime_get_ns()
    tell_requests()
  }}
}}
"""
_TELL: Final = """\
function tell_requests()
{{
  if (requests[pid()]) {{
    printf("%d/%d@%d {event} %d\\n", pid(), tid(), ktime_get_ns(), requests[pid()])
    delete requests[pid()]
  }}
}}
"""
_END: Final = """\
probe end
{{
  foreach (each in requests)
    printf("%d/%d@%d {event} %d\\n", each, each, ktime_get_ns(), requests[each])
}}
"""


def systemtap_script(path: Path) -> str:
    """Write a script that prints the migrations of every process of a QEMU binary.

    Raises:
        ProbeError: See `probes.binary.read_traced` and `probes.plan.make`.
    """
    made = plan.make(binary.read_traced(path))
    arrays = []
    if made.sees_postcopy:
        arrays += ["postcopy", *(f"last_{printed.name}" for printed in made.printed if printed.quiet)]
    if made.request:
        arrays += ["requests", "told"]
    parts = [
        script.header(made, tool="SystemTap", usage=_USAGE),
        *([f"global {', '.join(arrays)}\n"] if arrays else []),
        'probe begin\n{\n  printf("anchor %d %d\\n", ktime_get_ns(), gettimeofday_ns())\n}\n',
    ]
    if made.request:
        parts.append(_TELL.format(event=plan.REQUESTS_EVENT))
    parts += [_probe(made, printed, arrays) for printed in made.printed]
    if made.request:
        parts.append(f"{_point(made, made.request)}\n{_REQUEST.format(every_ns=plan.REQUESTS_NS)}")
        parts.append(_END.format(event=plan.REQUESTS_EVENT))
    return "\n".join(parts)


def _point(made: Plan, name: str) -> str:
    return f'probe process("{made.binary.path}").provider("qemu").mark("{name}")'


def _probe(made: Plan, printed: Printed, arrays: list[str]) -> str:
    before = after = ""
    if printed.name == plan.STATE_EVENT:
        before = f"  postcopy[pid()] = {_is_postcopy(made)}\n"
        if made.request:
            before += "  tell_requests()\n"
    if printed.ends:
        after = "".join(f"  delete {name}[pid()]\n" for name in arrays)
    if printed.quiet and made.sees_postcopy:
        last = f"last_{printed.name}[pid()]"
        before = (
            f"  if (postcopy[pid()] && ktime_get_ns() - {last} < {plan.QUIET_NS}) next\n"
            f"  if (postcopy[pid()]) {last} = ktime_get_ns()\n"
        )
    return f"{_point(made, printed.name)}\n{{\n{before}{_print(printed)}{after}}}\n"


def _is_postcopy(made: Plan) -> str:
    if made.state_numbered:
        return f"$arg1 == {plan.POSTCOPY_STATE_NUMBER}"
    return f'{_string("$arg1")} == "{plan.POSTCOPY_STATE}"'


def _string(argument: str) -> str:
    # The plain user_string_n() ends the whole script where the page of the text is not in memory.
    return f'user_string_n2({argument}, {_STRING_BYTES}, "-")'


def _print(printed: Printed) -> str:
    text = f" {printed.format}" if printed.format else ""
    arguments = ["pid()", "tid()", "ktime_get_ns()", *(_argument(value) for value in printed.values)]
    return f'  printf("%d/%d@%d {printed.name}{text}\\n", {", ".join(arguments)})\n'


def _argument(value: Value) -> str:
    argument = f"$arg{value.place + 1}"
    if value.conversion == "s":
        return _string(argument)
    if value.conversion == "d" and not value.argument.signed and value.argument.size < 8:  # noqa: PLR2004 - a long's
        # QEMU prints it as a signed int, and SystemTap does not extend the sign of what is not declared with one.
        unused = 64 - value.argument.size * 8
        return f"({argument} << {unused}) >> {unused}"
    return argument
