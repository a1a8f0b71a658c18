"""The catalog as its entrypoints see it: documents, transactions, the lake, and the means to be woken."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol

from catalog.application.checking import Checker
from catalog.application.encryption import KeyBox
from catalog.application.files import Files
from catalog.application.lake import Lake
from catalog.application.landings import LandingZone
from catalog.application.pictures import Painter
from catalog.application.ports import Documents, Transact
from millrace.clock import Clock


class Services(Protocol):
    """The other services, as far as the catalog has to ask them."""

    async def fsck(self, authorization: str) -> list[dict[str, Any]]:
        """Return each service's report, or one violation for a service that gives none."""


class Bell:
    """Wakes everybody who waits, at each ring."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        """Wake all who wait now."""
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        """Wait for a ring, at most `seconds`."""
        event = self._event
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return


@dataclass
class Catalog:
    """What handlers are called with. Built in bootstrap."""

    documents: Documents
    transact: Transact
    lake: Lake
    files: Files
    checker: Checker
    painter: Painter
    zone: LandingZone
    clock: Clock
    keys: KeyBox
    services: Services
    environment: str
    pepper: bytes
    collection_grace: timedelta = timedelta(hours=48)
    webhook_origins: tuple[str, ...] = ()
    numbered: Bell = field(default_factory=Bell)
    forget_tokens: Callable[[], None] = lambda: None

    async def in_unit(self, work: Callable[..., Awaitable[Any]], *args: Any, **more: Any) -> Any:
        """Run a handler in one transaction, with the unit of work as `uow`."""

        async def run(uow: Any) -> Any:
            return await work(*args, uow=uow, **more)

        return await self.transact(run)
