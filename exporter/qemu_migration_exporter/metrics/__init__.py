"""Prometheus metrics, collected at scrape time.

`table` has one row per metric. `collector` keeps plain numbers per machine and makes samples at scrape time;
`text_cache` keeps the text of unchanged series; `self_collector` reports on the exporter itself.
"""
