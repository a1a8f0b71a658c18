"""Which project is sealed with which key: asked once, remembered for a while, never written anywhere."""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from millrace.clock import Clock
from millrace.sealing.key import ProjectKey

REMEMBER_SECONDS = 600.0
"""A key is asked for again after so long, so that a right that was taken away ends."""

MAX_PROJECTS = 1_024


class KeyRing(Protocol):
    """Where a store learns the key of a project."""

    async def key_of(self, project: str) -> ProjectKey | None:
        """Return the key that a project's dataset objects are sealed with, None where they lie in clear.

        Raises:
            Forbidden: the caller may not have it.
            Unavailable: nobody can say at the moment; nothing may be written then.
        """


@dataclass(frozen=True)
class Known:
    """What is known of a project: its key, if it is encrypted, and whether that is settled for ever.

    A project is settled by its encryption or by its first dataset, whichever comes first.
    """

    key: ProjectKey | None
    settled: bool


class KeyMemory:
    """`KeyRing` by `ask`. Keys are asked for again after `seconds`; that a project is not encrypted stays so.

    What is not settled yet is asked for each time: nobody writes to such a project.
    """

    def __init__(
        self, ask: Callable[[str], Awaitable[Known]], clock: Clock, *, seconds: float = REMEMBER_SECONDS
    ) -> None:
        self._ask = ask
        self._clock = clock
        self._seconds = seconds
        self._known: OrderedDict[str, tuple[float, ProjectKey | None]] = OrderedDict()
        self._asking: dict[str, asyncio.Future[ProjectKey | None]] = {}

    async def key_of(self, project: str) -> ProjectKey | None:
        """Return a project's key; see the port."""
        known = self._known.get(project)
        if known is not None and self._clock.monotonic() < known[0]:
            return known[1]
        asking = self._asking.get(project)
        if asking is None:
            asking = self._asking[project] = asyncio.ensure_future(self._learn(project))
            asking.add_done_callback(partial(self._asked, project))
        return await asyncio.shield(asking)

    def _asked(self, project: str, asking: asyncio.Future[ProjectKey | None]) -> None:
        self._asking.pop(project, None)
        if not asking.cancelled():
            asking.exception()  # whoever waited was told; if they all left meanwhile, nobody has to be

    async def _learn(self, project: str) -> ProjectKey | None:
        self._known.pop(project, None)
        found = await self._ask(project)
        if found.settled:
            until = math.inf if found.key is None else self._clock.monotonic() + self._seconds
            self._known[project] = (until, found.key)
            while len(self._known) > MAX_PROJECTS:
                self._known.popitem(last=False)
        return found.key
