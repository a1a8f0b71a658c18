"""The model repository as a folder that Triton shares.

    <repository>/<model>.v<N>/        its files read-only once it is there
        config.pbtxt  1/model.py      written by serving
        1/model.onnx                  copied from the package
        1/__pycache__                 an empty file, so that nobody can make the folder
        package.json  golden.json     copied from the package
        millrace.json                 digest of the package, and of each file here
    <repository>/.staging/            built aside; a rename makes the folder visible

A folder is used again only after all its files were hashed, so a half-written one (power loss) is made anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from blake3 import blake3

from millrace.clock import new_id
from millrace.errors import Unavailable
from millrace.failpoints import fp
from serving.adapters.packages import PackageFetcher, promises
from serving.adapters.triton_folder import MODEL_PY, config_pbtxt
from serving.application.ports import Installed
from serving.domain.endpoint import Spec
from serving.domain.names import is_backend_model
from serving.domain.package import GOLDEN, MANIFEST, MODEL, Signature
from serving.errors import BadPackage

_MARK = "millrace.json"
_NO_CACHE = "__pycache__"
"""A file of this name keeps Python from writing bytecode there, and a changed folder would be loaded again."""


class FolderRepository:
    """Version folders below one root."""

    def __init__(self, root: Path, packages: PackageFetcher, *, max_batch_size: int) -> None:
        self._root = root
        self._staging = root / ".staging"
        self._packages = packages
        self._max_batch_size = max_batch_size

    def prepare(self) -> None:
        """Make the folders, and sweep away what an earlier process left half-built."""
        shutil.rmtree(self._staging, ignore_errors=True)
        self._staging.mkdir(parents=True, exist_ok=True)

    async def find(self, backend: str) -> Installed | None:
        """Return the version folder if it is there and whole."""
        return await asyncio.to_thread(_find, self._root / _safe(backend), backend)

    async def install(self, spec: Spec) -> Installed:
        """Fetch, verify, build aside, rename. A whole folder of the same digest is kept as it is."""
        found = await self.find(spec.backend)
        if found is not None and found.digest == spec.digest:
            return found
        with _as_unavailable():
            return await self._install(spec)

    async def _install(self, spec: Spec) -> Installed:
        folder = self._staging / f"{spec.backend}.{new_id()}"
        try:
            await fp("deploy.P2.before")
            fetched, built = folder / "package", folder / "built"
            await asyncio.to_thread(fetched.mkdir, parents=True)
            signature, golden = await self._packages.fetch(spec, fetched)
            await fp("deploy.P2.during")
            await asyncio.to_thread(self._build, spec, signature, fetched, built)
            await fp("deploy.P2.after")
            await self.remove(spec.backend)
            await fp("deploy.P3.before")
            await asyncio.to_thread(_publish, built, self._root / spec.backend)
            await fp("deploy.P3.after")
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        return Installed(spec.backend, spec.digest, signature, golden, fresh=True)

    async def remove(self, backend: str) -> None:
        """Move a version folder away in one step, then delete it."""
        trash = self._staging / f"{_safe(backend)}.{new_id()}.gone"
        with _as_unavailable():
            await asyncio.to_thread(_remove, self._root / backend, trash)

    async def names(self) -> frozenset[str]:
        """Return the version folders that carry our mark."""
        with _as_unavailable():
            marked = await asyncio.to_thread(lambda: [mark.parent.name for mark in self._root.glob(f"*/{_MARK}")])
        return frozenset(name for name in marked if is_backend_model(name))

    def _build(self, spec: Spec, signature: Signature, fetched: Path, built: Path) -> None:
        version = built / "1"
        version.mkdir(parents=True)
        (fetched / MODEL).rename(version / MODEL)
        for name in (MANIFEST, GOLDEN):
            (fetched / name).rename(built / name)
        config = config_pbtxt(spec.backend, signature, max_batch_size=self._max_batch_size, digest=spec.digest)
        (built / "config.pbtxt").write_text(config, encoding="utf-8")
        (version / "model.py").write_text(MODEL_PY, encoding="utf-8")
        (version / _NO_CACHE).touch()
        files = {str(path.relative_to(built)): _digest(path) for path in _files(built)}
        (built / _MARK).write_text(json.dumps({"digest": spec.digest, "files": files}), encoding="utf-8")
        _seal(built)


@contextlib.contextmanager
def _as_unavailable() -> Iterator[None]:
    """Say of a full or broken disk what it is: a reason to wait, not the package's fault."""
    try:
        yield
    except OSError as error:
        raise Unavailable(f"the model repository cannot be written: {error.strerror}") from error


def _safe(backend: str) -> str:
    if not is_backend_model(backend):
        raise BadPackage(f"no name of a version folder: {backend[:80]!r}")
    return backend


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != _MARK)


def _digest(path: Path) -> str:
    return blake3().update_mmap(path).hexdigest()


def _seal(folder: Path) -> None:
    """Make the files read-only and everything durable, innermost first. Whoever owns the folder can still delete it."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_file():
            path.chmod(0o444)
        _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _publish(built: Path, target: Path) -> None:
    built.rename(target)
    _sync(target.parent)


def _remove(folder: Path, trash: Path) -> None:
    try:
        folder.rename(trash)
    except FileNotFoundError:
        return
    shutil.rmtree(trash, ignore_errors=True)


def _find(folder: Path, backend: str) -> Installed | None:
    try:
        mark: Any = json.loads((folder / _MARK).read_bytes())
        files = {str(path.relative_to(folder)): _digest(path) for path in _files(folder)}
        if files != mark["files"]:
            return None
        signature, golden = promises(folder)
        return Installed(backend, str(mark["digest"]), signature, golden)
    except (OSError, ValueError, KeyError, TypeError, BadPackage):
        return None
