"""A coverage-guided fuzzer over what reads streams: bytes that somebody else writes."""
