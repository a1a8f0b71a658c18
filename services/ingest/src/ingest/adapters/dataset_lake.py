"""Building versions in the lake by the kernel's dataset format, with the table of their records."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from ingest.application.grouping import with_groups
from ingest.application.ports import Built, Done, Examined, Head
from ingest.domain.places import Mode
from millrace.datasets.commit import Commit
from millrace.datasets.manifest import Manifest
from millrace.datasets.progress import Progress
from millrace.datasets.push import extend, push_files
from millrace.datasets.sources import SourceFile
from millrace.datasets.stored import load_commit, load_manifest
from millrace.errors import Corrupt, Invalid, NotFound
from millrace.failpoints import fp
from millrace.objects import ObjectStore
from millrace.records import Record
from millrace.records.stored import load_records, save_records
from millrace.records.table import RecordTable


class DatasetLake:
    """`Lake` on the lake's bucket."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def build(self, project: str, landed: Examined, head: Head | None, mode: Mode, done: Done) -> Built:
        """Write packs, manifest and records; memory stays near a few packs."""
        commit = await load_commit(self._store, project, head.commit) if head is not None else None
        parent = await load_manifest(self._store, project, commit.manifest) if commit is not None else None
        await fp("commit.D2.before")
        files = _sources(landed)

        def show(state: Progress) -> None:
            done(state.files_done)

        if parent is not None and mode == "append":
            pushed = await extend(parent, files, self._store, project=project, progress=show)
        else:
            pushed = await push_files(files, self._store, project=project, parent=parent, progress=show)
        await fp("commit.D2.after")
        await fp("commit.D3.before")
        expected = len(landed.files)
        if pushed.files < expected or (mode == "replace" and pushed.files != expected):
            raise Corrupt(f"{pushed.files} files were written, and {expected} landed")
        earlier = commit if mode == "append" else None
        records = await self._records(project, landed, pushed.manifest, earlier)
        await fp("commit.D3.after")
        return Built(pushed.manifest_id, pushed.tree_root, pushed.files, pushed.bytes, pushed.packs, records)

    async def _records(self, project: str, landed: Examined, manifest: Manifest, earlier: Commit | None) -> str:
        """Store the table of the landed files' records and, of an earlier version's, those whose files stay."""
        kept: RecordTable | None = None
        if earlier is not None and earlier.records is not None:
            kept = await load_records(self._store, project, earlier.records)
        table = await asyncio.to_thread(_table, landed, manifest, kept)
        return await save_records(self._store, project, table)

    async def whole(self, project: str, commit: str) -> bool:
        """Return whether commit, manifest and records are there, with the bytes that their ids promise."""
        try:
            stored = await load_commit(self._store, project, commit)
            await load_manifest(self._store, project, stored.manifest)
            if stored.records is not None:
                await load_records(self._store, project, stored.records)
        except (NotFound, Corrupt, Invalid):
            return False
        return True


def _sources(landed: Examined) -> Iterator[SourceFile]:
    for draft in landed.files:
        yield SourceFile(draft.path, draft.size, draft.read, mtime_ns=draft.mtime_ns)


def _table(landed: Examined, manifest: Manifest, kept: RecordTable | None) -> RecordTable:
    fresh = {draft.path: draft for draft in landed.files}
    earlier = {} if kept is None else {record.path: record for record in kept.records() if record.path is not None}
    files: list[Record] = []
    for entry in manifest.entries():
        draft, stays = fresh.get(entry.path), earlier.get(entry.path)
        if draft is not None:
            files.append(
                Record(
                    entry.path,
                    draft.type,
                    entry.path,
                    entry.size,
                    entry.hex,
                    draft.media_type,
                    draft.source,
                    (),
                    draft.metadata,
                )
            )
        elif stays is not None and (stays.digest, stays.size) == (entry.hex, entry.size):
            files.append(stays)
    return RecordTable.of(with_groups(files))
