r"""The supervisor between agent and component: a script of its own, on the standard library only.

    python -I -S launcher.py <control fd> <deadline seconds> <limits JSON> <command> [argument …]

It leads a process group. The component is its child, gets a parent-death signal, limits and its command; the group is
killed when

  * the control socket closes: the agent is dead,
  * no beat came for the deadline: the agent is stopped, or lost its lease and could not say so,
  * the component has ended: whatever it left behind ends with it.

On the control socket the agent sends `b` (a beat) and `t` (ask the component to stop); the supervisor answers
`s<pid>\n` once the component runs and `e<code>\n` when it has ended, negative for a signal.
"""

import ctypes
import json
import os
import resource
import select
import signal
import sys
import time

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
NOT_FOUND = 127


def main() -> None:
    """Supervise until the component has ended or must end."""
    control, deadline = int(sys.argv[1]), float(sys.argv[2])
    limits, command = json.loads(sys.argv[3]), sys.argv[4:]
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    supervisor = os.getpid()
    child = os.fork()
    if child == 0:
        become(command, limits, libc, supervisor, control)
    os.set_blocking(control, False)
    say(control, f"s{child}\n")
    code = watch(child, control, deadline)
    say(control, f"e{code}\n")
    os.killpg(0, signal.SIGKILL)


def become(command: list[str], limits: dict[str, int], libc: ctypes.CDLL, supervisor: int, control: int) -> None:
    """Turn the forked child into the component."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != supervisor:
        os._exit(NOT_FOUND)
    os.close(control)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.nice(limits.pop("nice", 0))
        for name, value in limits.items():
            resource.setrlimit(getattr(resource, f"RLIMIT_{name.upper()}"), (value, value))
        os.execvp(command[0], command)  # noqa: S606 - an argument vector from the registry; there is no shell
    except OSError as error:
        os.write(2, f"cannot start {command[0]}: {error.strerror}\n".encode())
        os._exit(NOT_FOUND)


def watch(child: int, control: int, deadline: float) -> int:
    """Return the component's exit code; kill the group, and with it this process, if the agent is gone."""
    ended = os.pidfd_open(child)
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    poll.register(control, select.POLLIN | select.POLLHUP)
    last = now()
    while True:
        left = last + deadline - now()
        if left <= 0:
            os.killpg(0, signal.SIGKILL)
        happened = dict(poll.poll(max(1, int(left * 1_000))))
        if ended in happened:
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if control in happened:
            words = hear(control)
            if not words:
                os.killpg(0, signal.SIGKILL)
            if b"b" in words:
                last = now()
            if b"t" in words:
                os.kill(child, signal.SIGTERM)


def now() -> float:
    """Return seconds on the clock that counts suspension too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def hear(control: int) -> bytes:
    """Return what the agent sent; nothing means that it is gone."""
    try:
        return os.read(control, 4_096)
    except BlockingIOError:
        return b"-"
    except OSError:
        return b""


def say(control: int, text: str) -> None:
    """Tell the agent, if it is there."""
    try:
        os.write(control, text.encode())
    except OSError:
        return


if __name__ == "__main__":
    main()
