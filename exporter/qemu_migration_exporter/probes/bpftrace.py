"""The script for bpftrace 0.17 and later: values for the template probe.bt.j2."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from qemu_migration_exporter.probes import plan, script
from qemu_migration_exporter.probes.plan import Plan, Printed, Value
from qemu_migration_exporter.probes.script import Dialect

#: A path that bpftrace reads without quotes.
_PLAIN: Final = re.compile(r"[\w./+-]+")

_USAGE: Final = """\
Run it as root, from before the migration to after it:
    bpftrace -B line THIS_SCRIPT
`-B line` writes each line as it comes, also into a pipe. QEMUs that run already are traced, and those started later. \
A line `Lost N events` means that bpftrace was too slow; BPFTRACE_PERF_RB_PAGES=256 in the environment gives it more \
room. Commands and errors are printed whole, other texts are cut at 63 bytes before bpftrace 0.23."""

#: The longest string of bpftrace before 0.23, without its zero byte.
_PIECE_BYTES: Final = 63
#: All capabilities of 7.2 have 989 bytes.
_MAX_TEXT_BYTES: Final = 32 * _PIECE_BYTES


def _attach_point(made: Plan, name: str) -> str:
    path = str(made.binary.path)
    quoted = path if _PLAIN.fullmatch(path) else f'"{path}"'
    return f"usdt:{quoted}:qemu:{name}"


def _is_postcopy(made: Plan) -> str:
    if made.state_numbered:
        return f"(int32)arg0 == {plan.POSTCOPY_STATE_NUMBER}"
    return f'strncmp(str(arg0), "{plan.POSTCOPY_STATE}", {len(plan.POSTCOPY_STATE)}) == 0'


def _print(printed: Printed) -> str:
    formats = iter([_conversion(value) for value in printed.values])
    text = re.sub(r"%[a-z]", lambda _: next(formats), f" {printed.format}" if printed.format else "")
    arguments = ["pid", "tid", "nsecs"]
    if printed.long_text:  # the template prints the text
        return f'printf("%d/%d@%llu {printed.name}{text.removesuffix("%s")}", {", ".join(arguments)});'
    arguments += [_argument(value) for value in printed.values]
    if "%%" in text:  # only after the last value
        text = text.replace("%%", "%s")
        arguments.append('"%"')
    return f'printf("%d/%d@%llu {printed.name}{text}\\n", {", ".join(arguments)});'


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


_DIALECT: Final = Dialect(
    tool="bpftrace",
    template="probe.bt.j2",
    usage=_USAGE,
    point=_attach_point,
    text=lambda printed: f"arg{printed.values[0].place}",
    print=_print,
    is_postcopy=_is_postcopy,
    values={"piece_bytes": _PIECE_BYTES, "max_text_bytes": _MAX_TEXT_BYTES},
)


def bpftrace_script(path: Path) -> str:
    """Return the script for a QEMU binary; see `script.render`."""
    return script.render(path, _DIALECT)
