"""The master keys of the installation: AES-256-GCM around each project's key, bound to the project."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from catalog.domain.encryption import Encryption
from catalog.errors import KeyLocked
from millrace.errors import Invalid
from millrace.sealing import ProjectKey

NONCE = 12
KEY_BYTES = 32
HINT = "the administrator names the file of the master keys by MILLRACE_CATALOG_MASTER_KEY_FILE"


def parse_master_keys(text: str) -> tuple[bytes, ...]:
    """Return the keys of a file: 64 hex digits a line, the first wraps, all unwrap.

    Raises:
        Invalid: it holds something else, or nothing.
    """
    try:
        keys = tuple(bytes.fromhex(line) for line in text.split())
    except ValueError:
        keys = ()
    if not keys or any(len(key) != KEY_BYTES for key in keys):
        raise Invalid("the file of the master keys does not hold 64 hex digits a line", hint="`openssl rand -hex 32`")
    return keys


class MasterKeys:
    """`KeyBox` on the keys of a file; without any, nothing can be encrypted and no project's key unwrapped."""

    def __init__(self, keys: Sequence[bytes] = ()) -> None:
        self._keys = {_id_of(key): key for key in keys}
        self._first = next(iter(self._keys), None)

    def wrap(self, key: ProjectKey) -> tuple[str, str]:
        """Return a key as it may be stored, in hex, and the id of the master key."""
        if self._first is None:
            raise KeyLocked("this installation has no master key to keep a project's key with", hint=HINT)
        nonce = secrets.token_bytes(NONCE)
        sealed = AESGCM(self._keys[self._first]).encrypt(nonce, key.secret, _bound_to(key.project))
        return (nonce + sealed).hex(), self._first

    def unwrap(self, stored: Encryption) -> ProjectKey:
        """Return a project's key."""
        master = self._keys.get(stored.master)
        if master is None:
            raise KeyLocked(
                f"the key of project {stored.project} is wrapped with master key {stored.master}, which is not there",
                hint=HINT,
            )
        raw = bytes.fromhex(stored.wrapped)
        try:
            secret = AESGCM(master).decrypt(raw[:NONCE], raw[NONCE:], _bound_to(stored.project))
        except (InvalidTag, ValueError):
            raise KeyLocked(f"the stored key of project {stored.project} is damaged") from None
        return ProjectKey(stored.project, secret)

    def stale(self, stored: Encryption) -> bool:
        """Return whether a key is wrapped with another master key than the first."""
        return stored.master != self._first


def _bound_to(project: str) -> bytes:
    return b"millrace project key 1 " + project.encode()


def _id_of(key: bytes) -> str:
    return HKDFExpand(SHA256(), 8, b"millrace master key 1 id").derive(key).hex()
