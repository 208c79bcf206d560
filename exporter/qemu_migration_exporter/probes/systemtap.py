"""The script for SystemTap 4.0 and later, as RHEL 8 and its successors have it: values for probe.stp.j2."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from qemu_migration_exporter.probes import plan, script
from qemu_migration_exporter.probes.plan import Plan, Printed, Value
from qemu_migration_exporter.probes.script import Dialect

#: QEMU's own tapsets cut texts here, and SystemTap's default for a whole string is as long; its last byte is a zero.
_STRING_BYTES: Final = 512

_USAGE: Final = """\
Run it as root, from before the migration to after it:
    stap -s 16 -DMAXSKIPPED=1000000 -DSTP_NO_OVERLOAD THIS_SCRIPT
`-s 16` is its buffer in MiB a CPU. SystemTap stops itself if it had to skip 100 probes or took a busy CPU's time for \
long, and post-copy can bring both; the two `-D` let it continue. The number of lost lines is printed only when it \
ends. QEMUs that run already are traced, and those started later."""


def _point(made: Plan, name: str) -> str:
    return f'probe process("{made.binary.path}").provider("qemu").mark("{name}")'


def _is_postcopy(made: Plan) -> str:
    if made.state_numbered:
        return f"$arg1 == {plan.POSTCOPY_STATE_NUMBER}"
    return f'{_string("$arg1")} == "{plan.POSTCOPY_STATE}"'


def _string(argument: str) -> str:
    # The plain user_string_n() ends the whole script if the page of the text is not in memory.
    return f'user_string_n2({argument}, {_STRING_BYTES}, "-")'


def _print(printed: Printed) -> str:
    text = f" {printed.format}" if printed.format else ""
    arguments = ["pid()", "tid()", "ktime_get_ns()", *(_argument(value) for value in printed.values)]
    if printed.long_text:
        text, arguments[3:] = text.replace("%s", "%s%s%s"), ["text", "more", "rest"]
    return f'printf("%d/%d@%d {printed.name}{text}\\n", {", ".join(arguments)})'


def _argument(value: Value) -> str:
    argument = f"$arg{value.place + 1}"
    if value.conversion == "s":
        return _string(argument)
    if value.conversion == "d" and not value.argument.signed and value.argument.size < 8:  # noqa: PLR2004 - a long's
        # QEMU prints a signed int, and SystemTap does not extend the sign of an argument declared as unsigned.
        unused = 64 - value.argument.size * 8
        return f"({argument} << {unused}) >> {unused}"
    return argument


_DIALECT: Final = Dialect(
    tool="SystemTap",
    template="probe.stp.j2",
    usage=_USAGE,
    point=_point,
    text=lambda _: "$arg1",
    print=_print,
    is_postcopy=_is_postcopy,
    values={"string": _string, "piece_bytes": _STRING_BYTES - 1},
)


def systemtap_script(path: Path) -> str:
    """Return the script for a QEMU binary; see `script.render`."""
    return script.render(path, _DIALECT)
