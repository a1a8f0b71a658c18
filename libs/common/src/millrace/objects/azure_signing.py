"""Azure's two signatures with an account's key: Shared Key for one request, and service SAS for a URL.

Sources: "Authorize with Shared Key" and "Create a service SAS" of the Azure Storage REST reference.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime
from urllib.parse import quote, urlencode, urlsplit

from millrace.errors import Invalid
from millrace.objects.port import Method

VERSION = "2023-11-03"
_ACCOUNT = re.compile(r"[a-z0-9]{3,24}")
_PERMISSION: dict[Method, str] = {"GET": "r", "PUT": "c"}
"""`c` creates a blob that is not there; overwriting would take `w`."""


@dataclass(frozen=True)
class Account:
    """A storage account and one of its keys."""

    name: str
    key: bytes = field(repr=False)

    @classmethod
    def of(cls, name: str, key: str) -> Account:
        """Return the account, from its name and a base64 key.

        Raises:
            Invalid: either cannot be.
        """
        if not _ACCOUNT.fullmatch(name):
            raise Invalid(f"{name[:40]!r} is no storage account: 3 to 24 of a-z and 0-9")
        try:
            decoded = base64.b64decode(key, validate=True)
        except (binascii.Error, ValueError):
            raise Invalid("the storage account's key is not base64") from None
        if not decoded:
            raise Invalid("the storage account's key is empty")
        return cls(name, decoded)

    def sign(self, text: str) -> str:
        """Return the base64 HMAC-SHA256 of a text."""
        return base64.b64encode(hmac.new(self.key, text.encode(), hashlib.sha256).digest()).decode()


def creating_container(account: Account, endpoint: str, container: str, *, at: datetime) -> tuple[str, dict[str, str]]:
    """Return URL and headers of the PUT that creates a container."""
    url = f"{endpoint}/{container}"
    headers = {"x-ms-date": format_datetime(at, usegmt=True), "x-ms-version": VERSION}
    # PUT, eleven standard headers that are not sent (a length of nothing counts as none), ours, and what is asked for
    lines = ["PUT", *[""] * 11, *(f"{name}:{value}" for name, value in sorted(headers.items()))]
    lines += [f"/{account.name}{urlsplit(url).path}", "restype:container"]
    headers["authorization"] = f"SharedKey {account.name}:{account.sign(chr(10).join(lines))}"
    return f"{url}?restype=container", headers


def signed_url(account: Account, method: Method, endpoint: str, container: str, blob: str, *, until: datetime) -> str:
    """Return a URL that allows `method` on one blob; it has no beginning, so that a slow clock does not refuse it."""
    protocol = "https" if endpoint.startswith("https://") else ""
    terms = {
        "sp": _PERMISSION[method],
        "st": "",
        "se": until.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "resource": f"/blob/{account.name}/{container}/{blob}",
        "si": "",
        "sip": "",
        "spr": protocol,
        "sv": VERSION,
        "sr": "b",
    }
    # after these: snapshot, encryption scope, and five headers of the answer that could be prescribed
    signature = account.sign("\n".join([*terms.values(), *[""] * 7]))
    query = {name: value for name, value in terms.items() if value and name != "resource"} | {"sig": signature}
    return f"{endpoint}/{container}/{quote(blob, safe='/~')}?{urlencode(query)}"
