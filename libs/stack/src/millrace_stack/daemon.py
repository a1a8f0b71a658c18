"""The supervisor's process: `python -m millrace_stack.daemon DIRECTORY`, which returns once the stack is being started.

It detaches itself, takes the directory's lock, and answers its starter through a pipe: 0 started, 1 with the reason on
standard error, 3 another supervisor has this directory.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import secrets
import signal
import sys
import traceback
from pathlib import Path

from millrace.errors import Conflict, MillraceError
from millrace_stack import process as processes
from millrace_stack import state as states
from millrace_stack.config import StackConfig
from millrace_stack.layout import Layout
from millrace_stack.prepare import Prepared, prepare, versions
from millrace_stack.secret_files import ensure, private
from millrace_stack.stack import TAKEN
from millrace_stack.state import StackState
from millrace_stack.supervisor import Supervisor
from millrace_stack.sweeping import sweep

STARTED, FAILED = 0, 1


def main(arguments: list[str]) -> int:
    """Detach a supervisor for the directory; return the exit status for whoever waits."""
    layout = Layout(Path(arguments[0]).absolute())
    private(layout.root)
    private(layout.logs)
    reader, writer = os.pipe()
    if os.fork() > 0:
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            answer = pipe.read().decode()
        status, _, message = answer.partition("\n")
        sys.stderr.write(message)
        return int(status) if status.isdigit() else FAILED
    os.close(reader)
    os.setsid()
    _redirect(layout.log("supervisor"))
    os.chdir(layout.root)
    try:
        _supervise(layout, writer)
    except BaseException:  # noqa: BLE001 - the last chance to leave a trace in the log
        traceback.print_exc()
        os._exit(FAILED)
    os._exit(0)


def _supervise(layout: Layout, writer: int) -> None:
    lock = os.open(layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _answer(writer, TAKEN, "")
        return
    me = processes.identify(os.getpid())
    marker = ensure(layout.root / "stack-id", lambda: secrets.token_hex(16))
    state = StackState(id=marker, directory=str(layout.root), pid=os.getpid(), started=me.started if me else 0.0)
    sweep(marker)
    try:
        prepared = prepare(layout, _config(layout), os.environ)
    except MillraceError as error:
        state.phase, state.error, state.hint = "failed", error.message, error.hint
        states.save(layout, state)
        _answer(writer, FAILED, json.dumps({"error": error.message, "hint": error.hint, "code": error.code}))
        return
    state.ports, state.urls, state.notes = prepared.ports, prepared.urls, prepared.notes
    states.save(layout, state)
    _answer(writer, STARTED, "")
    asyncio.run(_run(layout, state, prepared))
    state.phase, state.processes = "stopped", {}
    states.save(layout, state)


async def _run(layout: Layout, state: StackState, prepared: Prepared) -> None:
    supervisor = Supervisor(layout, state, prepared.parts)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, supervisor.request_stop)

    async def ask_versions() -> None:
        state.versions = await asyncio.to_thread(versions, prepared, layout)

    asking = asyncio.create_task(ask_versions())
    await supervisor.run()
    asking.cancel()
    with contextlib.suppress(asyncio.CancelledError, Exception):
        await asking


def _config(layout: Layout) -> StackConfig:
    try:
        return StackConfig.model_validate_json(layout.config.read_bytes())
    except (OSError, ValueError) as error:
        raise Conflict(f"{layout.config} cannot be used: {error}") from None


def _answer(writer: int, status: int, message: str) -> None:
    with contextlib.suppress(OSError):
        os.write(writer, f"{status}\n{message}".encode())
    os.close(writer)


def _redirect(log: Path) -> None:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(nothing)
    os.close(output)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
