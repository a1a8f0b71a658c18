"""What the monitor reads from the lake: references of models, and what is in dataset versions."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from blake3 import blake3

from drift_monitor.domain.baseline import Baseline, baseline
from drift_monitor.errors import ReferenceInvalid
from millrace.datasets.manifest import Manifest
from millrace.datasets.stored import load_commit, load_manifest
from millrace.errors import Corrupt, Invalid
from millrace.objects import ObjectStore
from millrace.reference import MAX_REFERENCE_BYTES, load

REMEMBERED = 64


class LakeBaselines:
    """`Baselines` on the object store. References never change, so those in use are remembered."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._known: OrderedDict[str, Baseline] = OrderedDict()

    async def load(self, key: str) -> Baseline:
        """Return the reference under a key whose last part is the BLAKE3 of its bytes.

        Raises:
            NotFound, Corrupt, ReferenceInvalid: it cannot be used.
        """
        if key not in self._known:
            self._known[key] = await self._read(key)
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return self._known[key]

    async def _read(self, key: str) -> Baseline:
        info = await self._objects.head(key)
        if info is not None and info.size > MAX_REFERENCE_BYTES:
            raise ReferenceInvalid(f"reference {key} of {info.size} bytes is too large")
        raw = await self._objects.get(key)
        named = key.rpartition("/")[2].removesuffix(".json")
        if blake3(raw).hexdigest() != named:
            raise Corrupt(f"reference {key} does not have the bytes that its name promises")
        try:
            return baseline(key, load(raw))
        except Invalid as error:
            raise ReferenceInvalid(error.message) from None


class LakeVersions:
    """`Versions` on the object store."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._known: OrderedDict[tuple[str, str], frozenset[str]] = OrderedDict()

    async def digests(self, project: str, commit: str) -> frozenset[str]:
        """Return the BLAKE3 digests of all files of a dataset commit."""
        key = (project, commit)
        if key not in self._known:
            found = await load_commit(self._objects, project, commit)
            manifest = await load_manifest(self._objects, project, found.manifest)
            self._known[key] = await asyncio.to_thread(_digests, manifest)
            while len(self._known) > 4:
                self._known.popitem(last=False)
        return self._known[key]


def _digests(manifest: Manifest) -> frozenset[str]:
    return frozenset(entry.hex for entry in manifest.entries())
