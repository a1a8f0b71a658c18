"""An archive, wherever it lies, as a landing: unpacked into a spool in a thread, and gone with the context."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from ingest.adapters.archives import Member, Unpacking
from ingest.adapters.spool import Spool
from ingest.adapters.streams import LoopReader, opened
from ingest.application.ports import Bounds, Landed, Landing, Read
from ingest.errors import ArchiveRefused


@asynccontextmanager
async def unpacked(
    spool: Spool, size: int, read: Read, bounds: Bounds, *, source: str, mark: str | None = None
) -> AsyncIterator[Landing]:
    """Return an archive's files as a landing; `size` in bytes is the archive's own.

    Raises:
        ArchiveRefused, LandingTooLarge, NothingLanded: what their names say.
    """
    members = await _members(spool, size, read, bounds)
    files = [Landed(member.path, member.span.size, partial(spool.read_async, member.span)) for member in members]
    yield Landing(f"{source}!/", files, mark=mark)


async def _members(spool: Spool, size: int, read: Read, bounds: Bounds) -> list[Member]:
    stop, reader = threading.Event(), LoopReader(read)

    def run() -> list[Member]:
        with opened(size, reader) as file:
            return Unpacking(size, spool, bounds, stop).run(file)

    work = asyncio.create_task(asyncio.to_thread(run))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([work])
        raise
    except ArchiveRefused:
        if reader.failure is not None:
            raise reader.failure from None
        raise
