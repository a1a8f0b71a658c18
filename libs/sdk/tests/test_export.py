"""Exports and verification against a real lake, through presigned URLs, as a person runs them."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.store import S3Store

from millrace.datasets import limits
from millrace.datasets.keys import pack_key
from millrace.datasets.stored import load_manifest
from millrace_sdk import folder
from millrace_sdk.cli.app import main
from millrace_sdk.folder import Config

from .gateway import Gateway

pytestmark = pytest.mark.servers

FILES = {f"train/{index % 3}/{index:03d}.bin": bytes([index]) * (300 + index) for index in range(40)}
FILES |= {"empty": b"", "größe/ä.txt": b"umlaut", "large.raw": bytes(range(251)) * 70_000}


@pytest.fixture
def version(lakeside: Gateway, tmp_path: Path) -> Gateway:
    """A version of small files, an empty one and one in two chunks, in the lake."""
    root = tmp_path / "tree"
    for path, data in FILES.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    (root / "train/0/000.bin").chmod(0o755)
    assert len(FILES["large.raw"]) > limits.CHUNK
    folder.write(root, Config("digits"))
    folder.run(root, Config("digits"), lambda copy: copy.sync("first"))
    return lakeside


def tar_files(data: bytes, mode: Any = "r:*") -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data), mode=mode) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]


@pytest.mark.parametrize("ending", ["tar", "tar.gz", "tgz"])
def test_a_tar_holds_every_file(version: Gateway, ending: str) -> None:
    assert main(["data", "export", "digits@1", f"out.{ending}"]) == 0
    assert tar_files(Path(f"out.{ending}").read_bytes()) == FILES
    with tarfile.open(f"out.{ending}") as archive:
        assert archive.getmember("train/0/000.bin").mode == 0o755


def test_a_zip_holds_every_file_and_is_the_same_each_time(version: Gateway) -> None:
    for name in ("a.zip", "b.ZIP"):
        assert main(["data", "export", "digits", name]) == 0
    assert Path("a.zip").read_bytes() == Path("b.ZIP").read_bytes()
    with zipfile.ZipFile("a.zip") as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == FILES


def test_a_tar_goes_to_standard_output(version: Gateway, capsysbinary: Any) -> None:
    assert main(["data", "export", "digits@1", "-", "--json"]) == 0
    assert tar_files(capsysbinary.readouterr().out) == FILES


def test_objects_go_below_a_prefix_of_ones_own_bucket(
    version: Gateway, s3_server: Any, s3_bucket: str, monkeypatch: Any, capsys: Any
) -> None:
    environment = {
        "AWS_ENDPOINT_URL": s3_server.endpoint,
        "AWS_ACCESS_KEY_ID": s3_server.access_key,
        "AWS_SECRET_ACCESS_KEY": s3_server.secret_key,
        "AWS_REGION": s3_server.region,
        "AWS_ALLOW_HTTP": "true",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    target = f"s3://{s3_bucket}/exports/digits-1"
    assert main(["data", "export", "digits@1", target, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == len(FILES)
    store: Any = S3Store.from_url(target)
    found = {item["path"] for page in obstore.list(store) for item in page}
    assert {path: bytes(obstore.get(store, path).bytes()) for path in found} == FILES
    assert main(["data", "export", "digits@1", target]) != 0
    assert "lies below" in capsys.readouterr().err
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-key-at-all")
    assert main(["data", "export", "digits@1", f"{target}-again"]) != 0
    assert "not-the-key" not in capsys.readouterr().err


@pytest.mark.parametrize("target", ["out", "out.rar", "s3://", "s3://bucket", "ftp://x/y", "nowhere/out.zip"])
def test_a_target_that_is_none_is_refused(version: Gateway, target: str, capsys: Any) -> None:
    assert main(["data", "export", "digits@1", target]) != 0
    assert "Traceback" not in capsys.readouterr().err


def test_an_archive_takes_nobodys_place_and_is_whole_or_not_there(version: Gateway, capsys: Any) -> None:
    Path("mine.zip").write_text("mine")
    assert main(["data", "export", "digits@1", "mine.zip"]) != 0
    assert Path("mine.zip").read_text() == "mine"
    _flip(version, _pack(version))
    assert main(["data", "export", "digits@1", "new.zip"]) != 0
    assert sorted(path.name for path in Path().iterdir()) == ["mine.zip"]
    assert "digest" in capsys.readouterr().err


def test_the_lake_is_verified_and_a_flipped_byte_is_named(version: Gateway, capsys: Any) -> None:
    assert main(["data", "verify", "digits@1"]) == 0
    assert main(["data", "verify", "digits@1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["clean"] is True
    _flip(version, _pack(version))
    assert main(["data", "verify", "digits@1"]) == 1
    out = capsys.readouterr()
    assert "damaged packs/" in out.out
    assert "train/0/000.bin" in out.out


def _pack(gateway: Gateway) -> str:
    async def first() -> str:
        return (await load_manifest(gateway.lake, "default", gateway.versions[0]["manifest"])).packs[0].id

    return asyncio.run(first())


def _flip(gateway: Gateway, pack: str) -> None:
    async def flip() -> None:
        key = pack_key("default", pack)
        data = bytearray(await gateway.lake.get(key))
        data[10] ^= 1
        await gateway.lake.put(key, bytes(data))

    asyncio.run(flip())
