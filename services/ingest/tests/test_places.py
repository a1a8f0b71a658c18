"""URLs and mounted folders, on a real mongod and a real S3, with a host of our own."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from .archive_files import FILES, tarred, zipped

pytestmark = pytest.mark.servers


@dataclass
class Host:
    answers: dict[str, bytes] = field(default_factory=dict)
    failures: int = 0
    requests: int = 0
    port: int = 0

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}/data/"

    def entry(self, **more: Any) -> dict[str, Any]:
        return {"host": "127.0.0.1", "port": self.port, "plain": True, "private": True, **more}


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    """Answers `GET` with what lies at the path."""
    found = Host()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).decode().split(" ")[1]
        found.requests += 1
        status, body = "404 Not Found", b"the secret page"
        if found.failures:
            found.failures -= 1
            status = "503 Busy"
        elif path in found.answers:
            status, body = "200 OK", found.answers[path]
        writer.write(f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    yield found
    server.close()
    await server.wait_closed()


async def test_urls_of_an_event_become_a_version(lab: Any, host: Host) -> None:
    ingest = await lab.ingest(hosts=(host.entry(),))
    host.answers = {f"/data/{path}": data for path, data in FILES.items()}
    host.answers["/data/big.bin?sig=secret"] = b"x" * (9 * 1024 * 1024)
    urls = [f"{host.base}{path}" for path in FILES] + [f"{host.base}big.bin?sig=secret"]
    job = await lab.take(ingest, host.base, urls=urls)
    assert (job.state, job.reason) == ("COMPLETED", "")
    contents = await lab.contents(job.commit)
    assert {path: data for path, data in contents.items() if path != "big.bin"} == FILES
    assert len(contents["big.bin"]) == 9 * 1024 * 1024
    sources = {record.path: record.source for record in await lab.records(job.commit)}
    assert sources["big.bin"] == f"{host.base}big.bin"


@pytest.mark.parametrize("form", ["lines", "json"])
async def test_a_list_of_urls_becomes_a_version(lab: Any, host: Host, form: str) -> None:
    ingest = await lab.ingest(hosts=(host.entry(),))
    host.answers = {"/data/a.txt": b"one", "/other/b.txt": b"two"}
    entry = {"url": "/other/b.txt", "path": "far/b.txt", "blake3": blake3(b"two").hexdigest()}
    text = "# a list\na.txt\n" if form == "lines" else json.dumps(["a.txt", entry])
    host.answers["/data/list?sig=secret"] = text.encode()
    job = await lab.take(ingest, f"{host.base}list?sig=secret")
    assert (job.state, job.reason) == ("COMPLETED", "")
    assert await lab.paths(job.commit) == ["a.txt", "far/b.txt"][: 1 if form == "lines" else 2]
    [row] = lab.catalog.versions["default/digits"]
    assert row["lineage"]["source"] == f"{host.base}list"
    assert "secret" not in row["message"]
    assert not [event for event in await lab.events() if "secret" in event.model_dump_json()]


async def test_an_archive_at_a_url_becomes_a_version(lab: Any, host: Host) -> None:
    ingest = await lab.ingest(hosts=(host.entry(),))
    host.answers["/data/x.tar"] = tarred(FILES)
    job = await lab.take(ingest, f"{host.base}x.tar", format="archive")
    assert await lab.contents(job.commit) == FILES


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"http://127.0.0.1:1/x\n", "has no path of its own"),
        (b'[{"url": "http://127.0.0.1:1/x", "path": "x"}]', "not on this installation's list"),
        (b'[{"url": "http://169.254.169.254/latest", "path": "x"}]', "not on this installation's list"),
        (b'[{"url": "file:///etc/passwd", "path": "x"}]', "only https:// URLs"),
        (b'[{"url": "a.txt", "path": "../x"}]', "'..' segment"),
        (b"%2e%2e/x\n", "URL 1 of the list"),
        (b'[{"url": "a.txt", "path": "x"}, {"url": "a.txt", "path": "X"}]', "differ only by case"),
        (b'[{"url": "a.txt", "path": "x", "blake3": "00"}]', "digest"),
        (b"missing.txt\n", "has no such thing (404)"),
        (b'[["x"]]', "neither a URL"),
        (b"[" * 100_000, "neither JSON"),
        (b"\xff", "neither JSON"),
        (b"\n", "names no file"),
        (b"a.txt\n" * 5, "more than 3 files"),
    ],
)
async def test_bad_lists_are_refused(lab: Any, host: Host, text: bytes, why: str) -> None:
    ingest = await lab.ingest(hosts=(host.entry(),), max_files=3)
    host.answers = {"/data/list": text, "/data/a.txt": b"one"}
    job = await lab.take(ingest, f"{host.base}list")
    assert (job.state, lab.catalog.commits) == ("FAILED", 0)
    assert why in job.reason
    assert "secret" not in job.reason


async def test_hosts_are_refused_unless_they_are_listed(lab: Any, host: Host) -> None:
    for hosts in ((), (host.entry(plain=False),), (host.entry(private=False),)):
        ingest = await lab.ingest(hosts=hosts)
        job = await lab.take(ingest, f"{host.base}x.zip", format="archive")
        assert job.state == "FAILED"
    assert host.requests == 0


async def test_a_busy_host_is_asked_again_but_not_for_ever(lab: Any, host: Host) -> None:
    ingest = await lab.ingest(hosts=(host.entry(),))
    host.answers["/data/x.zip"], host.failures = zipped(FILES), 3
    job = await lab.take(ingest, f"{host.base}x.zip", format="archive")
    assert (job.state, job.attempts) == ("COMPLETED", 3)
    host.failures = 100
    job = await lab.take(ingest, f"{host.base}x.zip", format="archive", dataset="other")
    assert (job.state, "cannot answer now (503)" in job.reason) == ("FAILED", True)


def mounted(folder: Path, files: dict[str, bytes]) -> str:
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return f"file://{folder}"


async def test_a_mounted_folder_becomes_a_version(lab: Any, tmp_path: Path) -> None:
    ingest = await lab.ingest(folders=({"path": str(tmp_path), "project": "default"},))
    uri = mounted(tmp_path / "monday", {**FILES, "_SUCCESS": b""})
    job = await lab.take(ingest, uri)
    assert (job.state, job.reason) == ("COMPLETED", "")
    assert await lab.contents(job.commit) == FILES
    (tmp_path / "x.zip").write_bytes(zipped({"z.txt": b"z"}))
    job = await lab.take(ingest, f"file://{tmp_path}/x.zip", format="archive")
    assert await lab.contents(job.commit) == {"z.txt": b"z"}


async def test_nothing_outside_the_roots_is_read(lab: Any, tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    mounted(outside, {"secret.txt": b"secret"})
    mounted(root / "inner", {"a.txt": b"a"})
    (root / "way-out").symlink_to(outside)
    (root / "inner" / "link.txt").symlink_to(outside / "secret.txt")
    mounted(root / "piped", {"a.txt": b"a"})
    os.mkfifo(root / "piped" / "pipe")
    ingest = await lab.ingest(folders=({"path": str(root), "project": "default"},))
    for where, form, why in (
        (outside, "files", "below none"),
        (root, "files", "below none"),
        (root / "way-out", "files", "through a link"),
        (root / "inner" / "link.txt", "archive", "through a link"),
        (root / "inner", "files", "a link or a device"),
        (root / "piped", "files", "a link or a device"),
        (root / "nothing", "files", "nothing lies"),
        (root / "inner" / "a.txt", "files", "no folder"),
        (root / "inner", "archive", "no archive lies"),
    ):
        job = await lab.take(ingest, f"file://{where}", format=form)
        assert (job.state, why in job.reason) == ("FAILED", True), (where, job.reason)
    assert lab.catalog.commits == 0
