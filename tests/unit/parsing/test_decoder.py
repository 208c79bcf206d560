"""Tests of `core.parsing.decoder`: equal text with different meanings is told apart by its neighbours."""

from __future__ import annotations

import pytest
from qemu_migration_exporter.core.events import (
    DeviceSaved,
    Event,
    Pending,
    QmpCommand,
    RunStateSet,
    SectionEnded,
    SectionStarted,
    SignalEvent,
    StateSet,
    SyncEnded,
    ThrottleSet,
)
from qemu_migration_exporter.core.parsing.arguments import ArgumentNames
from qemu_migration_exporter.core.parsing.decoder import MALFORMED, Decoder, Malformed
from qemu_migration_exporter.core.parsing.hints import Hint
from qemu_migration_exporter.core.parsing.options import ParserOptions
from qemu_migration_exporter.core.parsing.trace_events import LAYOUTS, EventLayout
from qemu_migration_exporter.core.parsing.vocabulary import vocabulary
from qemu_migration_exporter.core.terms import Signal


def decode(decoder: Decoder, line: str) -> Event | Malformed | None:
    """Decode a line without its prefix."""
    return decoder.decode(line.encode())


def after(*lines: str) -> Decoder:
    """Return a decoder that has seen these lines."""
    decoder = Decoder()
    for line in lines:
        assert isinstance(decode(decoder, line), tuple)
    return decoder


@pytest.mark.parametrize(
    ("seen", "numbers"),
    [
        (
            ["migrate_pending pending size 1 max 0"],
            ["none", "setup", "cancelling", "cancelled", "active", "completed", "failed", "number-7"],
        ),
        (
            ["migrate_pending pending size 1 max 0 (post=1 nonpost=0)"],
            [
                "none",
                "setup",
                "cancelling",
                "cancelled",
                "active",
                "postcopy-active",
                "completed",
                "failed",
                "colo",
                "number-9",
            ],
        ),
        (["savevm_state_complete "], ["none", "setup", "cancelling", "cancelled", "active", "completed", "failed"]),
        (
            ["savevm_state_setup "],
            ["none", "setup", "cancelling", "cancelled", "active", "postcopy-active", "completed", "failed", "colo"],
        ),
    ],
    ids=["to 2.4", "2.5 to 2.11", "to 2.4 by its switchover", "2.10"],
)
def test_state_number_has_release_meaning(seen: list[str], numbers: list[str]) -> None:
    """5 is completed up to 2.4 and postcopy-active since; layouts of other events narrow the release."""
    decoder = after(*seen)
    for number, state in enumerate(numbers):
        assert StateSet(None, None, state) == decode(decoder, f"migrate_set_state new state {number}")


def test_state_minus_one_is_failed() -> None:
    """In QEMU 2.0 to 2.2."""
    assert StateSet(None, None, "failed") == decode(Decoder(), "migrate_set_state new state -1")


@pytest.mark.parametrize(
    ("seen", "cumulative"),
    [
        ([], True),
        (["savevm_state_begin "], False),
        (["savevm_send_ping 4"], False),
        (["migrate_pending pending size 1 max 0"], False),
        (["savevm_state_setup "], True),
        (["migrate_set_state new state setup"], True),
        (["savevm_state_setup ", "savevm_state_begin "], True),
    ],
)
def test_dirty_pages_span_sync_or_period(seen: list[str], *, cumulative: bool) -> None:
    """Before 2.9 a sync prints its own pages. The first evidence of a release wins."""
    assert SyncEnded(None, None, 7, cumulative) == decode(after(*seen), "migration_bitmap_sync_end dirty_pages 7")


@pytest.mark.parametrize(
    "line",
    [
        "migrate_pending",
        "migrate_pending pending size",
        "migrate_pending pending size 1682",
        "migrate_pending pending size 168304640 max 0 (pre = 168304640 compat=0 post=0",
        "migrate_pending pending size -1 max 0",
        "migrate_pending pending size 1 max 0 and more",
        "migrate_set_state new state ",
        "migrate_set_state new state two words",
        "savevm_state_header with arguments",
        "savevm_section_start ram",
        "vmstate_downtime_checkpoint src-somewhere else",
        "migration_thread_low_pending " + 5_000 * "9",
        "migration_thread_low_pending 184467440737095516160",
        "migrate_transferred transferred 1 time_spent 1 bandwidth 1.2.3 max_size 1",
        "migrate_transferred transferred 1 time_spent 1 bandwidth . max_size 1",
        "savevm_send_ping 0x" + 5_000 * "f",
    ],
)
def test_unknown_arguments_are_malformed(line: str) -> None:
    """Torn, damaged, or of an unknown release; never an exception."""
    assert MALFORMED == decode(Decoder(), line[:70] if line.endswith("99") else line) == decode(Decoder(), line)


