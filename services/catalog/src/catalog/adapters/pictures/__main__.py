"""The process that paints: it loads what it needs once, then forks a child for every file, which dies with it.

A file is a stranger's bytes, and what decodes it is C code. So each gets a process of its own, with so much memory, so
many seconds, no new files, no new processes, and none of the gateway's secrets in its memory. Connections come over
standard input (a Unix socket) as file descriptors; when the gateway goes, so does this.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from catalog.adapters.pictures import painting
from catalog.adapters.pictures.frames import LENGTH, framed, length_of
from catalog.adapters.pictures.painted import Unshowable

MEMORY = 1024 * 1024 * 1024
CPU_SECONDS, WALL_SECONDS = 10, 15
PAGE = resource.getpagesize()


def main() -> int:
    """Serve until the gateway closes the socket."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    control = socket.socket(fileno=os.dup(0))
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not message:
            return 0
        for descriptor in descriptors:
            if os.fork() == 0:
                control.close()
                serve(descriptor)
            os.close(descriptor)


def serve(descriptor: int) -> None:
    """Answer one request, and end the process whatever happens."""
    try:
        confine()
        with socket.socket(fileno=descriptor) as connection, connection.makefile("rwb") as stream:
            answer(stream)
    finally:
        os._exit(0)


def confine() -> None:
    """Give this process what one picture may cost."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(WALL_SECONDS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * PAGE
    limits = {
        resource.RLIMIT_AS: used + MEMORY,
        resource.RLIMIT_CPU: CPU_SECONDS,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 16,
    }
    for limit, value in limits.items():
        resource.setrlimit(limit, (value, value))


def answer(stream: Any) -> None:
    """Read a request, paint, and write what came of it."""
    head = json.loads(stream.read(length_of(stream.read(LENGTH.size))))
    data = stream.read(head["bytes"])
    if len(data) != head["bytes"]:
        return
    try:
        facts, picture = painting.paint(data, head)
    except Unshowable as error:
        facts, picture = {"refused": str(error)}, b""
    except MemoryError:
        facts, picture = {"refused": "it takes more memory than one picture may cost"}, b""
    except Exception as error:  # noqa: BLE001 - a parser of strangers' bytes; its words may quote them
        facts, picture = {"refused": f"it is broken, or no picture ({type(error).__name__})"}, b""
    stream.write(framed({**facts, "bytes": len(picture)}) + picture)
    stream.flush()


if __name__ == "__main__":
    sys.exit(main())
