"""`millrace data get` and `millrace data zip` against a gateway that breaks off in the middle."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from fastapi import Request
from fastapi.responses import JSONResponse, StreamingResponse

from millrace_sdk.cli import main

from .gateway import Gateway

DATA = bytes(range(256)) * 2_000
VERSION = {"version": 3, "commit": "c" * 64}


class Files:
    """Files of a version over HTTP: `breaks` says after how many bytes each of the next answers ends."""

    def __init__(self, gateway: Gateway, *breaks: int, digest: str | None = None) -> None:
        self.breaks = list(breaks)
        self.ranges: list[str | None] = []
        self.tag = digest or blake3(DATA).hexdigest()
        gateway.answers["GET", "/v1/datasets/d/versions/3"] = VERSION
        base = "/v1/datasets/d/versions/{ref}"
        gateway.app.add_api_route(f"{base}/files/{{path:path}}", self.file, methods=["GET"])
        gateway.app.add_api_route(f"{base}/archive.zip", self.zip, methods=["GET"])

    async def file(self, path: str, request: Request) -> Any:
        if path == "missing":
            return JSONResponse({"detail": "no such file", "code": "file-not-in-version"}, 404)
        asked = request.headers.get("range")
        self.ranges.append(asked)
        data = DATA[int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0 :]
        return self._sent(b"" if path == "empty" else data, blake3(b"").hexdigest() if path == "empty" else self.tag)

    async def zip(self) -> Any:
        return self._sent(DATA, "zip")

    def _sent(self, data: bytes, tag: str) -> StreamingResponse:
        limit = self.breaks.pop(0) if self.breaks else len(data)
        headers = {"content-length": str(len(data)), "etag": f'"{tag}"'}
        return StreamingResponse(_until(data, limit), headers=headers)


async def _until(data: bytes, limit: int) -> AsyncIterator[bytes]:
    yield data[:limit]
    if limit < len(data):
        raise ConnectionResetError


def here() -> dict[str, int]:
    return {path.name: path.stat().st_size for path in Path().iterdir()}


def test_a_file_is_got_whole_though_it_breaks_off(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    files = Files(gateway, 1_000, 0, 70_000)
    assert main(["data", "get", "d@3", "a/b.bin"]) == 0
    assert here() == {"b.bin": len(DATA)}
    assert Path("b.bin").read_bytes() == DATA
    assert files.ranges[0] is None
    assert all(asked is not None for asked in files.ranges[2:])
    assert main(["data", "get", "d@3", "a/b.bin", "--json", "--force"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown == {"path": "a/b.bin", "size": len(DATA), "blake3": files.tag, "output": "b.bin"}
    assert main(["data", "get", "d@3", "empty", "-o", "nothing"]) == 0
    assert here()["nothing"] == 0


def test_a_file_may_go_to_standard_output(gateway: Gateway, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    Files(gateway)
    assert main(["data", "get", "d@3", "b.bin", "-o", "-"]) == 0
    assert capfdbinary.readouterr().out == DATA
    assert here() == {}


def test_what_is_there_is_not_replaced_and_nothing_stays_half(gateway: Gateway) -> None:
    Files(gateway, digest="0" * 64)
    assert main(["data", "get", "d@3", "b.bin"]) == 1
    assert main(["data", "get", "d@3", "missing"]) == 4
    assert here() == {}
    Path("b.bin").write_bytes(b"mine")
    assert main(["data", "get", "d@3", "b.bin"]) == 5
    assert here() == {"b.bin": 4}


def test_a_gateway_that_always_breaks_off_is_given_up(gateway: Gateway) -> None:
    Files(gateway, *[0] * 20)
    assert main(["data", "get", "d@3", "b.bin"]) == 6
    assert here() == {}


def test_a_zip_comes_whole_or_not_at_all(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    Files(gateway, 5_000)
    assert main(["data", "zip", "d@3"]) == 6
    assert here() == {}
    assert main(["data", "zip", "d@3", "--prefix", "train/", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"prefix": "train/", "size": len(DATA), "output": "d-3.zip"}
    assert Path("d-3.zip").read_bytes() == DATA
