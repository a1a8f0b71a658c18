"""Bringing files into the lake as a new version's packs, chunks and manifest. The commit itself is the catalog's.

The order is packs and chunks, then the manifest: whoever sees a manifest finds everything that it names. Every object
is named by its content and written create-only, so a push that broke off is simply pushed again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from millrace.clock import SystemClock
from millrace.datasets.ahead import in_order
from millrace.datasets.builder import ManifestBuilder
from millrace.datasets.folder_push import FolderPush
from millrace.datasets.keys import check_project
from millrace.datasets.known import KnownBlobs
from millrace.datasets.limits import CHUNKED_ABOVE
from millrace.datasets.manifest import Manifest
from millrace.datasets.packer import Packer
from millrace.datasets.paths import check_path
from millrace.datasets.progress import Meter, ProgressCallback
from millrace.datasets.scan import Skip, scan
from millrace.datasets.sources import Prepared, SourceFile, load
from millrace.datasets.statcache import StatCache
from millrace.datasets.stored import save_manifest
from millrace.datasets.uploads import Uploaded, Uploads
from millrace.objects.port import ObjectStore

STREAMS = 16
"""Files that are read at once from a source that is not a folder."""


@dataclass(frozen=True, slots=True)
class PushResult:
    """What a push made. `packs` and `chunks` are the ids that are new against the parent; sizes in bytes."""

    manifest: Manifest
    manifest_id: str
    tree_root: str
    files: int
    bytes: int
    packs: tuple[str, ...] = ()
    chunks: tuple[str, ...] = ()
    uploaded_bytes: int = 0
    reused_bytes: int = 0
    objects_skipped: int = 0
    changed: bool = True


async def push(
    root: Path,
    store: ObjectStore,
    *,
    project: str,
    parent: Manifest | None = None,
    stat_cache: StatCache | None = None,
    progress: ProgressCallback | None = None,
    dry_run: bool = False,
    skip: Skip | None = None,
) -> PushResult:
    """Push the folder `root`; `parent` is the version it probably resembles.

    With `dry_run` nothing is sent: the result says what would be. Files that were hashed before are recognised by
    `stat_cache` and not read again unless their bytes are wanted. `skip` leaves paths out.

    Raises:
        Refused: links, devices, bad or clashing names.
        Changed: a file changed while it was read.
    """
    check_project(project)
    now_ns = int(SystemClock().now().timestamp() * 1e9)
    files = await asyncio.to_thread(scan, root, skip=skip)
    meter = Meter(progress, files=len(files), total=files.bytes)
    uploads = Uploads(store, project, meter, dry_run=dry_run)
    work = FolderPush(files, uploads, KnownBlobs(parent), meter)
    done = await work.run(stat_cache, now_ns=now_ns)
    manifest = await asyncio.to_thread(work.manifest, parent)
    meter.finish()
    return await _finish(manifest, done, parent, None if dry_run else partial(save_manifest, store, project))


async def push_files(
    files: Iterable[SourceFile] | AsyncIterable[SourceFile],
    store: ObjectStore,
    *,
    project: str,
    parent: Manifest | None = None,
    progress: ProgressCallback | None = None,
) -> PushResult:
    """Push exactly these files, from wherever they can be read; `parent` only spares bytes.

    Files should come in path order, so that neighbours share a pack.

    Raises:
        Refused: bad or clashing paths.
    """
    check_project(project)
    return await _push(_prepare(files), store, project, parent, Meter(progress), base=None)


async def push_part(
    files: Iterable[SourceFile] | AsyncIterable[SourceFile],
    store: ObjectStore,
    *,
    project: str,
    parent: Manifest | None = None,
) -> PushResult:
    """Push files that are a part of a version: their packs and chunks. Many may do so at once, each its own part.

    No manifest is stored: who has all parts joins their manifests (`builder.joined`) and stores the whole. `parent`
    only spares bytes.

    Raises:
        Refused: bad or clashing paths.
    """
    check_project(project)
    builder, done = await _pack(_prepare(files), store, project, parent, Meter(None))
    return _result(await asyncio.to_thread(builder.build), done, changed=True)


async def extend(
    parent: Manifest,
    files: Iterable[SourceFile] | AsyncIterable[SourceFile],
    store: ObjectStore,
    *,
    project: str,
    progress: ProgressCallback | None = None,
) -> PushResult:
    """Push these files on top of `parent`: its other files stay, equal paths are overwritten.

    Raises:
        Refused: bad paths, or paths that clash with each other or with the parent's.
    """
    check_project(project)
    return await _push(_prepare(files), store, project, parent, Meter(progress), base=parent)


async def _push(
    prepared: AsyncIterator[Prepared],
    store: ObjectStore,
    project: str,
    parent: Manifest | None,
    meter: Meter,
    *,
    base: Manifest | None,
) -> PushResult:
    builder, done = await _pack(prepared, store, project, parent, meter)
    if base is not None:
        builder.add_rest(base)
    manifest = await asyncio.to_thread(builder.build)
    meter.finish()
    return await _finish(manifest, done, parent, partial(save_manifest, store, project))


async def _pack(
    prepared: AsyncIterator[Prepared], store: ObjectStore, project: str, parent: Manifest | None, meter: Meter
) -> tuple[ManifestBuilder, Uploaded]:
    """Store packs and chunks, and return the rows that name them."""
    builder = ManifestBuilder()
    packer = Packer(store, project, builder, KnownBlobs(parent), meter)
    try:
        async for item in prepared:
            await packer.add(item)
        return builder, await packer.finish()
    except BaseException:
        await packer.abort()
        raise


async def _finish(
    manifest: Manifest, done: Uploaded, parent: Manifest | None, save: Callable[[Manifest], Awaitable[object]] | None
) -> PushResult:
    """Store the manifest, unless nothing changed or nothing is to be stored."""
    changed = parent is None or manifest.tree_root != parent.tree_root
    if not changed and parent is not None:
        manifest = parent
    elif save is not None:
        await save(manifest)
    return _result(manifest, done, changed)


def _result(manifest: Manifest, done: Uploaded, changed: bool) -> PushResult:
    return PushResult(
        manifest=manifest,
        manifest_id=manifest.id,
        tree_root=manifest.tree_root,
        files=manifest.files,
        bytes=manifest.bytes,
        packs=tuple(dict.fromkeys(done.packs)),
        chunks=tuple(done.chunks),
        uploaded_bytes=done.sent_bytes,
        reused_bytes=done.reused_bytes,
        objects_skipped=done.objects_skipped,
        changed=changed,
    )


def _prepare(files: Iterable[SourceFile] | AsyncIterable[SourceFile]) -> AsyncIterator[Prepared]:
    """Read small files ahead, several at once, in order; large ones are left to the packer."""
    return in_order(_reading(files), at_once=STREAMS)


async def _reading(
    files: Iterable[SourceFile] | AsyncIterable[SourceFile],
) -> AsyncIterator[Coroutine[Any, Any, Prepared]]:
    async for source in _each(files):
        check_path(source.path)
        yield _read(source)


async def _each(files: Iterable[SourceFile] | AsyncIterable[SourceFile]) -> AsyncIterator[SourceFile]:
    if isinstance(files, AsyncIterable):
        async for source in files:
            yield source
    else:
        for source in files:
            yield source


async def _read(source: SourceFile) -> Prepared:
    if source.size > CHUNKED_ABOVE:
        return Prepared(source)
    data, digest = await load(source)
    return Prepared(source, digest, data)
