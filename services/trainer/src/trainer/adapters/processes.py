"""Components as process groups under the supervisor of `launcher.py`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from millrace.clock import Clock
from millrace.errors import Invalid, Unavailable
from trainer.application.ports import Order
from trainer.domain.jobs import Process

LAUNCHER = Path(__file__).with_name("launcher.py")
LINE_BYTES = 64 * 1024
START_SECONDS = 15.0
NOT_FOUND = 127


class GroupChild:
    """One process group: the supervisor, the component, and what it starts."""

    def __init__(self, supervisor: asyncio.subprocess.Process, control: socket.socket, process: Process) -> None:
        self._supervisor = supervisor
        self._control = control
        self._process = process
        self._code: int | None = None
        self._said = b""

    @property
    def process(self) -> Process:
        """Return what names the group."""
        return self._process

    async def lines(self, stream: str) -> bytes | None:
        """Return the next line of `stdout` or `stderr` without its end; a very long one comes in pieces."""
        reader = self._supervisor.stdout if stream == "stdout" else self._supervisor.stderr
        if reader is None:
            return None
        try:
            line = await reader.readuntil(b"\n")
        except asyncio.IncompleteReadError as rest:
            line = rest.partial
        except asyncio.LimitOverrunError as long:
            line = await reader.readexactly(max(1, long.consumed))
        return line.removesuffix(b"\n") if line else None

    def beat(self) -> None:
        """Let the group live for another deadline."""
        self._send(b"b")

    def terminate(self) -> None:
        """Ask the component to write a checkpoint and exit."""
        self._send(b"t")

    def kill(self) -> None:
        """End the whole group now."""
        if self._supervisor.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def wait(self) -> int:
        """Return the component's exit code once the supervisor, the last of the group, is gone."""
        await self._supervisor.wait()
        if self._code is None:
            self._code = self._read_code()
            self._control.close()
        return self._code

    async def ready(self) -> None:
        """Wait until the supervisor says that the component runs."""
        loop = asyncio.get_running_loop()
        while b"\n" not in self._said:
            part = await loop.sock_recv(self._control, 256)
            if not part:
                raise Unavailable("the supervisor ended before the component started")
            self._said += part

    def _read_code(self) -> int:
        with contextlib.suppress(OSError):
            while part := self._control.recv(256):
                self._said += part
        for line in self._said.decode("ascii", "replace").splitlines():
            if line.startswith("e"):
                return int(line[1:])
        return -signal.SIGKILL

    def _send(self, word: bytes) -> None:
        with contextlib.suppress(OSError):
            self._control.send(word)


class GroupProcesses:
    """Starts and ends process groups on this machine. `deadline` in seconds is how long one lives without a beat."""

    def __init__(
        self,
        clock: Clock,
        *,
        deadline: float = 15.0,
        limits: Mapping[str, int] | None = None,
        proc: Path = Path("/proc"),
    ) -> None:
        self._clock = clock
        self._deadline = deadline
        self._limits = json.dumps(dict(limits or {"core": 0}))
        self._proc = proc

    async def spawn(self, order: Order) -> GroupChild:
        """Start a process group and return it once the component runs.

        Raises:
            Unavailable: the system has no room for one. Invalid: the working directory does not exist.
        """
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        arguments = [str(theirs.fileno()), str(self._deadline), self._limits, *order.argv]
        try:
            supervisor = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                "-S",
                str(LAUNCHER),
                *arguments,
                cwd=order.directory,
                env=dict(order.environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                limit=LINE_BYTES,
            )
        except FileNotFoundError as error:
            ours.close()
            raise Invalid(f"cannot start: {error.filename} does not exist") from None
        except OSError as error:
            ours.close()
            raise Unavailable(f"cannot start a process: {error.strerror}") from None
        finally:
            theirs.close()
        child = GroupChild(supervisor, ours, self._named(supervisor.pid))
        try:
            async with asyncio.timeout(START_SECONDS):
                await child.ready()
        except BaseException:
            child.kill()
            await supervisor.wait()
            raise
        return child

    async def end(self, process: Process) -> None:
        """Kill a recorded group, if that very one still runs, and wait until its leader is gone."""
        deadline = self._clock.monotonic() + 10.0
        while self._named(process.pid) == process and process.start:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            if self._clock.monotonic() > deadline:
                raise Unavailable(f"process group {process.pid} of an earlier attempt does not end")
            await asyncio.sleep(0.02)

    def _named(self, pid: int) -> Process:
        """Return the name of the process that has this pid now; without a start time if there is none."""
        try:
            stat = (self._proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
            boot = (self._proc / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        except OSError:
            return Process(pid, "")
        fields = stat.rpartition(")")[2].split()
        return Process(pid, "" if fields[0] in {"Z", "X"} else fields[19], boot)
