"""Span export: OTLP, queues, spool, JSON lines.

`queued` serves the daemon and never blocks reading; `blocking` serves replays and waits for the receiver. Both encode
a batch once with `codec` and send it with `otlp_http` or `otlp_grpc`; `spool` keeps batches on disk.
"""
