"""Bringing what a run made to the object store: checkpoints by manifest, packages and references by digest."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import structlog
from blake3 import blake3

from millrace.errors import Corrupt, Invalid, MillraceError
from millrace.events.envelope import canonical_json
from millrace.failpoints import fp
from millrace.objects import ObjectStore
from millrace.packages import package_digest, package_prefix
from trainer.domain.jobs import Artifact, Checkpoint, Job

log = structlog.get_logger(__name__)

MAX_FILES = 64
MAX_FILE_BYTES = 2 * 1024**3
REQUIRED = ("package.json", "model.onnx", "golden.json")
MANIFEST = "manifest.json"

Entry = dict[str, Any]


async def store_checkpoint(store: ObjectStore, job: Job, epoch: int, folder: Path) -> Checkpoint:
    """Upload a checkpoint folder, its manifest last and create-only.

    Raises:
        Invalid: not a plain folder of files. Unavailable: later.
    """
    prefix = f"{job.project}/runs/{job.run}/{job.fence}/checkpoint-{epoch}"
    await fp("train.T5.before")
    files = await _upload(store, prefix, folder, during="train.T5.during")
    await fp("train.T5.after")
    facts = {"run": job.run, "fence": job.fence, "epoch": epoch, "dataset": job.dataset, "commit": job.commit}
    manifest = canonical_json({"format": 1, "files": files, "component": job.component, **facts})
    await fp("train.T6.before")
    key = f"{prefix}/{MANIFEST}"
    if not await store.put(key, manifest, create_only=True):
        manifest = await store.get(key)
    await fp("train.T6.during")
    return Checkpoint(epoch, job.fence, key, blake3(manifest).hexdigest())


async def fetch_checkpoint(store: ObjectStore, checkpoint: Checkpoint, folder: Path) -> None:
    """Write a checkpoint's verified files into `folder`.

    Raises:
        Corrupt: bytes do not match their digests. NotFound, Unavailable.
    """
    raw = await store.get(checkpoint.manifest)
    if blake3(raw).hexdigest() != checkpoint.digest:
        raise Corrupt(f"the manifest of checkpoint {checkpoint.epoch} does not match its digest")
    prefix = checkpoint.manifest.removesuffix(f"/{MANIFEST}")
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    for entry in json.loads(raw)["files"]:
        data = await store.get(f"{prefix}/{entry['path']}")
        if blake3(data).hexdigest() != entry["digest"]:
            raise Corrupt(f"{entry['path']} of checkpoint {checkpoint.epoch} does not match its digest")
        await asyncio.to_thread((folder / entry["path"]).write_bytes, data)


async def store_package(
    store: ObjectStore, job: Job, folder: Path, reference: Path | None, metrics: dict[str, float]
) -> Artifact:
    """Upload a model package and its drift reference under their digests.

    Raises:
        Invalid: the package is not complete. Unavailable: later.
    """
    listed = await asyncio.to_thread(_list, folder)
    missing = [name for name in REQUIRED if name not in {entry["path"] for entry in listed}]
    if missing:
        raise Invalid(f"the model package has no {missing[0]}")
    about = await asyncio.to_thread(_json, folder / "package.json")
    digest = package_digest((entry["path"], entry["digest"], entry["size"]) for entry in listed)
    prefix = package_prefix(job.project, digest)
    await fp("train.T8.before")
    await _upload(store, prefix, folder, during="train.T8.during")
    key = await _store_reference(store, job.project, reference)
    framework, signature = about.get("framework", "unknown"), about.get("signature", {})
    return Artifact(digest, prefix, tuple(listed), str(framework)[:64], signature, metrics, key)


async def _store_reference(store: ObjectStore, project: str, path: Path | None) -> str | None:
    if path is None:
        return None
    raw = await asyncio.to_thread(path.read_bytes)
    key = f"{project}/references/{blake3(raw).hexdigest()}"
    await store.put(key, raw, create_only=True)
    return key


async def _upload(store: ObjectStore, prefix: str, folder: Path, *, during: str) -> list[Entry]:
    listed = await asyncio.to_thread(_list, folder)
    for entry in listed:
        data = await asyncio.to_thread((folder / entry["path"]).read_bytes)
        if blake3(data).hexdigest() != entry["digest"]:
            raise Invalid(f"{entry['path']} changed while it was stored")
        await store.put(f"{prefix}/{entry['path']}", data)
        await fp(during)
    return listed


def _list(folder: Path) -> list[Entry]:
    """Return path, digest and size of the plain files of a folder, sorted by path."""
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise Invalid(f"{folder.name} cannot be read: {error.strerror}") from None
    if not 0 < len(paths) <= MAX_FILES or any(path.is_symlink() or not path.is_file() for path in paths):
        raise Invalid(f"{folder.name} is no folder of 1 to {MAX_FILES} plain files")
    if any(path.stat().st_size > MAX_FILE_BYTES for path in paths):
        raise Invalid(f"{folder.name} holds a file larger than {MAX_FILE_BYTES} bytes")
    return [_entry(path) for path in paths]


def _entry(path: Path) -> Entry:
    raw = path.read_bytes()
    return {"path": path.name, "digest": blake3(raw).hexdigest(), "size": len(raw)}


def _json(path: Path) -> Entry:
    try:
        document = json.loads(path.read_bytes())
    except ValueError:
        raise Invalid(f"{path.name} is not valid JSON") from None
    if not isinstance(document, dict):
        raise Invalid(f"{path.name} is no object")
    return document


class CheckpointUploads:
    """Uploads the newest checkpoint that was offered, one at a time; older ones that still wait are skipped."""

    def __init__(self, upload: Callable[[int, Path], Awaitable[None]], discard: Callable[[Path], None]) -> None:
        self._upload = upload
        self._discard = discard
        self._newest: tuple[int, Path] | None = None
        self._wanted = asyncio.Event()
        self._turn = asyncio.Lock()

    def offer(self, epoch: int, folder: Path) -> None:
        """Take over a folder that nobody else writes to; returns at once."""
        if self._newest is not None:
            self._discard(self._newest[1])
        self._newest = (epoch, folder)
        self._wanted.set()

    async def run(self) -> None:
        """Upload for ever; one that fails is tried again unless a newer one came."""
        delay = 0.2
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                await self.flush()
            except MillraceError as error:
                log.warning("checkpoint not stored", reason=error.message)
                if error.transient:
                    await asyncio.sleep(delay)
                    delay = min(delay * 2, 10.0)
                    self._wanted.set()
            else:
                delay = 0.2

    async def flush(self) -> None:
        """Upload what was offered last, if it is not stored yet."""
        async with self._turn:
            offered = self._newest
            if offered is None:
                return
            await self._upload(*offered)
            if self._newest is offered:
                self._newest = None
            self._discard(offered[1])
