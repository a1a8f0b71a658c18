"""Early start: runs read packs while others are fetched; nothing that a lease promises is promised less."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from cache_manager.application.early import WantPacks, look_at_lease, want_packs
from cache_manager.application.explaining import why
from cache_manager.application.leases import AcquireLease, acquire_lease, expire_leases, release_lease, renew_lease
from cache_manager.application.sweep import Sweep
from cache_manager.domain.charge import Charge
from cache_manager.domain.names import EntryKey
from cache_manager.domain.selection import Selection
from cache_manager.errors import EntryNotReady, LeaseLost
from millrace.clock import new_id
from millrace.datasets import folder_push, waiting
from millrace.datasets.early import open_early
from millrace.datasets.readers import Dataset
from millrace.datasets.stored import load_manifest
from millrace.datasets.waiting import FillFailed, Standing
from millrace.errors import Invalid

from .patience import PATIENCE, TAKEOVER

pytestmark = pytest.mark.servers

PACKS = Selection("packs")
ORDER: dict[str, Any] = {"seed": 11, "window": 2, "read_ahead": 4}


class Gate:
    """Lets one pack after the other come from the lake, when the test says so, and remembers their order."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.room = asyncio.Semaphore(0)
        self.failure: Exception | None = None

    async def __call__(self, key: str) -> None:
        if "/packs/" in key:
            self.order.append(key.rpartition("/")[2])
            await self.room.acquire()
            if self.failure is not None:
                raise self.failure

    def open(self, packs: int = 1_000) -> None:
        for _ in range(packs):
            self.room.release()


class Run:
    """A run with an early lease, and how its reader talks to a cache manager."""

    def __init__(self, manager: Any, granted: dict[str, Any]) -> None:
        self.manager, self.granted = manager, granted
        self.lease: str = granted["lease"]
        self.loop = asyncio.get_running_loop()

    async def want(self, names: Sequence[str], reader: int = 0, waited: float = 0.0) -> dict[str, Any]:
        return await want_packs(WantPacks(self.lease, "default", reader, names, waited), world=self.manager.world)

    def filling(self) -> Any:
        run = self

        class Asked:
            def want(self, names: Sequence[str], waited: float) -> Standing:
                asked = asyncio.run_coroutine_threadsafe(run.want(names, waited=waited), run.loop)
                try:
                    answer = asked.result(20)
                except LeaseLost as error:
                    return Standing("failed", error.message)
                return Standing("there" if answer["early"] is None else "coming", answer["reason"])

            def close(self) -> None:
                return

        return Asked()

    def dataset(self) -> Dataset:
        manifest, source = open_early(Path(self.granted["path"]), Path(self.granted["early"]), self.filling())
        return Dataset(None, manifest, source)

    async def read(self, **options: Any) -> list[tuple[str, bytes]]:
        def work() -> list[tuple[str, bytes]]:
            with self.dataset() as dataset:
                return list(dataset.samples(**{**ORDER, **options}))

        return await asyncio.to_thread(work)


@pytest.fixture
def small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_push, "PACK_TARGET", 4_000)
    monkeypatch.setattr(waiting, "TELL_SECONDS", 0.02)


@pytest.fixture
async def gate(lab: Any, small_packs: None) -> AsyncIterator[Gate]:
    made = Gate()
    yield made
    made.open()


def key(version: Any) -> EntryKey:
    return EntryKey("nfs-a", "default", version.commit, PACKS.variant)


def wish(version: Any, **changes: Any) -> AcquireLease:
    given = {"run": str(new_id()), "site": "nfs-a", "project": "default", "dataset": version.dataset}
    return AcquireLease(**{**given, "commit": version.commit, "selection": PACKS, "early": True, **changes})


async def begun(lab: Any, gate: Gate, **settings: Any) -> tuple[Any, Any]:
    """Return a manager and a version that it fills, one pack at a time, as far as the gate lets it."""
    manager, version = await lab.manager(transfers=1, **settings), await lab.version()
    lab.store.before = gate
    await lab.ask(manager, version, selection=PACKS)
    await manager.attendance.step()
    await until(lab, version, readable=True)
    return manager, version


async def until(lab: Any, version: Any, **fields: Any) -> dict[str, Any]:
    """Wait until the entry's document has these values, without letting anybody work but who does already."""
    async with asyncio.timeout(20 * PATIENCE):
        while True:
            found = await lab.client[lab.database]["entries"].find_one({"_id": key(version).id}) or {}
            if all(found.get(name) == value for name, value in fields.items()):
                return dict(found)
            await asyncio.sleep(0.01)


