"""Settings of the web server in force: TLS, headers, users and the rate limit.

They come from the web configuration file. The file, and the certificates it names, are read again at the next
connection or request after they change. Without a file its schema is not loaded, which saves 0.5 MiB.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from qemu_migration_exporter.config.errors import ConfigError
from qemu_migration_exporter.web.listener import TlsSettings

_log = logging.getLogger(__name__)

_Signature = tuple[tuple[int, int, int] | None, ...]


class Access(NamedTuple):
    """Access to the pages: users with bcrypt hashes of their passwords, headers of answers, and the rate limit."""

    users: Mapping[str, str] = {}
    headers: Mapping[str, str] = {}
    interval_seconds: float = 0.0
    burst: int = 0


class Settings:
    """The configuration in force; a file with mistakes does not replace it.

    Args:
        path: Path of the file; None for plain HTTP without a login.

    Raises:
        ConfigError: The file has mistakes.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path
        self.access = Access()
        self.tls = TlsSettings()
        self._files: tuple[str, ...] = ()
        self._signature: _Signature = ()
        if path is not None:
            self._load(path)

    def refresh(self) -> None:
        """Reload the file if it, or a certificate, changed."""
        if self._path is None or self._signature == self._seen(self._path):
            return
        try:
            self._load(self._path)
        except ConfigError as error:
            self._signature = self._seen(self._path)  # no second try before it changes
            for mistake in error.mistakes:
                _log.warning("web config reload failed, keeping the previous one", extra={"error": str(mistake)})
        else:
            _log.info("web config reloaded")

    def _load(self, path: str) -> None:
        from qemu_migration_exporter.config.yaml_loader import read  # noqa: PLC0415 - see the module
        from qemu_migration_exporter.web.web_config import WebConfig  # noqa: PLC0415

        config = read(path, WebConfig)
        tls = config.tls_server_config
        try:
            context = tls.context()
        except ValueError as error:  # the certificate changed after the file was checked
            raise ConfigError([f"{path}: tls_server_config: {error}"]) from error
        limit = config.rate_limit
        self.access = Access(config.basic_auth_users, config.http_server_config.headers, limit.interval, limit.burst)
        self._files = tuple(tls.files)
        self.tls = TlsSettings(context, frozenset(tls.client_allowed_sans) or None)
        self._signature = self._seen(path)

    def _seen(self, path: str) -> _Signature:
        return tuple(_signature(name) for name in (path, *self._files))


def _signature(path: str) -> tuple[int, int, int] | None:
    try:
        status = Path(path).stat()
    except OSError:  # reading the file gives the reason
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
