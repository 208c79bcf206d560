"""The migrations in a stream: one tracker for each QEMU process.

`stream` reads bytes and splits their events by process; `tracker` decides which events begin and end a migration.
"""
