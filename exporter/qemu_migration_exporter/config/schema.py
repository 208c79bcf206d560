"""What can be configured, and the file that does it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from qemu_migration_exporter.config import yaml_loader
from qemu_migration_exporter.config.addresses import check_template, parse_address, parse_path
from qemu_migration_exporter.core.events import Event, Signal
from qemu_migration_exporter.core.parsing.arguments import argument_names
from qemu_migration_exporter.core.parsing.conversions import CONVERSIONS
from qemu_migration_exporter.core.parsing.formats import FORMATS
from qemu_migration_exporter.core.parsing.options import ParserOptions
from qemu_migration_exporter.core.parsing.trace_events import LAYOUTS, EventLayout, meanings
from qemu_migration_exporter.core.parsing.vocabulary import field_names
from qemu_migration_exporter.core.stalls.convergence import Rules
from qemu_migration_exporter.core.stalls.detector import StallPolicy
from qemu_migration_exporter.core.stalls.wait_timer import WaitTimeouts
from qemu_migration_exporter.core.tracking.machine import DEFAULT_PAGE_SIZE_BYTES

#: 60 series a virtual machine: 1,000 of them are one host's worth, and a scrape of some 15 MB.
DEFAULT_MAX_VMS: Final = 1_000

#: Some 300,000 spans: days of one stuck migration, or an hour of a host that is emptied.
DEFAULT_SPOOL_BYTES: Final = 64 * 1024 * 1024

_MEANINGS: Final = meanings()
_DURATION: Final = r"[0-9]+(\.[0-9]+)?[smhd]"
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

_EVENT_NAME: Final = r"^[A-Za-z_][A-Za-z0-9_]*$"


def _check_duration(text: str) -> str:
    if not re.fullmatch(_DURATION, text):
        raise ValueError("expected a duration such as 90s, 15m or 2h")
    return text


def _seconds(duration: str) -> float:
    return float(duration[:-1]) * _SECONDS[duration[-1]]


Duration = Annotated[str, AfterValidator(_check_duration)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class MarkConfig(_Section):
    """An event the vocabulary does not know, or knows in another layout.

    Attributes:
        name: The event's name in the stream.
        like: An event of the vocabulary whose layouts and meaning it has.
        format: Its arguments as QEMU's trace-events files write them: %u, %d, %x, %s, %w (a word) and %g.
        meaning: What it says; see `qemu_migration_exporter.core.parsing.trace_events.meanings`.
        fields: A field of the meaning for each conversion of the format, "_" for what nobody asks for.
    """

    name: Annotated[str, Field(pattern=_EVENT_NAME)]
    like: str | None = None
    format: str = ""
    meaning: str | None = None
    fields: str = ""

    @field_validator("like")
    @classmethod
    def _is_known(cls, like: str | None) -> str | None:
        if like is not None and like not in {row.name for row in LAYOUTS}:
            raise ValueError("no event of the vocabulary has this name")
        return like

    @field_validator("meaning")
    @classmethod
    def _is_meaning(cls, meaning: str | None) -> str | None:
        if meaning is not None and meaning not in _MEANINGS:
            raise ValueError(f"expected one of {', '.join(sorted(_MEANINGS))}")
        return meaning

    @model_validator(mode="after")
    def _makes_a_row(self) -> MarkConfig:
        if (self.like is None) == (self.meaning is None):
            raise ValueError("expected either like or meaning")
        if self.meaning is not None:
            self._check_layout(_MEANINGS[self.meaning])
        return self

    def _check_layout(self, meaning: Signal | Callable[..., Event]) -> None:
        conversions = re.findall(r"%([^%])", self.format.replace("%%", ""))
        unknown = [each for each in conversions if each not in CONVERSIONS]
        if unknown:
            raise ValueError(f"format: expected conversions of %{', %'.join(sorted(CONVERSIONS))}, got %{unknown[0]}")
        fields = self.fields.split()
        if len(fields) != len(conversions):
            raise ValueError(f"expected a field for each of {len(conversions)} conversions, got {len(fields)}")
        known = () if isinstance(meaning, Signal) else field_names(meaning)
        strange = [each for each in fields if each != "_" and each not in known]
        if strange:
            raise ValueError(f"expected fields of {', '.join(known) or 'none'} or _, got {strange[0]}")

    def rows(self) -> Iterator[EventLayout]:
        """Make the rows of the vocabulary that this adds."""
        if self.meaning is not None:
            yield EventLayout(self.name, "2.0..", self.format, _MEANINGS[self.meaning], self.fields)
        for row in LAYOUTS:
            if row.name == self.like:
                yield row._replace(name=self.name)


class SourceConfig(_Section):
    """A live source: exactly one of file, fifo, socket, stdin and command.

    Attributes:
        file: A path, or a pattern with wildcards in its last part: every file is a stream.
        fifo: A named pipe; its writers come and go.
        socket: A unix stream socket to listen on: every writer is a stream.
        stdin: Standard input.
        command: A program and its arguments whose output is the stream; started again when it ends.
        vm: The virtual machine's name; default the file's name, or what /proc says of the processes.
        format: How lines are written; recognised if left out.
    """

    file: str | None = None
    fifo: str | None = None
    socket: str | None = None
    stdin: bool = False
    command: tuple[str, ...] | None = None
    vm: str | None = None
    format: str | None = None

    @field_validator("command", mode="before")
    @classmethod
    def _is_list(cls, command: object) -> object:
        return tuple(command) if isinstance(command, list) else command

    @field_validator("format")
    @classmethod
    def _is_format(cls, name: str | None) -> str | None:
        if name is not None and name not in FORMATS:
            raise ValueError(f"expected one of {', '.join(sorted(FORMATS))}")
        return name

    @model_validator(mode="after")
    def _is_one_source(self) -> SourceConfig:
        named = [self.file, self.fifo, self.socket, self.stdin or None, self.command or None]
        if sum(each is not None for each in named) != 1:
            raise ValueError("expected exactly one of file, fifo, socket, stdin and command")
        return self


def source_of(path: str) -> SourceConfig:
    """Make the source that a path on the command line means, by what is there now."""
    if path == "-":
        return SourceConfig(stdin=True)
    kind = Path(path)
    if kind.is_fifo():
        return SourceConfig(fifo=path)
    return SourceConfig(socket=path) if kind.is_socket() or path.endswith(".sock") else SourceConfig(file=path)


class MetricsConfig(_Section):
    """How long and how many.

    Attributes:
        retention: How long the series of a migration stay after its end, such as 15m.
        max_vms: More virtual machines than this get no series of their own, and are counted.
    """

    retention: Duration = "15m"
    max_vms: Annotated[int, Field(ge=1)] = DEFAULT_MAX_VMS

    @property
    def retention_seconds(self) -> float:
        """The retention in seconds."""
        return _seconds(self.retention)


_Ratio = Annotated[float, Field(gt=0, lt=1)]


class VerdictConfig(_Section):
    """When a migration counts as stalled.

    Attributes:
        progress_ratio, window, boundaries: Stalled is what in the last `boundaries` or more, for so long, did not fall
            by this part.
        level_ratio, fall_ratio, twice, least: Stalled sooner is what stays level, far above the threshold.
        near_ratio, near, memory: And later what is near it.
        no_throughput, setup, wait_unplug, pre_switchover, postcopy_paused: How long a migration may wait.
    """

    progress_ratio: _Ratio = 0.04
    window: Duration = "40s"
    boundaries: Annotated[int, Field(ge=2)] = 3
    level_ratio: _Ratio = 0.02
    fall_ratio: _Ratio = 0.005
    twice: Duration = "21s"
    least: Duration = "4s"
    near_ratio: Annotated[float, Field(ge=1)] = 1.2
    near: Duration = "60s"
    memory: Duration = "60s"
    no_throughput: Duration = "30s"
    setup: Duration = "60s"
    wait_unplug: Duration = "60s"
    pre_switchover: Duration = "10s"
    postcopy_paused: Duration = "0s"

    @field_validator("memory")
    @classmethod
    def _is_positive(cls, duration: str) -> str:
        if _seconds(duration) == 0:
            raise ValueError("expected more than no time")
        return duration

    def policy(self) -> StallPolicy:
        """Make the core's numbers of it."""
        rules = Rules(
            progress_ratio=self.progress_ratio,
            window_seconds=_seconds(self.window),
            boundaries=self.boundaries,
            level_ratio=self.level_ratio,
            fall_ratio=self.fall_ratio,
            twice_seconds=_seconds(self.twice),
            least_seconds=_seconds(self.least),
            near_ratio=self.near_ratio,
            near_seconds=_seconds(self.near),
            memory_seconds=_seconds(self.memory),
        )
        limits = WaitTimeouts(
            no_throughput=_seconds(self.no_throughput),
            setup=_seconds(self.setup),
            wait_unplug=_seconds(self.wait_unplug),
            pre_switchover=_seconds(self.pre_switchover),
            postcopy_paused=_seconds(self.postcopy_paused),
        )
        return StallPolicy(rules=rules, limits=limits)


