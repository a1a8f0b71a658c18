"""Starting and stopping processes that cannot outlive us, and telling a process from another with the same number."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

LAUNCHER = Path(__file__).with_name("launch.py")


@dataclass(frozen=True)
class Command:
    """What to run: a name, an absolute program with arguments, its whole environment, and where its output goes."""

    name: str
    argv: tuple[str, ...]
    cwd: Path
    log: Path
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ProcessId:
    """A process for good: its number and the time it started, in seconds of the boot clock's epoch."""

    pid: int
    started: float

    def alive(self) -> bool:
        """Return whether this very process still runs (a zombie does not, nor another with its number)."""
        return find(self) is not None


def identify(pid: int) -> ProcessId | None:
    """Return the lasting identity of a running process, or None."""
    try:
        return ProcessId(pid, psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def find(identity: ProcessId) -> psutil.Process | None:
    """Return the process, or None where it ended."""
    try:
        process = psutil.Process(identity.pid)
        if abs(process.create_time() - identity.started) > 0.05 or process.status() == psutil.STATUS_ZOMBIE:
            return None
    except psutil.Error:
        return None
    return process


def spawn(command: Command) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own; it is killed when the calling thread's process ends.

    Output is appended to the command's log file, which only the owner may read.
    """
    command.log.parent.mkdir(parents=True, exist_ok=True)
    output = os.open(command.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        return subprocess.Popen(  # noqa: S603 - the program comes from our own resolution, never from input
            [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), *command.argv],
            cwd=command.cwd,
            env=dict(command.env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    finally:
        os.close(output)


def stop(process: subprocess.Popen[bytes], *, grace: float = 5.0) -> int:
    """Ask a process we started to end, kill its group after `grace` seconds, and return its exit status."""
    if grace > 0 and process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=grace)
    signal_group(process.pid, signal.SIGKILL)
    return process.wait(timeout=10)


def signal_group(group: int, number: signal.Signals) -> None:
    """Signal a process group we made; nothing happens where it is gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def marked(marker: str) -> list[psutil.Process]:
    """Return this user's running processes whose environment carries `marker` (`NAME=value`), us excepted."""
    found = []
    needle = marker.encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError, psutil.Error):
            if needle in (entry / "environ").read_bytes().split(b"\0"):
                process = psutil.Process(int(entry.name))
                if process.status() != psutil.STATUS_ZOMBIE and process.uids().real == os.getuid():
                    found.append(process)
    return found


def tail(path: Path, lines: int = 12) -> str:
    """Return the last lines of a log file (of its last 256 KiB)."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 262_144))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
