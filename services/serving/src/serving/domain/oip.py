"""The Open Inference Protocol as bytes: paths, head lengths, and the names that a reply carries.

Payloads pass untouched but for one spot: the model server calls a version by its backend name and version 1, and the
client asked for a deployment. Inside a JSON string a quote is always escaped, so the first unescaped
`"model_name":"…"` of a reply is the top-level member and never a client's text.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Literal

MAX_HEAD_DIGITS = 12
Verb = Literal["metadata", "ready", "config", "stats", "infer"]

_PATH = re.compile(
    r"^/v2/models/(?P<name>[^/]{1,128})(?:/versions/(?P<version>[^/]{1,32}))?(?:/(?P<verb>ready|config|stats|infer))?$"
)
_ID = re.compile(rb'^\{"id":"([0-9A-Za-z][0-9A-Za-z._:-]{0,127})"')
_DEAD = b"is not healthy"
_AWAY = (b"unknown model", b"is not available", b"not ready", b"no available versions", _DEAD)
_INSTANCE = b"Failed to process the request(s)"


class BadHead(ValueError):
    """The head length does not fit the body."""


REFUSED = b'{"error":"the model server refused the request"}'


@dataclass(frozen=True, slots=True)
class Target:
    """What a model path asks for."""

    name: str
    version: str | None
    verb: Verb

    @property
    def method(self) -> str:
        """Return the one method that this verb takes."""
        return "POST" if self.verb == "infer" else "GET"


def parse_path(path: str) -> Target | None:
    """Return what a `/v2/models/…` path asks for, or None if it is no such path."""
    match = _PATH.match(path)
    if match is None or "\n" in path:
        return None
    verb: Verb = match["verb"] or "metadata"  # type: ignore[assignment]
    return Target(match["name"], match["version"], verb)


def head_length(value: bytes | None, body_length: int) -> int | None:
    """Return the checked `Inference-Header-Content-Length`, or None without one (the whole body is JSON).

    Raises:
        BadHead: it is no plain decimal number, or longer than the body.
    """
    if value is None:
        return None
    if not value.isdigit() or len(value) > MAX_HEAD_DIGITS:
        raise BadHead("Inference-Header-Content-Length is not a number")
    length = int(value)
    if length > body_length:
        raise BadHead(f"Inference-Header-Content-Length {length} exceeds the body of {body_length} bytes")
    return length


@dataclass(frozen=True, slots=True)
class Renaming:
    """The names of one arm, as they stand in a reply and as the client knows them."""

    server: bytes
    client: bytes
    backend: bytes
    deployment: bytes

    @classmethod
    def of(cls, backend: str, deployment: str, version: int) -> Renaming:
        """Return the renaming of an arm; all names are plain ASCII without quotes."""
        return cls(
            server=f'"model_name":"{backend}","model_version":"1"'.encode(),
            client=f'"model_name":"{deployment}","model_version":"{version}"'.encode(),
            backend=backend.encode(),
            deployment=deployment.encode(),
        )

    def reply(self, body: bytes, head: int | None) -> tuple[bytes, int | None]:
        """Return the reply with the client's names, and its new head length (None if it is all JSON)."""
        at = body.find(self.server, 0, head if head is not None else len(body))
        if at < 0:
            return body, head
        patched = b"".join((body[:at], self.client, body[at + len(self.server) :]))
        return patched, None if head is None else head + len(self.client) - len(self.server)

    def error(self, text: bytes) -> bytes:
        """Return an error of the server as JSON with the client's name.

        It may quote the request, whatever bytes that held: what is no UTF-8 is replaced, and what is no error document
        is not passed on.
        """
        try:
            said = json.loads(text.decode(errors="replace"), strict=False)["error"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return REFUSED
        if not isinstance(said, str):
            return REFUSED
        return json.dumps({"error": said.replace(self.backend.decode(), self.deployment.decode())}).encode()


def prediction_id(reply: bytes) -> str | None:
    """Return the request id that the server echoes at the head of a reply, if it is usable as a prediction id."""
    if not reply.startswith(b'{"id":'):
        return None
    match = _ID.match(reply)
    return match[1].decode("ascii") if match else None


def infer_status(status: int, message: bytes) -> int:
    """Return our status for the server's answer to an inference request: 200, 400 or 503, and 501 as it is.

    The server answers 500 to malformed JSON and 404 to unknown shared memory: both are the client's mistakes. A model
    that a route names and the server does not have, or whose process died, will be back: 503.
    """
    if status in {200, 400, 501}:
        return 503 if status == 400 and any(sign in message for sign in _AWAY) else status
    if status == 503 or _INSTANCE in message or any(sign in message for sign in _AWAY):
        return 503
    return 400 if status < 600 else 503


def is_dead(message: bytes) -> bool:
    """Return whether the server says that the model's own process died; it calls the model ready all the same."""
    return _DEAD in message


def read_status(verb: Verb, status: int) -> int:
    """Return our status for the server's answer to a question about a model that a route names."""
    if status == 200:
        return 200
    return 400 if verb == "ready" else 503
