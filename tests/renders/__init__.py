"""Pictures of the dashboards, drawn by Grafana's own frontend from a real Prometheus; by hand, `make renders`."""
