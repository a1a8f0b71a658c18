"""The start-up probe: what an endpoint can really do, tried and not believed.

Millrace needs ranges and whole-object PUT and GET; what else is missing is worked around and said: without
create-only PUT an object is looked for before it is written, and MongoDB alone decides races.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Protocol, runtime_checkable

from millrace.clock import new_id
from millrace.errors import Invalid, MillraceError
from millrace.objects.port import Capabilities, ObjectStore

PREFIX = "probe"
TRIALS = ("create", "signed", "checksum", "multipart")


@runtime_checkable
class WireProbe(Protocol):
    """An adapter that can also try what the port hides."""

    async def put_if_absent(self, key: str, data: bytes) -> bool:
        """Send one create-only PUT without any emulation."""

    async def presigned_create_only(self, key: str) -> bool:
        """Return whether a presigned PUT, sent as `presign` says, leaves an existing object alone."""

    async def refuses_bad_checksum(self, key: str) -> bool:
        """Return whether a body that contradicts its checksum header is refused."""

    async def multipart_minimum(self, key: str) -> int:
        """Return the smallest part in bytes that the endpoint took for other than the last part."""


async def probe(store: ObjectStore) -> Capabilities:
    """Try the endpoint with a handful of small objects below `probe/`, and remove them.

    Raises:
        Unavailable: the endpoint does not answer.
        Forbidden: the credentials do not allow to write, read and delete.
    """
    base = f"{PREFIX}/{new_id()}"
    names = [f"{base}/{name}" for name in ("b", "a/b", "a-b", "a", "B", "é")]
    try:
        return await _probe(store, base, names)
    finally:
        for key in (*names, *(f"{base}-{trial}" for trial in TRIALS)):
            await _quietly(store, key)


async def _probe(store: ObjectStore, base: str, names: list[str]) -> Capabilities:
    for name in names:
        await store.put(name, b"0123456789")
    listed = [info.key async for info in store.list(f"{base}/")]
    ranges = await _ranges(store, names[0])
    create_only = await _create_only(store, f"{base}-create")
    signed = checks = minimum = None
    if isinstance(store, WireProbe):
        signed = await _tried(lambda: store.presigned_create_only(f"{base}-signed"))
        checks = await _tried(lambda: store.refuses_bad_checksum(f"{base}-checksum"))
        minimum = await store.multipart_minimum(f"{base}-multipart")
    found = Capabilities(
        ranges=ranges,
        create_only=create_only,
        list_sorted=listed == sorted(names, key=str.encode),
        presigned_create_only=signed,
        checksums=checks,
        multipart_minimum=minimum,
    )
    return replace(found, notes=tuple(_notes(found, complete=set(listed) == set(names))))


async def _ranges(store: ObjectStore, key: str) -> bool:
    try:
        return await store.get_range(key, 3, 4) == b"3456"
    except Invalid:
        return False


async def _create_only(store: ObjectStore, key: str) -> bool:
    put = store.put_if_absent if isinstance(store, WireProbe) else _port_put(store)
    try:
        first = await put(key, b"first")
        second = await put(key, b"second")
    except Invalid:
        return False
    return first and not second and await store.get(key) == b"first"


def _port_put(store: ObjectStore) -> Callable[[str, bytes], Awaitable[bool]]:
    async def put(key: str, data: bytes) -> bool:
        return await store.put(key, data, create_only=True)

    return put


async def _tried(attempt: Callable[[], Awaitable[bool]]) -> bool:
    try:
        return await attempt()
    except MillraceError:
        return False


def _notes(found: Capabilities, *, complete: bool) -> list[str]:
    lacks = (
        (not found.ranges, "no byte ranges: objects are fetched whole"),
        (not found.create_only, "no create-only PUT: objects are looked for first, and MongoDB alone decides races"),
        (not found.list_sorted, "listings are not in key order"),
        (not complete, "a fresh listing is not complete: listings lag behind writes"),
        (
            found.presigned_create_only is False,
            "a presigned PUT overwrites: clients could write objects again",
        ),
        (found.checksums is False, "checksum headers are not checked: only BLAKE3 notices a damaged upload"),
    )
    return [note for lacking, note in lacks if lacking]


async def _quietly(store: ObjectStore, key: str) -> None:
    try:
        await store.delete(key)
    except MillraceError:
        return
