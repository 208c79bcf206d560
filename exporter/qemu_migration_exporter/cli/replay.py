"""`replay`: recordings through the pipeline, and a report."""

from __future__ import annotations

import argparse

from qemu_migration_exporter.cli import garbage
from qemu_migration_exporter.cli.arguments import address, positive, rfc3339_ns
from qemu_migration_exporter.core.parsing.formats import FORMATS
from qemu_migration_exporter.present.reports import REPORTS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's flags and arguments."""
    add = parser.add_argument
    add(
        "files",
        nargs="+",
        metavar="FILE",
        help="a recording, plain or .gz; - for standard input; rotated files are one",
    )
    add("--report", choices=REPORTS, default="text", help="format of the report (default: %(default)s)")
    add("--metrics.out", dest="metrics_out", metavar="FILE", help="write the metrics in Prometheus text format")
    add("--spans.out", dest="spans_out", metavar="FILE", help="write the spans as OTLP JSON, one request a line")
    add(
        "--otlp.endpoint",
        dest="otlp_endpoint",
        metavar="URL",
        help="send the spans by OTLP, such as http://localhost:4318 (default: configuration or OTEL_ variables)",
    )
    add(
        "--web.listen-address",
        dest="listen_address",
        type=address,
        metavar="ADDR",
        help="serve /metrics on HOST:PORT while replaying and after, until interrupted",
    )
    add("--vm", metavar="NAME", help="name of the virtual machine (default: the file's, without directory and ending)")
    add("--format", dest="format_name", choices=sorted(FORMATS), help="format of the lines (default: recognised)")
    add(
        "--start-time",
        dest="start_ns",
        type=rfc3339_ns,
        metavar="RFC3339",
        help="start of a recording without times (default: the file's modification time)",
    )
    add("--speed", type=positive, metavar="N", help="replay N times as fast as recorded (default: as fast as it goes)")
    add("--config.file", dest="config_file", metavar="FILE", help="a configuration file, see config/exporter.yml")
    add(
        "--no-backups",
        dest="backups",
        action="store_false",
        help="read VM.log alone, also if it begins in the middle of a migration (default: with VM.log.0, .1 and so on)",
    )
    add("--qemu", metavar="BINARY", help="the QEMU that SystemTap traced, to name marks printed by their address")
    add("--strict", action="store_true", help="exit with 1 if a line was malformed or surprising")


def execute(arguments: argparse.Namespace) -> int:
    """Run the command; return the exit status."""
    from qemu_migration_exporter.config import schema  # noqa: PLC0415 - not for --help
    from qemu_migration_exporter.replay import Options, Replay  # noqa: PLC0415

    read = schema.load(arguments.config_file) if arguments.config_file else schema.Config()
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
        backups=arguments.backups,
        config=schema.with_endpoint(read, arguments.otlp_endpoint).model_copy(
            update={"qemu": arguments.qemu or read.qemu}
        ),
    )
    garbage.freeze()
    return Replay(options).run()
