"""The HTTP server: an event loop in its own thread, so that slow clients never delay the reading of streams."""

from __future__ import annotations

import asyncio
import socket
import threading

from qemu_migration_exporter.config.addresses import parse_address
from qemu_migration_exporter.ops.errors import Component, ErrorCounter
from qemu_migration_exporter.web.application import Application, Endpoints
from qemu_migration_exporter.web.connection import Stage
from qemu_migration_exporter.web.listener import MAX_CONNECTIONS, Listener, TlsSettings
from qemu_migration_exporter.web.settings import Settings


class Server:
    """The HTTP server.

    Args:
        address: Address to listen on; see `parse_address`.
        endpoints: Contents to serve.
        config_file: The web configuration file; None for plain HTTP without a login.
        max_connections: Limit of simultaneous connections; one more closes the connection that is silent longest.
        limits: Seconds for each stage of a connection, instead of the defaults.
        failures: Counts failures.

    Raises:
        AddressError: The address is malformed.
        OSError: The address cannot be listened on.
        ConfigError: The web configuration file has mistakes.
    """

    def __init__(
        self,
        address: str,
        endpoints: Endpoints,
        *,
        config_file: str | None = None,
        max_connections: int = MAX_CONNECTIONS,
        limits: dict[Stage, float] | None = None,
        failures: ErrorCounter | None = None,
    ) -> None:
        failures = failures or ErrorCounter()
        host, port = parse_address(address)
        self._settings = Settings(config_file)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # The kernel queues clients that connect faster than the loop turns.
        self._socket = socket.create_server((host, port), family=family, backlog=1_024)
        self._application = Application(endpoints, self._settings, failures)
        self._listener = Listener(
            self._application.respond, self._tls, failures, max_connections=max_connections, limits=limits
        )
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._failures = failures
        self._is_open = threading.Event()
        self._problem: OSError | None = None

    def start(self) -> None:
        """Start the event loop; clients may connect before and wait in the kernel's queue.

        Raises:
            OSError: No file descriptors are left for an event loop.
        """
        self._thread.start()
        self._is_open.wait()
        if self._problem is not None:
            raise self._problem

    @property
    def url(self) -> str:
        """The address with the port in use."""
        scheme = "http" if self._settings.tls.context is None else "https"
        host, port = self._socket.getsockname()[:2]
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    def stop(self) -> None:
        """Close at once, except that answers under way get a second."""
        if self._loop is not None and self._accepting is not None:
            self._loop.call_soon_threadsafe(self._accepting.cancel)
            self._thread.join()
        self._application.close()
        self._socket.close()

    def _tls(self) -> TlsSettings:
        self._settings.refresh()
        return self._settings.tls

    def _run(self) -> None:
        with self._failures.guard(Component.WEB, "web server failed"):
            try:
                with asyncio.Runner() as runner:
                    runner.run(self._serve())
            except OSError as error:
                self._problem = error
                raise
            finally:
                self._is_open.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._accepting = asyncio.create_task(self._listener.serve(self._socket))
        self._is_open.set()
        await asyncio.wait([self._accepting])
        if not self._accepting.cancelled():
            self._accepting.result()