def test_unknown_names_are_noise() -> None:
    assert None is decode(Decoder(), "migration_transferred_bytes qemu_file 1 multifd 2 RDMA 3")
    assert None is Decoder().make(b"migration_transferred_bytes", {})


def test_strings_may_hold_anything() -> None:
    """Blanks, equals signs, braces and bytes that are no UTF-8."""
    event = Decoder().decode(b"savevm_section_start a, section_id 1, \xff, section_id 3")
    assert SectionStarted(None, None, "a, section_id 1, \N{REPLACEMENT CHARACTER}", 3) == event


@pytest.mark.parametrize(
    ("lines", "sizes"),
    [
        (["migrate_pending pending size 1 max 2", "migrate_pending pending size 3 max 4 (post=5 nonpost=6)"], [1, 3]),
        (["migrate_pending pending size 3 max 4 (post=5 nonpost=6)", "migrate_pending pending size 1 max 2"], [3, 1]),
        (["migrate_pending pending size 1 max 2", "migrate_pending pending size x max 2"], [1, None]),
    ],
)
def test_usual_layout_is_not_the_only_one(lines: list[str], sizes: list[int | None]) -> None:
    """The layout of the first line is tried first, and others after it."""
    decoder = Decoder()
    assert sizes == [getattr(decode(decoder, line), "size", None) for line in lines]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("migrate_pending", True),
        ("migrate_transferred", True),
        ("migrate_set_state", False),
        ("savevm_section_end", False),
    ],
)
def test_layouts_of_numbers_are_disjoint(name: str, *, expected: bool) -> None:
    assert expected is vocabulary().are_disjoint(name.encode())


def test_cached_text_gives_same_event() -> None:
    decoder = Decoder()
    for _ in range(3):
        for number in range(600):
            text = b"savevm_section_start ram, section_id %d" % number
            assert SectionStarted(None, None, "ram", number) == decoder.decode(text)


def test_device_texts_are_shared_by_decoders() -> None:
    """Machines of a host have the same devices; each decoder still learns its own range of releases."""
    text = b"savevm_section_end 0000:00:02.0/vga, section_id 7 -> 0"
    for thread in (1, 2):
        decoder = Decoder()
        assert SectionEnded(None, thread, "0000:00:02.0/vga", 7) == decoder.decode(text, thread)
        assert decoder.releases[0] == (2, 3)
        assert text not in decoder.known(thread)
    assert text in Decoder().vocabulary.devices


def test_device_texts_are_bounded() -> None:
    decoder = Decoder()
    shared = decoder.vocabulary.devices
    for number in range(1_100):
        decoder.decode(b"savevm_section_start %d, section_id 1" % number)
    decoder.decode(b"vmstate_save device, %s" % (b"a" * 400))
    decoder.decode(b"migrate_error error=%s" % (b"a" * 600))
    assert 0 < len(shared) <= 1_024
    assert max(map(len, [*shared, *decoder.known(None)])) <= 512


def test_long_device_is_not_kept() -> None:
    """The texts of devices are kept for all streams, and a line may have two long names."""
    decoder = Decoder()
    text = b"vmstate_save %s, %s" % (b"a" * 250, b"b" * 250)
    assert isinstance(decoder.decode(text), DeviceSaved)
    assert text not in decoder.vocabulary.devices


def test_threads_with_a_cache_are_bounded() -> None:
    decoder = Decoder()
    for thread in range(200):
        decoder.decode(b"savevm_state_iterate ", thread)
    assert sum(bool(decoder.known(thread)) for thread in range(200)) < 70


@pytest.mark.parametrize(
    ("line", "before", "learnt_from", "after"),
    [
        (
            "migration_bitmap_sync_end dirty_pages 7",
            SyncEnded(None, None, 7, cumulative=True),
            "savevm_state_begin ",
            SyncEnded(None, None, 7, cumulative=False),
        ),
        (
            "migrate_set_state new state 5",
            StateSet(None, None, "postcopy-active"),
            "savevm_state_complete ",
            StateSet(None, None, "completed"),
        ),
    ],
)
def test_narrowed_release_empties_cache(line: str, before: Event, learnt_from: str, after: Event) -> None:
    decoder = Decoder()
    assert before == decode(decoder, line)
    decode(decoder, learnt_from)
    assert after == decode(decoder, line)


def test_blank_after_name_may_be_gone() -> None:
    """QEMU prints one after the name of an event without arguments, and editors remove it."""
    for blanks in (b"", b" ", b"  "):
        assert SignalEvent(None, None, Signal.ITERATE) == Decoder().decode(b"savevm_state_iterate" + blanks)


