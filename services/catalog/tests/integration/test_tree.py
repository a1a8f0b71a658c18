"""Folders, differences and zips of versions over HTTP, on real servers."""

from __future__ import annotations

import asyncio
import contextlib
import io
import socket
import zipfile
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import uvicorn

from catalog.adapters.version_files import LakeFiles, Remembered
from catalog.application.files import media_type
from catalog.entrypoints.routes.files import ARCHIVES
from catalog.entrypoints.sending import Slots
from millrace.datasets.keys import pack_key
from millrace.datasets.push import push
from millrace.datasets.stored import load_manifest
from millrace.errors import Exhausted

pytestmark = [pytest.mark.servers, pytest.mark.timeout(120)]
FIRST = {"a.txt": b"1", "train/0/x.png": b"22", "train/0/y.png": b"333", "train/1/z.dcm": b"4444", "gone": b"5"}
SECOND = {key: data for key, data in FIRST.items() if key != "gone"} | {"a.txt": b"changed", "new/é.csv": b"666666"}
V1, V2 = "/v1/datasets/digits/versions/1", "/v1/datasets/digits/versions/2"


async def commit(gateway: Any, files: dict[str, bytes], parent: str | None = None) -> dict[str, Any]:
    folder = gateway.folder / f"tree-{len(files)}-{parent}"
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    answer = await gateway.commit(await push(folder, gateway.parts.store, project="default"), parent)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.fixture
async def versions(gateway: Any) -> Any:
    await gateway.call("PUT", "/v1/datasets/digits", json={})
    first = await commit(gateway, FIRST)
    await commit(gateway, SECOND, first["commit"])
    return gateway


