"""The lake on an object store: manifests read and recomputed, commits written once, existence asked by HEAD."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Literal

from blake3 import blake3

from catalog.application.lake import CommitDraft, Contents, ObjectKind, RecordCount
from catalog.domain.collections import LakeKind, StoredObject
from catalog.errors import ObjectMissing, RecordsMismatch
from millrace.datasets.commit import Commit
from millrace.datasets.keys import LAKE_KINDS, check_project, lake_key, object_key
from millrace.datasets.manifest import Manifest
from millrace.datasets.spare import Spares, spare_packs
from millrace.datasets.stored import load_commit, load_manifest, save_commit
from millrace.errors import Corrupt, Invalid, NotFound
from millrace.events import Lineage
from millrace.objects import ObjectStore, Presigned
from millrace.records import Record
from millrace.records.stored import load_records
from millrace.records.table import RecordTable

PRESIGNED_FOR = timedelta(minutes=15)
MAX_PARALLEL = 16
REMEMBERED = 64
REMEMBERED_TABLES = 4
REMEMBERED_TABLE_BYTES = 64 * 1024 * 1024
"""A table of records that is larger is read again for each page: memory counts more than a rare wait."""


class ObjectStoreLake:
    """`Lake` on one bucket. Manifests are immutable, so what they hold is remembered."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._known: OrderedDict[tuple[str, str], Contents] = OrderedDict()
        self._tables: OrderedDict[tuple[str, str], RecordTable] = OrderedDict()
        self._limit = asyncio.Semaphore(MAX_PARALLEL)
        self._one_table = asyncio.Lock()

    async def contents(self, project: str, manifest: str) -> Contents:
        """Read a manifest and recompute what it holds."""
        key = (project, manifest)
        if key not in self._known:
            try:
                loaded = await load_manifest(self._store, project, manifest)
            except NotFound:
                raise ObjectMissing("the manifest is not in the lake", missing=[manifest]) from None
            self._known[key] = await asyncio.to_thread(_contents, loaded)
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return self._known[key]

    async def missing(self, project: str, kind: ObjectKind, ids: list[str]) -> list[str]:
        """Return the ids that are not in the object store."""

        async def gone(object_id: str) -> bool:
            async with self._limit:
                return await self._store.head(object_key(project, kind, object_id)) is None

        answers = await asyncio.gather(*(gone(object_id) for object_id in ids))
        return [object_id for object_id, missing in zip(ids, answers, strict=True) if missing]

    async def check_records(self, project: str, records: str, manifest: str) -> None:
        """Read a table of records and compare it with the manifest."""
        loaded = await load_manifest(self._store, project, manifest)
        try:
            table = await self._table(project, records)
            await asyncio.to_thread(table.check_against, loaded)
        except NotFound:
            raise ObjectMissing("the table of records is not in the lake", missing=[records]) from None
        except Invalid as error:
            raise RecordsMismatch(error.message) from None

    async def record_page(
        self, project: str, records: str, *, kind: str | None, path: str, start: int, limit: int
    ) -> tuple[list[Record], int | None]:
        """Return records from position `start` on, and the position to go on at."""
        table = await self._table(project, records)
        return await asyncio.to_thread(table.page, kind=kind, path=path, start=start, limit=limit)

    async def record_summary(self, project: str, records: str) -> list[RecordCount]:
        """Return counts by type."""
        table = await self._table(project, records)
        found = await asyncio.to_thread(table.summary)
        return [RecordCount(item.type, item.records, item.bytes, item.fields) for item in found]

    async def _table(self, project: str, records: str) -> RecordTable:
        """Return a table; large ones are read one at a time."""
        key = (project, records)
        async with self._one_table:
            if (table := self._tables.get(key)) is None:
                table = await load_records(self._store, project, records)
                if table.table.nbytes <= REMEMBERED_TABLE_BYTES:
                    self._tables[key] = table
                while len(self._tables) > REMEMBERED_TABLES:
                    self._tables.popitem(last=False)
        return table

    async def write_commit(self, project: str, draft: CommitDraft) -> str:
        """Write the commit object and return its id."""
        return await save_commit(self._store, project, _commit(draft))

    async def commit_is_whole(self, project: str, commit: str) -> bool:
        """Return whether the commit object is there and its bytes match its id."""
        try:
            await load_commit(self._store, project, commit)
        except (NotFound, Corrupt, Invalid):
            return False
        return True

    async def manifest_is_whole(self, project: str, manifest: str) -> bool:
        """Return whether a manifest is there and its bytes match its id."""
        try:
            await load_manifest(self._store, project, manifest)
        except (NotFound, Corrupt, Invalid):
            return False
        return True

    async def rebuild_manifests(self, project: str, manifests: list[str]) -> list[str]:
        """Write manifests again from their spare copies in packs; return those that could be."""
        spares = Spares(self._store, check_project(project))
        await spares.scan()
        made = []
        for manifest in manifests:
            data = await spares.read(manifest)
            if data is not None:
                await self._store.put(object_key(project, "manifests", manifest), data)
                made.append(manifest)
        return made

    async def rebuild_commit(self, project: str, commit: str, draft: CommitDraft) -> bool:
        """Write a commit object again if the draft gives just that one."""
        made = _commit(draft)
        if made.id != commit:
            return False
        await self._store.put(object_key(project, "commits", commit), made.to_bytes())
        return True

    async def presign(self, method: Literal["GET", "PUT"], project: str, kind: ObjectKind, object_id: str) -> Presigned:
        """Return a request that allows `method` on one object for 15 minutes; a PUT only creates."""
        return await self._store.presign(method, object_key(project, kind, object_id), expires=PRESIGNED_FOR)

    async def objects_of(self, project: str, manifest: str) -> set[tuple[LakeKind, str]]:
        """Return (kind, id) of a manifest and of all that it needs."""
        try:
            loaded = await load_manifest(self._store, project, manifest)
        except NotFound:
            raise ObjectMissing("the manifest is not in the lake", missing=[manifest]) from None
        return await asyncio.to_thread(_needs, loaded)

    async def objects(self, project: str) -> AsyncIterator[StoredObject]:
        """Yield every object of the project's datasets."""
        for kind in LAKE_KINDS:
            async for info in self._store.list(f"{check_project(project)}/{kind}/"):
                object_id = info.key.rpartition("/")[2]
                with contextlib.suppress(Invalid):
                    if lake_key(project, kind, object_id) == info.key:
                        yield StoredObject(kind, object_id, info.size, info.modified)

    async def delete(self, project: str, kind: LakeKind, object_id: str) -> None:
        """Remove an object; a missing one is no error."""
        async with self._limit:
            await self._store.delete(lake_key(project, kind, object_id))

    async def size_of(self, key: str) -> int | None:
        """Return the size of an object, or None if it is not there."""
        info = await self._store.head(key)
        return None if info is None else info.size

    async def digest_of(self, key: str) -> str:
        """Return the BLAKE3 of an object's bytes."""
        data = await self._store.get(key)
        return await asyncio.to_thread(lambda: blake3(data).hexdigest())


def _commit(draft: CommitDraft) -> Commit:
    return Commit(
        parents=draft.parents,
        root=draft.tree_root,
        manifest=draft.manifest,
        files=draft.files,
        bytes=draft.bytes,
        author=draft.author,
        message=draft.message,
        time=draft.at,
        lineage=Lineage.model_validate(draft.lineage),
        records=draft.records,
    )


def _needs(manifest: Manifest) -> set[tuple[LakeKind, str]]:
    needs: set[tuple[LakeKind, str]] = {("manifests", manifest.id)}
    needs |= {("packs", pack.id) for pack in manifest.packs}
    needs |= {("packs", pack) for pack, _ in spare_packs(manifest.id, manifest.to_bytes())}
    needs |= {("chunks", chunk) for chunk in manifest.chunk_ids()}
    return needs


def _contents(manifest: Manifest) -> Contents:
    return Contents(
        tree_root=manifest.tree_root,
        files=manifest.files,
        bytes=manifest.bytes,
        packs=tuple(pack.id for pack in manifest.packs),
        chunks=tuple(sorted(manifest.chunk_ids())),
        spares=tuple(pack for pack, _ in spare_packs(manifest.id, manifest.to_bytes())),
    )
