"""Keeps every process of a stack running until told to stop. One asyncio loop; children start from its main thread.

A child is killed by the kernel when this process ends, however it ends: nothing runs unsupervised. What a killed
supervisor's grandchildren leave behind is found by the marker in their environment at the next start.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import psutil

from millrace.clock import SystemClock
from millrace.errors import MillraceError
from millrace_stack import process as processes
from millrace_stack import state as states
from millrace_stack.layout import Layout
from millrace_stack.parts import ESSENTIAL, Part
from millrace_stack.state import BEING_PREPARED, ProcessState, StackState
from millrace_stack.sweeping import MARKER, sweep

T = TypeVar("T")

FIRST_DELAY = 0.2
MAX_DELAY = 10.0
STABLE_SECONDS = 10.0
PROBE_FAST = 0.15
PROBE_SLOW = 1.5
MAX_LOG_BYTES = 64 * 1024 * 1024
PR_SET_CHILD_SUBREAPER = 36


class Supervisor:
    """Runs parts, restarts those that end, and writes what it sees to the state file."""

    def __init__(self, layout: Layout, state: StackState, parts: list[Part]) -> None:
        self._layout = layout
        self._state = state
        self._parts = parts
        self._clock = SystemClock()
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._stop = asyncio.Event()
        self._halted: set[str] = set()
        self._changed = asyncio.Event()
        self._essential = asyncio.Event()
        self._waiters = ThreadPoolExecutor(max_workers=2 * len(parts) + 4, thread_name_prefix="wait")

    def request_stop(self) -> None:
        """End everything, in order, as soon as possible."""
        self._stop.set()

    async def run(self) -> None:
        """Run until a stop is requested, then leave no process behind."""
        _adopt_orphans()
        sweep(self._state.id)
        for part in self._parts:
            self._state.processes[part.name] = ProcessState(
                kind=part.kind, port=part.port, log=str(self._layout.log(part.name))
            )
        self._note_change()
        helpers = [asyncio.create_task(self._keep_state()), asyncio.create_task(self._reap())]
        tasks = [asyncio.create_task(self._keep(part), name=part.name) for part in self._parts]
        try:
            await self._stop.wait()
        finally:
            await self._end(tasks)
            for helper in helpers:
                helper.cancel()
            self._waiters.shutdown(wait=False, cancel_futures=True)

    async def _end(self, tasks: list[asyncio.Task[None]]) -> None:
        self._state.phase = "stopping"
        self._note_change()
        for kind in ("service", "server"):
            wave = [part for part in self._parts if part.kind == kind]
            await asyncio.gather(*(self._end_part(part) for part in wave))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()
        sweep(self._state.id)

    async def _end_part(self, part: Part) -> None:
        self._halted.add(part.name)
        process = self._running.get(part.name)
        if process is not None:
            await self._in_thread(lambda: processes.stop(process, grace=part.grace))

    async def _keep(self, part: Part) -> None:
        """Start a part again and again, with a growing delay while it does not last."""
        one = self._state.processes[part.name]
        if part.kind == "service":
            one.reason = f"waits for {', '.join(ESSENTIAL)}"
            await self._essential.wait()
        delay = FIRST_DELAY
        while part.name not in self._halted:
            begun = self._clock.monotonic()
            await self._once(part, one)
            if part.name in self._halted:
                break
            if self._clock.monotonic() - begun > STABLE_SECONDS:
                delay = FIRST_DELAY
            await asyncio.sleep(delay)
            delay = min(delay * 2, MAX_DELAY)
            one.restarts += 1

    async def _once(self, part: Part, one: ProcessState) -> None:
        """Run a part until it ends."""
        one.reason = BEING_PREPARED
        try:
            command = await self._in_thread(part.command)
            if part.name in self._halted:
                return
            _rotate(command)
            process = processes.spawn(replace(command, env={**command.env, MARKER: self._state.id}))
        except (MillraceError, OSError) as error:
            one.reason = str(error)
            self._note_change()
            return
        identity = processes.identify(process.pid)
        self._running[part.name] = process
        one.pid, one.started = process.pid, identity.started if identity else None
        one.ready, one.reason = False, "has just been started"
        self._note_change()
        prober = asyncio.create_task(self._probe(part, one))
        try:
            status = await self._in_thread(process.wait)
        finally:
            prober.cancel()
            processes.signal_group(process.pid, signal.SIGKILL)
            self._running.pop(part.name, None)
        one.pid, one.started, one.ready, one.last_exit = None, None, False, status
        last = processes.tail(command.log, 1)[:300]
        one.reason, one.reasons = f"ended {_told(status)}" + (f"; last line: {last}" if last else ""), {}
        self._note_change()

    async def _probe(self, part: Part, one: ProcessState) -> None:
        while True:
            try:
                reasons = await self._in_thread(part.probe)
            except Exception as error:  # noqa: BLE001 - whatever a probe throws is a reason
                reasons = {"probe": f"{type(error).__name__}: {error}"[:400]}
            reason = "; ".join(f"{name}: {why}" for name, why in sorted(reasons.items())) or None
            if (one.ready, one.reason, one.reasons) != (not reasons, reason, reasons):
                one.ready, one.reason, one.reasons = not reasons, reason, reasons
                self._note_change()
            await asyncio.sleep(PROBE_FAST if reasons else PROBE_SLOW)

    async def _keep_state(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            own = [one for name, one in self._state.processes.items() if name in ESSENTIAL]
            if all(one.ready for one in own) and not self._essential.is_set():
                self._essential.set()
                self._state.phase = "running" if self._state.phase == "starting" else self._state.phase
            try:
                states.save(self._layout, self._state)
            except OSError as error:  # a full disk must not end the supervision
                sys.stderr.write(f"the state cannot be written: {error.strerror}\n")
            await asyncio.sleep(0.05)

    async def _reap(self) -> None:
        """Wait for adopted orphans, so that none stays a zombie."""
        while True:
            await asyncio.sleep(1.0)
            _reap_orphan({process.pid for process in self._running.values()})

    def _note_change(self) -> None:
        self._changed.set()

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._waiters, call)


def _adopt_orphans() -> None:
    """Become the parent of processes whose own parent dies, so that none escapes."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _reap_orphan(own: set[int]) -> None:
    """Wait for one ended process, unless somebody else does: our parts have waiters, what runs in our session too."""
    with contextlib.suppress(ChildProcessError, ProcessLookupError):
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is not None and ended.si_pid not in own and os.getsid(ended.si_pid) != os.getsid(0):
            os.waitpid(ended.si_pid, os.WNOHANG)


def _rotate(command: processes.Command) -> None:
    """Put a log file that has grown large aside; one such is kept."""
    with contextlib.suppress(OSError):
        if command.log.stat().st_size > MAX_LOG_BYTES:
            command.log.replace(command.log.with_suffix(".log.1"))


def _told(status: int) -> str:
    if status >= 0:
        return f"with status {status}"
    with contextlib.suppress(ValueError):
        return f"by {signal.Signals(-status).name}"
    return f"by signal {-status}"