async def heard(lab: Any) -> None:
    """Wait until the fill has read the entry's document anew."""
    told = len(lab.telemetry.said)
    async with asyncio.timeout(20 * PATIENCE):
        while len(lab.telemetry.said) < told + 2:
            await asyncio.sleep(0.01)


async def early(manager: Any, version: Any, **changes: Any) -> Run:
    return Run(manager, await acquire_lease(wish(version, **changes), world=manager.world))


async def packs_of(lab: Any, manager: Any, version: Any) -> list[str]:
    facts = await manager.world.lake.facts("default", version.commit, PACKS)
    manifest = await load_manifest(lab.store, "default", facts.manifest)
    return [ref.id for ref in manifest.packs]


async def test_a_run_reads_its_first_samples_before_the_copy_is_ready(lab: Any, gate: Gate) -> None:
    manager, version = await begun(lab, gate)
    with pytest.raises(EntryNotReady):
        await acquire_lease(wish(version, early=False), world=manager.world)
    run = await early(manager, version)
    assert run.granted["path"] == str(lab.site / "v/default" / key(version).copy)
    assert (run.granted["state"], run.granted["hit"], run.granted["files"]) == ("FETCHING", False, 40)

    def first() -> Any:
        with run.dataset() as dataset:
            return next(dataset.samples(**{**ORDER, "read_ahead": 1}))

    reading = asyncio.create_task(asyncio.to_thread(first))
    await heard(lab)
    gate.open(2)  # what was under way, and what the reader wants
    path, data = await reading
    assert data.startswith(f"digits 1 {int(path[-8:-4])} ".encode())
    entry = await manager.world.entries.get(key(version).id)
    assert (entry.state, entry.hits, entry.misses, len(entry.leases)) == ("FETCHING", 0, 1, 1)
    assert not Path(run.granted["path"]).exists()
    told = await why(entry, manager.world)
    assert told["reason"] == "fetching; in use while filling"
    assert len(told["held_by"]) == 1

    gate.open()
    await lab.until_state(manager, key(version), "READY")
    assert not Path(run.granted["early"]).exists()
    assert len(await run.read()) == 40
    await renew_lease(run.lease, "default", world=manager.world)
    late = await acquire_lease(wish(version), world=manager.world)
    assert (late["hit"], late["early"], late["state"]) == (True, None, "READY")
    entry = await manager.world.entries.get(key(version).id)
    assert (entry.hits, entry.misses, entry.readable) == (1, 1, False)
    assert await lab.violations(manager) == []


async def test_each_early_lease_is_a_miss_and_saves_nothing(lab: Any, gate: Gate) -> None:
    manager, version = await begun(lab, gate)
    runs = await asyncio.gather(*(early(manager, version) for _ in range(5)))
    assert [run.granted["hit"] for run in runs] == [False] * 5
    again = await early(manager, version, run=runs[0].lease.split(".")[3])
    assert again.granted["token"] == 6
    gate.open()
    entry = await lab.until_state(manager, key(version), "READY")
    assert (entry.hits, entry.misses, entry.saved_bytes, len(entry.leases)) == (0, 5, 0, 5)


async def test_files_are_never_read_early(lab: Any, gate: Gate) -> None:
    manager, version = await lab.manager(), await lab.version()
    with pytest.raises(Invalid, match="packs"):
        await acquire_lease(wish(version, selection=Selection()), world=manager.world)
    with pytest.raises(EntryNotReady):
        await early(manager, version)  # nobody had asked for it; now somebody has
    lab.store.before = gate
    gate.open()
    await lab.until_state(manager, key(version), "READY")
    assert (await early(manager, version)).granted["early"] is None


async def test_what_readers_need_is_fetched_next_in_turn(lab: Any, gate: Gate) -> None:
    manager, version = await begun(lab, gate)
    other = await lab.manager()  # the calls come to a process that does not fill
    packs = await packs_of(lab, manager, version)
    one, two = [await early(other, version) for _ in range(2)]
    await one.want([packs[9], packs[8], packs[7]], reader=0)
    await one.want([packs[6]], reader=1, waited=1.5)
    await two.want([packs[5], packs[4]])
    await heard(lab)
    gate.open()
    await lab.until_state(manager, key(version), "READY")
    assert gate.order[0] == packs[0]
    first, second = [packs[place] for place in (9, 6, 8, 7)], [packs[place] for place in (5, 4)]
    ahead = gate.order[1:7]
    assert [name for name in ahead if name in first] == first
    assert [name for name in ahead if name in second] == second
    assert {ahead[0], ahead[1]} == {packs[9], packs[5]}
    assert {ahead[2], ahead[3]} == {packs[6], packs[4]}
    assert gate.order[7:] == packs[1:4]