# Arguments by name, as scripts print them


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        (b"savevm_state_iterate", {}, SignalEvent(None, None, Signal.ITERATE)),
        (b"migrate_pending", {}, Pending(None, None, None, None, None)),
        (b"migrate_pending", {"size": 1}, Pending(None, None, 1, None, None)),
        (b"migrate_set_state", {}, StateSet(None, None, None)),
        (b"migrate_set_state", {"state": "active"}, StateSet(None, None, "active")),
        (b"migrate_set_state", {"number": 4}, StateSet(None, None, "active")),
        (b"cpu_throttle_set", {"percentage": 20}, ThrottleSet(None, None, 20)),
        (b"qmp_enter_migrate", {}, QmpCommand(None, None, None, "migrate")),
        (b"runstate_set", {}, RunStateSet(None, None, None, None)),
        (b"vmstate_downtime_checkpoint", {}, SignalEvent(None, None, Signal.OTHER)),
    ],
)
def test_arguments_by_name_fill_fields(name: bytes, values: dict[str, object], expected: Event) -> None:
    """A missing argument is None; if an argument alone decides the signal, the signal is OTHER."""
    assert expected == Decoder().make(name, values)


@pytest.mark.parametrize(
    ("text", "torn"),
    [
        (b"m", True),
        (b"migrate_set_sta", True),
        (b"savevm_state_complete", True),
        (b"", False),
        (b"migrate set", False),
        (b"migration_transferred_bytes", False),
        (b"zzz", False),
    ],
)
def test_proper_prefix_of_name_is_torn(text: bytes, *, torn: bool) -> None:
    assert torn is Decoder().vocabulary.is_torn_name(text)


def test_added_row_is_decoded() -> None:
    mine = EventLayout("my_throttle", "2.0..", "by %d%% of %w", ThrottleSet, "percentage _")
    decoder = Decoder(ParserOptions(rows=(*LAYOUTS, mine)))
    assert decoder.knows(b"my_throttle")
    assert ThrottleSet(None, None, 30) == decode(decoder, "my_throttle by 30% of all")


def test_row_with_one_number_is_decoded_alone() -> None:
    mine = EventLayout("my_pending", "2.0..", "left %u of %u", Pending, "size _")
    decoder = Decoder(ParserOptions(rows=(*LAYOUTS, mine)))
    for size in (8, 7):
        assert Pending(None, None, size, None, None) == decode(decoder, f"my_pending left {size} of 9")
    assert decoder.numbers == {}


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        (b"nothing_of_qemu", [b"1"], None),
        (b"cpu_throttle_set", [b"30"], ThrottleSet(None, None, 30)),
        (b"migrate_set_state", [b"active"], StateSet(None, None, "active")),
        (b"migrate_pending", [b"7", b"x"], MALFORMED),
        (b"migrate_pending", [b"7", b"9", b"x", b"1"], MALFORMED),
        (b"savevm_state_iterate", [], SignalEvent(None, None, Signal.ITERATE)),
        (b"savevm_state_iterate", [b"1"], MALFORMED),
    ],
)
def test_arguments_in_order_fill_a_format(name: bytes, values: list[bytes], expected: object) -> None:
    """Values that fit no format of their number are malformed."""
    assert Decoder().decode_values(name, values) == expected


def test_hints_of_a_stream_are_bounded() -> None:
    decoder = Decoder()
    for number in range(1_000):
        decoder.hint(Hint.UNKNOWN_KEY, f"key {number}")
    assert len(decoder.hints) == 32


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("pendingRemaining", ("size", 7)),
        ("dirty_max", None),
        ("of_the", None),
        ("max_size", ("threshold", 7)),
        ("pend_now", None),
    ],
    ids=["both words of one field", "of two fields", "no field", "one qualifies", "a word of two fields"],
)
def test_key_is_known_by_its_words(key: str, expected: tuple[str, int] | None) -> None:
    field = ArgumentNames().field(b"migrate_pending", key.encode())
    assert (None if field is None else (field[0], field[1](b"7"))) == expected


@pytest.mark.parametrize(
    ("key", "field"), [("most", "threshold"), ("limit_", "threshold"), ("rest", "size"), ("x", None)]
)
def test_configured_key_fills_argument_or_field(key: str, field: str | None) -> None:
    names = ArgumentNames({"migrate_pending": {"most": "max", "limit_": "threshold", "rest": "size"}})
    known = names.field(b"migrate_pending", key.encode())
    assert field == (None if known is None else known[0])


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (["transferred", "time_spent", "colour"], []),
        (["transferred", "colour"], ["colour"]),
        (["colour", "shape"], ["colour", "shape"]),
        (["transferred"], []),
    ],
    ids=["what is needed is there", "a field is missing", "all are missing", "no key is unknown"],
)
def test_unknown_key_counts_if_a_field_is_missing(keys: list[str], expected: list[str]) -> None:
    assert expected == ArgumentNames().unknown(b"migrate_transferred", [key.encode() for key in keys])


def test_any_number_of_keys_is_resolved() -> None:
    """The memory for them is bounded, so those before are resolved again."""
    names = ArgumentNames()
    for number in range(3_000):
        assert names.field(b"migrate_pending", b"unheard%d" % number) is None
    field = names.field(b"migrate_pending", b"size")
    assert field is not None
    assert field[0] == "size"
