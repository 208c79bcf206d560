"""HTTP basic authentication against bcrypt hashes.

A bcrypt check costs 50 ms or more of CPU time. Checks run one at a time in a thread beside the event loop, from a short
queue with a few places for each client address, so that guessing passwords does not delay other clients. A successful
login is recognised by a keyed hash until the user's hash or the password changes.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from enum import Enum, auto
from typing import Final, NamedTuple

#: Places in the queue, for one client address and for all.
_MAX_WAITING_OF_ONE: Final = 4
_MAX_WAITING: Final = 64

#: bcrypt uses no more bytes; some implementations raise an error for them.
_MAX_PASSWORD_BYTES: Final = 72


class Decision(Enum):
    """Results of a login."""

    ALLOWED = auto()
    DENIED = auto()
    #: The queue is full.
    BUSY = auto()


class Credentials(NamedTuple):
    """User name and password of a client."""

    user: str
    password: bytes


class BasicAuth:
    """The check of logins, with a memory of successful logins."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="web-login")
        self._key = secrets.token_bytes(32)
        #: Keyed hash of bcrypt hash and password, for each user that has logged in.
        self._known: dict[str, bytes] = {}
        self._waiting: Counter[str] = Counter()

    async def check(self, authorization: bytes | None, users: Mapping[str, str], client: str) -> Decision:
        """Check the `Authorization` header of a client."""
        credentials = parse(authorization)
        if credentials is None:
            return Decision.DENIED
        user, password = credentials
        # An unknown name takes as long as a known name.
        hashed = (users.get(user) or _dummy_hash(users)).encode()
        digest = hashlib.blake2b(hashed + b"\0" + password, key=self._key).digest()
        if user in users and hmac.compare_digest(digest, self._known.get(user, b"")):
            return Decision.ALLOWED
        if self._waiting[client] >= _MAX_WAITING_OF_ONE or self._waiting.total() >= _MAX_WAITING:
            return Decision.BUSY
        self._waiting[client] += 1
        try:
            matches = await asyncio.get_running_loop().run_in_executor(self._executor, _matches, password, hashed)
        finally:
            self._waiting[client] -= 1
            self._waiting += Counter()  # drops clients with no check in the queue
        if not matches or user not in users:
            return Decision.DENIED
        self._known[user] = digest
        return Decision.ALLOWED

    def close(self) -> None:
        """Stop, without the checks that have not begun."""
        self._executor.shutdown(wait=False, cancel_futures=True)


def parse(authorization: bytes | None) -> Credentials | None:
    """Parse a header of HTTP's basic authentication; None if it is not one."""
    scheme, _, encoded = (authorization or b"").partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        return Credentials(user.decode(), password) if colon else None
    except (binascii.Error, UnicodeDecodeError):  # the client gets a 401
        return None


def _dummy_hash(users: Mapping[str, str]) -> str:
    """Return a hash that no password has, with the highest cost of the users' hashes."""
    return f"$2b${max(hashed.split('$')[2] for hashed in users.values())}${'.' * 53}"


def _matches(password: bytes, hashed: bytes) -> bool:
    try:
        import bcrypt  # noqa: PLC0415 - 1 MiB that a server without users never needs

        return bcrypt.checkpw(password[:_MAX_PASSWORD_BYTES], hashed)
    except ValueError:  # a hash with an impossible salt
        return False
