"""Runs a command that dies with its parent, and may open as many files as this user may.

Standard library only, started as `python -I -S launch.py PARENT ARGV…`.

`PR_SET_PDEATHSIG` survives `exec`, so this file sets it and becomes the command: the process id stays. A
`preexec_fn` could do the same, but forks a parent that may have threads, which Python 3.12 warns about.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1
OPEN_FILES = 65_536
"""What MongoDB asks for. Many systems allow 1,024 unless asked; mongod ends itself when it wants one more."""


def main(arguments: list[str]) -> None:
    """Become the command; exit at once where the parent is already gone.

    Args:
        arguments: the parent's process id, then the command.
    """
    parent, command = int(arguments[0]), arguments[1:]
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit(70)
    allow_open_files()
    try:
        os.execve(command[0], command, os.environ)  # noqa: S606 - becoming a command is what this file is for
    except OSError as error:
        sys.stderr.write(f"cannot run {command[0]}: {error.strerror}\n")
        raise SystemExit(127) from None


def allow_open_files() -> None:
    """Raise the soft limit of open files as far as wanted and allowed; never lower it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    main(sys.argv[1:])
