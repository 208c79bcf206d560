"""Parser of the lines of one stream: format, envelopes and hints together.

    line ──format.parse──→ event
              │ no event
              └─→ an envelope around it? ──opened, format.parse──→ event        envelope.py
                        │ none known
                        └─→ does a part of the line teach one?

The format is detected from the first line that is evidence for one, in an envelope or without. Until then lines are
parsed as those of a log without times: error reports, torn names and noise are the same in all formats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from qemu_migration_exporter.core.parsing.columns import Columns
from qemu_migration_exporter.core.parsing.decoder import Decoder, Malformed, Parsed, timed
from qemu_migration_exporter.core.parsing.envelope import Envelopes
from qemu_migration_exporter.core.parsing.formats import FORMATS, Format, detect, detection_prefilter
from qemu_migration_exporter.core.parsing.hints import Hint, recognise
from qemu_migration_exporter.core.parsing.options import ParserOptions
from qemu_migration_exporter.core.parsing.prefilter import LinePrefilter

#: Lines of a stream without a known format that are searched for a hint.
_MAX_HINTED_LINES: Final = 10_000


class LineParser:
    """Parser of one stream.

    Attributes:
        decoder: The decoder of its QEMU.
        format: The stream's format, None until a line shows it.
    """

    def __init__(self, options: ParserOptions | None = None, format_name: str | None = None) -> None:
        self.decoder = Decoder(options)
        self.format: Format | None = FORMATS[format_name](self.decoder) if format_name else None
        self._envelopes = Envelopes(self.decoder.vocabulary)
        self._guess = FORMATS["qemu-log-bare"](self.decoder)
        self._hinted_lines = 0

    @property
    def envelopes(self) -> tuple[bytes, ...]:
        """Samples of the envelopes learnt so far."""
        return self._envelopes.samples

    def restore(self, format_name: str | None, envelopes: tuple[bytes, ...]) -> None:
        """Continue with the format and the envelopes of an earlier parser."""
        if format_name is not None:
            self.format = FORMATS[format_name](self.decoder)
        self._envelopes = Envelopes(self.decoder.vocabulary, envelopes)

    @property
    def hints(self) -> tuple[tuple[Hint, str], ...]:
        """Reasons why lines were not understood, with a detail for each reason."""
        return tuple(self.decoder.hints)

    @property
    def line_format(self) -> Format:
        """The format, or while it is unknown the format of a log without times."""
        return self.format or self._guess

    @property
    def timed(self) -> bool:
        """True if the lines carry the time of their event, in the format or in the envelope."""
        return (self.format is not None and self.format.timed) or self._envelopes.time is not None

    @property
    def per_cpu(self) -> bool:
        """True if lines may be out of order, because several CPUs write them."""
        return (self.format is not None and self.format.per_cpu) or self._is_timed_by_envelope

    @property
    def monotonic(self) -> bool:
        """True if the times count from an unknown moment."""
        time = self._envelopes.time
        if self._is_timed_by_envelope and time is not None:
            return time.monotonic
        return self.format is not None and self.format.monotonic

    @property
    def _is_timed_by_envelope(self) -> bool:
        return self._envelopes.time is not None and not (self.format is not None and self.format.timed)

    @property
    def prefilter(self) -> LinePrefilter | None:
        """The prefilter for the lines to come; None if envelopes are around them."""
        if self._envelopes.shapes:
            return None
        return detection_prefilter(self.decoder.vocabulary) if self.format is None else self.format.prefilter

    def detect(self, lines: Sequence[bytes]) -> None:
        """Detect the format from lines, if it is not known yet."""
        for line in lines if self.format is None else ():
            name = detect(line, self.decoder)
            if name is None:
                self._envelopes.learn(line, self._detect_part)
            else:
                self.format = FORMATS[name](self.decoder)

    def split(self, lines: Sequence[bytes]) -> Columns | None:
        """Split lines into prefixes and texts; None if they have to be parsed one by one."""
        return None if self.format is None or self._envelopes.shapes else self.format.split(lines)

    def functions(self) -> tuple[Callable[[bytes], Parsed], Callable[[bytes, Parsed], Parsed]]:
        """Return the function that parses the next lines, and the function for lines in which it finds no event."""
        if self.format is None:
            return self._parse_undetected, _keep
        if self._envelopes.shapes:
            return self._parse_opened, _keep
        return self.format.parse, self._parse_again

    def _parse_again(self, line: bytes, parsed: Parsed) -> Parsed:
        """Parse a line that may be in an envelope."""
        if self._envelopes.shapes:  # learnt after the functions were returned
            return self._parse_opened(line)
        if self.line_format.claims(line) or not self._envelopes.learn(line, self._is_event):
            return parsed
        return self._parse_opened(line)

    def _parse_opened(self, line: bytes) -> Parsed:
        """Parse the part inside a line's envelope; without an envelope, the line itself."""
        stream_format = self.line_format
        torn: Parsed = None
        for part, at_ns in self._envelopes.open(line):
            parsed = stream_format.parse(part)
            if isinstance(parsed, Malformed):
                torn = parsed
            elif parsed is not None:
                return timed(parsed, at_ns, parsed.thread) if parsed.at_ns is None else parsed
            elif stream_format.claims(part):
                return None
        parsed = stream_format.parse(line)
        if parsed is not None and not isinstance(parsed, Malformed):
            return parsed
        if torn is None and not stream_format.claims(line) and self._envelopes.learn(line, self._is_event):
            return self._parse_opened(line)
        return torn or parsed

    def _is_event(self, part: bytes) -> bool:
        parsed = self.line_format.parse(part)
        return parsed is not None and not isinstance(parsed, Malformed)

    def _detect_part(self, part: bytes) -> bool:
        """Detect the format from a part of a line; return whether the part is an event."""
        name = detect(part, self.decoder)
        if name is None:
            return False
        self.format = FORMATS[name](self.decoder)
        if self._is_event(part) or Hint.MARK_ADDRESSES in {hint for hint, _ in self.hints}:
            return True
        self.format = None
        return False

    def _parse_undetected(self, line: bytes) -> Parsed:
        """Parse a line of a stream without a known format, and search it for a hint."""
        if self._hinted_lines < _MAX_HINTED_LINES:
            self._hinted_lines += 1
            hint = recognise(line, self.decoder.vocabulary)
            if hint is not None:
                self.decoder.hint(hint)
        return self._guess.parse(line)


def _keep(_line: bytes, parsed: Parsed) -> Parsed:
    return parsed
