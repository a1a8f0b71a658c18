"""The same commands on an encrypted project: what arrives in the lake is sealed, what is read is plain."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from blake3 import blake3

from millrace.datasets import limits
from millrace.errors import Conflict, Corrupt, Forbidden
from millrace.objects import ObjectStore
from millrace.objects.s3 import S3ObjectStore
from millrace.sealing import ProjectKey
from millrace_sdk import Dataset, folder
from millrace_sdk.client import AsyncCatalog
from millrace_sdk.exporting import export
from millrace_sdk.folder import Config
from millrace_sdk.gateway_store import GatewayStore
from millrace_sdk.presigned import PresignedObjectStore

from .gateway import Gateway
from .test_folder import read, run

pytestmark = pytest.mark.servers

CHANCE = random.Random(18)
NAME = "Mustermann-Erika-19430117"
FILES = {f"{NAME}/{index}.txt": f"{NAME} {index}".encode() * 50 for index in range(20)}
FILES["big.bin"] = CHANCE.randbytes(limits.CHUNKED_ABOVE + limits.CHUNK)


@pytest.fixture
def encrypted(lakeside: Gateway) -> Gateway:
    lakeside.key = ProjectKey.new("default")
    return lakeside


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    root = tmp_path / "wards"
    for path, data in FILES.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    folder.write(root, Config("digits"))
    return root


async def everything(store: ObjectStore) -> dict[str, bytes]:
    return {info.key: await store.get(info.key) async for info in store.list("")}


def test_push_pull_verify_read_and_export(
    encrypted: Gateway, copy: Path, tmp_path: Path, lake: S3ObjectStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(copy, lambda it: it.sync("first")).files == len(FILES)
    again = run(copy, lambda it: it.sync("again"))
    assert (again.changed, again.uploaded_bytes) == (False, 0)
    (copy / "new.txt").write_bytes(b"new")
    assert run(copy, lambda it: it.sync("second")).version == 2
    run(copy, lambda it: it.pull(1, tmp_path / "one"))
    assert read(tmp_path / "one") == FILES
    assert run(copy, lambda it: it.verify(1, tmp_path / "one")).clean
    assert run(copy, lambda it: it.verify_lake(2)).clean
    with Dataset.open("digits@2") as dataset:
        assert dataset.read("new.txt") == b"new"
        assert dataset.read_range("big.bin", limits.CHUNK - 5, 10) == FILES["big.bin"][limits.CHUNK - 5 :][:10]
        export(dataset, str(tmp_path / "all.tar"))
    stored = asyncio.run(everything(lake))
    assert stored
    for key, data in stored.items():
        assert key.startswith("default/sealed/")
        assert NAME.encode() not in data
        for content in FILES.values():
            assert blake3(content).hexdigest() not in key
            assert blake3(content).digest() not in data
    asked = [path for method, path, _ in encrypted.requests if "encryption" in path]
    assert asked[:2] == ["/v1/encryption", "/v1/encryption/key"]
    assert encrypted.key is not None
    assert encrypted.key.text not in "".join(capsys.readouterr())


def test_damage_is_named(encrypted: Gateway, copy: Path, tmp_path: Path, lake: S3ObjectStore) -> None:
    run(copy, lambda it: it.sync("first"))

    async def damage() -> None:
        async for info in lake.list("default/sealed/packs/"):
            data = bytearray(await lake.get(info.key))
            data[len(data) // 2] ^= 1
            await lake.put(info.key, data)

    asyncio.run(damage())
    found = run(copy, lambda it: it.verify_lake(1))
    assert found.damaged[0].object.startswith("packs/")
    assert len(found.damaged[0].paths) == len(FILES) - 1
    with pytest.raises(Corrupt):
        run(copy, lambda it: it.pull(1, tmp_path / "one"))
    assert not (tmp_path / "one").exists()


def test_who_does_not_seal_sends_nothing(encrypted: Gateway, copy: Path) -> None:
    key = f"default/chunks/{blake3(b'x').hexdigest()[:2]}/{blake3(b'x').hexdigest()}"

    async def main() -> None:
        async with AsyncCatalog() as catalog:
            plain = PresignedObjectStore(catalog, "digits")
            with pytest.raises(Conflict, match="encrypted"):
                await plain.put(key, b"x", create_only=True)
            await plain.aclose()
            store = GatewayStore(catalog, "digits")
            assert await store.put(key, b"x", create_only=True)
            await store.aclose()

    asyncio.run(main())


def test_who_may_not_have_the_key_is_told_so(encrypted: Gateway, copy: Path) -> None:
    from fastapi.responses import JSONResponse

    refusal = JSONResponse(Forbidden("etl may not datasets:key").to_problem(), 403)
    encrypted.answers["GET", "/v1/encryption/key"] = refusal
    with pytest.raises(Forbidden, match="datasets:key"):
        run(copy, lambda it: it.sync("first"))
