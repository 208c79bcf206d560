"""Prometheus metrics, collected at scrape time."""
