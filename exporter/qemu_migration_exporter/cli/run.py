"""`run`: the daemon."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from qemu_migration_exporter.cli import garbage
from qemu_migration_exporter.cli.arguments import address, url_path

if TYPE_CHECKING:
    from qemu_migration_exporter.config.schema import Config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's flags and arguments."""
    add = parser.add_argument
    add("--config.file", dest="config_file", metavar="FILE", help="a configuration file, see config/exporter.yml")
    add(
        "--source",
        dest="sources",
        action="append",
        default=[],
        metavar="PATH",
        help="a file, a pattern, a FIFO or a socket to read beside those of the configuration; - for standard input"
        " (default: what the configuration names, else /var/log/libvirt/qemu/*.log)",
    )
    add("--web.listen-address", dest="listen_address", type=address, metavar="ADDR", help="HOST:PORT to serve on")
    add("--web.config.file", dest="web_config_file", metavar="FILE", help="TLS and users, as for any other exporter")
    add("--web.telemetry-path", dest="telemetry_path", type=url_path, metavar="PATH", help="path of the metrics")
    add("--otlp.endpoint", dest="otlp_endpoint", metavar="URL", help="OTLP receiver of the spans")
    add(
        "--state.file",
        dest="state_file",
        metavar="FILE",
        help="file that keeps open migrations over a restart (default: in systemd's STATE_DIRECTORY, if set)",
    )


def execute(arguments: argparse.Namespace) -> int:
    """Run the command; return the exit status."""
    from qemu_migration_exporter.run import run  # noqa: PLC0415 - not for --help

    config = effective_config(arguments)
    garbage.freeze()
    return run(config, lambda: effective_config(arguments))


def effective_config(arguments: argparse.Namespace) -> Config:
    """Read the configuration file and apply the flags over it."""
    from qemu_migration_exporter.config import schema  # noqa: PLC0415 - not for --help

    read = schema.load(arguments.config_file) if arguments.config_file else schema.Config()
    flags = {
        "listen_address": arguments.listen_address,
        "config_file": arguments.web_config_file,
        "telemetry_path": arguments.telemetry_path,
    }
    named = tuple(map(schema.source_of, arguments.sources))
    # The default source applies only if none is named.
    configured = () if named and "sources" not in read.model_fields_set else read.sources
    return schema.with_endpoint(read, arguments.otlp_endpoint).model_copy(
        update={
            "sources": (*configured, *named),
            "state_file": arguments.state_file or read.state_file or _state_directory_file(),
            "web": read.web.model_copy(update={key: value for key, value in flags.items() if value}),
        }
    )


def _state_directory_file() -> str | None:
    """Return a file in the directory that systemd made for the service's state, if it did: systemd.exec(5)."""
    directory = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return f"{directory}/state" if directory else None
