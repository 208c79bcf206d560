"""Serve metrics, health, running migrations and a page that shows them, over HTTP."""

from exporter.addresses import AddressError, check_template, parse_address, parse_path
from exporter.web.application import Offer
from exporter.web.server import Server
from exporter.web.view import MigrationView, Page, StreamView

__all__ = [
    "AddressError",
    "MigrationView",
    "Offer",
    "Page",
    "Server",
    "StreamView",
    "check_template",
    "parse_address",
    "parse_path",
]
