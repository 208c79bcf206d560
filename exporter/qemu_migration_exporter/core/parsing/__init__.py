"""From bytes to events: lines, prefilter, wire formats, decoder."""
