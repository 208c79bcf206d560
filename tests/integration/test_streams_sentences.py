"""The sentences and the advice for streams in the shape of real situations, and for streams cut short."""

from __future__ import annotations

import gzip
import re
from functools import cache
from typing import Final

import pytest
from qemu_migration_exporter.core.model import Kind, Migration
from qemu_migration_exporter.present.document import migration_document
from qemu_migration_exporter.present.view_builder import migration_view
from qemu_migration_exporter.present.wording.sentences import headline_text, notes

from tests.support.core_helpers import log_lines, read
from tests.support.paths import DATA


def content(path: str) -> bytes:
    data = (DATA / path).read_bytes()
    return gzip.decompress(data) if path.endswith(".gz") else data


def only(data: bytes) -> Migration:
    (migration,) = read(data).migrations
    return migration


@cache
def last(path: str) -> Migration:
    return read(content(path)).migrations[-1]


def text(migration: Migration) -> str:
    view = migration_view(migration)
    return " ".join([headline_text(view), *notes(view)])


def advice(migration: Migration) -> str:
    return "\n".join(migration_document(migration_view(migration))["verdict"]["advice"])


SENTENCES: Final[list[tuple[str, list[str], list[str]]]] = [
    # stream, its phrases, what it must not contain
    ("streams/A07-throttled-to-nothing.log.gz", ["is unfinished", "it ends in 58 min 57 s to 5 h 53 min"], ["stalled"]),
    ("streams/B03-vgpu-stopcopy.log.gz", ["device state and not memory", "takes 14.2 s of downtime"], ["dirties"]),
    ("streams/B06-crash-then-new.log", ["completed in 3.6 s: 96 ms of downtime"], ["stalled"]),
    ("streams/B12-dirty-limit.log.gz", ["more than another hour", "limits the guest's dirty rate"], ["27 h"]),
    ("streams/B14-postcopy-paused-twice.log", ["without its network for 47.0 s; it goes on with a resume"], []),
    ("streams/B16-stall-then-network-drop.log.gz", ["dirties 20.0 MiB/s and 19.9 MiB/s are sent", "another hour"], []),
    ("streams/B42-suspended-by-operator.log.gz", ["stood still for 879 ms, of which 783 ms suspended"], []),
    ("streams/A03b-waitunplug-qtest-bare.log", ["was cancelled, in setup."], ["iterating for"]),
    ("systemtap/refused-hand-pn.log.gz", ["failed, as far as the trace shows; QEMU gave no reason."], [",;"]),
    ("streams/m4.log", ["failed after 57.0 s; QEMU gave no reason."], ["first round"]),
    ("libvirt/virsh-save-restore.log.gz", ["(restore from a file) completed in 3.5 s."], ["save to"]),
    (
        "libvirt/postcopy-paused-recovered.log.gz",
        ["unknown downtime", "at least 332 ms of post-copy"],
        ["round", "blackout"],
    ),
    ("versions/v11.1/switchover.log.gz", ["2.2 s of downtime, over the limit of 0.3 s"], ["It was stalled"]),
    ("versions/v11.1/mapped.log.gz", ["(migration to a file) completed in 41.9 s"], ["It was stalled"]),
    ("libvirt/setspeed-in-flight.log.gz", ["at 176.7 MiB/s that needed 1.4 s"], []),
]


@pytest.mark.parametrize(("path", "phrases", "never"), SENTENCES, ids=[path for path, _, _ in SENTENCES])
def test_sentences_say_what_happened(path: str, phrases: list[str], never: list[str]) -> None:
    words = text(last(path))
    assert [] == [phrase for phrase in phrases if phrase not in words], words
    assert [] == [phrase for phrase in never if phrase in words], words


ADVICE: Final[list[tuple[str, list[str], list[str]]]] = [
    ("streams/B12-dirty-limit.log.gz", ["setmaxdowntime"], ["auto-converge"]),
    ("streams/B03-vgpu-stopcopy.log.gz", ["avail-switchover-bandwidth"], ["auto-converge", "migrate-setspeed"]),
    ("streams/B14-postcopy-paused-twice.log", ["--postcopy-resume"], ["domjobabort"]),
]


@pytest.mark.parametrize(("path", "parts", "never"), ADVICE, ids=[path for path, _, _ in ADVICE])
def test_advice_is_accepted_by_qemu(path: str, parts: list[str], never: list[str]) -> None:
    commands = advice(last(path))
    assert [] == [part for part in parts if part not in commands], commands
    assert [] == [part for part in never if part in commands], commands


def test_post_copy_joined_at_its_end_knows_no_downtime() -> None:
    migration = last("libvirt/postcopy-paused-recovered.log.gz")
    assert (None, None, ()) == (migration.downtime_ns, migration.blackout_ns, migration.downtime_parts)


