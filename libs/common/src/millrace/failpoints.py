"""Named places where a test may kill, delay or break a process.

Code calls `await fp("commit.D6.after")` (or `fp_sync` outside a coroutine). Nothing happens unless the environment
names the point:

    MILLRACE_FAILPOINTS="commit.D6.after=kill;fill.C3.during=sleep:2;deploy.P4.during=raise@3"

The form is `<point>=<action>[:<argument>][@<hit>]`: the action happens at the given hit (default 1) and at no other.
Actions: `kill` (SIGKILL to the own process), `raise` (an `Unavailable`), `enospc` (an `OSError`), `sleep:<seconds>`.
With `MILLRACE_FAILPOINTS_STATE` naming a folder, hits are counted there across restarts and each point fires once,
so that a restarted process does not die for ever.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from millrace.errors import Invalid, Unavailable

FLOWS: dict[str, dict[str, str]] = {
    "commit": {
        "D1": "open upload",
        "D2": "part stored",
        "D3": "digest verified",
        "D4": "object at content address",
        "D5": "commit object created",
        "D6": "version and outbox row committed",
        "D7": "relay reads",
        "D8": "publish",
        "D9": "PubAck",
        "D10": "marked sent",
        "D11": "consumer ack",
    },
    "fill": {
        "C1": "claim with fencing token",
        "C2": "staging folder made",
        "C3": "download",
        "C4": "verify",
        "C5": "files synced",
        "C6": "folders synced",
        "C7": "_READY written",
        "C8": "renamed to final",
        "C9": "parent synced",
        "C10": "state",
        "C11": "event",
    },
    "evict": {"E1": "mark", "E2": "check leases", "E3": "rename to trash", "E4": "unlink"},
    "collect": {"G1": "condemn", "G2": "claim", "G3": "delete", "G4": "forget"},
    "train": {
        "T1": "consume",
        "T2": "device claimed",
        "T3": "spawn",
        "T4": "heartbeat",
        "T5": "checkpoint to temporary",
        "T6": "checkpoint whole",
        "T7": "metric batch",
        "T8": "package uploaded",
        "T9": "terminal state",
        "T10": "release",
        "T11": "event",
    },
    "register": {
        "R1": "upload",
        "R2": "format check",
        "R3": "digest and signature",
        "R4": "allocate version",
        "R5": "commit and outbox",
        "R6": "event",
    },
    "deploy": {
        "P1": "desired state",
        "P2": "version folder staged",
        "P3": "renamed into repository",
        "P4": "explicit load",
        "P5": "ready and golden request",
        "P6": "traffic shift",
        "P7": "drain",
        "P8": "unload",
        "P9": "rollback",
    },
    "drift": {
        "M1": "tap",
        "M2": "append to window",
        "M3": "close window",
        "M4": "store statistic",
        "M5": "event",
        "M6": "cursor",
    },
    "webhook": {"W1": "verify", "W2": "dedup insert", "W3": "outbox", "W4": "answer 202", "W5": "callback"},
}
"""Flow → point → what happens there. The one table of all names."""

MOMENTS = ("before", "during", "after")


@dataclass(frozen=True)
class _Armed:
    action: str
    argument: str
    hit: int


def known(name: str) -> bool:
    """Return whether `name` is `<flow>.<point>.<moment>` of the table."""
    flow, _, rest = name.partition(".")
    point, _, moment = rest.partition(".")
    return point in FLOWS.get(flow, {}) and moment in MOMENTS


def parse(specification: str) -> dict[str, _Armed]:
    """Parse the value of `MILLRACE_FAILPOINTS`.

    Raises:
        Invalid: an unknown point or action.
    """
    armed: dict[str, _Armed] = {}
    for part in filter(None, (piece.strip() for piece in specification.split(";"))):
        name, _, effect = part.partition("=")
        effect, _, hit = effect.partition("@")
        action, _, argument = effect.partition(":")
        if not known(name) or action not in {"kill", "raise", "enospc", "sleep"}:
            raise Invalid(f"no such failpoint or action: {part[:80]!r}")
        armed[name] = _Armed(action, argument, int(hit or 1))
    return armed


_ARMED = parse(os.environ.get("MILLRACE_FAILPOINTS", ""))
_HITS: dict[str, int] = {}


def _count(name: str) -> int:
    folder = os.environ.get("MILLRACE_FAILPOINTS_STATE")
    if not folder:
        _HITS[name] = _HITS.get(name, 0) + 1
        return _HITS[name]
    path = Path(folder) / f"{name}.hits"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:  # appended and synced before the action, so that a kill is counted
        file.write(b".")
        file.flush()
        os.fsync(file.fileno())
        return file.tell()


def hits(folder: Path, name: str) -> int:
    """Return how often the failpoint was passed by processes that count in `folder`."""
    path = folder / f"{name}.hits"
    return path.stat().st_size if path.exists() else 0


def _due(name: str) -> _Armed | None:
    armed = _ARMED.get(name)
    if armed is None or _count(name) != armed.hit:
        return None
    return armed


def _act(name: str, armed: _Armed) -> None:
    if armed.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if armed.action == "raise":
        raise Unavailable(f"failpoint {name}")
    if armed.action == "enospc":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)


async def fp(name: str) -> None:
    """Pass the failpoint `name`; a dictionary look-up unless it is armed."""
    if _ARMED and (armed := _due(name)) is not None:
        if armed.action == "sleep":
            await asyncio.sleep(float(armed.argument or 1))
        _act(name, armed)


def fp_sync(name: str) -> None:
    """Pass the failpoint `name` outside a coroutine."""
    if _ARMED and (armed := _due(name)) is not None:
        if armed.action == "sleep":
            time.sleep(float(armed.argument or 1))
        _act(name, armed)
