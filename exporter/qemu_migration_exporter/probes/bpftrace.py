"""A script for bpftrace 0.17 and later.

What differs between its releases is left alone: no `config` block (0.19), no loops over maps (0.20), no
comparison of strings with `==` (0.17 warns about user memory), no `%%` (0.17 prints both).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from qemu_migration_exporter.probes import binary, plan, script
from qemu_migration_exporter.probes.plan import Plan, Printed, Value

#: What bpftrace reads as a path without quotes.
_PLAIN: Final = re.compile(r"[\w./+-]+")

_USAGE: Final = """\
Run it as root, from before the migration to after it:
    BPFTRACE_STRLEN=128 bpftrace -B line THIS_SCRIPT
`-B line` writes each line as it comes, also into a pipe. QEMUs that run already are traced, and those started later. \
A line `Lost N events` says that bpftrace was too slow; BPFTRACE_PERF_RB_PAGES=256 in the environment gives it more \
room. Before bpftrace 0.23 texts are cut at 63 bytes, or at 127 as above; it takes no more there."""

# The page requests are told by their own event, so that none waits for another event; what is left is told with the
# next state. All of them come on one thread of the process.
_REQUEST: Final = """\
{{
  @postcopy[pid] = 1;
  @requests[pid]++;
  if (nsecs - @told[pid] >= {every_ns}) {{
    printf("%d/%d@%llu {event} %lld\\n", pid, tid, nsecs, @requests[pid]);
    @told[pid] = nsecs;
    @requests[pid] = 0;
  }}
}}
"""
_TELL: Final = """\
  if (@requests[pid] > 0) {{
    printf("%d/%d@%llu {event} %lld\\n", pid, tid, nsecs, @requests[pid]);
    @requests[pid] = 0;
  }}
"""


def bpftrace_script(path: Path) -> str:
    """Write a script that prints the migrations of every process of a QEMU binary.

    Raises:
        ProbeError: See `probes.binary.read_traced` and `probes.plan.make`.
    """
    made = plan.make(binary.read_traced(path))
    maps = []  # bpftrace refuses a map that nothing writes to
    if made.sees_postcopy:
        maps += ["postcopy", *(f"last_{printed.name}" for printed in made.printed if printed.quiet)]
    if made.request:
        maps += ["requests", "told"]
    parts = [
        script.header(made, tool="bpftrace", usage=_USAGE),
        'BEGIN\n{\n  $now = nsecs;\n  printf("anchor %llu %s\\n", $now, strftime("%s.%f", $now));\n}\n',
        *(_probe(made, printed, maps) for printed in made.printed),
    ]
    if made.request:
        body = _REQUEST.format(every_ns=plan.REQUESTS_NS, event=plan.REQUESTS_EVENT)
        parts.append(f"{_attach_point(made, made.request)}\n{body}")
    if maps:  # bpftrace prints at its end every map that is not empty
        parts.append("END\n{\n" + "".join(f"  clear(@{name});\n" for name in maps) + "}\n")
    return "\n".join(parts)


def _attach_point(made: Plan, name: str) -> str:
    path = str(made.binary.path)
    quoted = path if _PLAIN.fullmatch(path) else f'"{path}"'
    return f"usdt:{quoted}:qemu:{name}"


def _probe(made: Plan, printed: Printed, maps: list[str]) -> str:
    before = after = ""
    if printed.name == plan.STATE_EVENT:
        before = _state(made)
        if made.request:
            before += _TELL.format(event=plan.REQUESTS_EVENT)
    if printed.ends:
        after = "".join(f"  delete(@{name}[pid]);\n" for name in maps)
    if printed.quiet and made.sees_postcopy:
        last = f"@last_{printed.name}[pid]"
        return (
            f"{_attach_point(made, printed.name)}\n"
            f"/@postcopy[pid] == 0 || nsecs - {last} >= {plan.QUIET_NS}/\n"
            f"{{\n  {last} = nsecs;\n{_print(printed)}}}\n"
        )
    return f"{_attach_point(made, printed.name)}\n{{\n{before}{_print(printed)}{after}}}\n"


def _state(made: Plan) -> str:
    if made.state_numbered:
        is_postcopy = f"(int32)arg0 == {plan.POSTCOPY_STATE_NUMBER}"
    else:
        is_postcopy = f'strncmp(str(arg0), "{plan.POSTCOPY_STATE}", {len(plan.POSTCOPY_STATE)}) == 0'
    return f"  if ({is_postcopy}) {{\n    @postcopy[pid] = 1;\n  }} else {{\n    delete(@postcopy[pid]);\n  }}\n"


def _print(printed: Printed) -> str:
    formats = iter([_conversion(value) for value in printed.values])
    text = re.sub(r"%[a-z]", lambda _: next(formats), f" {printed.format}" if printed.format else "")
    arguments = ["pid", "tid", "nsecs", *(_argument(value) for value in printed.values)]
    if "%%" in text:  # only ever behind the last value
        text = text.replace("%%", "%s")
        arguments.append('"%"')
    return f'  printf("%d/%d@%llu {printed.name}{text}\\n", {", ".join(arguments)});\n'


def _conversion(value: Value) -> str:
    if value.conversion == "s":
        return "%s"
    return f"%{value.conversion}" if value.argument.size <= 4 else f"%ll{value.conversion}"  # noqa: PLR2004 - an int


def _argument(value: Value) -> str:
    argument = f"arg{value.place}"
    if value.conversion == "s":
        return f"str({argument})"
    sign = "" if value.conversion == "d" else "u"
    return f"({sign}int{value.argument.size * 8}){argument}"