class WebConfig(_Section):
    """What is served.

    Attributes:
        listen_address: HOST:PORT.
        telemetry_path: Where the metrics are.
        config_file: TLS and users, in the format of Prometheus's exporter-toolkit.
        enable_reload: Whether a POST to /-/reload reads the configuration again.
        trace_url: Where a trace is shown, with {trace_id} in it.
    """

    listen_address: str = "127.0.0.1:9871"
    telemetry_path: str = "/metrics"
    config_file: str | None = None
    enable_reload: bool = False
    trace_url: str | None = None

    @field_validator("listen_address")
    @classmethod
    def _is_address(cls, address: str) -> str:
        parse_address(address)
        return address

    @field_validator("telemetry_path")
    @classmethod
    def _is_path(cls, path: str) -> str:
        return parse_path(path)

    @field_validator("trace_url")
    @classmethod
    def _is_template(cls, url: str | None) -> str | None:
        return url if url is None else check_template(url)


class SpansConfig(_Section):
    """Where spans go, and how many.

    Attributes:
        otlp_endpoint: Of OTLP; default what OTEL_ variables say, else nowhere.
        otlp_protocol: How it is spoken; default what OTEL_ variables say, else http/protobuf.
        queue: Spans that wait in memory at most; more are dropped and counted. Default what OTEL_ variables say, else
            16384.
        spool_directory: Where spans wait for a receiver that is away, over a restart too; nowhere if left out.
        spool_max_bytes: How much may wait there; the oldest are dropped for more, and counted.
        max_rounds: More rounds of a migration than this are no spans of their own, but one each minute.
        max_devices: More devices of a downtime than this are one span together.
        max_spans: More bitmap syncs, devices and markers of a migration than this are left out and counted.
    """

    otlp_endpoint: str | None = None
    otlp_protocol: Literal["http/protobuf", "grpc"] | None = None
    queue: Annotated[int, Field(ge=512)] | None = None
    spool_directory: str | None = None
    spool_max_bytes: Annotated[int, Field(ge=1024 * 1024)] = DEFAULT_SPOOL_BYTES
    max_rounds: Annotated[int, Field(ge=0)] = 500
    max_devices: Annotated[int, Field(ge=0)] = 256
    max_spans: Annotated[int, Field(ge=0)] = 5_000


