"""A service account of Google, which signs URLs with its RSA key.

Source: "Canonical requests" and "Signatures" of the Cloud Storage reference.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from millrace.errors import Invalid

_EMAIL = re.compile(r"[\w.+-]{1,128}@[\w.-]{1,128}")


@dataclass(frozen=True)
class ServiceAccount:
    """Who signs: the account's address, its project, and its private key."""

    email: str
    project: str
    key: RSAPrivateKey = field(repr=False)

    @classmethod
    def of(cls, document: str) -> ServiceAccount:
        """Return the account of a key file.

        Raises:
            Invalid: it is no key of a service account.
        """
        try:
            told = json.loads(document)
            email, project, pem = (str(told[name]) for name in ("client_email", "project_id", "private_key"))
            key = serialization.load_pem_private_key(pem.encode(), password=None)
        except (ValueError, TypeError, KeyError, UnsupportedAlgorithm):
            raise Invalid("the GCS key file holds no service account's key", hint="it is the JSON document") from None
        if not isinstance(key, RSAPrivateKey) or not _EMAIL.fullmatch(email):
            raise Invalid("the GCS key file holds no RSA key of a service account")
        return cls(email, project, key)

    algorithm = "GOOG4-RSA-SHA256"
    prefix = "X-Goog"
    scope = "auto/storage/goog4_request"

    @property
    def identity(self) -> str:
        """Return the account's address."""
        return self.email

    def sign(self, text: str, day: str) -> str:  # noqa: ARG002 - Amazon's key is of one day, this one is not
        """Return the signature by the account's key."""
        return self.key.sign(text.encode(), PKCS1v15(), hashes.SHA256()).hex()
