"""Google's V4 signature of a URL, with a service account's RSA key.

Source: "Canonical requests" and "Signatures" of the Cloud Storage reference.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import quote, urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from millrace.errors import Invalid
from millrace.objects.port import Method

ALGORITHM = "GOOG4-RSA-SHA256"
MOST_SECONDS = 7 * 24 * 3_600
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


def signed_url(
    account: ServiceAccount,
    method: Method,
    bucket: str,
    *,
    at: datetime,
    seconds: int,
    key: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> str:
    """Return a URL that allows `method` on an object, or on the bucket itself without `key`.

    `bucket` is its URL. The request must be sent with exactly these `headers` (lower-case names) among others.
    """
    url = bucket if key is None else f"{bucket}/{quote(key, safe='/~')}"
    parts = urlsplit(url)
    signed = dict(sorted({"host": parts.netloc, **(headers or {})}.items()))
    stamp = at.strftime("%Y%m%dT%H%M%SZ")
    scope = f"{stamp[:8]}/auto/storage/goog4_request"
    query = {
        "X-Goog-Algorithm": ALGORITHM,
        "X-Goog-Credential": f"{account.email}/{scope}",
        "X-Goog-Date": stamp,
        "X-Goog-Expires": str(min(seconds, MOST_SECONDS)),
        "X-Goog-SignedHeaders": ";".join(signed),
    }
    asked = "&".join(f"{name}={quote(value, safe='~')}" for name, value in sorted(query.items()))
    lines = [method, parts.path, asked, *(f"{name}:{value}" for name, value in signed.items())]
    canonical = "\n".join([*lines, "", ";".join(signed), "UNSIGNED-PAYLOAD"])
    text = "\n".join([ALGORITHM, stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    signature = account.key.sign(text.encode(), PKCS1v15(), hashes.SHA256()).hex()
    return f"{url}?{asked}&X-Goog-Signature={signature}"