async def test_samples_and_their_order_are_those_of_a_ready_copy(lab: Any, gate: Gate) -> None:
    manager, version = await begun(lab, gate)
    run = await early(manager, version)
    reading = asyncio.create_task(run.read())
    while len(gate.order) < 6:
        gate.open(1)
        await heard(lab)
    gate.open()  # it is published in the middle of the epoch
    await lab.until_state(manager, key(version), "READY")
    seen = await reading
    with Dataset.open_packs(run.granted["path"]) as ready:
        assert seen == list(ready.samples(**ORDER))
    wanted = [name for name in gate.order[1:] if name]
    assert wanted != (await packs_of(lab, manager, version))[1:]


async def test_another_owner_goes_on_under_the_reader(lab: Any, gate: Gate) -> None:
    """The first one stops in mid-fill without dying; the second takes over; then the first one wakes."""
    first, version = await begun(lab, gate, takeover_seconds=TAKEOVER)
    second = await lab.manager(transfers=1, takeover_seconds=TAKEOVER)
    run = await early(first, version)
    gate.open(3)
    async with asyncio.timeout(20 * PATIENCE):
        while len(gate.order) < 4:
            await asyncio.sleep(0.01)
    reading = asyncio.create_task(run.read())

    async def frozen(*_: Any, **__: Any) -> None:
        await asyncio.Event().wait()

    first.world.leases.renew = frozen
    run.manager = second
    reached = asyncio.Event()

    async def watch(name: str) -> None:
        if "/packs/" in name:
            reached.set()
        await gate(name)

    lab.store.before = watch
    async with asyncio.timeout(20 * PATIENCE):
        while not reached.is_set():
            await lab_step(lab, second)
    assert (await until(lab, version, state="FETCHING"))["token"] == 2
    assert Path(run.granted["early"]).is_dir()
    gate.open()
    entry = await lab.until_state(second, key(version), "READY")
    seen = await reading
    await first.attendance.idle()
    with Dataset.open_packs(run.granted["path"]) as ready:
        assert seen == list(ready.samples(**ORDER))
    assert entry.fetched_bytes == sum(path.stat().st_size for path in (Path(run.granted["path"]) / "packs").iterdir())
    assert len(gate.order) <= 10 + 1  # the one that was on its way when the owner stopped
    assert await lab.violations(second) == []
    assert await lab.charged(second) == entry.charge


async def lab_step(lab: Any, manager: Any) -> None:
    await manager.folders.refresh(manager.world.sites)
    await manager.attendance.step()
    await asyncio.sleep(0.02)


async def test_a_clear_waits_for_who_reads_early(lab: Any, gate: Gate) -> None:
    manager, version = await begun(lab, gate)
    run = await early(manager, version)
    await lab.ask(manager, version, desired="absent", selection=PACKS)
    await heard(lab)
    await heard(lab)
    entry = await manager.world.entries.get(key(version).id)
    assert "it goes as soon as nobody reads it" in (await why(entry, manager.world))["reason"]
    gate.open()
    await lab.until_state(manager, key(version), "READY")
    assert len(await run.read()) == 40
    await release_lease(run.lease, "default", world=manager.world)
    await lab.until_state(manager, key(version), "ABSENT")
    assert await lab.charged(manager) == Charge()
    assert await lab.violations(manager) == []


async def test_the_end_of_the_last_early_lease_withdraws_what_was_cleared(lab: Any, gate: Gate) -> None:
    manager, version = await begun(lab, gate)
    run = await early(manager, version)
    await lab.ask(manager, version, desired="absent", selection=PACKS)
    await release_lease(run.lease, "default", world=manager.world)
    await lab.until_state(manager, key(version), "ABSENT")
    assert (await lab.charged(manager), await lab.event_types()) == (Charge(), [])
    assert not Path(run.granted["early"]).exists()
    assert await lab.violations(manager) == []


