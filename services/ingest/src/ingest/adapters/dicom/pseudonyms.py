"""Keyed names for people and things.

The same input gives the same name in a project, and without the key nobody can tell which. Every project has a key of
its own, derived from the installation's secret.
"""

from __future__ import annotations

import base64

from blake3 import blake3
from pydicom.uid import UID

from millrace.errors import Invalid

MIN_SECRET = 32
"""Fewest characters of the installation's secret."""

FIRST_DAY, DAYS = 365, 3_650
"""Dates move into the past by at least the first, and by less than both together."""


class Pseudonyms:
    """The mapping of one project."""

    def __init__(self, secret: str, project: str) -> None:
        if len(secret) < MIN_SECRET:
            raise Invalid(f"the secret for pseudonyms has fewer than {MIN_SECRET} characters")
        master = blake3(secret.encode(), derive_key_context="millrace 2026 pseudonyms").digest()
        self._key = blake3(project.encode(), key=master).digest()

    def uid(self, value: str) -> str:
        """Return the UID that stands for another one; the standard's own stay.

        Those are the ones in its dictionary, one by one: anybody can write its prefix before a name.
        """
        if UID(value).type:
            return value
        return f"2.25.{int.from_bytes(self._digest('uid', value, 16))}"

    def name(self, kind: str, value: str) -> str:
        """Return a short printable name: 16 letters and digits."""
        return base64.b32encode(self._digest(kind, value, 10)).decode()

    def days(self, patient: str) -> int:
        """Return by how many days a patient's dates move: always into the past."""
        return -(FIRST_DAY + int.from_bytes(self._digest("days", patient, 8)) % DAYS)

    def _digest(self, kind: str, value: str, length: int) -> bytes:
        return blake3(f"{kind}\0{value}".encode("utf-8", "surrogatepass"), key=self._key).digest(length)
