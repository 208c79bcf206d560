"""The command line: arguments → calls → exit status, and nothing else."""

from __future__ import annotations

import argparse
import gc
import io
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NoReturn

import qemu_migration_exporter
from qemu_migration_exporter.attach.arguments import DESCRIPTION as ATTACH_DESCRIPTION
from qemu_migration_exporter.attach.arguments import HELP as ATTACH_HELP
from qemu_migration_exporter.attach.arguments import add_arguments as add_attach_arguments
from qemu_migration_exporter.config import schema
from qemu_migration_exporter.config.yaml_loader import ConfigError
from qemu_migration_exporter.core.parsing.formats import FORMATS
from qemu_migration_exporter.ops import logs
from qemu_migration_exporter.present.reports import REPORTS
from qemu_migration_exporter.sources.errors import SourceError
from qemu_migration_exporter.web import AddressError, parse_address, parse_path

#: So many objects more than before, and it is worth looking for garbage among them.
_COLLECTED_AFTER: Final = 20_000


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        0 if all went well, 1 if something failed, 2 for a mistake on the command line.
    """
    try:
        arguments = _parser().parse_args(argv)
    except SystemExit as stop:  # argparse's --help and its complaints
        return stop.code if isinstance(stop.code, int) else 2
    logs.set_up(arguments.log_level, arguments.log_format)
    signal.signal(signal.SIGTERM, _interrupt)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(
            errors="replace"
        )  # an ASCII terminal gets a report with question marks, and no traceback
    try:
        return _COMMANDS[arguments.command](arguments)
    except (ConfigError, SourceError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:  # as asked
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # Whoever read our output has gone; keep the interpreter from complaining about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


# A command imports what it needs itself: a daemon that runs for months has no use for what lays out reports, reads
# binaries or draws a bar, nor a script for a server.


def _run(arguments: argparse.Namespace) -> int:
    from qemu_migration_exporter.run import run  # noqa: PLC0415 - see above

    _spare_what_stays()
    return run(_run_config(arguments), lambda: _run_config(arguments))


def _attach(arguments: argparse.Namespace) -> int:
    from qemu_migration_exporter.attach.command import attach  # noqa: PLC0415 - see above

    return attach(arguments)


def _check(arguments: argparse.Namespace) -> int:
    sys.stdout.write(schema.dump(schema.load(arguments.file)))
    return 0


def _probe(arguments: argparse.Namespace) -> int:
    from qemu_migration_exporter.probes import ProbeError, bpftrace_script, log_advice, systemtap_script  # noqa: PLC0415 - see above

    kind, binary = arguments.kind, arguments.qemu
    try:
        if kind == "log":
            script = log_advice(binary)
        elif binary is None:
            raise ProbeError(f"probe {kind}: expected --qemu=BINARY, the QEMU to make the probe for")  # noqa: TRY301
        else:
            script = bpftrace_script(binary) if kind == "bpftrace" else systemtap_script(binary)
    except ProbeError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(script)
    return 0


def _spare_what_stays() -> None:
    """Keep the garbage collector from what it would look at in vain, which else takes a quarter of a long replay.

    What is loaded by now stays to the end. And a chunk's lines are thousands of tuples, all of which are gone with it.
    """
    gc.freeze()
    gc.set_threshold(_COLLECTED_AFTER)


def _interrupt(_signal: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="qemu-migration-exporter",
        description="Turn QEMU's live-migration trace events into metrics, traces and a verdict.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {qemu_migration_exporter.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run_parser = commands.add_parser(
        "run",
        help="follow live streams, serve metrics and send spans",
        description="Follow live streams until SIGTERM: serve their metrics, send their spans. SIGHUP reads the"
        " configuration again.",
        allow_abbrev=False,
    )
    _add_run_arguments(run_parser)
    _add_log_arguments(run_parser)
    replay = commands.add_parser(
        "replay",
        help="run recordings through the pipeline and print a report",
        description="Run recordings of trace events through the pipeline and print a report.",
        allow_abbrev=False,
    )
    _add_replay_arguments(replay)
    _add_log_arguments(replay)
    check = commands.add_parser(
        "check",
        help="check a configuration file",
        description="Print the configuration a file makes, defaults included, or every mistake in it with its place.",
        allow_abbrev=False,
    )
    check.add_argument("file", metavar="FILE")
    _add_log_arguments(check)
    probe = commands.add_parser(
        "probe",
        help="print a probe that fits a QEMU",
        description="Print a ready script for bpftrace or SystemTap, made for the probes that a QEMU binary really has,"
        " or what is safe to enable of QEMU's own log.",
        allow_abbrev=False,
    )
    probe.add_argument("kind", choices=("bpftrace", "systemtap", "log"))
    probe.add_argument("--qemu", type=Path, metavar="BINARY", help="such as /usr/libexec/qemu-kvm; log needs none")
    _add_log_arguments(probe)
    attach = commands.add_parser("attach", help=ATTACH_HELP, description=ATTACH_DESCRIPTION, allow_abbrev=False)
    add_attach_arguments(attach)
    _add_log_arguments(attach)
    return parser


def _add_run_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--config.file", dest="config_file", metavar="FILE", help="a configuration file, see config/exporter.yml")
    add(
        "--source",
        dest="sources",
        action="append",
        default=[],
        metavar="PATH",
        help="a file, a pattern, a FIFO or a socket to read beside those of the configuration; - for standard input",
    )
    add("--web.listen-address", dest="listen_address", type=_address, metavar="ADDR", help="HOST:PORT to serve on")
    add("--web.config.file", dest="web_config_file", metavar="FILE", help="TLS and users, as for any other exporter")
    add("--web.telemetry-path", dest="telemetry_path", type=_path, metavar="PATH", help="where the metrics are")
    add("--otlp.endpoint", dest="otlp_endpoint", metavar="URL", help="where to send spans by OTLP")
    add("--state.file", dest="state_file", metavar="FILE", help="where to remember open migrations over a restart")


def _add_replay_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("files", nargs="+", metavar="FILE", help="a recording, plain or .gz; - for standard input")
    add("--report", choices=tuple(REPORTS), default="text", help="format of the report (default: %(default)s)")
    add("--metrics.out", dest="metrics_out", metavar="FILE", help="write the metrics in Prometheus text format")
    add("--spans.out", dest="spans_out", metavar="FILE", help="write the spans as OTLP JSON, one request a line")
    add(
        "--otlp.endpoint",
        dest="otlp_endpoint",
        metavar="URL",
        help="send the spans by OTLP, such as http://localhost:4318 (default: what OTEL_ variables say)",
    )
    add(
        "--web.listen-address",
        dest="listen_address",
        type=_address,
        metavar="ADDR",
        help="serve /metrics on HOST:PORT while replaying and after, until interrupted",
    )
    add("--vm", metavar="NAME", help="the virtual machine's name (default: the file's, without directory and ending)")
    add("--format", dest="format_name", choices=sorted(FORMATS), help="how lines are written (default: recognised)")
    add(
        "--start-time",
        dest="start_ns",
        type=_rfc3339_ns,
        metavar="RFC3339",
        help="when a recording without times began (default: the file's modification time)",
    )
    add("--speed", type=_positive, metavar="N", help="replay N times as fast as recorded (default: as fast as it goes)")
    add("--config.file", dest="config_file", metavar="FILE", help="a configuration file, see config/exporter.yml")
    add("--qemu", metavar="BINARY", help="the QEMU that SystemTap traced, to name marks printed by their address")
    add("--strict", action="store_true", help="exit with 1 if a line was malformed or surprising")


def _add_log_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--log.level", dest="log_level", choices=logs.LEVELS, default="info", help="(default: %(default)s)")
    add("--log.format", dest="log_format", choices=logs.FORMATS, default="logfmt", help="(default: %(default)s)")


def _run_config(arguments: argparse.Namespace) -> schema.Config:
    """Read the configuration, and put what the command line says over it."""
    read = _configuration(arguments)
    web = {
        "listen_address": arguments.listen_address,
        "config_file": arguments.web_config_file,
        "telemetry_path": arguments.telemetry_path,
    }
    return _with_endpoint(read, arguments).model_copy(
        update={
            "sources": (*read.sources, *map(schema.source_of, arguments.sources)),
            "state_file": arguments.state_file or read.state_file or _state_directory_file(),
            "web": read.web.model_copy(update={key: value for key, value in web.items() if value}),
        }
    )


def _configuration(arguments: argparse.Namespace) -> schema.Config:
    return schema.load(arguments.config_file) if arguments.config_file else schema.Config()


def _with_endpoint(config: schema.Config, arguments: argparse.Namespace) -> schema.Config:
    if arguments.otlp_endpoint is None:
        return config
    return config.model_copy(
        update={"spans": config.spans.model_copy(update={"otlp_endpoint": arguments.otlp_endpoint})}
    )


def _with_qemu(config: schema.Config, arguments: argparse.Namespace) -> schema.Config:
    return config if arguments.qemu is None else config.model_copy(update={"qemu": arguments.qemu})


def _state_directory_file() -> str | None:
    """Name a file in the directory that systemd made for the service's state, if it did: systemd.exec(5)."""
    directory = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return f"{directory}/state" if directory else None


def _replay(arguments: argparse.Namespace) -> int:
    from qemu_migration_exporter.replay import Options, Replay  # noqa: PLC0415 - see above

    _spare_what_stays()
    options = Options(
        files=arguments.files,
        report=arguments.report,
        metrics_out=arguments.metrics_out,
        spans_out=arguments.spans_out,
        listen_address=arguments.listen_address,
        vm=arguments.vm,
        format_name=arguments.format_name,
        start_ns=arguments.start_ns,
        speed=arguments.speed,
        strict=arguments.strict,
        config=_with_qemu(_with_endpoint(_configuration(arguments), arguments), arguments),
    )
    return Replay(options).run()


def _address(text: str) -> str:
    try:
        parse_address(text)
    except AddressError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def _path(text: str) -> str:
    try:
        return parse_path(text)
    except AddressError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _rfc3339_ns(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected a time such as 2026-11-22T22:39:05Z, got {text!r}") from error
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return round(aware.timestamp() * 1_000_000) * 1_000


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:  # which is as wrong as 0
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return number


_COMMANDS: Final[Mapping[str, Callable[[argparse.Namespace], int]]] = {
    "run": _run,
    "replay": _replay,
    "attach": _attach,
    "check": _check,
    "probe": _probe,
}
