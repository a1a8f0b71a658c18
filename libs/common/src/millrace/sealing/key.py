"""A project's key, and what follows from it: a cipher for names, and a cipher of its own for each object.

names    AES-256-SIV (RFC 5297): deterministic, so that a name is found again, and invertible, so that it is listed
objects  AES-256-GCM under a key of each object's own, see `segments`
all      from the project's key by HKDF-SHA256 (RFC 5869), with what it is for as `info`
"""

from __future__ import annotations

import base64
import binascii
import secrets
from dataclasses import dataclass, field
from functools import cached_property

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from millrace.datasets.keys import LakeKind
from millrace.errors import Invalid
from millrace.sealing.segments import Segments

KEY_BYTES = 32
ID_BYTES = 8
_DIGEST_BYTES = 32


@dataclass(frozen=True)
class ProjectKey:
    """The 32 bytes that a project's objects are sealed with. Neither `repr` nor errors show them.

    Raises:
        Invalid: not 32 bytes.
    """

    project: str
    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) != KEY_BYTES:
            raise Invalid(f"a project's key has {KEY_BYTES} bytes")

    @classmethod
    def new(cls, project: str) -> ProjectKey:
        """Return a fresh random key."""
        return cls(project, secrets.token_bytes(KEY_BYTES))

    @classmethod
    def from_text(cls, project: str, text: str) -> ProjectKey:
        """Return the key that `text` says.

        Raises:
            Invalid: it says none.
        """
        try:
            return cls(project, base64.b64decode(text, validate=True))
        except (binascii.Error, ValueError):
            raise Invalid("this is no project's key") from None

    @property
    def text(self) -> str:
        """Return the key as it is handed out, in base64."""
        return base64.b64encode(self.secret).decode()

    @cached_property
    def id(self) -> str:
        """Return 16 hex digits that tell keys apart and say nothing else of them."""
        return self._derive(b"id", ID_BYTES).hex()

    @cached_property
    def _names(self) -> AESSIV:
        return AESSIV(self._derive(b"names", 2 * KEY_BYTES))

    @cached_property
    def _objects(self) -> bytes:
        return self._derive(b"objects", KEY_BYTES)

    def _derive(self, purpose: bytes, length: int) -> bytes:
        return _expand(self.secret, b"millrace sealing 1 " + purpose, length)

    def seal_name(self, kind: LakeKind, digest: str) -> str:
        """Return the 96 hex digits that stand for an object's digest in the lake."""
        return self._names.encrypt(bytes.fromhex(digest), [self._place(kind)]).hex()

    def open_name(self, kind: LakeKind, name: str) -> str | None:
        """Return the digest that a sealed name stands for, None where it is none of this key's."""
        try:
            opened = self._names.decrypt(bytes.fromhex(name), [self._place(kind)])
        except (InvalidTag, ValueError):
            return None
        return opened.hex() if len(opened) == _DIGEST_BYTES else None

    def _place(self, kind: LakeKind) -> bytes:
        return f"{self.project}/{kind}".encode()

    def segments(self, key: str) -> Segments:
        """Return the cipher of the object that is known by `key`, its key as if nothing were sealed."""
        return Segments(key, _expand(self._objects, key.encode(), KEY_BYTES))


def _expand(secret: bytes, info: bytes, length: int) -> bytes:
    """Return HKDF-Expand of a secret that is uniformly random already, so that nothing has to be extracted."""
    return HKDFExpand(SHA256(), length, info).derive(secret)
