"""HTTP server for metrics, health, migrations as JSON and pages.

Listener --accepts--> Connection (h11, deadlines) --Request--> Application (logins, routes) --Answer-->
"""

from qemu_migration_exporter.config.addresses import AddressError, check_template, parse_address, parse_path
from qemu_migration_exporter.web.application import Endpoints
from qemu_migration_exporter.web.server import Server

__all__ = [
    "AddressError",
    "Endpoints",
    "Server",
    "check_template",
    "parse_address",
    "parse_path",
]
