"""Bringing files into the lake as a new version's packs, chunks and manifest. The commit itself is the catalog's.

The order is packs and chunks, then the manifest: whoever sees a manifest finds everything that it names. Every object
is named by its content and written create-only, so a push that broke off is simply pushed again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from millrace.clock import SystemClock
from millrace.datasets.builder import ManifestBuilder
from millrace.datasets.keys import check_project
from millrace.datasets.known import KnownBlobs
from millrace.datasets.limits import CHUNKED_ABOVE, MIB
from millrace.datasets.manifest import Manifest
from millrace.datasets.packer import Packer, Uploaded
from millrace.datasets.paths import check_path, collisions, refuse
from millrace.datasets.progress import Meter, ProgressCallback
from millrace.datasets.scan import Scanned, scan
from millrace.datasets.sources import Prepared, SourceFile, load, local_file, read_local
from millrace.datasets.statcache import StatCache
from millrace.datasets.stored import save_manifest
from millrace.objects.port import ObjectStore

BATCH_FILES, BATCH_BYTES = 256, 4 * MIB
READ_AHEAD = 6
"""Batches that are read and hashed ahead of the packer: at most about 50 MiB."""

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
) -> PushResult:
    """Push the folder `root`; `parent` is the version it probably resembles.

    With `dry_run` nothing is sent: the result says what would be. Files that were hashed before are recognised by
    `stat_cache` and not read again unless their bytes are wanted.

    Raises:
        Refused: links, devices, bad or clashing names.
        Changed: a file changed while it was read.
    """
    check_project(project)
    now_ns = int(SystemClock().now().timestamp() * 1e9)
    files = await asyncio.to_thread(_scan, root)
    meter = Meter(progress, files=len(files), total=sum(item.found.stat.st_size for item in files))
    prepared = _prepare_local(files, stat_cache, now_ns)
    return await _push(prepared, store, project, parent, meter, base=None, dry_run=dry_run)


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
    return await _push(_prepare(files), store, project, parent, Meter(progress), base=None, dry_run=False)


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
    return await _push(_prepare(files), store, project, parent, Meter(progress), base=parent, dry_run=False)


def _scan(root: Path) -> list[Scanned]:
    files = scan(root)
    refuse(collisions(item.path for item in files))
    return files


async def _push(
    prepared: AsyncIterator[Prepared],
    store: ObjectStore,
    project: str,
    parent: Manifest | None,
    meter: Meter,
    *,
    base: Manifest | None,
    dry_run: bool,
) -> PushResult:
    builder = ManifestBuilder()
    packer = Packer(store, project, builder, KnownBlobs(parent), meter, dry_run=dry_run)
    try:
        paths = set()
        async for item in prepared:
            if base is not None:
                paths.add(item.source.path)
            await packer.add(item)
        done = await packer.finish()
    except BaseException:
        await packer.abort()
        raise
    for entry in base.entries() if base is not None else ():
        if entry.path not in paths:
            builder.add_entry(entry, None if entry.pack is None or base is None else base.packs[entry.pack])
    manifest = await asyncio.to_thread(builder.build)
    changed = parent is None or manifest.tree_root != parent.tree_root
    if not changed and parent is not None:
        manifest = parent
    elif not dry_run:
        await save_manifest(store, project, manifest)
    meter.finish()
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


async def _prepare(files: Iterable[SourceFile] | AsyncIterable[SourceFile]) -> AsyncIterator[Prepared]:
    """Read small files ahead, several at once, in order; large ones are left to the packer."""
    ahead: deque[asyncio.Task[Prepared]] = deque()
    try:
        async for source in _each(files):
            check_path(source.path)
            ahead.append(asyncio.create_task(_read(source)))
            if len(ahead) >= STREAMS:
                yield await ahead.popleft()
        while ahead:
            yield await ahead.popleft()
    finally:
        for task in ahead:
            task.cancel()
        await asyncio.gather(*ahead, return_exceptions=True)


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
    data, digest = await load(source, None)
    return Prepared(source, digest, data)


async def _prepare_local(files: list[Scanned], stat_cache: StatCache | None, now_ns: int) -> AsyncIterator[Prepared]:
    """Look digests up, read and hash the rest in threads, a few batches ahead, and keep the order of the scan."""
    ahead: deque[asyncio.Task[list[Prepared]]] = deque()
    try:
        for batch in _batches(files):
            known = [None if stat_cache is None else stat_cache.find(item.found.stat, now_ns=now_ns) for item in batch]
            ahead.append(asyncio.create_task(_hash(batch, known, stat_cache, now_ns)))
            if len(ahead) >= READ_AHEAD:
                for item in await ahead.popleft():
                    yield item
        while ahead:
            for item in await ahead.popleft():
                yield item
    finally:
        for task in ahead:
            task.cancel()
        await asyncio.gather(*ahead, return_exceptions=True)


def _batches(files: list[Scanned]) -> Iterable[list[Scanned]]:
    batch: list[Scanned] = []
    weight = 0
    for item in files:
        batch.append(item)
        weight += min(item.found.stat.st_size, CHUNKED_ABOVE)
        if len(batch) >= BATCH_FILES or weight >= BATCH_BYTES:
            yield batch
            batch, weight = [], 0
    if batch:
        yield batch


async def _hash(
    batch: list[Scanned], known: list[bytes | None], stat_cache: StatCache | None, now_ns: int
) -> list[Prepared]:
    if None not in known:
        return [Prepared(local_file(item.path, item.found), digest) for item, digest in zip(batch, known, strict=True)]
    prepared = await asyncio.to_thread(_hash_batch, batch, known, stat_cache, now_ns)
    if stat_cache is not None:
        fresh = [
            (item.found.stat, ready.digest)
            for item, ready, digest in zip(batch, prepared, known, strict=True)
            if digest is None and ready.digest is not None
        ]
        stat_cache.remember(fresh, now_ns=now_ns)
    return prepared


def _hash_batch(
    batch: list[Scanned], known: list[bytes | None], stat_cache: StatCache | None, now_ns: int
) -> list[Prepared]:
    prepared = []
    for item, digest in zip(batch, known, strict=True):
        source = local_file(item.path, item.found)
        if digest is not None:
            prepared.append(Prepared(source, digest))
        elif source.size > CHUNKED_ABOVE:
            prepared.append(Prepared(source, hashed=_rememberer(item, stat_cache, now_ns)))
        else:
            data = read_local(item.found, 0, source.size) if source.size else b""
            prepared.append(Prepared(source, blake3(data).digest(), data))
    return prepared


def _rememberer(item: Scanned, stat_cache: StatCache | None, now_ns: int) -> Callable[[bytes], None]:
    def remember(digest: bytes) -> None:
        if stat_cache is not None:
            stat_cache.remember([(item.found.stat, digest)], now_ns=now_ns)

    return remember
