"""Spool, run folders, sockets, NVML and environment."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from millrace.clock import SystemClock
from millrace.errors import Fenced, Invalid, Unavailable
from trainer.adapters.nvml import NvmlInventory
from trainer.adapters.run_folder import FilesystemFolders
from trainer.adapters.sockets import UnixSwitchboard
from trainer.adapters.spool import FileSpool
from trainer.application.environment import environment
from trainer.application.ports import Report
from trainer.application.shipping import Shipping
from trainer.application.told import Hears, handlers
from trainer.domain.jobs import CacheLease, Grant, Job, State

JOB = Job(
    run="00000000-0000-7000-8000-000000000001",
    project="default",
    dataset="d",
    version=1,
    commit="c" * 64,
    site="s",
    component="noop",
    state=State.GRANTED,
    fence=3,
    grant=Grant("n", 1, ("gpu:GPU-1", "gpu:GPU-2"), 3),
    lease=CacheLease("l", "/data"),
    params={"epochs": 1},
)


def a_report(number: int, kind: str = "log") -> Report:
    return Report(kind, "2026-01-01T00:00:00Z", text=f"line {number}", stream="stdout", offset=number)


def test_a_spool_outlives_its_process_and_forgets_what_is_shipped(tmp_path: Path) -> None:
    spool = FileSpool(tmp_path / "x.jsonl")
    for number in range(5):
        spool.append(a_report(number))
    spool.shipped(2)
    with (tmp_path / "x.jsonl").open("ab") as file:
        file.write(b'{"kind": "log", "cut')
    again = FileSpool(tmp_path / "x.jsonl")
    assert [report.offset for report in again.waiting(9)] == [2, 3, 4]
    again.shipped(3)
    again.close()
    assert list(tmp_path.iterdir()) == []
    spool._file.close()


class Picky:
    """A catalog that refuses some texts, and may be away."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.error: Exception | None = None

    async def report(self, project: str, run: str, fence: int, reports: Any) -> None:
        if self.error:
            raise self.error
        if any("bad" in report.text for report in reports):
            raise Invalid("bad text")
        self.taken += [report.text for report in reports]

    async def register(self, job: Job) -> int:
        raise NotImplementedError


async def test_one_refused_report_does_not_hold_up_the_others(tmp_path: Path) -> None:
    catalog, spool = Picky(), FileSpool(tmp_path / "x.jsonl")
    shipping = Shipping(spool, catalog, SystemClock(), project="p", run="r", fence=1)
    for text in ("a", "bad", "c", "d"):
        shipping.add(replace(a_report(0), text=text))
    await shipping.ship()
    assert catalog.taken == ["a", "c", "d"]
    assert await shipping.flush(1)
    spool.close()


async def test_long_texts_are_sent_in_parts(tmp_path: Path) -> None:
    sizes: list[int] = []

    class Counting(Picky):
        async def report(self, project: str, run: str, fence: int, reports: Any) -> None:
            sizes.append(sum(len(report.text) for report in reports))

    spool = FileSpool(tmp_path / "x.jsonl")
    shipping = Shipping(spool, Counting(), SystemClock(), project="p", run="r", fence=1)
    for number in range(100):
        shipping.add(replace(a_report(number), text="x" * 16_000))
    await shipping.ship()
    assert sum(sizes) == 1_600_000
    assert max(sizes) <= 200_000
    spool.close()


async def test_a_fence_ends_shipping_and_an_absence_does_not(tmp_path: Path) -> None:
    catalog, spool = Picky(), FileSpool(tmp_path / "x.jsonl")
    shipping = Shipping(spool, catalog, SystemClock(), project="p", run="r", fence=1)
    catalog.error = Unavailable("away")
    shipping.add(a_report(1))
    running = asyncio.create_task(shipping.run())
    assert await shipping.flush(0.3) is False
    catalog.error = Fenced("newer")
    await asyncio.wait_for(shipping.fenced.wait(), 10)
    await running
    spool.close()


async def test_a_run_folder_holds_what_the_component_needs(tmp_path: Path) -> None:
    folder = await FilesystemFolders(tmp_path).prepare(JOB)
    assert json.loads((folder.path / "params.json").read_text()) == {"epochs": 1}
    assert json.loads((folder.path / "run.json").read_text())["fence"] == 3
    made = folder.path / "c1"
    made.mkdir()
    (made / "state").write_text("x")
    taken = folder.take(folder.place(str(made), what="checkpoint"))
    (made / "state").unlink()
    assert (taken / "state").read_text() == "x"
    folder.remove()
    assert not folder.path.exists()


