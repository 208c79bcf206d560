"""Where bytes come from. A source knows nothing of lines or migrations."""
