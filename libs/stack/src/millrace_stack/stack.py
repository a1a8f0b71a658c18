"""The embedded stack from outside: start it, look at it, break it on purpose, stop it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from millrace.clock import SystemClock
from millrace.errors import Conflict, DeadlineExceeded, MillraceError, NotFound, Unavailable
from millrace_stack import process as processes
from millrace_stack import state as states
from millrace_stack.config import StackConfig
from millrace_stack.layout import Layout, locate
from millrace_stack.process import ProcessId
from millrace_stack.secret_files import private, write
from millrace_stack.state import StackState
from millrace_stack.sweeping import sweep

TAKEN = 3
"""The supervisor's starter says so where another supervisor has the directory."""

START_SECONDS = 300.0
"""Longer than a start takes (seconds), because the first one may have to build Triton's environment."""

STOP_SECONDS = 60.0
_clock = SystemClock()


@dataclass(frozen=True)
class Stack:
    """A stack that runs. `found`: it ran already when `up` was asked."""

    layout: Layout
    found: bool = False

    @property
    def state(self) -> StackState:
        """Return what runs at this moment.

        Raises:
            Unavailable: nothing runs in this directory.
        """
        state = running(self.layout)
        if state is None:
            raise Unavailable(f"no stack runs in {self.layout.root}", hint="start it with `millrace up`")
        return state

    def wait_ready(self, seconds: float = START_SECONDS, *, see: Callable[[StackState], None] | None = None) -> None:
        """Wait until every process is ready; `see` is shown each state meanwhile.

        Raises:
            DeadlineExceeded: they are not in time; the message says what each waits for. The stack goes on.
            Unavailable: the supervisor ended.
        """
        state = self.state

        def look() -> bool:
            nonlocal state
            state = self.state
            if see is not None:
                see(state)
            return state.ready

        if not _poll(look, seconds):
            reasons = "\n".join(f"  {name}: {reason}" for name, reason in state.waiting().items())
            raise DeadlineExceeded(f"not ready after {seconds:g} s:\n{reasons}", hint="see `millrace logs`")

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> ProcessId:
        """Signal a process of the stack, for chaos; the supervisor starts it again.

        Raises:
            NotFound: it does not run at this moment.
        """
        one = self.state.processes.get(name)
        identity = None if one is None else one.identity
        if identity is None or not identity.alive():
            raise NotFound(f"{name} does not run at this moment")
        with contextlib.suppress(ProcessLookupError):
            os.kill(identity.pid, number)
        return identity

    def wait_restarted(self, name: str, before: ProcessId, seconds: float = 60.0) -> None:
        """Wait until another process than `before` runs under this name and is ready.

        Raises:
            DeadlineExceeded: it is not in time.
        """

        def look() -> bool:
            one = self.state.processes.get(name)
            return one is not None and one.ready and one.identity not in (None, before)

        if not _poll(look, seconds):
            raise DeadlineExceeded(f"{name} did not come back in {seconds:g} s")

    def wipe_broker(self) -> None:
        """Delete every byte that the broker stored, as a lost disk would; it comes back empty."""
        store = self.layout.data("nats") / "store"
        lost = store.with_name(f"lost-{time.monotonic_ns()}")
        with contextlib.suppress(FileNotFoundError):
            store.rename(lost)
        before = self.kill("nats")
        _poll(lambda: not before.alive(), 10)
        shutil.rmtree(lost, ignore_errors=True)
        self.wait_restarted("nats", before)


def running(layout: Layout) -> StackState | None:
    """Return the state of the stack that runs in this directory, or None. A stale state file counts as none."""
    state = states.load(layout)
    return state if state is not None and state.phase not in {"stopped", "failed"} and state.alive else None


def up(
    folder: Path | str | None = None,
    config: StackConfig | None = None,
    *,
    wait: bool = True,
    seconds: float = START_SECONDS,
    see: Callable[[StackState], None] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Stack:
    """Start the stack, or find the one that runs.

    Args:
        folder: its directory; default `$MILLRACE_HOME`, else `.millrace`.
        config: what to start; the whole platform by default.
        wait: return only when everything is ready.
        seconds: for how long to wait.
        see: shown each state while waiting.
        environ: the environment of the stack; the caller's by default.

    Raises:
        Conflict: a port is taken.
        Unavailable: a program is missing, or the supervisor ended.
        DeadlineExceeded: not ready in time; the stack goes on.
    """
    layout = locate(folder)
    state = running(layout)
    if state is not None and state.phase == "stopping":
        _poll(lambda: running(layout) is None, STOP_SECONDS)
        state = running(layout)
    found = state is not None
    if not found:
        found = _launch(layout, config or StackConfig(), dict(os.environ if environ is None else environ))
    stack = Stack(layout, found=found)
    if wait:
        stack.wait_ready(seconds, see=see)
    return stack


def _launch(layout: Layout, config: StackConfig, environ: dict[str, str]) -> bool:
    """Start a supervisor; return whether another one was quicker."""
    private(layout.root)
    write(layout.config, config.model_dump_json(indent=1))
    done = subprocess.run(  # noqa: S603 - our own module
        [sys.executable, "-m", "millrace_stack.daemon", str(layout.root)],
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=START_SECONDS,
    )
    if done.returncode == 0:
        return False
    if done.returncode == TAKEN:
        if not _poll(lambda: running(layout) is not None, 30):
            raise Unavailable(f"another supervisor has {layout.root} and does not answer")
        return True
    raise _reason(done.stderr.decode(errors="replace").strip(), layout)


def _reason(text: str, layout: Layout) -> MillraceError:
    try:
        told = json.loads(text)
    except ValueError:
        last = text or processes.tail(layout.log("supervisor"))
        return Unavailable(f"the supervisor could not start\n{last}")
    kind = Conflict if told.get("code") == Conflict.code else Unavailable
    return kind(told.get("error", "the supervisor could not start"), hint=told.get("hint"))


def down(folder: Path | str | None = None, *, seconds: float = STOP_SECONDS) -> bool:
    """Stop the stack and leave no process behind; return whether one ran.

    A supervisor that does not end in time is killed, and with it, by the kernel, all its children.
    """
    layout = locate(folder)
    state = states.load(layout)
    if state is None:
        return False
    ran = state.alive
    if ran:
        with contextlib.suppress(ProcessLookupError):
            os.kill(state.pid, signal.SIGTERM)
        if not _poll(lambda: not state.alive, seconds):
            os.kill(state.pid, signal.SIGKILL)
            _poll(lambda: not state.alive, 10)
    left = sweep(state.id)
    return ran or bool(left)


def _poll(look: Callable[[], bool], seconds: float) -> bool:
    deadline = _clock.monotonic() + seconds
    while not look():
        if _clock.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
