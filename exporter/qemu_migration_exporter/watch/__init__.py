"""`watch`: a live view of migrations on a terminal.

    feed --Snapshot--> Watch --frame--> rich's Live
                         ^ keys

A feed gives snapshots: `DaemonFeed` asks a running daemon over HTTP, `SourceFeed` follows sources by itself, with the
same loop as `run`. `Watch` keeps the selection, reads the keys and draws.
"""
