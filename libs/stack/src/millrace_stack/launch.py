"""Runs a command that dies with its parent. Standard library only, started as `python -I -S launch.py PARENT ARGV…`.

`PR_SET_PDEATHSIG` survives `exec`, so this file sets it and becomes the command: the process id stays. A
`preexec_fn` could do the same, but forks a parent that may have threads, which Python 3.12 warns about.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Become the command; exit at once where the parent is already gone.

    Args:
        arguments: the parent's process id, then the command.
    """
    parent, command = int(arguments[0]), arguments[1:]
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit(70)
    try:
        os.execve(command[0], command, os.environ)  # noqa: S606 - becoming a command is what this file is for
    except OSError as error:
        sys.stderr.write(f"cannot run {command[0]}: {error.strerror}\n")
        raise SystemExit(127) from None


if __name__ == "__main__":
    main(sys.argv[1:])
