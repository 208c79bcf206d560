"""HTML for browsers."""
