"""The daemon's configuration file: schema, loader, addresses.

`schema` names the sections, one module each; `yaml_loader` reads a file and reports all mistakes with their lines.
The web configuration file has its own module in `web`.
"""