@pytest.mark.parametrize("said", ["/etc", "../..", "absent", "\0", 7, None, "linked"])
async def test_a_component_names_no_folder_outside_its_own(tmp_path: Path, said: object) -> None:
    folder = await FilesystemFolders(tmp_path).prepare(JOB)
    (folder.path / "linked").symlink_to("/etc")
    with pytest.raises(Invalid):
        folder.place(folder.path / said if said == "linked" else said, what="model")
    folder.remove()


def test_the_environment_names_the_devices_and_no_secret() -> None:
    made = environment(JOB, Path("/run"), "/s", {"PATH": "/bin", "MILLRACE_TRAINER_TOKEN_FILE": "/t", "AWS_X": "y"})
    assert made["CUDA_VISIBLE_DEVICES"] == "GPU-1,GPU-2"
    assert made["MILLRACE_INPUT_DATASET"] == "/data"
    assert not any("TOKEN" in name or "AWS" in name for name in made)
    assert "MILLRACE_EARLY_DATASET" not in made
    begun = replace(JOB, lease=CacheLease("l", "/data", early="/early"))
    assert environment(begun, Path("/run"), "/s", {})["MILLRACE_EARLY_DATASET"] == "/early"
    on_cpu = replace(JOB, grant=Grant("n", 1, ("cpu:0",), 3))
    assert environment(on_cpu, Path("/run"), "/s", {})["CUDA_VISIBLE_DEVICES"] == "-1"


async def test_a_socket_answers_each_message_and_survives_nonsense(tmp_path: Path) -> None:
    heard: list[Any] = []
    table = handlers(
        metric=heard.append, stage=heard.append, checkpoint=heard.append, model=heard.append, result=heard.append
    )
    board = UnixSwitchboard(tmp_path / "sockets")
    talk = await board.open("1", Hears(table))
    reader, writer = await asyncio.open_unix_connection(talk.address)

    async def say(raw: bytes) -> dict[str, Any]:
        writer.write(raw + b"\n")
        return json.loads(await reader.readline())  # type: ignore[no-any-return]

    assert await say(b'{"op": "metric", "step": 1, "values": {"loss": NaN}}') == {"ok": True}
    for raw in (b"nonsense", b"[]", b'{"op": "x"}', b'{"op": "metric", "step": -1, "values": {"a": 1}}', b"[" * 5_000):
        assert (await say(raw))["ok"] is False
    assert await say(b'{"op": "result", "values": {"n": 2, "t": "x", "b": true}}') == {"ok": True}
    assert heard[-1].numbers == {"n": 2.0}
    writer.write(b"x" * (2 * 1024 * 1024) + b"\n")
    assert json.loads(await reader.readline())["ok"] is False
    writer.close()
    await talk.close()
    assert not Path(talk.address).exists()


async def test_long_paths_get_a_short_socket(tmp_path: Path) -> None:
    board = UnixSwitchboard(tmp_path / ("deep" * 30))
    talk = await board.open("1", Hears({}))
    assert len(talk.address) < 100
    await talk.close()
    board.close()
    assert not Path(talk.address).parent.exists()


class FakeNvml:
    """NVML with two GPUs, one of them in foreign hands."""

    class NVMLError(Exception):
        pass

    def __init__(self, *, driver: bool = True) -> None:
        self.driver = driver

    def nvmlInit(self) -> None:  # noqa: N802
        if not self.driver:
            raise self.NVMLError("LibraryNotFound")

    def __getattr__(self, name: str) -> Any:
        answers = {
            "nvmlShutdown": lambda: None,
            "nvmlDeviceGetCount": lambda: 2,
            "nvmlDeviceGetHandleByIndex": lambda index: index,
            "nvmlDeviceGetName": lambda handle: b"H100",
            "nvmlDeviceGetUUID": lambda handle: f"GPU-{handle}",
            "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(total=80),
            "nvmlDeviceGetComputeRunningProcesses": lambda handle: [SimpleNamespace(pid=1)] if handle else [],
        }
        return answers[name]


async def test_gpus_are_found_and_foreign_use_is_a_trouble() -> None:
    found = await NvmlInventory(slots=1, nvml=FakeNvml()).devices(frozenset())
    assert [(it.id, it.kind, bool(it.trouble)) for it in found] == [
        ("gpu:GPU-0", "gpu", False),
        ("gpu:GPU-1", "gpu", True),
        ("cpu:0", "cpu", False),
    ]
    assert found[1].trouble == "used by process 1, which is no run of ours"


async def test_without_a_driver_there_are_cpu_slots() -> None:
    found = await NvmlInventory(slots=2, nvml=FakeNvml(driver=False)).devices(frozenset())
    assert [it.id for it in found] == ["cpu:0", "cpu:1"]
