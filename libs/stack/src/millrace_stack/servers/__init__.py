"""The real servers, one file each: which program, which configuration, when ready, what to prepare."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from millrace.clock import SystemClock
from millrace.errors import Unavailable
from millrace_stack.process import Command, spawn, stop, tail

_clock = SystemClock()


class Server(Protocol):
    """A server of the stack. Its constructor only remembers; nothing touches the disk before `command`."""

    name: str

    def command(self) -> Command:
        """Write the configuration and return how to run the server."""

    def why_not_ready(self) -> str | None:
        """Return None when the server serves, else the reason; prepares what is missing (idempotent, quick)."""


def until_ready(why_not: Callable[[], str | None], *, alive: Callable[[], bool], seconds: float) -> None:
    """Poll until `why_not()` is None.

    Raises:
        Unavailable: the process ended, or the time is over.
    """
    deadline = _clock.monotonic() + seconds
    wait = 0.01
    while (reason := why_not()) is not None:
        if not alive():
            raise Unavailable(f"it ended while starting: {reason}")
        if _clock.monotonic() > deadline:
            raise Unavailable(f"not ready after {seconds:g} s: {reason}")
        time.sleep(wait)
        wait = min(wait * 1.5, 0.1)


@contextlib.contextmanager
def running(server: Server, *, seconds: float = 60.0) -> Iterator[None]:
    """Run a server while the body runs, for tests; the supervisor has its own loop.

    Raises:
        Unavailable: it did not become ready; the message ends with its last lines of output.
    """
    command = server.command()
    process = spawn(command)
    try:
        until_ready(server.why_not_ready, alive=lambda: process.poll() is None, seconds=seconds)
    except Unavailable as error:
        stop(process)
        raise Unavailable(f"{server.name}: {error.message}\n{tail(command.log)}") from None
    try:
        yield
    finally:
        stop(process, grace=0)  # its data is thrown away


def accepts(port: int, host: str = "127.0.0.1") -> bool:
    """Return whether something listens on the port."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1.0):
        return True
    return False


def private_folder(path: Path) -> Path:
    """Return the folder, made with mode 0700."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path
