"""Names and texts chosen by tenants, through the whole program: every output stays well-formed."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import html5lib
import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from qemu_migration_exporter.config.schema import SourceConfig
from qemu_migration_exporter.metrics.table import EXPORTER, MIGRATION

from tests.support.core_helpers import log_lines
from tests.support.daemon import Daemon, running
from tests.support.prometheus import need
from tests.support.receiver import Receiver, receiving
from tests.support.recordings import as_of_now
from tests.support.web_helpers import get

#: What each is to be mistaken for.
_HOSTILE: Final[dict[str, bytes]] = {
    "a label's end": b'a"} 1\\',
    "a shell's words": b"a'; $(reboot) `id` & ",
    "a line of metrics": b'x\nqemu_migration_active{vm="y"} 1\n# EOF',
    "a line of a log": b'x\r\nts=2026-01-01T00:00:00Z level=info msg="ready"\x0b\x0c\x1c\x85\xe2\x80\xa8',
    "a terminal's orders": b"\x1b[2J\x1b]0;x\x07\x08\x7f\xc2\x9b31m",
    "markup": b"</title></style><script>alert(1)<!script><img src=x onerror=alert(1)>&amp;<!--",
    "a template": b"{{ 7*7 }}{% raw %}${x}%s%n%(vm)s",
    "a path": b"x%2f..%2f..%2fpasswd",
    "a flag": b"--web.listen-address=:80",
    "another text's direction": "\u202egpj\u2066\u200b\ufeff".encode(),
    "another's name": "w\u0435b-42".encode(),
    "no text": b"\xff\xfe\xed\xb0\x80\xc0\xaf",
    "as long as a file's": b"n" * 250,
}
#: And what no file is called.
_TOO_HOSTILE: Final[dict[str, bytes]] = {"the way up": b"../../../etc/passwd", "10 kB": b"l" * 10_000}

#: What the operator calls a machine whose migration runs on.
_OWN: Final = f"our own {_HOSTILE['a line of metrics'].decode()}"

_LABELS: Final = {label for metric in (*MIGRATION, *EXPORTER) for label in metric.labels} | {"le"}
_LINKS: Final = {"metrics", "api/v1/migrations", "-/healthy", "-/ready"}

#: The page's own: they keep numbers and units together.
_SPACES: Final = "\N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}"

_MIGRATION: Final = """
    M migrate_set_state new state setup
    savevm_state_header
    migration_thread_setup_complete
    migration_thread_low_pending 0
    savevm_state_complete_precopy
    vmstate_save {device}, {device}
    M migrate_fd_error error={text}
    M migrate_set_state new state failed
    """


def _failing(words: bytes) -> bytes:
    """Write the log of a migration that fails, with these words wherever words can stand."""
    line = re.sub(rb"\n", b" ", words)
    log = log_lines(_MIGRATION.format(device="DEVICE", text="TEXT")).encode()
    log = as_of_now(log).replace(b"DEVICE, DEVICE", line[:200] + b", " + line).replace(b"TEXT", line)
    return log + b"2026-01-01T00:00:00.000001Z qemu-system-x86_64: " + line + b"\n"


def _as_systemtap(words: bytes) -> bytes:
    line = re.sub(rb"\s", b"_", words)
    return (
        b'process("/usr/libexec/qemu-kvm").mark("migration_thread_setup_complete")\n'
        b"migrate_set_state new_state:active\nsavevm_section_start id:%s section_id:1\n"
        b"migrate_error error_desc:%s\nmigrate_set_state new_state:failed\n" % (line, line)
    )


@contextmanager
def _guest(name: bytes) -> Iterator[int]:
    """Run a process whose command line names a virtual machine, as QEMU's does."""
    named = b"guest=" + name.replace(b",", b",,")
    guest = subprocess.Popen(
        [sys.executable, "-c", "input()", b"-name", named, b"-uuid", name[:64]], stdin=subprocess.PIPE
    )
    try:
        yield guest.pid
    finally:
        guest.kill()
        guest.communicate()


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    for name in ("logs", "state", "spool", "sockets"):
        (tmp_path / name).mkdir()
    os.mkfifo(tmp_path / "sockets" / "probe")
    return tmp_path


def _decoded(words: bytes, *, files: bool = True) -> str:
    r"""Write words as the program does, their bytes as `\xff` where they are no text; no file has a slash in its name."""
    return (words.replace(b"/", b"_") if files else words).decode(errors="backslashreplace")


