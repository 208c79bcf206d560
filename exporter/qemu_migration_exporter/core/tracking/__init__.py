"""From events to changes: one state machine per migration.

`stream` reads bytes and splits them by process, `tracker` decides which events begin and end a migration, `machine`
and its handlers follow one migration, and `summary` computes its numbers when they are read.
"""
