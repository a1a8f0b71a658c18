"""Model packages from the object store: fetched aside, and used only when every byte is what the digest names."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol

from blake3 import blake3

from millrace.errors import Invalid, NotFound
from millrace.packages import package_digest
from serving.domain.endpoint import Spec
from serving.domain.package import (
    GOLDEN,
    MANIFEST,
    MAX_FILES,
    Golden,
    PackageRule,
    Signature,
    check_files,
    golden,
    signature,
)
from serving.errors import BadPackage, DamagedPackage

_RANGE = 8 * 1024 * 1024
_MAX_JSON = 64 * 1024 * 1024


class ObjectInfo(Protocol):
    """What a listing says of an object."""

    @property
    def key(self) -> str:
        """Return its key."""

    @property
    def size(self) -> int:
        """Return its size in bytes."""


class ReadableStore(Protocol):
    """The part of the object store that is used here."""

    def list(self, prefix: str) -> AsyncIterator[Any]:
        """Return what lies below a prefix."""

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        """Return a part of an object."""


class PackageFetcher:
    """Fetches packages of at most `max_bytes`."""

    def __init__(self, store: ReadableStore, *, max_bytes: int) -> None:
        self._store = store
        self._max_bytes = max_bytes

    async def fetch(self, spec: Spec, into: Path) -> tuple[Signature, Golden]:
        """Write the verified files of the package of `spec` into the folder `into`, and return what it promises.

        Raises:
            BadPackage: a rule is broken. DamagedPackage: bytes and digest differ. Unavailable: no answer.
        """
        prefix = f"{spec.project}/models/{spec.digest}"
        if spec.prefix.rstrip("/") != prefix:
            raise BadPackage(f"the package's prefix is not {prefix}")
        sizes = await self._sizes(f"{prefix}/")
        files = [
            (name, await self._copy(f"{prefix}/{name}", size, into / name), size)
            for name, size in sorted(sizes.items())
        ]
        if package_digest(files) != spec.digest:
            raise DamagedPackage(f"the files below {prefix} do not have the package's digest")
        return await asyncio.to_thread(promises, into)

    async def _sizes(self, prefix: str) -> dict[str, int]:
        sizes: dict[str, int] = {}
        async for info in self._store.list(prefix):
            sizes[info.key.removeprefix(prefix)] = info.size
            if len(sizes) > MAX_FILES or sum(sizes.values()) > self._max_bytes:
                raise BadPackage(f"the package has more than {MAX_FILES} files or {self._max_bytes} bytes")
        if not sizes:
            raise DamagedPackage(f"nothing lies below {prefix}", hint="was the object store restored without it?")
        try:
            check_files(list(sizes))
        except PackageRule as error:
            raise BadPackage(str(error)) from None
        return sizes

    async def _copy(self, key: str, size: int, target: Path) -> str:
        digest = blake3()
        with target.open("wb") as file:
            for start in range(0, size, _RANGE):
                part = await self._part(key, start, min(_RANGE, size - start))
                digest.update(part)
                await asyncio.to_thread(file.write, part)
        return digest.hexdigest()

    async def _part(self, key: str, start: int, length: int) -> bytes:
        try:
            return await self._store.get_range(key, start, length)
        except (NotFound, Invalid) as error:  # it was listed a moment ago
            raise DamagedPackage(f"{key} changed while it was read: {error.message}") from None


def promises(folder: Path) -> tuple[Signature, Golden]:
    """Return signature and golden pair of a package's folder.

    Raises:
        BadPackage: a rule is broken.
    """
    try:
        promised = signature(_json(folder / MANIFEST))
        return promised, golden(_json(folder / GOLDEN), promised)
    except PackageRule as error:
        raise BadPackage(str(error)) from None


def _json(path: Path) -> Any:
    if path.stat().st_size > _MAX_JSON:
        raise PackageRule(f"{path.name} is too large")
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise PackageRule(f"{path.name} is not valid JSON") from None