def _log_of(folder: Path, words: bytes) -> Path:
    """Return the path of a log named after a machine."""
    return folder / "logs" / os.fsdecode(words.replace(b"/", b"_") + b".log")


def _configuration(folder: Path) -> str:
    """Configure a source of every kind; the operator's own name for a machine is as hostile as the others."""
    sources = [
        {"file": f"{folder}/logs/*.log"},
        {"fifo": f"{folder}/sockets/probe"},
        {"socket": f"{folder}/sockets/systemtap.sock"},
        {
            "command": [
                "sh",
                "-c",
                "printf 'migrate_set_state new state setup\\nmigration_thread_setup_complete \\n'; exec sleep 60",
            ],
            "vm": _OWN,
        },
    ]
    text = {"sources": sources, "state_file": f"{folder}/state/state", "spans": {"spool_directory": f"{folder}/spool"}}
    assert all(SourceConfig.model_validate(each) for each in sources)
    return json.dumps(text)  # JSON is YAML


def _write_everything(folder: Path, stack: ExitStack) -> list[str]:
    """Write hostile words to every input; return the machines whose migrations those were."""
    expected: list[str] = []
    for words in _HOSTILE.values():
        _log_of(folder, words).write_bytes(_failing(words))
        expected.append(_decoded(words))
    with (folder / "sockets" / "probe").open("wb") as fifo:
        for words in (*_HOSTILE.values(), *_TOO_HOSTILE.values()):
            process = stack.enter_context(_guest(words))
            for state in (b"setup", b"failed"):
                line = b"%d@%d migrate_set_state new state %s\n%d@%d migration_thread_setup_complete \n"
                fifo.write(line % (process, time.time_ns(), state, process, time.time_ns()))
            expected.append(_decoded(words, files=False) if len(words) <= 255 else f"probe/{process}")
    for number, words in enumerate((*_HOSTILE.values(), *_TOO_HOSTILE.values()), start=1):
        with socket.socket(socket.AF_UNIX) as writer:
            writer.connect(str(folder / "sockets" / "systemtap.sock"))
            writer.sendall(_as_systemtap(words))
        expected.append(f"systemtap.sock#{number}")
    return expected


def _is_settled(daemon: Daemon, receiver: Receiver, expected: int) -> bool:
    finished = sum(
        sample.value
        for family in parse_text(daemon.get("/metrics"))
        for sample in family.samples
        if sample.name == "qemu_migrations_finished_total"
    )
    return finished >= expected and sum(span.name == "migrate" for span in receiver.spans) >= expected


@pytest.mark.parametrize("log_format", ["logfmt", "json"])
def test_hostile_names_give_valid_output(folder: Path, log_format: str) -> None:
    """Metrics in both formats, page, JSON, spans, log, files and the words to systemd, with names by every way in."""
    (folder / "exporter.yml").write_text(_configuration(folder))
    with ExitStack() as stack:
        receiver = stack.enter_context(receiving(Receiver()))
        notices = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        notices.bind(str(folder / "notify"))
        arguments = (
            f"--config.file={folder}/exporter.yml", f"--otlp.endpoint={receiver.url}", f"--log.format={log_format}",
        )  # fmt: skip
        daemon = stack.enter_context(running(folder, *arguments, NOTIFY_SOCKET=str(folder / "notify")))
        before = set(folder.rglob("*"))
        expected = _write_everything(folder, stack)
        daemon.wait_until(lambda: _is_settled(daemon, receiver, len(expected)), "everything has ended", 30)
        text, page, log = daemon.get("/metrics"), daemon.get("/"), daemon.log
        openmetrics = get(f"{daemon.url}/metrics", Accept="application/openmetrics-text; version=1.0.0").text
        migrations = daemon.migrations()
        assert daemon.stop() == 0
        said = _datagrams(notices)

    families = parse_openmetrics(openmetrics)  # type: ignore[no-untyped-call]  # the library's
    assert _vms(parse_text(text)) == _vms(families) == {*expected, _OWN}
    assert {each["vm"] for each in migrations} == {*expected, _OWN}
    _check_page(page)
    _check_log(log, log_format)
    _check_spans(receiver, {*expected, _OWN})
    assert [] == [each for each in said if not re.fullmatch(r"(?:[A-Z_]+=[\w ,]*\n?)+", each)]
    made = {path.relative_to(folder).as_posix() for path in set(folder.rglob("*")) - before}
    assert [] == [
        path for path in made if not re.fullmatch(r"logs/.*|state/state|spool/\d+-\d+\.otlp", path, re.DOTALL)
    ]
    _promtool(text)


