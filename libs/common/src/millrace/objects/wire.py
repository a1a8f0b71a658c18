"""Single HTTP requests beside obstore: the probe's checks with presigned PUTs, and what obstore cannot ask for.

All blocking: call it in threads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from millrace.errors import Unavailable
from millrace.objects.port import Presigned

SECONDS = 10.0
REFUSED = frozenset({403, 409, 412})
"""A second create-only PUT: by a precondition, or because the URL gives no right to overwrite."""

_WRONG_MD5 = "AAAAAAAAAAAAAAAAAAAAAA=="


@dataclass(frozen=True)
class Reply:
    """Status and body of an answer."""

    status: int
    body: bytes


def send(
    method: Literal["GET", "PUT"], url: str, *, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> Reply:
    """Make one request, without following anything.

    Raises:
        Unavailable: no answer in time.
    """
    import urllib3  # noqa: PLC0415 - 60 ms that most commands need not wait for

    try:
        answer = urllib3.request(
            method, url, body=body, headers=dict(headers or {}), timeout=SECONDS, retries=False, redirect=False
        )
    except urllib3.exceptions.HTTPError as error:
        raise Unavailable(f"the object store does not answer a {method}", hint="is it up?") from error
    return Reply(int(answer.status), bytes(answer.data))


def only_creates(put: Presigned) -> bool:
    """Return whether the second of two PUTs by the same presigned request is refused."""
    first = send("PUT", put.url, body=b"first", headers=put.headers).status
    second = send("PUT", put.url, body=b"second", headers=put.headers).status
    return first < 300 and second in REFUSED


def refuses_bad_md5(put: Presigned) -> bool:
    """Return whether a body that contradicts its `Content-MD5` is refused."""
    return 400 <= send("PUT", put.url, body=b"body", headers={**put.headers, "Content-MD5": _WRONG_MD5}).status < 500