#: The first line of an excerpt of a completed migration, and its downtime in milliseconds.
EXCERPTS: Final[list[tuple[bytes, float | None]]] = [
    (b"migration_thread_low_pending", 95.7),
    (b"src-downtime-start", 95.7),
    (b"src-vm-stopped", None),
    (b"new state device", None),
    (b"migration_precopy_complete", None),
    (b"src-iterable-saved", None),
    (b"vmstate_save cpu", None),
]


@pytest.mark.parametrize(("mark", "downtime_ms"), EXCERPTS, ids=[mark.decode() for mark, _ in EXCERPTS])
def test_excerpt_has_a_downtime_if_its_start_is_in_it(mark: bytes, downtime_ms: float | None) -> None:
    lines = content("streams/A09-plain-reference.log").splitlines(keepends=True)
    first = next(number for number, line in enumerate(lines) if mark in line)
    migration = only(b"".join(lines[first:]))
    assert downtime_ms == (migration.downtime_ns and migration.downtime_ns / 1e6)
    assert "The beginning is missing" in text(migration)


@pytest.mark.parametrize(
    ("path", "skipped", "phrase"),
    [
        ("streams/B14-postcopy-paused-twice.log", 39, "in post-copy: post-copy has been without its network"),
        (
            "streams/B24-postcopy-device-102.log",
            89,
            "unknown downtime (limit 300 ms), at least 2.1 s of post-copy with 7",
        ),
    ],
)
def test_excerpt_of_post_copy_is_one(path: str, skipped: int, phrase: str) -> None:
    migration = only(b"".join(content(path).splitlines(keepends=True)[skipped:]))
    assert phrase in text(migration)
    assert migration.downtime_ns is migration.blackout_ns is None


def states(*names: str) -> bytes:
    """Return a stream that has no events but the states, 10 s apart."""
    rows = [
        f"1@17900000{10 * number:02}.000000:migrate_set_state new state {name}\n" for number, name in enumerate(names)
    ]
    return "".join(rows).encode()


STATES: Final = [
    (["setup", "active", "failed"], "failed after at most 20.0 s; QEMU gave no reason.", None),
    (["setup", "active", "device", "failed"], "failed after 30.0 s, in the switchover; QEMU gave no reason.", 10.0),
    (["setup", "active", "cancelling", "cancelled"], "was cancelled after 30.0 s.", None),
    (["setup", "active", "cancelling"], "ends 20.0 s into it, in state cancelling for less than 1 s.", None),
    (["setup", "wait-unplug"], "in setup, where the guest has not given up its network device for", None),
    (
        ["setup", "active", "postcopy-active", "completed"],
        "completed in at most 30.0 s: unknown downtime, post-copy.",
        None,
    ),
    (["setup"], "the recording ends 0 ms into it, in setup.", None),
    (
        ["setup", "active", "pre-switchover", "device", "completed"],
        "completed in 40.0 s: at least 20.0 s of downtime.",
        20.0,
    ),
    (
        ["setup", "active", "device", "postcopy-active", "completed"],
        "at least 10.0 s of downtime, 10.0 s of post-copy.",
        10.0,
    ),
    (["setup", "active", "device", "postcopy-device", "postcopy-active", "completed"], "20.0 s of post-copy.", 10.0),
    (
        ["setup", "active", "pre-switchover", "postcopy-active", "postcopy-paused"],
        "in post-copy: post-copy has been without",
        None,
    ),
    (
        ["setup", "active", "pre-switchover", "postcopy-active", "failed"],
        "in post-copy; QEMU gave no reason, and the guest is lost",
        None,
    ),
]


@pytest.mark.parametrize(("names", "phrase", "blackout"), STATES, ids=["-".join(names) for names, _, _ in STATES])
def test_states_alone_give_no_false_sentence(names: list[str], phrase: str, blackout: float | None) -> None:
    migration = only(states(*names))
    assert phrase in text(migration)
    assert blackout == (migration.blackout_ns and migration.blackout_ns / 1e9)


CRASH: Final = b"%s.000+0000: shutting down, reason=crashed\n"

CRASHES: Final = [
    # stream, its lines before the crash, the time of libvirt's line, the phrase
    ("A09-plain-reference.log", 4, b"2026-09-21 14:33:26", "after 6.0 s, in setup; QEMU ended"),
    ("A09-plain-reference.log", 60, b"2026-09-21 14:33:26", "after 1.7 s, in round 1"),
    ("B24-postcopy-device-102.log", 120, b"2026-09-21 15:30:10", "after 10.0 s, in post-copy, with"),
    ("A09-plain-reference.log", 125, b"2026-09-21 14:33:26", "after 6.0 s, in the switchover, with 1021.0 MiB sent"),
    ("A01b-dst-setup-timed-ok.log", 5, b"2026-09-21 14:15:20", "(incoming) failed, as far as the trace shows, after"),
]


