"""The live view of migrations on a terminal."""
