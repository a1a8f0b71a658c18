"""JetStream's management API in its own words: JSON in, JSON out, so that what is compared is what the server said."""

from __future__ import annotations

import json
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError

from millrace.bus.replies import Replies
from millrace.errors import DeadlineExceeded, Invalid, NotFound, Unavailable

API_SECONDS = 3.0


Asker = Client | Replies
"""A bare connection, or one whose waits end at once when it breaks."""


async def call(asker: Asker, subject: str, payload: dict[str, Any] | None = None) -> dict[str, Any]:
    """Ask `$JS.API.<subject>` and return the answer.

    Raises:
        NotFound: the stream or consumer does not exist.
        Invalid: the server refuses the request.
        Unavailable, DeadlineExceeded: no JetStream, or no answer within 3 s (a denied request gets none either).
    """
    body = b"" if payload is None else json.dumps(payload).encode()
    try:
        answer = await _ask(asker, f"$JS.API.{subject}", body)
    except NoRespondersError:
        raise Unavailable("JetStream does not answer") from None
    except TimeoutError:
        raise DeadlineExceeded(f"JetStream did not answer {subject} in time") from None
    except NatsError as error:
        raise Unavailable(f"NATS: {error}") from None
    document: dict[str, Any] = json.loads(answer.data)
    if refusal := document.get("error"):
        raise _refused(subject, refusal)
    return document


async def _ask(asker: Asker, subject: str, body: bytes) -> Msg:
    if isinstance(asker, Replies):
        return await asker.ask(subject, body, seconds=API_SECONDS)
    if not asker.is_connected:
        raise Unavailable("not connected to NATS")
    return await asker.request(subject, body, timeout=API_SECONDS)


def _refused(subject: str, error: dict[str, Any]) -> Exception:
    code, text = error.get("code"), str(error.get("description", ""))
    if code == 404:
        return NotFound(f"{subject}: {text}")
    if code == 503:
        return Unavailable(f"{subject}: {text}")
    return Invalid(f"{subject}: {text}", api_code=error.get("err_code"))


async def stream_info(asker: Asker, stream: str) -> dict[str, Any]:
    """Return the server's description of a stream."""
    return await call(asker, f"STREAM.INFO.{stream}")


async def consumer_info(asker: Asker, stream: str, durable: str) -> dict[str, Any]:
    """Return the server's description of a consumer."""
    return await call(asker, f"CONSUMER.INFO.{stream}.{durable}")
