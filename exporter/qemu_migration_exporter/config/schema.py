"""Schema of the daemon's configuration file, with the defaults that apply without a file.

One class per section. Types carry the bounds; validators check values that pydantic cannot, such as addresses and
templates. Methods turn a section into the objects that the program needs, for example `VerdictConfig.policy`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, field_validator

from qemu_migration_exporter.config.addresses import check_template, parse_address, parse_path
from qemu_migration_exporter.config.durations import Duration, seconds
from qemu_migration_exporter.config.section import Section
from qemu_migration_exporter.config.sources import DEFAULT_SOURCES, SourceConfig, source_of
from qemu_migration_exporter.config.trace_events import EventConfig
from qemu_migration_exporter.config.verdict import VerdictConfig
from qemu_migration_exporter.core.migration.machine import DEFAULT_PAGE_SIZE_BYTES
from qemu_migration_exporter.core.parsing.arguments import argument_names
from qemu_migration_exporter.core.parsing.options import ParserOptions
from qemu_migration_exporter.core.parsing.trace_events import LAYOUTS, EventLayout

__all__ = [
    "Config",
    "EventConfig",
    "MetricsConfig",
    "SourceConfig",
    "SpansConfig",
    "VerdictConfig",
    "WebConfig",
    "dump",
    "load",
    "source_of",
    "with_endpoint",
]

#: 60 series a virtual machine: 1,000 of them are one host's worth, and a scrape of some 15 MB.
DEFAULT_MAX_VMS: Final = 1_000

#: Some 300,000 spans: days of one stuck migration, or an hour of a host that is emptied.
DEFAULT_SPOOL_BYTES: Final = 64 * 1024 * 1024


class MetricsConfig(Section):
    """Lifetime and number of series.

    Attributes:
        retention: Time for which the series of a migration are kept after its end, such as 15m.
        max_vms: Virtual machines with series of their own; more are only counted.
    """

    retention: Duration = "15m"
    max_vms: Annotated[int, Field(ge=1)] = DEFAULT_MAX_VMS

    @property
    def retention_seconds(self) -> float:
        """The retention in seconds."""
        return seconds(self.retention)


class WebConfig(Section):
    """The HTTP server.

    Attributes:
        listen_address: HOST:PORT.
        telemetry_path: Path of the metrics.
        config_file: TLS and users, in the format of Prometheus's exporter-toolkit.
        enable_reload: True if a POST to /-/reload reloads the configuration.
        trace_url: URL of a trace in its viewer, with {trace_id} in it.
    """

    listen_address: str = "127.0.0.1:9871"
    telemetry_path: str = "/metrics"
    config_file: str | None = None
    enable_reload: bool = False
    trace_url: str | None = None

    @field_validator("listen_address")
    @classmethod
    def _validate_address(cls, address: str) -> str:
        parse_address(address)
        return address

    @field_validator("telemetry_path")
    @classmethod
    def _validate_path(cls, path: str) -> str:
        return parse_path(path)

    @field_validator("trace_url")
    @classmethod
    def _validate_template(cls, url: str | None) -> str | None:
        return url if url is None else check_template(url)


class SpansConfig(Section):
    """Receiver and number of spans.

    Attributes:
        otlp_endpoint: URL of the receiver; default that of the OTEL_ variables, else none.
        otlp_protocol: Default that of the OTEL_ variables, else http/protobuf.
        vm_services: True if the first span of a migration belongs to a service with the virtual machine's name.
        queue_size: Spans that wait in memory; more are dropped and counted. Default OTEL_BSP_MAX_QUEUE_SIZE, else
            16384.
        spool_directory: Directory in which spans wait for a receiver that is away, over a restart too; none by default.
        spool_max_bytes: Size of the spool; beyond it the oldest are dropped and counted.
        max_rounds: Rounds of a migration with a span of their own; more share one span a minute.
        max_devices: Devices of a downtime with a span of their own; more share one span.
        max_spans: Bitmap syncs, devices and markers of a migration; more are left out and counted.
    """

    otlp_endpoint: str | None = None
    otlp_protocol: Literal["http/protobuf", "grpc"] | None = None
    vm_services: bool = False
    queue_size: Annotated[int, Field(ge=512)] | None = None
    spool_directory: str | None = None
    spool_max_bytes: Annotated[int, Field(ge=1024 * 1024)] = DEFAULT_SPOOL_BYTES
    max_rounds: Annotated[int, Field(ge=0)] = 500
    max_devices: Annotated[int, Field(ge=0)] = 256
    max_spans: Annotated[int, Field(ge=0)] = 5_000


class Config(Section):
    """The whole configuration.

    Attributes:
        sources: The daemon's sources.
        state_file: File that keeps open migrations over a restart; none by default.
        page_size_bytes: TARGET_PAGE_SIZE of the guests; dirty pages are counted in it, and it is not in the stream.
        events: Additions to the vocabulary.
        argument_names: Event → key as a script prints it → the argument's name in QEMU.
        qemu: QEMU's binary with USDT marks, to find the marks of the addresses that SystemTap prints.
    """

    page_size_bytes: Annotated[int, Field(ge=1024, le=1024 * 1024)] = DEFAULT_PAGE_SIZE_BYTES
    events: tuple[EventConfig, ...] = ()
    argument_names: dict[str, dict[str, str]] = Field(default_factory=dict)
    qemu: str | None = None
    sources: tuple[SourceConfig, ...] = DEFAULT_SOURCES
    state_file: str | None = None
    metrics: MetricsConfig = MetricsConfig()
    verdict: VerdictConfig = VerdictConfig()
    web: WebConfig = WebConfig()
    spans: SpansConfig = SpansConfig()

    @field_validator("page_size_bytes")
    @classmethod
    def _validate_page_size(cls, size: int) -> int:
        if size & (size - 1):
            raise ValueError("expected a power of two")
        return size

    @field_validator("events", "sources", mode="before")
    @classmethod
    def _validate_list(cls, values: object) -> object:
        if not isinstance(values, list | tuple):
            raise ValueError("expected a list")  # noqa: TRY004 - pydantic takes a ValueError for a mistake of the user's
        return tuple(values)

    def rows(self) -> tuple[EventLayout, ...]:
        """Return the vocabulary with the additions, which are tried first."""
        return (*(layout for event in self.events for layout in event.layouts()), *LAYOUTS)

    @field_validator("argument_names")
    @classmethod
    def _validate_argument_names(cls, names: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
        for event, keys in names.items():
            for argument in keys.values():
                known = argument_names(event)
                if argument not in known:
                    raise ValueError(f"{event}: expected one of {', '.join(known) or 'no event'}, got {argument}")
        return names

    def parser_options(self, report: Callable[[str], None]) -> ParserOptions:
        """Return the settings of the parser; report why the addresses of QEMU's marks are not among them."""
        options = ParserOptions(rows=self.rows(), argument_names=self.argument_names)
        if self.qemu is None:
            return options
        from qemu_migration_exporter.probes.binary import ProbeError, mark_addresses  # noqa: PLC0415 - pyelftools is large

        try:
            return replace(options, mark_addresses=mark_addresses(Path(self.qemu)))
        except ProbeError as error:  # the caller counts or prints it
            report(str(error))
            return options


def load(path: str) -> Config:
    """Read and check a configuration file.

    Raises:
        ConfigError: The file cannot be read, is not YAML, or has mistakes; the error lists all of them.
    """
    from qemu_migration_exporter.config import yaml_loader  # noqa: PLC0415 - not without a file

    return yaml_loader.read(path, Config)


def dump(config: Config) -> str:
    """Render the effective configuration as YAML, defaults included."""
    values = config.model_dump(mode="json")
    for key in ("events", "sources"):  # most of their keys are alternatives
        values[key] = [item.model_dump(mode="json", exclude_defaults=True) for item in getattr(config, key)]
    import yaml  # noqa: PLC0415 - only for `check`

    text: str = yaml.safe_dump(values, sort_keys=False)
    return text


def with_endpoint(config: Config, endpoint: str | None) -> Config:
    """Return the configuration with another receiver of spans, unless it is None."""
    if endpoint is None:
        return config
    return config.model_copy(update={"spans": config.spans.model_copy(update={"otlp_endpoint": endpoint})})
