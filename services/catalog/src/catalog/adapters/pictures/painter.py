"""The gateway's side of the process that paints: started when first asked, started again when it is gone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import AsyncIterator

import structlog

from catalog.adapters.pictures.frames import LENGTH, MAX_PICTURE, framed, length_of
from catalog.application.pictures import Look, Picture
from catalog.errors import CannotBeShown
from millrace.errors import Exhausted, Unavailable

log = structlog.get_logger(__name__)

SECONDS = 30.0
WAITING = 128
"""Requests that may wait for their turn; a page with pictures asks for some tens together."""

ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"}
"""All that the process gets: no setting of the gateway, and no path to a secret."""

COMMAND = (sys.executable, "-I", "-m", "catalog.adapters.pictures")


class ProcessPainter:
    """`Painter` by a process that forks for every file. Needs `close()` at the end."""

    def __init__(self, *, at_once: int | None = None, seconds: float = SECONDS) -> None:
        self._turns = asyncio.Semaphore(at_once or max(2, os.cpu_count() or 1))
        self._seconds = seconds
        self._asked = 0
        self._process: asyncio.subprocess.Process | None = None
        self._control: socket.socket | None = None
        self._starting = asyncio.Lock()

    async def paint(self, look: Look, size: int, parts: AsyncIterator[bytes]) -> Picture:
        """Return a picture of a file of `size` bytes; see the port."""
        if self._asked >= WAITING:
            raise Exhausted("too many pictures are being made", hint="try again soon")
        self._asked += 1
        try:
            async with asyncio.timeout(self._seconds), self._turns:
                return await self._paint(look, size, parts)
        except TimeoutError:
            raise CannotBeShown(f"no picture was made of it within {self._seconds:g} s") from None
        finally:
            self._asked -= 1

    async def _paint(self, look: Look, size: int, parts: AsyncIterator[bytes]) -> Picture:
        reader, writer = await self._connection()
        head = {"frame": look.frame, "center": look.center, "width": look.width, "size": look.size, "bytes": size}
        try:
            writer.write(framed(head))
            async for part in parts:
                writer.write(part)
                await writer.drain()
            facts = json.loads(await reader.readexactly(length_of(await reader.readexactly(LENGTH.size))))
            if "refused" in facts or not 0 < facts["bytes"] <= MAX_PICTURE:
                raise CannotBeShown(str(facts.get("refused") or "it came out too large"))
            data = await reader.readexactly(facts["bytes"])
        except (OSError, EOFError, ValueError):
            # The child is gone: it took more time or memory than one picture may cost, or the file broke it.
            raise CannotBeShown("no picture can be made of it: too much work, or broken") from None
        finally:
            writer.transport.abort()
        return Picture(data, facts["media_type"], facts["frames"], _pair(facts["window"]), _pair(facts["range"]))

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Hand one end of a new connection to the process, and return the other."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                await self._hand_over(theirs)
            except OSError:
                ours.close()
                raise Unavailable("the process that makes pictures does not start") from None
        ours.setblocking(False)
        return await asyncio.open_connection(sock=ours)

    async def _hand_over(self, connection: socket.socket) -> None:
        async with self._starting:
            if self._control is None or self._process is None or self._process.returncode is not None:
                await self._start()
            assert self._control is not None  # noqa: S101 - started above
            socket.send_fds(self._control, [b"+"], [connection.fileno()])

    async def _start(self) -> None:
        await self._stop()
        self._control, theirs = socket.socketpair()
        nothing = asyncio.subprocess.DEVNULL
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                *COMMAND, stdin=theirs.fileno(), stdout=nothing, stderr=nothing, env=ENVIRONMENT, cwd="/"
            )
        log.info("the process that makes pictures has started", pid=self._process.pid)

    async def _stop(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            if self._process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    self._process.kill()
            await self._process.wait()
            self._process = None

    async def close(self) -> None:
        """End the process."""
        async with self._starting:
            await self._stop()


def _pair(value: list[float] | None) -> tuple[float, float] | None:
    return None if value is None else (value[0], value[1])