def _vms(families: Iterable[Metric]) -> set[str]:
    samples = [sample for family in families for sample in family.samples]
    # Whatever a name has in it, it makes no sample and no label of its own.
    assert {sample.name for sample in samples if not sample.name.startswith("qemu_migration")} == set()
    assert {label for sample in samples for label in sample.labels} <= _LABELS
    return {sample.labels["vm"] for sample in samples if sample.name == "qemu_migration_active"}


def _check_page(page: str) -> None:
    root = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(page)
    elements = list(root.iter())
    tags = [str(element.tag) for element in elements]
    assert {"img", "iframe", "object", "form"}.isdisjoint(tags)
    assert tags.count("script") == 1  # the page's own; its policy has the hash
    assert [] == [name for each in elements for name in each.attrib if name.lower().startswith("on")]
    links = {element.attrib["href"] for element in elements if "href" in element.attrib}
    assert {link for link in links if not re.fullmatch(r"migrations/[0-9a-f]{32}", link)} <= _LINKS
    assert {*page} - {"\n"} == {char for char in page if char.isprintable() or char in _SPACES}


def _check_log(log: str, log_format: str) -> None:
    *lines, last = log.split("\n")
    assert last == ""
    assert [] == [line for line in lines if not (line.isascii() and line.isprintable())]
    if log_format == "json":
        assert {"ts", "level", "logger", "msg"} == set.intersection(*(set(json.loads(line)) for line in lines))
    else:
        value = r'(?:"(?:[^"\\]|\\.)*"|[^\s"=]+)'
        assert [] == [line for line in lines if not re.fullmatch(rf"ts={value}(?: [a-z_]+={value})+", line)]


def _check_spans(receiver: Receiver, expected: set[str]) -> None:
    texts = {pair.key: max(len(pair.value.string_value), 0) for span in receiver.spans for pair in span.attributes}
    assert max(texts.values()) <= 4_096
    assert max(len(span.name) for span in receiver.spans) <= 128
    named = {
        pair.value.string_value for span in receiver.spans for pair in span.attributes if pair.key == "qemu.vm.name"
    }
    assert named == expected


def _datagrams(notices: socket.socket) -> list[str]:
    notices.setblocking(False)  # noqa: FBT003 - the socket module's own
    said: list[str] = []
    while True:
        try:
            said.append(notices.recv(65_536).decode())
        except BlockingIOError:
            return said


def _promtool(text: str) -> None:
    need("promtool")
    checked = subprocess.run(["promtool", "check", "metrics"], input=text.encode(), capture_output=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_report_has_no_terminal_escapes(folder: Path) -> None:
    """Output and error messages hold only printable characters and newlines, apart from the report's own colours."""
    for words in _HOSTILE.values():
        _log_of(folder, words).write_bytes(_failing(words))
        _log_of(folder, b"empty " + words[:240]).touch()
    files = sorted((folder / "logs").iterdir())
    command = [sys.executable, "-m", "qemu_migration_exporter", "replay", "--vm=\udcff\x1b[31m", *map(str, files)]
    done = subprocess.run(command, capture_output=True, check=False, env={**os.environ, "COLUMNS": "80"})

    assert done.returncode == 0, done.stderr.decode()
    for output in (done.stdout.decode(), done.stderr.decode()):
        assert {char for char in output if not char.isprintable()} == {"\n"}
    assert done.stdout.decode().count("failed after") == len(_HOSTILE)


def test_report_is_json(folder: Path) -> None:
    """With names that are no text, too."""
    for words in _HOSTILE.values():
        _log_of(folder, words).write_bytes(_failing(words))
    files = sorted((folder / "logs").iterdir())
    command = [sys.executable, "-m", "qemu_migration_exporter", "replay", "--report=json", f"--metrics.out={folder}/metrics", *map(str, files)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, check=True)

    document = json.loads(done.stdout.decode())
    assert {each["vm"] for each in document["migrations"]} == {_decoded(words) for words in _HOSTILE.values()}
    text = (folder / "metrics").read_bytes().decode()
    assert _vms(parse_text(text)) == {_decoded(words) for words in _HOSTILE.values()}
