"""Single files of a version, fetched from the lake: what a repair needs, and no more."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path

from blake3 import blake3

from millrace.datasets.fetch import check_blob, fetch_chunk, fetch_group, plan
from millrace.datasets.folders import Part, explained, folder, open_root, sync_files, write_file
from millrace.datasets.manifest import Entry, Manifest
from millrace.errors import Corrupt
from millrace.objects import ObjectStore


async def fetch_files(store: ObjectStore, project: str, manifest: Manifest, paths: Iterable[str], target: Path) -> int:
    """Write the version's files at `paths` below `target`, verified and synced; return the bytes that came.

    Raises:
        Corrupt: the lake holds other bytes than the manifest promises; nothing of them got a name.
        NotFound, Unavailable, NoSpace: what their names say.
    """
    found = [manifest.entry(index) for path in paths if (index := manifest.find(path)) is not None]
    todo, fetched = plan(manifest, found), 0
    with explained(target):
        root = await asyncio.to_thread(open_root, target)
        try:
            await asyncio.to_thread(_write, root, todo.empty, [b""] * len(todo.empty))
            for group in todo.groups:
                got = await fetch_group(store, project, group)
                for entry, content in zip(group.entries, got.contents, strict=True):
                    check_blob(entry, content)
                await asyncio.to_thread(_write, root, group.entries, got.contents)
                fetched += got.transferred
            for entry in todo.chunked:
                await _large(store, project, entry, root)
                fetched += entry.size
            await asyncio.to_thread(sync_files, root)
        finally:
            os.close(root)
    return fetched


def _write(root: int, entries: Iterable[Entry], contents: Iterable[bytes | memoryview]) -> None:
    for entry, content in zip(entries, contents, strict=True):
        parent, _, name = entry.path.rpartition("/")
        with folder(root, parent) as handle:
            write_file(handle, name, content)


async def _large(store: ObjectStore, project: str, entry: Entry, root: int) -> None:
    parent, _, name = entry.path.rpartition("/")
    with folder(root, parent) as handle:
        part = Part(handle, name)
    whole = blake3()
    try:
        for index in range(len(entry.chunks)):
            data = await fetch_chunk(store, project, entry, index)
            whole.update(data)
            await asyncio.to_thread(part.write, data)
        if whole.digest() != entry.digest:
            raise Corrupt(f"the chunks of {entry.path!a} do not make its bytes", path=entry.path)
        part.publish()
    finally:
        part.close()
