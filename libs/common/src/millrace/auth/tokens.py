"""API tokens: `mlr_<environment>_<id>_<secret>_<crc>`.

The prefix lets secret scanners find a leak, the checksum rejects junk without a look-up, and the store keeps only a
keyed hash of the secret. All parts are base32 or hex, so a token survives copy and paste.
"""

from __future__ import annotations

import hmac
import re
import secrets
import zlib
from dataclasses import dataclass
from hashlib import blake2b

from millrace.errors import Unauthenticated

_PATTERN = re.compile(r"^mlr_([a-z0-9]{1,16})_([0-9a-f]{16})_([0-9a-f]{64})_([0-9a-f]{8})$")
MAX_TOKEN_LENGTH = 128


@dataclass(frozen=True)
class Token:
    """The parts of a well-formed token; `secret` is 256 bits in hex."""

    environment: str
    id: str
    secret: str

    def __repr__(self) -> str:
        """Hide the secret, because tokens end up in tracebacks."""
        return f"Token({self.environment}_{self.id}_…)"

    @property
    def text(self) -> str:
        """Return the token as it is handed out, once."""
        body = f"mlr_{self.environment}_{self.id}_{self.secret}"
        return f"{body}_{_checksum(body)}"

    def hash(self, pepper: bytes) -> str:
        """Return the keyed hash that a store may keep; `pepper` is a secret of at least 16 bytes."""
        return blake2b(self.secret.encode(), key=pepper[:64], person=b"millrace-token", digest_size=32).hexdigest()


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"


def mint(environment: str = "dev") -> Token:
    """Return a fresh random token."""
    return Token(environment, secrets.token_hex(8), secrets.token_hex(32))


def parse(text: str) -> Token:
    """Return the parts of a token.

    Raises:
        Unauthenticated: it is no token of ours (form or checksum).
    """
    match = _PATTERN.match(text) if len(text) <= MAX_TOKEN_LENGTH else None
    if match is None or not hmac.compare_digest(_checksum(text.rsplit("_", 1)[0]), match.group(4)):
        raise Unauthenticated("this is no valid API token", hint="check that the token was copied whole")
    return Token(match.group(1), match.group(2), match.group(3))


def verify(token: Token, stored_hash: str, pepper: bytes) -> bool:
    """Return whether the token's secret has the stored hash, in constant time."""
    return hmac.compare_digest(token.hash(pepper), stored_hash)
