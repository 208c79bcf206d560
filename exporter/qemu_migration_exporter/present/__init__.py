"""Text for people, made from numbers."""
