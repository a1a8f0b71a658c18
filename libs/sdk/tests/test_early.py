"""A copy that is still being filled, as a run's process and as the holder of a lease open it."""

from __future__ import annotations

import asyncio
import json
import pickle
import socketserver
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.responses import JSONResponse

from millrace.datasets import folder_push, waiting
from millrace.datasets.manifest import Manifest
from millrace.datasets.pack_fill import fill_packs
from millrace.datasets.stored import load_manifest
from millrace.datasets.waiting import FillFailed
from millrace.errors import DeadlineExceeded, Invalid
from millrace.objects.s3 import S3ObjectStore
from millrace_sdk import Dataset, folder
from millrace_sdk.cli import main
from millrace_sdk.folder import Config

from .gateway import Gateway

pytestmark = pytest.mark.servers
FILES = {f"{index:02d}.txt": f"{index}".encode() * 300 for index in range(20)}
COMMIT = f"{1:064x}"
LEASE = "nfs-a.default.x.y.1"


class Copies:
    """A whole copy, and a shelf on which packs of it appear when they are asked for."""

    def __init__(self, root: Path) -> None:
        self.whole, self.shelf, self.final = root / "whole", root / "shelf", root / "final"
        self.asked: list[dict[str, Any]] = []
        self.answer: dict[str, Any] = {"ok": True, "standing": "coming", "reason": "fetching"}

    def begin(self) -> None:
        (self.shelf / "packs").mkdir(parents=True)
        (self.shelf / "manifest").hardlink_to(self.whole / "manifest")

    def want(self, said: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(said)
        for name in said["names"][:1] if self.answer["standing"] == "coming" else ():
            target = self.shelf / "packs" / name
            if not target.exists():
                target.hardlink_to(self.whole / "packs" / name)
        return self.answer


@pytest.fixture
def copies(lakeside: Gateway, lake: S3ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Copies:
    monkeypatch.setattr(folder_push, "PACK_TARGET", 1_500)
    monkeypatch.setattr(waiting, "TELL_SECONDS", 0.02)
    made = Copies(tmp_path)
    root = tmp_path / "digits"
    for path, data in FILES.items():
        root.mkdir(exist_ok=True)
        (root / path).write_bytes(data)
    folder.write(root, Config("digits"))
    folder.run(root, Config("digits"), lambda copy: copy.sync("first"))

    async def fill() -> Manifest:
        manifest = await load_manifest(lake, "default", lakeside.versions[0]["manifest"])
        await fill_packs(lake, manifest, made.whole, project="default")
        return manifest

    asyncio.run(fill())
    made.begin()
    return made


@pytest.fixture
def agent(copies: Copies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Copies]:
    """An agent that answers on its socket; this process is a run."""

    class Talk(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            for line in self.rfile:
                self.wfile.write(json.dumps(copies.want(json.loads(line))).encode() + b"\n")

    address = str(tmp_path / "s")
    with socketserver.ThreadingUnixStreamServer(address, Talk) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        (tmp_path / "run.json").write_text(json.dumps({"dataset": "digits", "version": 1, "project": "default"}))
        given = {
            "MILLRACE_SOCKET": address,
            "MILLRACE_RUN_DIR": str(tmp_path),
            "MILLRACE_INPUT_DATASET": str(copies.final),
            "MILLRACE_EARLY_DATASET": str(copies.shelf),
        }
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        yield copies
        server.shutdown()


def expected(copies: Copies) -> list[tuple[str, bytes]]:
    with Dataset.open(copies.whole) as dataset:
        return list(dataset.samples(seed=3))


def test_a_run_reads_its_input_as_it_comes(agent: Copies) -> None:
    with Dataset.open(agent.final) as dataset:
        assert list(dataset.samples(seed=3)) == expected(agent)
        again = pickle.loads(pickle.dumps(dataset))
    with again:
        assert again.read("03.txt") == FILES["03.txt"]
    assert {said["op"] for said in agent.asked} == {"wanted"}
    assert all(0 <= said["reader"] < 16 and len(said["names"]) <= 16 for said in agent.asked)
    agent.whole.rename(agent.final)
    agent.asked.clear()
    with Dataset.open(str(agent.final)) as dataset:
        assert len(list(dataset.samples(seed=3))) == 20


def test_the_agent_says_that_the_fill_failed(agent: Copies) -> None:
    agent.answer = {"ok": True, "standing": "failed", "reason": "pack 7 is damaged"}
    with Dataset.open(agent.final) as dataset, pytest.raises(FillFailed, match="pack 7 is damaged"):
        dataset.read("03.txt")


def test_an_agent_that_knows_no_early_start_is_waited_for_and_no_more(agent: Copies) -> None:
    agent.answer = {"ok": False, "error": "unknown message 'wanted'", "standing": ""}
    with Dataset.open(agent.final, patience=0.1) as dataset, pytest.raises(DeadlineExceeded):
        dataset.read("03.txt")


def test_what_has_not_come_is_read_from_the_lake(agent: Copies, monkeypatch: pytest.MonkeyPatch) -> None:
    agent.answer = {"ok": True, "standing": "failed", "reason": "pack 7 is damaged"}
    with Dataset.open(agent.final, fallback="lake") as dataset:
        assert list(dataset.samples(seed=3)) == expected(agent)
    assert list((agent.shelf / "packs").iterdir()) == []
    monkeypatch.setenv("MILLRACE_RUN_DIR", "/nowhere")
    with pytest.raises(Invalid):
        Dataset.open(agent.final, fallback="lake")


def test_the_holder_of_a_lease_asks_the_gateway(copies: Copies, lakeside: Gateway) -> None:
    path = f"/v1/cache/leases/{LEASE}/wanted"
    looks: Callable[[], dict[str, Any]] = lambda: {"early": str(copies.shelf), "reason": "fetching"}  # noqa: E731
    lakeside.answers["POST", path] = looks()
    for pack in (copies.whole / "packs").iterdir():
        (copies.shelf / "packs" / pack.name).hardlink_to(pack)
    granted = {"lease": LEASE, "path": str(copies.final), "early": str(copies.shelf)}
    granted |= {"dataset": "digits", "commit": COMMIT}
    with Dataset.open_lease(granted) as dataset:
        assert list(dataset.samples(seed=3)) == expected(copies)
        again = pickle.loads(pickle.dumps(dataset))
    with again:
        assert again.read("03.txt") == FILES["03.txt"]
    for pack in (copies.shelf / "packs").iterdir():
        pack.unlink()
    lakeside.answers["POST", path] = JSONResponse({"detail": "the fill failed", "code": "cache-lease-lost"}, 409)
    with Dataset.open_lease(granted) as dataset, pytest.raises(FillFailed, match="the fill failed"):
        dataset.read("03.txt")
    with Dataset.open_lease({**granted, "early": None, "path": str(copies.whole)}) as dataset:
        assert list(dataset.samples(seed=3)) == expected(copies)


def test_a_run_is_asked_to_begin_early(gateway: Gateway) -> None:
    gateway.answers["GET", "/v1/datasets/digits/versions/latest"] = {"version": 1}
    gateway.answers["POST", "/v1/runs"] = {"run": "r"}
    assert main(["runs", "start", "-d", "digits", "-c", "noop", "-s", "nfs-a", "--early"]) == 0
