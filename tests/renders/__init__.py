"""Pictures of dashboards and traces, drawn by their own frontends from real data; by hand, `make renders`."""
