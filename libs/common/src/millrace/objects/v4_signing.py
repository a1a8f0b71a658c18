"""The fourth version of Amazon's signature of a URL, which Google took over under names of its own.

Source: "Authenticating Requests: Using Query Parameters (AWS Signature Version 4)" of the S3 API reference.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from urllib.parse import quote, urlsplit

MOST_SECONDS = 7 * 24 * 3_600


class Signer(Protocol):
    """Who signs, and in which dialect: `AWS4-HMAC-SHA256` with `X-Amz-…`, or `GOOG4-RSA-SHA256` with `X-Goog-…`."""

    @property
    def algorithm(self) -> str:
        """Return the algorithm's name."""

    @property
    def prefix(self) -> str:
        """Return what the names of the query's fields begin with."""

    @property
    def identity(self) -> str:
        """Return whose signature it is."""

    @property
    def scope(self) -> str:
        """Return what it is good for, after its day."""

    def sign(self, text: str, day: str) -> str:
        """Return the signature of a text in hex; `day` is written YYYYMMDD."""


@dataclass(frozen=True)
class AccessKey:
    """The key of an S3 server."""

    access_key: str
    secret_key: str = field(repr=False)
    region: str

    algorithm = "AWS4-HMAC-SHA256"
    prefix = "X-Amz"

    @property
    def identity(self) -> str:
        """Return the access key."""
        return self.access_key

    @property
    def scope(self) -> str:
        """Return region and service."""
        return f"{self.region}/s3/aws4_request"

    def sign(self, text: str, day: str) -> str:
        """Return the HMAC under a key that is good for one day, region and service."""
        key = f"AWS4{self.secret_key}".encode()
        for part in (day, self.region, "s3", "aws4_request", text):
            key = hmac.digest(key, part.encode(), hashlib.sha256)
        return key.hex()


def signed_url(
    signer: Signer, method: str, url: str, *, at: datetime, seconds: int, headers: Mapping[str, str] | None = None
) -> str:
    """Return `url`, which has no query, with the right to do `method` for `seconds` from `at` (UTC).

    The request must be sent with exactly these `headers` (lower-case names), among others.
    """
    parts = urlsplit(url)
    signed = dict(sorted({"host": parts.netloc, **(headers or {})}.items()))
    stamp = at.strftime("%Y%m%dT%H%M%SZ")
    scope = f"{stamp[:8]}/{signer.scope}"
    query = {
        f"{signer.prefix}-Algorithm": signer.algorithm,
        f"{signer.prefix}-Credential": f"{signer.identity}/{scope}",
        f"{signer.prefix}-Date": stamp,
        f"{signer.prefix}-Expires": str(min(seconds, MOST_SECONDS)),
        f"{signer.prefix}-SignedHeaders": ";".join(signed),
    }
    asked = "&".join(f"{name}={quote(value, safe='~')}" for name, value in sorted(query.items()))
    lines = [method, parts.path, asked, *(f"{name}:{value}" for name, value in signed.items())]
    canonical = "\n".join([*lines, "", ";".join(signed), "UNSIGNED-PAYLOAD"])
    text = "\n".join([signer.algorithm, stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    return f"{url}?{asked}&{signer.prefix}-Signature={signer.sign(text, stamp[:8])}"


def object_url(bucket: str, key: str) -> str:
    """Return the URL of an object in the bucket with the URL `bucket`."""
    return f"{bucket}/{quote(key, safe='/~')}"
