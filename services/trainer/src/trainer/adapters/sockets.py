"""The Unix socket on which a component reports: JSON lines, each answered."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog

from millrace.errors import Invalid, MillraceError
from trainer.application.ports import Told

log = structlog.get_logger(__name__)

MAX_MESSAGE_BYTES = 1024 * 1024
MAX_ADDRESS_BYTES = 100


class SocketTalk:
    """One listening socket."""

    def __init__(self, address: str, server: asyncio.Server) -> None:
        self.address = address
        self._server = server

    async def close(self) -> None:
        """Stop listening, drop open connections, and remove the socket."""
        self._server.close()
        self._server.close_clients() if hasattr(self._server, "close_clients") else None
        await asyncio.to_thread(Path(self.address).unlink, missing_ok=True)


class UnixSwitchboard:
    """Opens sockets in a private folder with a short path, since addresses are limited to 107 bytes."""

    def __init__(self, folder: Path) -> None:
        self._wanted = folder
        self._folder: Path | None = None
        self._temporary = False

    async def open(self, name: str, told: Told) -> SocketTalk:
        """Listen on a fresh socket, and hand each message to `told`."""
        address = str(self._private() / f"{name}.sock")
        await asyncio.to_thread(Path(address).unlink, missing_ok=True)

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await _converse(reader, writer, told)
            writer.close()

        server = await asyncio.start_unix_server(connected, address, limit=MAX_MESSAGE_BYTES)
        return SocketTalk(address, server)

    def close(self) -> None:
        """Remove the folder, if it was made for the sockets alone."""
        if self._temporary and self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _private(self) -> Path:
        if self._folder is None:
            longest = len(str(self._wanted / f"{2**53}.sock").encode())
            self._temporary = longest > MAX_ADDRESS_BYTES
            self._folder = Path(tempfile.mkdtemp(prefix="millrace-")) if self._temporary else self._wanted
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return self._folder


async def _converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, told: Told) -> None:
    while True:
        try:
            line = await reader.readuntil(b"\n")
        except asyncio.IncompleteReadError:
            return
        except asyncio.LimitOverrunError:
            await _answer(writer, {"ok": False, "error": f"a message has at most {MAX_MESSAGE_BYTES} bytes"})
            return
        await _answer(writer, await _take(line, told))


async def _take(line: bytes, told: Told) -> Mapping[str, Any]:
    try:
        message = json.loads(line)
        if not isinstance(message, dict):
            raise Invalid("a message is a JSON object")
        answer = await told(message)
    except (ValueError, RecursionError):
        return {"ok": False, "error": "not valid JSON"}
    except MillraceError as error:
        return {"ok": False, "error": error.message}
    except OSError as error:
        return {"ok": False, "error": f"{type(error).__name__}: {error}"}
    return {"ok": True, **answer}


async def _answer(writer: asyncio.StreamWriter, answer: Mapping[str, Any]) -> None:
    writer.write(json.dumps(answer).encode() + b"\n")
    await writer.drain()