async def ask(gateway: Any, path: str, **params: Any) -> Any:
    answer = await gateway.call("GET", path, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_level_names_its_folders_and_files(versions: Any) -> None:
    top = await ask(versions, f"{V1}/tree")
    assert (top["prefix"], top["files"], top["bytes"], top["next"]) == ("", 5, 11, None)
    assert [(item["kind"], item["name"]) for item in top["items"]] == [
        ("folder", "train"),
        ("file", "a.txt"),
        ("file", "gone"),
    ]
    assert top["items"][0] == {"kind": "folder", "name": "train", "path": "train/", "files": 3, "bytes": 9}
    below = await ask(versions, f"{V1}/tree", prefix="train/1")
    assert [(item["path"], item["size"], item["media_type"]) for item in below["items"]] == [
        ("train/1/z.dcm", 4, "application/dicom")
    ]
    only = await ask(versions, f"{V1}/tree", prefix="train/0/y.png")
    assert (only["prefix"], [item["size"] for item in only["items"]]) == ("train/0/", [3])
    names: list[str] = []
    after: str | None = None
    while True:
        page = await ask(versions, f"{V1}/tree", limit=1, **({"after": after} if after else {}))
        names += [item["name"] for item in page["items"]]
        if (after := page["next"]) is None:
            break
    assert names == ["train", "a.txt", "gone"]


async def test_a_difference_counts_and_names_what_changed(versions: Any) -> None:
    found = await ask(versions, "/v1/datasets/digits/diff", **{"from": "1", "to": "2"})
    assert (found["from"], found["to"], found["next"]) == (1, 2, None)
    assert found["added"] == {"files": 1, "bytes": 6, "bytes_before": 0}
    assert found["removed"] == {"files": 1, "bytes": 0, "bytes_before": 1}
    assert found["changed"] == {"files": 1, "bytes": 7, "bytes_before": 1}
    assert [(item["path"], item["change"], item["size"], item["size_before"]) for item in found["items"]] == [
        ("a.txt", "changed", 7, 1),
        ("gone", "removed", None, 1),
        ("new/é.csv", "added", 6, None),
    ]
    page = await ask(versions, "/v1/datasets/digits/diff", **{"from": "1", "limit": 2})
    rest = await ask(versions, "/v1/datasets/digits/diff", **{"from": "1", "limit": 2, "after": page["next"]})
    assert [item["path"] for item in rest["items"]] == ["new/é.csv"]
    only = await ask(versions, "/v1/datasets/digits/diff", **{"from": "1", "change": "removed"})
    assert [item["path"] for item in only["items"]] == ["gone"]
    same = await ask(versions, "/v1/datasets/digits/diff", **{"from": "2", "to": "latest"})
    assert same["items"] == []


async def test_a_version_and_a_folder_come_as_zips(versions: Any) -> None:
    whole = await versions.call("GET", f"{V2}/archive.zip")
    assert (whole.status_code, whole.headers["content-type"]) == (200, "application/zip")
    assert int(whole.headers["content-length"]) == len(whole.content)
    assert whole.headers["content-disposition"] == "attachment; filename*=UTF-8''digits-2.zip"
    with zipfile.ZipFile(io.BytesIO(whole.content)) as found:
        assert {name: found.read(name) for name in found.namelist()} == SECOND
    part = await versions.call("GET", f"{V2}/archive.zip", params={"prefix": "train/0/"})
    assert part.headers["content-disposition"].endswith("digits-2-train-0.zip")
    with zipfile.ZipFile(io.BytesIO(part.content)) as found:
        assert found.namelist() == ["train/0/x.png", "train/0/y.png"]
    assert part.headers["etag"] != whole.headers["etag"]
    known = await versions.call("GET", f"{V2}/archive.zip", headers={"if-none-match": whole.headers["etag"]})
    assert (known.status_code, known.content) == (304, b"")
    head = await versions.call("HEAD", f"{V2}/archive.zip")
    assert (head.headers["content-length"], head.content) == (whole.headers["content-length"], b"")


async def test_the_head_of_a_file_says_what_its_get_would(versions: Any) -> None:
    for headers in ({}, {"range": "bytes=1-2"}):
        head = await versions.call("HEAD", f"{V1}/files/train/0/y.png", headers=headers)
        got = await versions.call("GET", f"{V1}/files/train/0/y.png", headers=headers)
        assert (head.status_code, head.content) == (got.status_code, b"")
        for name in ("content-length", "etag", "accept-ranges", "content-disposition"):
            assert head.headers[name] == got.headers[name], name
    assert (await versions.call("HEAD", f"{V1}/files/nothing")).status_code == 404
    assert (await versions.call("HEAD", f"{V1}/files/a.txt", who=None)).status_code == 401


@pytest.mark.parametrize(
    ("path", "params", "status"),
    [
        (f"{V1}/tree", {"prefix": "nothing/"}, 404),
        (f"{V1}/tree", {"prefix": "../"}, 400),
        (f"{V1}/tree", {"prefix": "a.txt/"}, 404),
        (f"{V1}/tree", {"prefix": "x" * 5_000}, 400),
        (f"{V1}/tree", {"prefix": "\0"}, 400),
        (f"{V1}/tree", {"after": "x"}, 400),
        (f"{V1}/tree", {"limit": 0}, 400),
        (f"{V1}/archive.zip", {"prefix": "nothing"}, 404),
        (f"{V1}/archive.zip", {"prefix": "/"}, 400),
        ("/v1/datasets/digits/diff", {}, 400),
        ("/v1/datasets/digits/diff", {"from": "9"}, 404),
        ("/v1/datasets/digits/diff", {"from": "1", "change": "moved"}, 400),
        ("/v1/datasets/digits/diff", {"from": "1", "after": "-1"}, 400),
        ("/v1/datasets/digits/diff", {"from": "1", "after": "99"}, 200),
        ("/v1/datasets/other/versions/1/tree", {}, 404),
        ("/v1/datasets/other/versions/1/archive.zip", {}, 404),
    ],
)
async def test_wrong_questions_get_a_problem(versions: Any, path: str, params: dict[str, Any], status: int) -> None:
    answer = await versions.call("GET", path, params=params)
    assert answer.status_code == status, answer.text
    if status != 200:
        assert answer.headers["content-type"] == "application/problem+json"
    assert (await versions.call("GET", path, params=params, who=None)).status_code == 401
    assert (await versions.call("GET", path, params=params, who="foreigner")).status_code == 404
    assert (await versions.call("GET", path, params=params, who="etl")).status_code == 403


@contextlib.asynccontextmanager
async def served(app: Any) -> AsyncIterator[str]:
    """The app behind a real server on a free port; what runs behind it does not."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None))
        task = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task


async def test_a_damaged_file_breaks_the_connection(gateway: Any) -> None:
    """Damage in what comes first is said in words; later the connection breaks, and no zip ends well."""
    await gateway.call("PUT", "/v1/datasets/digits", json={})
    files = {f"{number}": bytes([number]) * 5_000_000 for number in range(9)}
    version = await commit(gateway, files)
    manifest = await load_manifest(gateway.parts.store, "default", version["manifest"])
    await damage(gateway, manifest, 8)
    got = bytearray()

    async def fetch() -> None:
        headers = {"authorization": f"Bearer {gateway.tokens['viewer']}"}
        async with (
            served(gateway.app) as url,
            httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as client,
            client.stream("GET", f"{V1}/archive.zip") as answer,
        ):
            assert answer.status_code == 200
            async for part in answer.aiter_bytes():
                got.extend(part)

    with pytest.raises(httpx.RemoteProtocolError):
        await fetch()
    assert 0 < len(got) < 45_000_000
    with pytest.raises(zipfile.BadZipFile):
        zipfile.ZipFile(io.BytesIO(got))
    await damage(gateway, manifest, 0)
    said = await gateway.call("GET", f"{V1}/archive.zip")
    assert (said.status_code, said.json()["code"]) == (500, "corrupt")


async def damage(gateway: Any, manifest: Any, row: int) -> None:
    """Change one bit of a file in its pack."""
    entry, store = manifest.entry(row), gateway.parts.store
    key = pack_key("default", manifest.packs[entry.pack].id)
    data = bytearray(await store.get(key))
    data[entry.offset + 7] ^= 1
    await store.put(key, bytes(data))


async def test_a_slot_is_free_again_when_a_reader_goes_away(versions: Any) -> None:
    free = ARCHIVES._free
    headers = {"authorization": f"Bearer {versions.tokens['viewer']}"}
    async with served(versions.app) as url, httpx.AsyncClient(base_url=url, headers=headers) as client:
        for _ in range(3):
            async with client.stream("GET", f"{V2}/archive.zip") as answer:
                assert answer.status_code == 200
    deadline = asyncio.get_running_loop().time() + 10
    while ARCHIVES._free != free:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.02)


async def test_manifests_are_forgotten_by_their_size(versions: Any) -> None:
    files = LakeFiles(versions.parts.store, manifest_bytes=1)
    version = await versions.parts.catalog.documents.versions.find({"project": "default"}, order="version")
    for one in version:
        assert (await files.level(one, "", after=None, limit=10)).total_files == 5
    assert len(files._manifests._known) == 1


def test_what_is_remembered_stays_below_its_limit() -> None:
    class Thing:
        nbytes = 10

    kept: Remembered[Thing] = Remembered(25)
    for name in "abc":
        kept.keep((name,), Thing())
        kept.get(("a",))
    assert [name for name in "abc" if kept.get((name,))] == ["a", "c"]


def test_slots_are_counted() -> None:
    slots = Slots(1, "things are done")
    with slots.one(), pytest.raises(Exhausted), slots.one():
        pass
    with slots.one():
        pass


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("a/b.PNG", "image/png"),
        ("a.dcm", "application/dicom"),
        ("a", "application/octet-stream"),
        (".png", "image/png"),
        ("x.y/z", "application/octet-stream"),
        ("t.csv", "text/csv"),
    ],
)
def test_media_types_are_guessed_from_names(path: str, kind: str) -> None:
    assert media_type(path) == kind
