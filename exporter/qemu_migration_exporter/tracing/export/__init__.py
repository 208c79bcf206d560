"""Span export: OTLP, queues, spool, JSON lines."""
