"""Landings over HTTP: a browser puts files below a fresh folder of the lake, part by part, and says when it is done.

Nothing is remembered here: whoever began a landing holds its id, which nobody guesses, and the parts that it has sent.
What was put is ingested by the same event as everything that outside systems hand over.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from catalog.application.caller import Caller
from catalog.application.landing import Landing, accept_landing
from catalog.application.ports import Unit
from catalog.domain.operations import Operation
from catalog.errors import LandingIncomplete
from millrace.clock import Clock
from millrace.datasets.keys import landing_prefix
from millrace.datasets.paths import check_path
from millrace.errors import Invalid
from millrace.events import DataLanded
from millrace.objects.port import check_key

MIB = 1024 * 1024
PART_BYTES = 8 * MIB
"""Files up to this size are sent whole, larger ones in parts of at least this size."""

MAX_PART_BYTES = 512 * MIB
MAX_PARTS = 10_000
SOURCE = "/v1/landings"
"""Where such events come from, as operations show it."""


@dataclass(frozen=True)
class SentPart:
    """A part of a file that the store has, with the tag that it gave for it."""

    number: int
    tag: str


class LandingZone(Protocol):
    """Where landings lie. Bytes are streamed through; a body that ends early leaves nothing."""

    async def put(self, key: str, length: int, body: AsyncIterator[bytes]) -> None:
        """Store an object whole. Raises Unavailable."""

    async def begin(self, key: str) -> str:
        """Begin an object that comes in parts, and return what names the attempt. Raises Unavailable."""

    async def put_part(self, key: str, attempt: str, number: int, length: int, body: AsyncIterator[bytes]) -> str:
        """Store a part, and return its tag; a repeat replaces it. Raises NotFound, Unavailable."""

    async def join(self, key: str, attempt: str, parts: Sequence[SentPart], size: int) -> None:
        """Make the parts an object of `size` bytes; a repeat is no error. Raises NotFound, Invalid, Unavailable."""

    async def abandon(self, key: str, attempt: str) -> None:
        """Forget the parts; a repeat is no error. Raises Unavailable."""

    async def weigh(self, prefix: str) -> tuple[int, int]:
        """Return how many objects lie below a prefix, and their bytes. Raises Unavailable."""

    def uri(self, key: str) -> str:
        """Return the URI of a key."""


@dataclass(frozen=True)
class CloseLanding:
    """What was put, and what becomes of it. `archive` names the one file that is unpacked."""

    landing: str
    dataset: str
    files: int
    bytes: int
    mode: Literal["replace", "append"] = "append"
    message: str = ""
    archive: str | None = None


def key_of(project: str, landing: str, path: str) -> str:
    """Return where a file of a landing lies.

    Raises:
        Refused: no version can hold a file of that path.
        Invalid: the key would be too long.
    """
    return check_key(f"{_prefix(project, landing)}{check_path(path)}")


def _prefix(project: str, landing: str) -> str:
    return landing_prefix(project, f"upload-{landing}")


def check_parts(parts: Sequence[SentPart]) -> None:
    """Raise Invalid unless the parts are numbered from 1 on, without a gap."""
    if [part.number for part in parts] != list(range(1, len(parts) + 1)):
        raise Invalid("parts are numbered from 1 on, and all of them are named")


async def check_whole(cmd: CloseLanding, caller: Caller, *, zone: LandingZone) -> None:
    """Look whether everything lies there that was sent.

    Raises:
        LandingIncomplete: other files or bytes than the sender counted.
    """
    files, size = await zone.weigh(_prefix(caller.project, cmd.landing))
    if (files, size) != (cmd.files, cmd.bytes):
        raise LandingIncomplete(
            f"{files} files and {size} bytes lie there, and not {cmd.files} and {cmd.bytes}",
            hint="put what is missing, and close again",
        )


async def close_landing(cmd: CloseLanding, caller: Caller, *, zone: LandingZone, uow: Unit, clock: Clock) -> Operation:
    """Announce a landing; a repeat finds the operation that exists."""
    prefix = _prefix(caller.project, cmd.landing)
    key = key_of(caller.project, cmd.landing, cmd.archive) if cmd.archive else prefix
    data = DataLanded(
        dataset=cmd.dataset,
        uri=zone.uri(key),
        mode=cmd.mode,
        message=cmd.message,
        format="archive" if cmd.archive else "files",
    )
    landed = Landing(source=SOURCE, id=cmd.landing, data=data)
    return await accept_landing(landed, caller, uow=uow, clock=clock)
