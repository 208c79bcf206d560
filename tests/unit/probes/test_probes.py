"""Tests of the scripts, for binaries with the notes of real and of made-up QEMUs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from qemu_migration_exporter.core.events import (
    Event,
    Pending,
    SignalEvent,
    StateSet,
    SyncEnded,
    ThrottleSet,
    Transferred,
)
from qemu_migration_exporter.core.parsing.decoder import Decoder, Malformed, timed
from qemu_migration_exporter.core.parsing.trace_events import LAYOUTS
from qemu_migration_exporter.core.signals import SIGNALS, is_probed
from qemu_migration_exporter.core.terms import Signal
from qemu_migration_exporter.probes import ProbeError, bpftrace_script, systemtap_script

from tests.support.qemu_binaries import BUILD_ID, LOGGED, RELEASES, notes, write_qemu

Qemu = Callable[..., Path]

SCRIPTS: Final = (bpftrace_script, systemtap_script)

#: What the guest's QEMU passes; without an entry here a number is 7 and a text is `ram`.
VALUES: Final[dict[str, list[Any]]] = {
    "cpu_throttle_set": [20, "%"],
    "migrate_set_state": ["active"],
    "runstate_set": ["running", "finish-migrate"],
    "vmstate_downtime_checkpoint": ["src-downtime-start"],
}


class Printf(NamedTuple):
    """A statement of a script that prints an event."""

    name: str
    format: str
    arguments: str

    def line(self, **values: list[Any]) -> str:
        """Print it, for process 10 and thread 11 at 12 ns."""
        text = self.format.replace("%ll", "%").replace("\\n", "\n")
        conversions = re.findall(r"%[a-z]", text.replace("%%", ""))[3:]
        usual = [("ram" if conversion == "%s" else 7) for conversion in conversions]
        given = {**VALUES, **values}.get(self.name, usual)[: len(conversions)]
        if given and isinstance(given[0], str) and conversions[0] != "%s":
            given = usual  # a number in this release
        return text % (10, 11, 12, *given)


def printfs(script: str) -> Iterator[Printf]:
    """Return the statements of a script that print an event."""
    for text, arguments in re.findall(r'printf\("(%d/%d@\S+ [^"]*)", (.*)\)', script):
        name = text.split()[1].removesuffix("\\n")
        if text.endswith("\\n"):
            yield Printf(name, text, arguments)
        else:  # the rest of the line is printed in pieces
            yield Printf(name, f"{text}%s\\n", f"{arguments}, str(arg0)")


def printf(script: str, name: str) -> Printf:
    """Return the statement that prints this event."""
    (found,) = (each for each in printfs(script) if each.name == name)
    return found


def decoded(line: str, decoder: Decoder) -> Event:
    """Parse a printed line as the exporter does."""
    match = re.fullmatch(r"10/11@12 (\w+(?: [^\n]+)?)\n", line)
    assert match is not None, line
    event = decoder.decode(match[1].encode())
    assert event is not None, line
    assert not isinstance(event, Malformed), line
    return timed(event, 12, 11)


@pytest.fixture(name="qemu")
def make_qemu(tmp_path: Path) -> Qemu:
    """Return a function that writes a binary of a release, or of some probes."""
    return lambda release, *, name="qemu-kvm", **about: write_qemu(tmp_path / name, release, **about)


@pytest.mark.parametrize("make", SCRIPTS)
@pytest.mark.parametrize("release", RELEASES)
def test_printed_line_decodes_to_event(release: str, make: Callable[[Path], str], qemu: Qemu) -> None:
    """No argument is read that the binary does not pass."""
    script = make(qemu(release))
    passed = {line.split()[0]: len(re.findall(r"(?:^| )-?[1248]@", line.partition(" ")[2])) for line in notes(release)}
    decoder = Decoder()
    names = [each.name for each in printfs(script) if each.name != "postcopy_requests"]
    assert names
    assert len(names) == len(set(names)), "an event is printed once"
    for each in printfs(script):
        read = [int(place) for place in re.findall(r"\$?\barg(\d+)", each.arguments)]
        if each.name == "postcopy_requests":
            continue
        first = 1 if make is systemtap_script else 0
        assert all(first <= place < passed[each.name] + first for place in read), each
        event = decoded(each.line(), decoder)
        meanings = [row.meaning for row in LAYOUTS if row.name == each.name]
        if isinstance(event, SignalEvent):
            assert event.mark in meanings
            assert event.mark is not Signal.OTHER
        else:
            assert not any(isinstance(meaning, Signal) for meaning in meanings)
    # What the lines say of the release must not contradict it: since 2.9 the pages of a sync are cumulative.
    synced = decoded(printf(script, "migration_bitmap_sync_end").line(), decoder)
    assert isinstance(synced, SyncEnded)
    assert synced.cumulative == (release not in {"2.3", "2.6"})


def test_probed_events_exist() -> None:
    """A name in the table of signals is an event with that meaning."""
    named = {(meaning, name) for meaning, facts in SIGNALS.items() for name in facts.probed or ()}
    assert named <= {(row.meaning, row.name) for row in LAYOUTS}


@pytest.mark.parametrize("make", SCRIPTS)
@pytest.mark.parametrize("release", RELEASES)
def test_script_attaches_to_binary_notes(release: str, make: Callable[[Path], str], qemu: Qemu) -> None:
    """Each event of the vocabulary is attached or named as absent."""
    script = make(qemu(release))
    attached = set(re.findall(r'^(?:usdt:\S+:qemu:|probe process.*mark\(")(\w+)', script, re.MULTILINE))
    had = {line.split()[0] for line in notes(release)}
    comment = script[: script.index("\n\n")].replace("\n// ", " ")
    (absent,) = re.findall(r"does not have: ([\w, ]+)\.", comment)
    assert attached <= had
    assert attached == {
        row.name
        for row in LAYOUTS
        if row.name in had
        and is_probed(row.meaning, row.name)
        and not re.search(r"enter_\w+_(cancel|con|inc|rec|start)", row.name)
    }
    assert set(absent.split(", ")) & had == set()
    assert "migration_transferred_bytes" not in script
    assert BUILD_ID.hex() in script


@pytest.mark.parametrize(
    ("release", "name", "bpftrace", "systemtap"),
    [
        ("2.6", "migrate_set_state", " new state %d\\n|(int32)arg0", " new state %d\\n|$arg1"),
        ("7.2", "migrate_set_state", " new state %s\\n|str(arg0)", ' new state %s\\n|user_string_n2($arg1, 512, "-")'),
        ("2.6", "savevm_send_ping", " %x\\n|(uint32)arg0", " %x\\n|$arg1"),
        ("4.2", "savevm_send_ping", " 0x%x\\n|(uint32)arg0", " 0x%x\\n|$arg1"),
        ("2.3", "migrate_pending", " pending size %llu max %llu\\n|(uint64)arg0, (uint64)arg1", " pending size %u max %u\\n|$arg1, $arg2"),
        ("2.6", "migrate_pending", " pending size %llu max %llu (post=0 nonpost=0)\\n|(uint64)arg0, (uint64)arg1", None),
        ("7.2", "migrate_pending", " pending size %llu max %llu (pre = 0 compat=%llu post=0)\\n|(uint64)arg0, (uint64)arg1, (uint64)arg3", None),
        ("2.3", "migrate_fd_error", "\\n|", "\\n|"),
        ("11.0", "cpu_throttle_set", ' set guest CPU throttled by %d%s\\n|(int32)arg0, "%"', " set guest CPU throttled by %d%%\\n|$arg1"),
        (
            "8.2",
            "vmstate_downtime_save",
            " type=%s idstr=%s instance_id=%d downtime=%lld\\n|str(arg0), str(arg1), (int32)arg2, (int64)arg3",
            (
                ' type=%s idstr=%s instance_id=%d downtime=%d\\n|user_string_n2($arg1, 512, "-"), '
                'user_string_n2($arg2, 512, "-"), ($arg3 << 32) >> 32, $arg4'
            ),
        ),
        ("4.2", "runstate_set", " current_run_state 0 (%s) new_state 0 (%s)\\n|str(arg1), str(arg3)", None),
        ("11.1", "migration_thread_after_loop", "\\n|", "\\n|"),
    ],
)  # fmt: skip
def test_binary_arguments_choose_layout(
    release: str, name: str, bpftrace: str, systemtap: str | None, qemu: Qemu
) -> None:
    """Their number, size and sign."""
    path = qemu(release)
    for expected, make in zip((bpftrace, systemtap), SCRIPTS, strict=True):
        found = printf(make(path), name)
        start, values = found.format.partition(name)[2], re.sub(r"^(?:\S+, ){2}\S+?(?:, |$)", "", found.arguments)
        assert expected in {None, f"{start}|{values}"}


@pytest.mark.parametrize("make", SCRIPTS)
def test_decoder_reads_passed_values(make: Callable[[Path], str], qemu: Qemu) -> None:
    """A bandwidth is not passed, because nothing uses it."""
    old, new = make(qemu("2.6")), make(qemu("11.1"))
    line = printf(old, "migrate_transferred").line(migrate_transferred=[12751480, 144, -1])
    assert decoded(line, Decoder()) == Transferred(12, 11, 12751480, 144, None, -1)
    assert decoded(printf(old, "migrate_set_state").line(migrate_set_state=[6]), Decoder()) == StateSet(
        12, 11, "completed"
    )
    line = printf(new, "qemu_savevm_query_pending").line(qemu_savevm_query_pending=[1, 1024, 4096])
    assert decoded(line, Decoder()) == Pending(12, 11, 4096, None, 1024, 1)
    assert decoded(printf(make(qemu("11.0")), "cpu_throttle_set").line(), Decoder()) == ThrottleSet(12, 11, 20)


@pytest.mark.parametrize("make", SCRIPTS)
def test_postcopy_events_are_throttled(make: Callable[[Path], str], qemu: Qemu) -> None:
    """Page requests are counted, not printed, and the two events of the storm of 7.2 are held back."""
    script = make(qemu("7.2"))
    assert "migrate_handle_rp_req_pages" not in {each.name for each in printfs(script)}
    assert {each.name for each in printfs(script)} >= {"postcopy_requests"}
    held = re.findall(r"last_(\w+)\[pid(?:\(\))?\] (?:>=|<) 50000000", script)
    assert held == ["migrate_pending", "savevm_state_iterate"]
    assert "requests" not in re.sub(r"//.*", "", make(qemu("2.3"))), "QEMU 2.3 has no post-copy"


@pytest.mark.parametrize("make", SCRIPTS)
def test_no_postcopy_means_no_maps(make: Callable[[Path], str], qemu: Qemu) -> None:
    """bpftrace refuses a map that no statement writes."""
    script = re.sub(r"//.*", "", make(qemu(["savevm_state_iterate ", "savevm_state_cleanup "])))
    assert not re.search(r"@\w|global|last_", re.sub(r'"[^"]*"', "", script))


def test_bpftrace_prints_long_texts_in_pieces(qemu: Qemu) -> None:
    """A string has 63 bytes before bpftrace 0.23; see `tests/e2e/usdt.py` for what comes out."""
    script = bpftrace_script(qemu("7.2"))
    bodies = dict(re.findall(r":qemu:(\w+)\n\{\n(.*?)\n\}", script, re.DOTALL))
    long = {name for name, body in bodies.items() if "str(arg0 + $at, 63)" in body}
    assert long == {
        "migrate_fd_error", "migration_socket_outgoing_error", "migration_tls_outgoing_handshake_error",
        "qmp_enter_migrate", "qmp_enter_migrate_set_capabilities", "qmp_enter_migrate_set_parameters",
    }  # fmt: skip
    assert bodies["migrate_fd_error"].startswith('  printf("%d/%d@%llu migrate_fd_error error=", pid, tid, nsecs);')
    assert "str(arg0)" in bodies["migrate_set_state"]
    assert "$at" not in bpftrace_script(qemu("2.3")), "its error has no text"


def test_systemtap_prints_long_texts_in_pieces(qemu: Qemu) -> None:
    """989 bytes are all capabilities of 7.2. A piece behind the end of a text would be other memory."""
    script = systemtap_script(qemu("7.2"))
    (body,) = re.findall(r'mark\("qmp_enter_migrate_set_capabilities"\)\n\{\n(.*?)\n\}', script, re.DOTALL)
    assert body.splitlines()[:3] == [
        '  text = user_string_n2($arg1, 512, "-")',
        '  more = strlen(text) == 511 ? user_string_n2($arg1 + 511, 512, "-") : ""',
        '  rest = strlen(more) == 511 ? user_string_n2($arg1 + 1022, 512, "-") : ""',
    ]
    assert body.endswith("text, more, rest)")


def test_scripts_begin_with_anchor(qemu: Qemu) -> None:
    """It ties the monotonic clock to the wall time, in nanoseconds or as seconds with a fraction."""
    assert 'printf("anchor %llu %s\\n", $now, strftime("%s.%f", $now));' in bpftrace_script(qemu("7.2"))
    assert 'printf("anchor %d %d\\n", ktime_get_ns(), gettimeofday_ns())' in systemtap_script(qemu("7.2"))


@pytest.mark.parametrize("make", SCRIPTS)
def test_unknown_layout_is_named(make: Callable[[Path], str], qemu: Qemu) -> None:
    """A future QEMU with other arguments loses that event, not the script."""
    script = make(qemu(["migrate_set_state 8@%rdi", "migrate_transferred 8@%rdi 8@%rsi 8@%rdx 8@%rcx 8@%r8 8@%r9"]))
    assert [each.name for each in printfs(script)] == ["migrate_set_state"]
    assert "left out: migrate_transferred." in script


def test_odd_path_is_quoted_or_refused(qemu: Qemu) -> None:
    """A blank is quoted for bpftrace; a character with another meaning is refused."""
    assert re.search(
        r'^usdt:"/.*/qemu kvm":qemu:migrate_set_state$', bpftrace_script(qemu("7.2", name="qemu kvm")), re.MULTILINE
    )
    for name in ("qemu:kvm", 'qemu"kvm', "qemu*", "qemu\nkvm", "qemu\\kvm"):
        with pytest.raises(ProbeError, match="cannot name a file"):
            bpftrace_script(qemu("7.2", name=name))


@pytest.mark.parametrize("make", SCRIPTS)
def test_binary_without_marks_is_refused(make: Callable[[Path], str], qemu: Qemu, tmp_path: Path) -> None:
    """The message names the alternative."""
    script = tmp_path / "kvm"
    script.write_text("#!/bin/sh\nexec qemu-system-x86_64 -enable-kvm\n")
    empty = tmp_path / "empty"
    empty.touch()
    for path, reason in (
        (tmp_path / "none", "No such file"),
        (tmp_path, "Is a directory"),
        (script, "not an ELF file"),
        (empty, "not an ELF file"),
        (qemu([], text=LOGGED, name="debian"), "`log` trace backend only; use `probe log`"),
        (qemu([], name="plain"), "no USDT probes of QEMU"),
        (qemu("7.2", provider="libvirt", name="other"), "no USDT probes of QEMU"),
        (qemu(["object_dynamic_cast_assert 8@%rdi"], name="qemu-img"), "none is one of migration's"),
    ):
        with pytest.raises(ProbeError, match=re.escape(reason)) as caught:
            make(path)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("cut", [20, 64, 200, 900, 3000])
def test_damaged_binary_is_refused(cut: int, qemu: Qemu) -> None:
    """Wherever the file was cut."""
    path = qemu("7.2")
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ProbeError):
        bpftrace_script(path)
