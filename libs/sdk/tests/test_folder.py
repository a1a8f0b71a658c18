from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from fastapi.responses import JSONResponse

from millrace.datasets import folder_push, limits
from millrace.datasets.keys import pack_key
from millrace.datasets.stored import load_manifest
from millrace.errors import Conflict, Forbidden, Invalid, MillraceError, NotFound, Unavailable
from millrace.objects.s3 import S3ObjectStore
from millrace_sdk import folder
from millrace_sdk.client import AsyncCatalog
from millrace_sdk.folder import Config, WorkingCopy
from millrace_sdk.presigned import PresignedObjectStore

from .gateway import Gateway

pytestmark = pytest.mark.servers
T = TypeVar("T")
CHANCE = random.Random(11)
FILES = {f"train/{index % 3}/{index:03d}.png": CHANCE.randbytes(400) for index in range(60)}
BIG = CHANCE.randbytes(limits.CHUNK + 70_000)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    root = tmp_path / "digits"
    for path, data in FILES.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    folder.write(root, Config("digits"))
    return root


def run(root: Path, work: Callable[[WorkingCopy], Awaitable[T]]) -> T:
    async def go(copy: WorkingCopy) -> T:
        return await work(copy)

    return folder.run(root, folder.read(root), go)


def read(root: Path) -> dict[str, bytes]:
    found = {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    return {path: data for path, data in found.items() if not path.startswith(".millrace-data/")}


def test_a_folder_goes_to_the_lake_and_comes_back(lakeside: Gateway, copy: Path, tmp_path: Path) -> None:
    (copy / "big").write_bytes(BIG)
    first = run(copy, lambda it: it.sync("first"))
    assert (first.version, first.files, first.changed) == (1, 61, True)
    again = run(copy, lambda it: it.sync("again"))
    assert (again.version, again.uploaded_bytes, again.changed) == (1, 0, False)
    (copy / "train/0/000.png").write_bytes(b"changed")
    (copy / "train/1/001.png").unlink()
    (copy / "new.png").write_bytes(b"new")
    head, difference = run(copy, lambda it: it.status())
    assert head is not None
    assert head["version"] == 1
    assert (difference.added, difference.removed, difference.changed) == (
        ("new.png",),
        ("train/1/001.png",),
        ("train/0/000.png",),
    )
    second = run(copy, lambda it: it.sync("second"))
    assert second.version == 2
    assert second.uploaded_bytes < 1_000
    assert lakeside.versions[1]["parent"] == first.commit
    for version, expected in ((1, FILES | {"big": BIG}), (2, read(copy))):
        target = tmp_path / f"pulled-{version}"
        done = run(copy, lambda it, version=version, target=target: it.pull(version, target))  # type: ignore[misc]
        assert done["version"] == version
        assert read(target) == expected
        assert run(copy, lambda it, version=version, target=target: it.verify(version, target)).clean  # type: ignore[misc]


def test_a_broken_sync_goes_on(lakeside: Gateway, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_push, "PACK_TARGET", 4_096)
    monkeypatch.setattr("millrace.datasets.statcache.RACY_NS", -(10**12))
    (copy / "big").write_bytes(BIG)
    real = PresignedObjectStore.put
    arrived = 0

    async def failing(self: PresignedObjectStore, key: str, data: bytes, *, create_only: bool = False) -> bool:
        nonlocal arrived
        if arrived >= 3:
            raise Unavailable("away")
        new = await real(self, key, data, create_only=create_only)
        arrived += 1
        return new

    monkeypatch.setattr(PresignedObjectStore, "put", failing)
    with pytest.raises(Unavailable):
        run(copy, lambda it: it.sync("first"))
    monkeypatch.setattr(PresignedObjectStore, "put", real)
    done = run(copy, lambda it: it.sync("first"))
    assert done.files == 61
    assert done.uploaded_bytes < len(BIG) + sum(map(len, FILES.values())) - 4_096


def test_a_folder_that_is_occupied_is_left_alone(lakeside: Gateway, copy: Path, tmp_path: Path) -> None:
    run(copy, lambda it: it.sync("first"))
    with pytest.raises(Conflict):
        run(copy, lambda it: it.pull("latest", copy))
    (tmp_path / "empty").mkdir()
    run(copy, lambda it: it.pull("latest", tmp_path / "empty"))
    assert read(tmp_path / "empty") == FILES


def test_a_copy_belongs_to_one_dataset(tmp_path: Path) -> None:
    folder.write(tmp_path, Config("a"))
    folder.write(tmp_path, Config("a"))
    with pytest.raises(Conflict):
        folder.write(tmp_path, Config("b"))
    assert folder.find(tmp_path / "here") == tmp_path
    (tmp_path / ".millrace-data/config.json").write_text("{")
    with pytest.raises(Invalid):
        folder.read(tmp_path)
    with pytest.raises(NotFound):
        folder.find(Path("/"))


def test_the_store_does_only_what_a_push_and_a_pull_need(lakeside: Gateway, lake: S3ObjectStore) -> None:
    key = "default/packs/ab/" + "ab" * 32

    async def main() -> None:
        async with AsyncCatalog() as catalog:
            store = PresignedObjectStore(catalog, "digits")
            assert await store.head(key) is None
            assert await store.put(key, b"0123456789", create_only=True) is True
            assert await store.put(key, b"other", create_only=True) is False
            found = await store.head(key)
            assert found is not None
            refused: list[tuple[Any, type[MillraceError]]] = [
                (store.put(key, b"x"), Invalid),
                (store.put("default/secrets/x", b"x", create_only=True), Invalid),
                (store.put(f"default/commits/{'ab' * 32}", b"x", create_only=True), Invalid),
                (store.get(key), Invalid),
                (store.delete(key), Forbidden),
            ]
            for call, error in refused:
                with pytest.raises(error):
                    await call
            with pytest.raises(Forbidden):
                store.list("default/")
            await store.aclose()

    asyncio.run(main())


def test_ranges_of_a_version_are_exact(lakeside: Gateway, copy: Path) -> None:
    run(copy, lambda it: it.sync("first"))

    async def main() -> None:
        async with AsyncCatalog() as catalog:
            store = PresignedObjectStore(catalog, "digits", ref=1)
            assert lakeside.store is not None
            manifest = await load_manifest(lakeside.store, "default", lakeside.versions[0]["manifest"])
            keys = [pack_key("default", pack.id) for pack in manifest.packs]
            whole = await store.get(keys[0])
            wanted = [(5, 10), (0, 0), (len(whole) - 1, 1), (7, 3)]
            assert list(await store.get_ranges(keys[0], wanted)) == [whole[at : at + size] for at, size in wanted]
            head = await store.head(keys[0])
            assert head is not None
            assert head.size == len(whole)
            with pytest.raises(Invalid):
                await store.get_range(keys[0], len(whole) - 1, 2)
            with pytest.raises(NotFound):
                await store.get("default/packs/cd/" + "cd" * 32)
            await store.aclose()

    asyncio.run(main())


def test_hostile_names_are_named(lakeside: Gateway, copy: Path) -> None:
    (copy / "link").symlink_to(os.devnull)
    with pytest.raises(Invalid, match="'link'"):
        run(copy, lambda it: it.sync("first"))


def test_what_the_lake_lost_before_the_commit_is_pushed_again(lakeside: Gateway, copy: Path) -> None:
    """Garbage collection may take what a push found there; the commit says so, and the push is made again."""
    app = lakeside.app
    lost: list[str] = []

    @app.middleware("http")
    async def lose(request: Any, go_on: Any) -> Any:
        if request.url.path.endswith("/commits") and not lost:
            body = await request.json()
            lost.extend(body["packs"])
            for pack in lost:
                await lakeside.lake.delete(pack_key("default", pack))
            return JSONResponse({"detail": "gone", "code": "object-missing", "missing": lost[:1]}, 400)
        return await go_on(request)

    done = run(copy, lambda it: it.sync("first"))
    assert (done.changed, done.version) == (True, 1)
    assert lost
    found = run(copy, lambda it: it.verify_lake(1))
    assert found.clean