class Config(_Section):
    """Everything that can be configured; the defaults are the program without a file.

    Attributes:
        sources: What the daemon reads.
        state_file: Where it remembers open migrations over a restart; nowhere if left out.
        page_size_bytes: TARGET_PAGE_SIZE of the guests; dirty pages are counted in it, and it is not in the stream.
        marks: Additions to the vocabulary.
        argument_names: Event → key as a script prints it → the argument's name in QEMU.
        qemu: QEMU's binary with USDT marks, to name the addresses that SystemTap prints in place of marks.
    """

    page_size_bytes: Annotated[int, Field(ge=1024, le=1024 * 1024)] = DEFAULT_PAGE_SIZE_BYTES
    marks: tuple[MarkConfig, ...] = ()
    argument_names: dict[str, dict[str, str]] = {}
    qemu: str | None = None
    sources: tuple[SourceConfig, ...] = ()
    state_file: str | None = None
    metrics: MetricsConfig = MetricsConfig()
    verdict: VerdictConfig = VerdictConfig()
    web: WebConfig = WebConfig()
    spans: SpansConfig = SpansConfig()

    @field_validator("page_size_bytes")
    @classmethod
    def _is_power_of_two(cls, size: int) -> int:
        if size & (size - 1):
            raise ValueError("expected a power of two")
        return size

    @field_validator("marks", "sources", mode="before")
    @classmethod
    def _is_list(cls, values: object) -> object:
        if not isinstance(values, list | tuple):
            raise ValueError("expected a list")  # noqa: TRY004 - pydantic takes a ValueError for a mistake of the user's
        return tuple(values)

    def rows(self) -> tuple[EventLayout, ...]:
        """Give the vocabulary with what was added to it; additions are tried first."""
        return (*(row for mark in self.marks for row in mark.rows()), *LAYOUTS)

    @field_validator("argument_names")
    @classmethod
    def _validate_argument_names(cls, names: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
        for event, keys in names.items():
            for argument in keys.values():
                known = argument_names(event)
                if argument not in known:
                    raise ValueError(f"{event}: expected one of {', '.join(known) or 'no event'}, got {argument}")
        return names

    def parser_options(self, mark_addresses: Mapping[int, bytes] | None = None) -> ParserOptions:
        """Return the settings of the parser, with the addresses of QEMU's marks if its binary was read."""
        return ParserOptions(rows=self.rows(), argument_names=self.argument_names, mark_addresses=mark_addresses or {})


def load(path: str) -> Config:
    """Read and check a configuration file.

    Raises:
        ConfigError: It cannot be read, is no YAML, or has mistakes; all of them are named.
    """
    return yaml_loader.read(path, Config)


def dump(config: Config) -> str:
    """Write the configuration in force, defaults included."""
    text: str = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    return text
