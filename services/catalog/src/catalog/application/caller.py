"""Who asks for a command, where, and how often it may count."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from catalog.application.ports import Documents, Unit
from catalog.domain.records import Answer
from millrace.clock import Clock
from millrace.errors import Conflict, Invalid

MAX_KEY = 128


@dataclass(frozen=True)
class Caller:
    """The authenticated principal of a command, its project, and the key that makes repeats harmless."""

    principal: str
    project: str
    idempotency_key: str | None = None
    correlation: str | None = None
    causation: str | None = None


@dataclass(frozen=True)
class Reply:
    """An HTTP-shaped answer: what a repeat under the same key gets again."""

    status: int
    body: dict[str, Any]


class KeyReused(Conflict):
    """The idempotency key was used for something else."""

    code = "idempotency-key-reused"


def fingerprint(what: str, body: Any) -> str:
    """Return a digest of a request's meaning."""
    text = json.dumps([what, body], sort_keys=True, default=str)
    return blake2b(text.encode("utf-8", "backslashreplace"), digest_size=16).hexdigest()


def answer_id(caller: Caller) -> str | None:
    """Return the id of the stored answer under the caller's key, or None without a key.

    Raises:
        Invalid: the key is no printable ASCII of at most 128 characters.
    """
    key = caller.idempotency_key
    if key is None:
        return None
    if not 1 <= len(key) <= MAX_KEY or not key.isascii() or not key.isprintable():
        raise Invalid(f"an idempotency key is 1 to {MAX_KEY} printable ASCII characters")
    return f"{caller.project}|{caller.principal}|{key}"


async def answered(documents: Documents, caller: Caller, mark: str) -> Reply | None:
    """Return the stored answer under the caller's key, if there is one.

    Raises:
        KeyReused: the key was used with another request.
    """
    key = answer_id(caller)
    stored = await documents.answers.get(key) if key else None
    if stored is None:
        return None
    if stored.fingerprint != mark:
        raise KeyReused("this idempotency key was used for another request", hint="use a fresh key per request")
    return Reply(stored.status, json.loads(stored.body))


async def once(uow: Unit, caller: Caller, mark: str, work: Callable[[], Awaitable[Reply]], *, clock: Clock) -> Reply:
    """Run `work` in this transaction unless its answer is stored already; store what it answers."""
    stored = await answered(uow, caller, mark)
    if stored is not None:
        return stored
    reply = await work()
    key = answer_id(caller)
    if key is not None:
        text = json.dumps(reply.body, default=str)
        await uow.answers.add(
            Answer(
                id=key, project=caller.project, fingerprint=mark, status=reply.status, body=text, created_at=clock.now()
            )
        )
    return reply
