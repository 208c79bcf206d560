"""Generators of documents; not part of the wheel."""
