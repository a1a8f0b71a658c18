"""Landings over HTTP that are of no use any more: what a browser put is taken off the lake once it is old.

A landing is touched only if its name is one that `/v1/landings` gives, nobody closed it or what it was closed for has
ended, no event from outside named a place in it, and nothing of it was written, or became of it, after the limit.
Everything else below `landing/` belongs to those who put it there.

What lies there is as it was sent: a patient's name that ingest removed is still in it. In an encrypted project a
landing goes as soon as the version is committed that was made of it: the landing zone is not sealed.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from catalog.application.encryption import sealed_with
from catalog.application.landing import operation_id
from catalog.application.landings import SOURCE
from catalog.application.ports import Documents
from catalog.domain.operations import ENDED, Operation
from millrace.clock import Clock
from millrace.datasets.keys import landing_prefix
from millrace.patterns import NAME_PATTERN

log = structlog.get_logger(__name__)

LOOKED_AT = 200
"""Landings that one round looks at, and …"""
TAKEN = 5_000
"""… objects that it takes; what is left is the next round's."""

_LANDING = re.compile(r"upload-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")
_PROJECT = re.compile(NAME_PATTERN)


@dataclass(frozen=True)
class Piece:
    """An object of a landing, or with `attempt` the parts of one that is not joined; written at `modified`."""

    key: str
    modified: datetime | None
    attempt: str | None = None


class Shore(Protocol):
    """What landings left on the lake."""

    async def folders(self, prefix: str) -> list[str]:
        """Return the names right below a prefix that others lie below, sorted. Raises Unavailable."""

    def pieces(self, prefix: str) -> AsyncIterator[Piece]:
        """Yield what lies below a prefix, parts of what was never joined included. Raises Unavailable."""

    async def take(self, piece: Piece) -> None:
        """Take a piece away; one that is gone is no error. Raises Unavailable."""

    def uri(self, key: str) -> str:
        """Return the URI of a key."""


class OldLandings:
    """Takes such landings away, a bounded part of them each time. Any number of processes may do so at once."""

    def __init__(self, documents: Documents, shore: Shore, clock: Clock, *, age: timedelta) -> None:
        self._documents, self._shore, self._clock, self._age = documents, shore, clock, age
        self._after = ("", "")

    async def step(self) -> int:
        """Look at the next landings, and return how many pieces were taken."""
        before, taken = self._clock.now() - self._age, 0
        landings = [it async for it in self._landings()]
        following = [it for it in landings if it > self._after][:LOOKED_AT]
        for project, landing in following:
            taken += await self._take(project, landing, before, TAKEN - taken)
            if taken >= TAKEN:
                return taken
            self._after = (project, landing)
        if len(following) < LOOKED_AT:
            self._after = ("", "")
        return taken

    async def _landings(self) -> AsyncIterator[tuple[str, str]]:
        """Yield (project, landing) of every landing over HTTP that lies there."""
        for project in await self._shore.folders(""):
            if _PROJECT.fullmatch(project):
                for name in await self._shore.folders(f"{project}/landing/"):
                    if match := _LANDING.fullmatch(name):
                        yield project, match[1]

    async def _take(self, project: str, landing: str, before: datetime, most: int) -> int:
        prefix = landing_prefix(project, f"upload-{landing}")
        operation = await self._documents.operations.get(operation_id(project, SOURCE, landing))
        if operation is not None and operation.state not in ENDED:
            return 0
        spent = operation is not None and await self._is_spent(operation)
        if not spent and operation is not None and operation.updated_at >= before:
            return 0
        pieces: list[Piece] = []
        async for piece in self._shore.pieces(prefix):
            if not spent and (piece.modified is None or piece.modified >= before):
                return 0
            if len(pieces) < most:
                pieces.append(piece)
        if not pieces or (not spent and await self._is_announced(project, prefix)):
            return 0
        for piece in pieces:
            await self._shore.take(piece)
        log.info("a landing was taken away", project=project, landing=landing, pieces=len(pieces), spent=spent)
        return len(pieces)

    async def _is_spent(self, operation: Operation) -> bool:
        """Return whether what landed is sealed in a version by now, and lies beside it in clear."""
        if operation.state != "completed":
            return False
        return await sealed_with(operation.project, documents=self._documents) is not None

    async def _is_announced(self, project: str, prefix: str) -> bool:
        """Return whether an event of somebody else's says that the landing is data; its own close does not count."""
        where = {"project": project, "action": "event.accept"}
        named = ("detail.uri", self._shore.uri(prefix).removesuffix("/"))
        rows = await self._documents.trail.find(where, prefix=named, limit=2)
        return any(row.detail["source"] != SOURCE for row in rows)
