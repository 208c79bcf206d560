"""Lines of a chunk, parsed together: most of them by heart, the others one by one.

    lines ──format.split──→ texts ──cache──→ events
                              │ not in the cache
                              ├─→ numbers: a layout's texts together                 columns.NumberTexts
                              └─→ decoded alone; noise by its name; all else through LineParser

Nearly all lines repeat a text that the decoder has cached, behind another time. Splitting, recalling, decoding numbers
and counting are calls for hundreds of lines each, so that such a line costs no Python loop; 7.2's log is parsed in 0.5
of the time, SystemTap's output in 0.6. An event may change the meaning of the texts behind it, which are then recalled
again, so that the result is the same as of parsing line by line.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from operator import eq
from typing import Final, NamedTuple

from qemu_migration_exporter.core.events import Event
from qemu_migration_exporter.core.lines import Lines
from qemu_migration_exporter.core.parsing.columns import Columns
from qemu_migration_exporter.core.parsing.decoder import Decoder, Malformed, Parsed
from qemu_migration_exporter.core.parsing.line_parser import LineParser

#: Lines split together: enough to make the calls cheap; a text with a new meaning splits fewer again.
_TOGETHER: Final = 512
#: Fewer lines cost less one by one, as the slice of a live migration does.
_FEW: Final = 12


@dataclass(slots=True)
class Reading:
    """Result of reading some lines: the events, and the numbers of all other lines."""

    lines: Lines
    noise: int = 0
    malformed: int = 0
    duplicates: int = 0


class LineReader:
    """Reader of the lines of one stream.

    Attributes:
        last_text: The last line that was an event; the same line with a time is a duplicate.
    """

    def __init__(self, parser: LineParser) -> None:
        self.last_text: bytes | None = None
        self._parser = parser

    def read(self, lines: list[bytes]) -> Reading:
        """Parse lines."""
        reading, parser = Reading(Lines([], [], [], [])), self._parser
        if parser.format is None:
            parser.detect(lines)
        for start in range(0, len(lines), _TOGETHER):
            part = lines[start : start + _TOGETHER]
            columns = parser.split(part) if len(part) >= _FEW else None
            if columns is None:
                self._read_alone(part, reading)
            else:
                self._read_together(part, columns, reading)
        return reading

    def _read_alone(self, lines: list[bytes], reading: Reading) -> None:
        """Parse lines one by one."""
        parser, last_text = self._parser, self.last_text
        (parse, parse_again), line_format = parser.functions(), parser.format or parser.line_format
        events, texts, processes, times = reading.lines
        for line in lines:
            parsed = parse(line)
            if parsed is None or isinstance(parsed, Malformed):
                parsed = _count(parse_again(line, parsed), reading)
                if parsed is None:
                    continue
            at_ns = parsed.at_ns
            if at_ns is not None and line == last_text:
                reading.duplicates += 1
                continue
            last_text = line
            events.append(parsed)
            texts.append(line)
            processes.append(line_format.process)
            times.append(at_ns)
        self.last_text = last_text

    def _read_together(self, lines: list[bytes], columns: Columns, reading: Reading) -> None:
        """Parse lines that the format has split."""
        start = 0
        while start < len(lines):
            start += self._read_run(lines[start:], columns.behind(start), reading)

    def _read_run(self, lines: list[bytes], columns: Columns, reading: Reading) -> int:
        """Parse lines up to one that changes the meaning of the texts behind it; return their number."""
        decoder, line_format = self._parser.decoder, self._parser.line_format
        parse, parse_again = self._parser.functions()
        texts, threads = columns.texts, columns.threads
        processes, times = [*columns.processes], [*columns.times]
        events, meanings, accepted = _recall(decoder, columns), decoder.meanings, 0
        noise, others = _decode_numbers(decoder, columns, events)
        end = len(lines)
        for at in others:
            parsed = None if times[at] is None else decoder.decode(texts[at], threads[at])
            if parsed is None or isinstance(parsed, Malformed):
                if line_format.per_cpu:
                    line_format.accept([*compress(processes[accepted:at], events[accepted:at])])
                    accepted = at
                parsed = parse(lines[at])
                if parsed is None or isinstance(parsed, Malformed):
                    parsed = _count(parse_again(lines[at], parsed), reading)
                if parsed is not None:
                    processes[at], times[at] = line_format.process, parsed.at_ns
            events[at] = parsed
            if decoder.meanings != meanings:
                end = at + 1
                break
        if line_format.per_cpu:
            line_format.accept([*compress(processes[accepted:end], events[accepted:end])])
        reading.noise += bisect_left(noise, end)
        self._keep(_Rows(events[:end], lines[:end], processes[:end], times[:end]), reading)
        return end

    def _keep(self, rows: _Rows, reading: Reading) -> None:
        """Add the rows that have an event to a reading; drop a line with a time that is repeated."""
        events: list[Event] = [event for event in rows.events if event]
        if not events:
            return
        texts, times = [*compress(rows.texts, rows.events)], [*compress(rows.times, rows.events)]
        processes = [*compress(rows.processes, rows.events)]
        before, self.last_text = self.last_text, texts[-1]
        if times.count(None) < len(times) and True in (repeated := [*map(eq, texts, [before, *texts])]):
            new = [not again or at_ns is None for again, at_ns in zip(repeated, times, strict=True)]
            reading.duplicates += new.count(False)
            events, texts = [*compress(events, new)], [*compress(texts, new)]
            processes, times = [*compress(processes, new)], [*compress(times, new)]
        reading.lines.extend(Lines(events, texts, processes, times))


class _Rows(NamedTuple):
    """Lines that were parsed together; the event is None for lines that are no event."""

    events: list[Event | None]
    texts: list[bytes]
    processes: list[int | None]
    times: list[int | None]


def _recall(decoder: Decoder, columns: Columns) -> list[Event | None]:
    """Return the cached events of texts, None for other texts."""
    threads = {*columns.threads}
    if len(threads) == 1:
        return [*map(decoder.known(threads.pop()).get, columns.texts)]
    known = {thread: decoder.known(thread) for thread in threads}
    return [known[thread].get(text) for thread, text in zip(columns.threads, columns.texts, strict=True)]


def _decode_numbers(decoder: Decoder, columns: Columns, events: list[Event | None]) -> tuple[list[int], Sequence[int]]:
    """Add the events of texts with numbers to those recalled; return the places of noise, and of the other texts."""
    texts, times, names = columns.texts, columns.times, decoder.vocabulary.layouts
    numbers: dict[bytes, list[int]] = {name: [] for name in decoder.numbers}
    noise, others = list[int](), list[int]()
    for at, event in enumerate(events):
        if event is not None:
            continue
        text = texts[at]
        name, blank, _ = text.partition(b" ")
        if name in numbers:
            numbers[name].append(at)
        elif name in names or times[at] is None or not blank or b"@" in text or name.endswith(b":"):
            others.append(at)  # an event, or torn, glued, a report, or without a prefix
        else:
            noise.append(at)
    strange = list[int]()
    for name, places in numbers.items():
        found = decoder.numbers[name].events([texts[at] for at in places], [columns.threads[at] for at in places])
        if found is None:
            strange += places
        else:
            for at, event in zip(places, found, strict=True):
                events[at] = event
    return noise, sorted([*others, *strange]) if strange else others


def _count(parsed: Parsed, reading: Reading) -> Event | None:
    """Count a line that is not an event; return the event that was salvaged from it, or that it is after all."""
    if parsed is None:
        reading.noise += 1
    elif isinstance(parsed, Malformed):
        reading.malformed += 1
        return parsed.salvaged
    else:
        return parsed
    return None