@pytest.mark.parametrize(("name", "count", "at", "phrase"), CRASHES)
def test_crash_of_qemu_ends_the_migration(name: str, count: int, at: bytes, phrase: str) -> None:
    lines = content(f"streams/{name}").splitlines(keepends=True)[:count]
    migration = only(b"".join([*lines, CRASH % at]))
    assert phrase in text(migration)
    assert "stood still" not in text(migration)
    assert "reason=crashed" in (migration.error or "")


LOST: Final = [
    # the events after which QEMU crashes, and whether the guest is lost
    ("POSTCOPY", True),
    ("POSTCOPY\n+5 T migration_completion_postcopy_end", False),
    ("POSTCOPY\n+5 T migrate_set_state new state postcopy-paused", True),
    ("START", True),  # five seconds of silence
    ("START\n+5 T migrate_set_state new state failed", False),
    ("POSTCOPY\n+5 T migrate_set_state new state failed", True),
    (("POSTCOPY\n+5 T migrate_set_state new state failed\nM runstate_set current_run_state 7 (finish-migrate)"
     " new_state 9 (running)"), False),
    ("POSTCOPY\n+5 M migrate_set_state new state cancelling\nM migrate_set_state new state cancelled", True),
    ("POSTCOPY\n+5 T migrate_set_state new state completed", False),
    (("M loadvm_state_setup\nM migrate_set_state new state active\nM migrate_set_state new state postcopy-active\n"
     "M runstate_set current_run_state 1 (inmigrate) new_state 9 (running)"), True),
    (("M runstate_set current_run_state 6 (prelaunch) new_state 1 (inmigrate)\nM migrate_set_state new state active\n"
     "M loadvm_state_setup\nM migrate_set_state new state postcopy-active"), False),
]  # fmt: skip


@pytest.mark.parametrize(("events", "is_lost"), LOST, ids=range(len(LOST)))
def test_guest_is_lost_if_post_copy_breaks(events: str, *, is_lost: bool) -> None:
    """Not before the guest runs on the destination, and not once all memory is there."""
    start = (
        "M migrate_set_state new state setup\nT migrate_set_state new state active\nT migration_thread_setup_complete\n"
        "T migrate_set_state new state postcopy-active\nT postcopy_start"
    )
    running = f"{start}\nT savevm_send_postcopy_run\nT savevm_send_ping 0x4"
    events = events.replace("POSTCOPY", running).replace("START", start)
    migration = only(log_lines(events).encode() + CRASH % b"2023-11-14 22:13:25")
    words = text(migration)
    assert is_lost is ("and the guest is lost" in words), words
    assert is_lost is migration_document(migration_view(migration))["guest_lost"]


SENT: Final = [("dipC12-ws60-r30-64to16", False), ("bw256-30ms-ws12", True), ("dipE14-ws24-r16-32to8", True),
               ("hotcold-8-20", False), ("hover-ws10", False)]  # fmt: skip


@pytest.mark.parametrize(("name", "is_partial"), SENT, ids=[name for name, _ in SENT])
def test_sent_bytes_are_marked_if_a_window_is_missing(name: str, *, is_partial: bool) -> None:
    """QEMU's precopy-bytes are 1 % to 3 % more where they are marked, and the same within 0.1 % where not."""
    assert is_partial is last(f"bakeoff/{name}.log.gz").transferred_is_partial


def test_file_is_no_convergence_problem() -> None:
    """The same lines as of a stuck migration: a job that writes a file has no downtime to fit into."""
    data = content("qemu-7.2-log-nonconverging.log")
    stuck = only(data)
    first = data.split(b":", 1)[0]
    job = only(
        first
        + b':qmp_enter_migrate {"uri": "file:/srv/web.state"}\n'
        + re.sub(rb".*:qmp_enter_migrate .*\n", b"", data)
    )
    assert (1, 0) == (len(stuck.stalls), len(job.stalls))
    assert (Kind.FILE, None) == (job.identity.kind, job.progress.verdict.reason)
    assert advice(job) == ""


def test_silent_file_is_not_a_network() -> None:
    lines = 'M qmp_enter_migrate {"uri": "file:/x"}\nM migrate_set_state new state setup\nT savevm_state_header\n'
    events = "T migrate_set_state new state active\nT migration_thread_setup_complete\nT savevm_state_iterate\n"
    pending = "T migrate_pending pending size 9 max 5 (pre = 0 compat=9 post=0)\n"
    words = text(only(log_lines(f"{lines}{events}{pending}+40000 {pending}").encode()))
    assert "nothing has been written for 40.0 s; it goes on when the file's storage takes data again" in words
