"""The daemon's configuration file: schema, loader, addresses."""
