"""Free ports that two stacks, or two test workers, never both pick.

A port is picked below the kernel's ephemeral range, so that no outgoing connection takes it meanwhile, and reserved
by binding an abstract Unix socket named after it: the kernel lets go of it when the process ends, however it ends.
"""

from __future__ import annotations

import atexit
import random
import socket
from pathlib import Path

from millrace.errors import Unavailable

LOWEST = 10_240
ATTEMPTS = 2_000
_reserved: dict[int, socket.socket] = {}


def _highest() -> int:
    try:
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return 32_767
    return first - 1 if first > LOWEST + 1_000 else 65_535


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Return whether somebody could listen on the port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def reserve(port: int) -> bool:
    """Keep the port for this process; False where it is in use or another stack keeps it."""
    if port in _reserved:
        return is_free(port)
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        lock.bind(f"\0millrace-port-{port}")
    except OSError:
        lock.close()
        return False
    if not is_free(port):
        lock.close()
        return False
    _reserved[port] = lock
    return True


def release(ports: list[int]) -> None:
    """Let others have these ports."""
    for port in ports:
        if (lock := _reserved.pop(port, None)) is not None:
            lock.close()


def free_ports(count: int) -> list[int]:
    """Return `count` different free ports of the loopback interface, kept for this process.

    Raises:
        Unavailable: none could be found.
    """
    found: list[int] = []
    highest = _highest()
    for _ in range(ATTEMPTS):
        port = random.randint(LOWEST, highest)  # noqa: S311 - not a secret
        if port not in _reserved and reserve(port):
            found.append(port)
            if len(found) == count:
                return found
    release(found)
    raise Unavailable(f"no {count} free ports between {LOWEST} and {highest}")


@atexit.register
def _release_all() -> None:
    release(list(_reserved))
