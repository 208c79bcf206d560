"""Who may ask: user names and passwords, against bcrypt hashes."""

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

#: A check costs 50 ms and more of a processor, and they wait for one another. Who guesses passwords fills his own
#: places and not those of another address.
_MAX_WAITING_OF_ONE: Final = 4
_MAX_WAITING: Final = 64

#: bcrypt looks at no more; its implementations differ in whether they say so.
_MAX_PASSWORD_BYTES: Final = 72


class Decision(Enum):
    """What comes of a login."""

    WELCOME = auto()
    DENIED = auto()
    #: Too many others are being checked.
    LATER = auto()


class Credentials(NamedTuple):
    """What a client says of itself."""

    user: str
    password: bytes


class BasicAuth:
    """Check logins, one at a time and beside the event loop, so that bad ones cannot hold up who is known."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="web-login")
        self._key = secrets.token_bytes(32)
        #: Of each user that has logged in, a keyed hash of hash and password: good as long as both are the same.
        self._known: dict[str, bytes] = {}
        self._waiting: Counter[str] = Counter()

    async def check(self, authorization: bytes | None, users: Mapping[str, str], client: str) -> Decision:
        """Say whether the `Authorization` header of a client is a user's."""
        credentials = parse(authorization)
        if credentials is None:
            return Decision.DENIED
        user, password = credentials
        # A name that nobody has takes as long as one that somebody has.
        hashed = (users.get(user) or _decoy(users)).encode()
        digest = hashlib.blake2b(hashed + b"\0" + password, key=self._key).digest()
        if user in users and hmac.compare_digest(digest, self._known.get(user, b"")):
            return Decision.WELCOME
        if self._waiting[client] >= _MAX_WAITING_OF_ONE or self._waiting.total() >= _MAX_WAITING:
            return Decision.LATER
        self._waiting[client] += 1
        try:
            matches = await asyncio.get_running_loop().run_in_executor(self._executor, _matches, password, hashed)
        finally:
            self._waiting[client] -= 1
            self._waiting += Counter()  # forgets who waits no more
        if not matches or user not in users:
            return Decision.DENIED
        self._known[user] = digest
        return Decision.WELCOME

    def close(self) -> None:
        """End, without the checks that have not begun."""
        self._executor.shutdown(wait=False, cancel_futures=True)


def parse(authorization: bytes | None) -> Credentials | None:
    """Read a header of HTTP's basic authentication; None where it is none."""
    scheme, _, encoded = (authorization or b"").partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        return Credentials(user.decode(), password) if colon else None
    except (binascii.Error, UnicodeDecodeError):  # nobody's; who asked is told so
        return None


def _decoy(users: Mapping[str, str]) -> str:
    """Make a hash that nobody's password has, of the cost the users' have."""
    return f"$2b${max(each.split('$')[2] for each in users.values())}${'.' * 53}"


def _matches(password: bytes, hashed: bytes) -> bool:
    try:
        import bcrypt  # noqa: PLC0415 - 1 MiB that a server without users never needs

        return bcrypt.checkpw(password[:_MAX_PASSWORD_BYTES], hashed)
    except ValueError:  # such as a salt of bits that cannot be
        return False