async def test_a_fill_that_fails_ends_the_lease_and_tells_the_reader(lab: Any, gate: Gate) -> None:
    manager, version = await lab.manager(transfers=1), await lab.version()
    bad = (await packs_of(lab, manager, version))[3]
    lab.store.objects[f"default/packs/{bad[:2]}/{bad}"] = b"damaged"
    lab.store.before = gate
    await lab.ask(manager, version, selection=PACKS)
    await manager.attendance.step()
    await until(lab, version, readable=True)
    run = await early(manager, version)
    reading = asyncio.create_task(run.read())
    await heard(lab)
    gate.open()
    await lab.until_state(manager, key(version), "FAILED")
    with pytest.raises(FillFailed, match=bad):
        await reading
    with pytest.raises(LeaseLost):
        await renew_lease(run.lease, "default", world=manager.world)
    with pytest.raises(LeaseLost, match=bad):
        await look_at_lease(run.lease, "default", world=manager.world)
    entry = await manager.world.entries.get(key(version).id)
    assert (entry.leases, entry.readable, await lab.charged(manager)) == ({}, False, Charge())
    assert await lab.event_types() == ["cache.failed"]
    assert await lab.violations(manager) == []


async def test_a_full_disk_lets_the_reader_wait_under_its_lease(lab: Any, gate: Gate) -> None:
    manager, version = await begun(lab, gate)
    run = await early(manager, version)
    reading = asyncio.create_task(run.read())
    gate.failure = OSError(errno.ENOSPC, "No space left on device")
    gate.open(1)
    found = await until(lab, version, state="WAIT_SPACE")
    assert (len(found["leases"]), found["readable"], found["charge"]["bytes"]) == (1, False, 0)
    assert not Path(run.granted["early"]).exists()
    with pytest.raises(EntryNotReady):
        await early(manager, version)
    gate.failure = None
    gate.open()
    await lab.until_state(manager, key(version), "READY")
    assert len(await reading) == 40
    assert await lab.violations(manager) == []


async def test_a_lake_that_is_away_costs_no_pack_twice(lab: Any, gate: Gate) -> None:
    manager, version = await begun(lab, gate)
    run = await early(manager, version)
    gate.open(3)
    async with asyncio.timeout(20 * PATIENCE):
        while len(gate.order) < 4:
            await asyncio.sleep(0.01)
    gate.failure = ConnectionResetError(104, "connection reset")
    gate.open(1)
    await manager.attendance.idle()
    gate.failure = None
    gate.open()
    entry = await lab.until_state(manager, key(version), "READY")
    assert len(gate.order) == len(set(gate.order)) + 1
    assert len(await run.read()) == 40
    assert entry.uses == 1


async def test_an_early_lease_that_falls_silent_ends(lab: Any, gate: Gate) -> None:
    manager, version = await begun(lab, gate, lease_seconds=0.4 * PATIENCE)
    silent, beating = await early(manager, version), await early(manager, version)
    await expire_leases(manager.world)
    for _ in range(8):
        await asyncio.sleep(0.1 * PATIENCE)
        await renew_lease(beating.lease, "default", world=manager.world)
        await expire_leases(manager.world)
    entry = await manager.world.entries.get(key(version).id)
    assert (entry.state, list(entry.leases)) == ("FETCHING", [beating.lease.split(".")[3]])
    with pytest.raises(LeaseLost):
        await silent.want(["0" * 64])
    await beating.want(["0" * 64])


async def test_grants_and_a_withdrawal_at_the_same_moment_never_both_win(lab: Any, gate: Gate) -> None:
    manager, version = await begun(lab, gate)
    entry = await manager.world.entries.get(key(version).id)
    shut, *granted = await asyncio.gather(
        manager.world.entries.shut(entry),
        *(early(manager, version) for _ in range(10)),
        return_exceptions=True,
    )
    leases = [run for run in granted if isinstance(run, Run)]
    assert (shut is None) == bool(leases)


async def test_strays_are_swept(lab: Any, gate: Gate) -> None:
    manager, version = await begun(lab, gate)
    stray = lab.site / ".early" / f"nfs-a.default.{'0' * 64}-packs"
    (stray / "packs").mkdir(parents=True)
    assert len(await lab.violations(manager, deep=False)) == 1
    await Sweep(manager.world).all()
    assert not stray.exists()
    assert Path((await early(manager, version)).granted["early"]).is_dir()
    assert await lab.violations(manager, deep=False) == []
