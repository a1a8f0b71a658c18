"""What must hold when processes are killed, stopped, cancelled, or two trainers want the same thing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from trainer.application.fsck import check
from trainer.domain.jobs import State

from ..conftest import alive, eventually, kill  # noqa: TID252 - tests have no package of their own

pytestmark = pytest.mark.servers


async def trail(lab: Any, run: str) -> list[list[int]]:
    """Return which epoch was counted under which fence, from the registered package."""
    (body,) = [body for body in lab.neighbours.registrations if body["run"] == run][:1]
    return json.loads(await lab.store.get(f"default/models/{body['digest']}/model.onnx"))


async def fsck_clean(lab: Any) -> None:
    async with lab.trainer("fsck") as trainer:
        jobs, nodes = await trainer.queue.all_jobs(), await trainer.queue.nodes()
        assert check(jobs, nodes, await trainer.queue.counter("fence"), {}) == []


async def checkpointed(lab: Any, run: str, epoch: int = 1) -> Any:
    async def there() -> bool:
        made = (await lab.job(run)).checkpoint
        return made is not None and made.epoch >= epoch

    return await eventually(there, why="a checkpoint")


async def test_a_killed_component_resumes_under_a_higher_fence(lab: Any, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    async with lab.trainer():
        run = await lab.request(model="digits", params={"epochs": 3, "gate": str(gate), "package": True})
        await checkpointed(lab, run)
        job = await lab.job(run)
        (child,) = Path(f"/proc/{job.grant.process.pid}/task/{job.grant.process.pid}/children").read_text().split()
        gate.touch()
        os.kill(int(child), signal.SIGKILL)
        job = await lab.until(run, State.COMPLETED, State.FAILED)
    assert (job.state, job.failures, job.fence) == (State.COMPLETED, 1, 2)
    counted = await trail(lab, run)
    assert [epoch for epoch, _ in counted] == [1, 2, 3]
    assert counted[0] == [1, 1]
    assert counted[-1] == [3, 2]
    (again,) = [event.data for event in await lab.events(run) if event.type == "training.preempted"]
    assert "killed by signal 9" in again.reason


async def test_nothing_a_component_started_outlives_it(lab: Any) -> None:
    async with lab.trainer():
        run = await lab.request(params={"epochs": 1, "children": True})
        await lab.until(run, State.COMPLETED)
    (line,) = [text for text in lab.neighbours.lines.values() if text.startswith("child ")]
    assert not alive(int(line.split()[1]))


async def test_a_killed_trainer_leaves_no_process_and_the_run_resumes(lab: Any, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    first = lab.spawn()
    try:
        run = await lab.request(
            model="digits", params={"epochs": 3, "gate": str(gate), "package": True, "children": True}
        )
        await lab.until(run, State.RUNNING, seconds=30)
        await checkpointed(lab, run)
        await eventually(lambda: said(lab, "child "), why="the child's pid")
        before = await lab.job(run)
    finally:
        kill(first)
    (line,) = [text for text in lab.neighbours.lines.values() if text.startswith("child ")]
    for pid in (before.grant.process.pid, int(line.split()[1])):
        await eventually(partial(gone, pid), seconds=5, why="the orphans to die")
    assert (await lab.job(run)).state is State.RUNNING
    gate.touch()
    second = lab.spawn()
    try:
        job = await lab.until(run, State.COMPLETED, State.FAILED, seconds=15)
    finally:
        kill(second)
    assert (job.state, job.interruptions, job.failures, job.fence) == (State.COMPLETED, 1, 0, 2)
    assert [epoch for epoch, _ in await trail(lab, run)] == [1, 2, 3]
    (again,) = [event.data for event in await lab.events(run) if event.type == "training.preempted"]
    assert "restarted; resumes after epoch 1" in again.reason
    await fsck_clean(lab)


async def gone(pid: int) -> bool:
    return not alive(pid)


async def said(lab: Any, start: str) -> bool:
    return any(text.startswith(start) for text in lab.neighbours.lines.values())


async def test_metrics_of_a_killed_trainer_are_shipped_by_the_next(lab: Any, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    lab.neighbours.away = True
    first = lab.spawn()
    try:
        run = await lab.request(params={"epochs": 2, "gate": str(gate)})
        await lab.until(run, State.RUNNING, seconds=30)
        await checkpointed(lab, run)
        spool = lab.settings().work_folder / "spool" / f"default.{run}.1.jsonl"
        await eventually(lambda: holds(spool, '"metric"'), why="the metric to be on disk")
    finally:
        kill(first)
    lab.neighbours.away = False
    gate.touch()
    second = lab.spawn()
    try:
        await lab.until(run, State.COMPLETED, seconds=20)
    finally:
        kill(second)
    assert sorted(step for owner, key, step in lab.neighbours.points if key == "loss") == [1, 2]


async def holds(path: Path, text: str) -> bool:
    return path.exists() and text in path.read_text()


@pytest.mark.parametrize(
    "point",
    [
        "train.T2.during",
        pytest.param("train.T2.after", marks=pytest.mark.slow),
        pytest.param("train.T3.before", marks=pytest.mark.slow),
        "train.T3.during",
        "train.T3.after",
        pytest.param("train.T4.before", marks=pytest.mark.slow),
        "train.T5.during",
        "train.T6.before",
        pytest.param("train.T6.after", marks=pytest.mark.slow),
        pytest.param("train.T7.during", marks=pytest.mark.slow),
        "train.T7.after",
        pytest.param("train.T8.during", marks=pytest.mark.slow),
        "train.T8.after",
        pytest.param("train.T9.before", marks=pytest.mark.slow),
        "train.T9.during",
        "train.T9.after",
        "train.T10.during",
        pytest.param("train.T11.before", marks=pytest.mark.slow),
        "train.T11.after",
    ],
)
async def test_a_kill_anywhere_ends_in_one_registered_model(lab: Any, point: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    params: dict[str, Any] = {"epochs": 2, "seconds": 0.3, "package": True}
    if point.startswith(("train.T5", "train.T6")):  # a run that ends first needs no checkpoint any more
        params["gate"] = str(gate)
    run = await lab.request(model="digits", params=params)
    first = lab.spawn(failpoints=f"{point}=kill")
    try:
        await eventually(lambda: ended(first), seconds=40, why=lab.log)
        assert first.returncode == -signal.SIGKILL
    finally:
        kill(first)
        gate.touch()
    second = lab.spawn()
    try:
        await lab.until(run, State.COMPLETED, State.FAILED, seconds=30)
        await eventually(lambda: released(lab, run), why="the lease to be given back")
        job = await lab.job(run)
    finally:
        kill(second)
    assert (job.state, job.model_version) == (State.COMPLETED, 1)
    assert len({body["digest"] for body in lab.neighbours.registrations}) == 1
    assert [epoch for epoch, _ in await trail(lab, run)] == [1, 2]
    kinds = await lab.kinds(run)
    assert kinds.count("completed") == 1
    assert kinds[-1] == "completed"
    assert sorted(step for owner, key, step in lab.neighbours.points if key == "loss") == [1, 2]
    assert lab.neighbours.leases == {}
    await fsck_clean(lab)


async def ended(process: Any) -> bool:
    return process.poll() is not None


async def released(lab: Any, run: str) -> bool:
    return (await lab.job(run)).lease is None


async def test_cancelling_what_waits_ends_it_at_once(lab: Any) -> None:
    lab.neighbours.ready = False
    async with lab.trainer() as trainer:
        run = await lab.request(params={"epochs": 1})
        answer = await delete(trainer, run)
        assert answer.status_code == 202
        assert answer.json()["state"] == "cancelled"
        assert (await delete(trainer, run)).status_code == 409
    assert (await lab.kinds(run))[-1] == "cancelled"


@pytest.mark.parametrize("stubborn", [False, True])
async def test_cancelling_what_runs_stops_the_process_first(lab: Any, tmp_path: Path, stubborn: bool) -> None:
    async with lab.trainer() as trainer:
        run = await lab.request(params={"epochs": 1, "gate": str(tmp_path / "never"), "ignore_term": stubborn})
        job = await lab.until(run, State.RUNNING)
        assert (await delete(trainer, run)).json()["cancelling"] is True
        done = await lab.until(run, State.CANCELLED)
        assert not alive(job.grant.process.pid)
        assert done.grant is None
        again = await lab.request(params={"epochs": 1})
        await lab.until(again, State.COMPLETED)
    assert (await lab.kinds(run))[-1] == "cancelled"


async def delete(trainer: Any, run: str) -> Any:
    import httpx

    transport = httpx.ASGITransport(trainer.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://trainer") as client:
        return await client.delete(f"/v1/queue/{run}", headers={"authorization": "Bearer owner"})


async def test_two_trainers_grant_no_device_twice(lab: Any, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    runs = [await lab.request(params={"epochs": 1, "gate": str(gate)}) for _ in range(12)]

    async def every_slot_is_taken() -> bool:
        return [(await lab.job(run)).state for run in runs].count(State.RUNNING) == 4

    async with lab.trainer("node-a", cpu_slots=2), lab.trainer("node-b", cpu_slots=2):
        await eventually(every_slot_is_taken, seconds=30)
        gate.touch()
        for run in runs:
            await lab.until(run, State.COMPLETED, seconds=60)
    jobs = [await lab.job(run) for run in runs]
    assert sorted(job.fence for job in jobs) == list(range(1, 13))
    assert all(job.attempt == 1 for job in jobs)
    grants = [event.data for run in runs for event in await lab.events(run) if event.type == "training.started"]
    assert {grant.node for grant in grants} == {"node-a", "node-b"}
    await fsck_clean(lab)


async def test_one_node_has_one_agent(lab: Any) -> None:
    async with lab.trainer("node-a") as one, lab.trainer("node-a", work_folder=lab.folder / "other") as two:

        async def leading() -> bool:
            return (one.agent.failure is None) != (two.agent.failure is None)

        await eventually(leading)
        run = await lab.request(params={"epochs": 1})
        await lab.until(run, State.COMPLETED)
        assert await leading()


async def test_grants_of_a_silent_node_are_ended_by_another_trainer(lab: Any, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    silent = lab.spawn("node-a")
    try:
        run = await lab.request(params={"epochs": 2, "gate": str(gate)})
        job = await lab.until(run, State.RUNNING, seconds=30)
        silent.send_signal(signal.SIGSTOP)
        async with lab.trainer("node-b", lease_seconds=2.0):
            gate.touch()
            done = await lab.until(run, State.COMPLETED, seconds=30)
        assert done.fence > job.fence
        silent.send_signal(signal.SIGCONT)
        await eventually(lambda: gone(job.grant.process.pid), why="the fenced process to end")
    finally:
        kill(silent)
    assert (await lab.job(run)).state is State.COMPLETED
    assert (await lab.kinds(run))[-1] == "completed"


async def test_a_stopped_agents_process_ends_itself(lab: Any, tmp_path: Path) -> None:
    from millrace.clock import SystemClock
    from trainer.adapters.processes import GroupProcesses
    from trainer.application.ports import Order

    processes = GroupProcesses(SystemClock(), deadline=1.0)
    child = await processes.spawn(Order(("sleep", "60"), {"PATH": os.environ["PATH"]}, tmp_path))
    child.beat()
    assert await asyncio.wait_for(child.wait(), 10) == -signal.SIGKILL
