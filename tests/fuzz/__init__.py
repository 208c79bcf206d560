"""A coverage-guided fuzzer of the stream reader, whose input other people write."""
