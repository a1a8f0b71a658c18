"""An object's bytes sealed in segments, so that any part of it is read, and verified, without the rest.

The construction is STREAM (Hoang, Reyhanitabar, Rogaway, Vizár, "Online Authenticated-Encryption and its Nonce-Reuse
Misuse-Resistance", CRYPTO 2015): segments of 64 KiB, the last one shorter, each AES-256-GCM with a 16-byte tag behind
it; the nonce is the segment's number (88 bits, big-endian) and a byte that is 1 in the last segment and 0 before. So
segments can be neither moved, nor left out, nor cut off at the end. An empty object is one empty segment.

The nonce repeats only where number, object key and hence the object's name are the same. Names are digests of contents,
and `SealedStore.put` compares them, so that the plaintext is then the same, too, and so is what is stored.

Sizes follow from each other, so that there is no header.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from millrace.errors import Corrupt

SEGMENT = 64 * 1024
TAG = 16
STORED = SEGMENT + TAG
"""Bytes of a whole segment in the lake."""

Data = bytes | bytearray | memoryview


def sealed_size(plain: int) -> int:
    """Return the size in bytes of what `plain` bytes are sealed to."""
    return plain + TAG * max(1, -(-plain // SEGMENT))


def plain_size(stored: int) -> int | None:
    """Return how many bytes were sealed to `stored` ones, None where nothing is sealed to so many."""
    plain = stored - TAG * max(1, -(-stored // STORED))
    return plain if plain >= 0 and sealed_size(plain) == stored else None


def stored_span(start: int, length: int, stored: int) -> tuple[int, int]:
    """Return (start, length) of the whole segments that hold a non-empty range of an object of `stored` bytes."""
    first, last = start // SEGMENT, (start + length - 1) // SEGMENT
    return first * STORED, min((last + 1) * STORED, stored) - first * STORED


@dataclass(frozen=True)
class Segments:
    """The cipher of one object, which errors call `name`."""

    name: str
    secret: bytes = field(repr=False)

    def seal(self, data: Data) -> memoryview:
        """Return all of an object, sealed. Blocking: about half a second for 1 GiB."""
        cipher, view = AESGCM(self.secret), memoryview(data)
        size = sealed_size(len(view))
        target = np.empty(size, np.uint8).data  # not cleared, as a bytearray would be: that costs as much as the cipher
        for number, place in enumerate(range(0, size, STORED)):
            plain = view[number * SEGMENT : (number + 1) * SEGMENT]
            cipher.encrypt_into(
                _nonce(number, last=place + STORED >= size), plain, None, target[place : place + STORED]
            )
        return target

    def open(self, sealed: Data) -> bytes:
        """Return all of an object. Blocking.

        Raises:
            Corrupt: it is not what was sealed under this name with this key.
        """
        return self.open_part(sealed, 0, len(sealed))

    def open_into(self, sealed: Data, target: memoryview) -> int:
        """Open all of an object into the front of `target`, and return its size; a larger one is left. Blocking.

        Raises:
            Corrupt: it is not what was sealed under this name with this key.
        """
        size = plain_size(len(sealed))
        if size is None:
            raise self._corrupt()
        if size > len(target):
            return size
        cipher, view = AESGCM(self.secret), memoryview(sealed)
        try:
            for number, place in enumerate(range(0, len(view), STORED)):
                nonce, start = _nonce(number, last=place + STORED >= len(view)), number * SEGMENT
                cipher.decrypt_into(
                    nonce, view[place : place + STORED], None, target[start : min(start + SEGMENT, size)]
                )
        except InvalidTag:
            raise self._corrupt() from None
        return size

    def open_part(self, part: Data, start: int, stored: int) -> bytes:
        """Return what whole segments from offset `start` of an object of `stored` bytes hold. Blocking.

        Raises:
            Corrupt: they are not what was sealed there.
        """
        end = start + len(part)
        if plain_size(stored) is None or start % STORED or end > stored or (end % STORED and end != stored):
            raise self._corrupt()
        cipher, view, opened = AESGCM(self.secret), memoryview(part), io.BytesIO()
        try:
            for place in range(0, len(part), STORED):
                number = (start + place) // STORED
                nonce = _nonce(number, last=(number + 1) * STORED >= stored)
                opened.write(cipher.decrypt(nonce, view[place : place + STORED], None))
        except InvalidTag:
            raise self._corrupt() from None
        return opened.getvalue()

    def _corrupt(self) -> Corrupt:
        return Corrupt(
            f"object {self.name} does not open: it is damaged, or was sealed with another key", key=self.name
        )


def _nonce(number: int, *, last: bool) -> bytes:
    return (number << 8 | last).to_bytes(12, "big")
