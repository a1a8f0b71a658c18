"""Early leases while managers die: as processes of their own, on a real lake that hands out packs one by one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cache_manager.application.early import WantPacks, want_packs
from cache_manager.application.leases import AcquireLease, acquire_lease, renew_lease
from cache_manager.domain.names import EntryKey
from cache_manager.domain.selection import Selection
from cache_manager.errors import EntryNotReady
from millrace.clock import new_id
from millrace.datasets import folder_push
from millrace.datasets.pack import read_pack
from millrace.datasets.readers import Dataset
from millrace.datasets.stored import load_manifest

from .patience import PATIENCE
from .test_processes import BOUND, CountingProxy

pytestmark = pytest.mark.servers

PACKS = Selection("packs")


class Valve(CountingProxy):
    """Hands out packs as far as it is open, and remembers the order in which they were asked for."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(endpoint)
        self.order: list[str] = []
        self.room = asyncio.Semaphore(0)

    async def _seen(self, path: str) -> None:
        await super()._seen(path)
        if "/packs/" in path:
            self.order.append(path.rpartition("/")[2])
            await self.room.acquire()

    def open(self, packs: int = 1_000) -> None:
        for _ in range(packs):
            self.room.release()


def key(version: Any) -> EntryKey:
    return EntryKey("nfs-a", "default", version.commit, PACKS.variant)


class Site:
    """A version that processes fill through a valve, and a manager in this process that only answers."""

    def __init__(self, lab: Any, processes: Any, valve: Valve, bucket: str) -> None:
        self.lab, self.processes, self.valve = lab, processes, valve
        self.s3 = {**processes._s3, "endpoint": valve.endpoint, "bucket": bucket}
        self.settings = {"transfers": 1}

    async def begin(self, **more: Any) -> None:
        self.version = await self.lab.version()
        self.manager = await self.lab.manager()
        facts = await self.manager.world.lake.facts("default", self.version.commit, PACKS)
        self.packs = [ref.id for ref in (await load_manifest(self.lab.store, "default", facts.manifest)).packs]
        await self.lab.ask(self.manager, self.version, selection=PACKS)
        self.pid = self.start(**more)

    def start(self, **more: Any) -> int:
        started: int = self.processes.start(s3=self.s3, settings=self.settings, **more)
        return started

    async def early(self) -> dict[str, Any]:
        given = {"run": str(new_id()), "site": "nfs-a", "project": "default", "dataset": self.version.dataset}
        cmd = AcquireLease(**given, commit=self.version.commit, selection=PACKS, early=True)
        async with asyncio.timeout(30 * PATIENCE):
            while True:
                try:
                    return await acquire_lease(cmd, world=self.manager.world)
                except EntryNotReady:
                    await asyncio.sleep(0.02)

    async def want(self, lease: str, *places: int) -> dict[str, Any]:
        names = [self.packs[place] for place in places]
        return await want_packs(WantPacks(lease, "default", 0, names), world=self.manager.world)

    async def document(self) -> dict[str, Any]:
        found = await self.lab.client[self.lab.database]["entries"].find_one({"_id": key(self.version).id})
        return dict(found)

    async def until(self, seconds: float = 30 * PATIENCE, **fields: Any) -> dict[str, Any]:
        async with asyncio.timeout(seconds):
            while True:
                found = await self.document()
                if all(found.get(name) == value for name, value in fields.items()):
                    return found
                await asyncio.sleep(0.02)

    def shown(self, granted: dict[str, Any]) -> set[str]:
        """Return the packs that can be read now, each of them whole."""
        found = set()
        for root in (granted["early"], granted["path"]):
            for path in (Path(root) / "packs").glob("[0-9a-f]*"):
                try:
                    read_pack(path.read_bytes(), expect=path.name)
                except FileNotFoundError:
                    continue
                found.add(path.name)
        return found


@pytest.fixture
async def site(
    s3_lab: Any, processes: Any, s3_server: Any, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Site]:
    monkeypatch.setattr(folder_push, "PACK_TARGET", 4_000)
    async with Valve(s3_server.endpoint) as valve:
        yield Site(s3_lab, processes, valve, s3_bucket)


async def heartbeats(site: Site, count: int = 3) -> None:
    """Let the owner of the fill look at the entry so often; each look writes how far it is."""
    entries = site.lab.client[site.lab.database]["entries"]
    for number in range(count):
        await entries.update_one({"_id": key(site.version).id}, {"$set": {"progress": -1.0 - number}})
        async with asyncio.timeout(30 * PATIENCE):
            while (await site.document())["progress"] < 0:
                await asyncio.sleep(0.02)


async def test_a_wish_told_to_one_process_is_fetched_next_by_another(site: Site) -> None:
    await site.begin()
    granted = await site.early()
    answer = await site.want(granted["lease"], 7, 3, 9)
    assert (answer["state"], answer["early"]) == ("FETCHING", granted["early"])
    await heartbeats(site)
    site.valve.open(2)
    async with asyncio.timeout(30 * PATIENCE):
        while site.packs[7] not in site.shown(granted):
            await asyncio.sleep(0.02)
    assert (await site.document())["state"] == "FETCHING"
    site.valve.open()
    await site.until(state="READY")
    assert [site.packs.index(name) for name in site.valve.order] == [0, 7, 3, 9, 1, 2, 4, 5, 6, 8]
    assert site.shown(granted) == set(site.packs)


async def test_a_killed_owner_is_followed_under_the_same_lease(site: Site) -> None:
    await site.begin()
    granted = await site.early()
    site.valve.open(4)
    async with asyncio.timeout(30 * PATIENCE):
        while len(seen := site.shown(granted)) < 4:
            await asyncio.sleep(0.02)
    await site.want(granted["lease"], 9, 8)
    await site.processes.kill(site.pid)
    token = (await site.document())["token"]
    site.start()
    async with asyncio.timeout(BOUND + 30 * PATIENCE):
        while (await site.document())["token"] == token or len(site.valve.order) < 6:
            assert site.shown(granted) >= seen
            await asyncio.sleep(0.02)
    site.valve.open()
    entry = await site.until(state="READY")
    await renew_lease(granted["lease"], "default", world=site.manager.world)
    assert len(entry["leases"]) == 1
    assert max(site.valve.order.count(name) for name in seen) == 1
    with Dataset.open_packs(granted["path"]) as dataset:
        assert len(list(dataset.samples(seed=1))) == 40
    assert await site.lab.violations(site.manager) == []


@pytest.mark.parametrize("point", [2, 3, 4, 6, "8.before", 8, 10])
async def test_a_fill_that_is_killed_under_an_early_lease_is_finished(site: Site, point: Any) -> None:
    name = f"fill.C{point}" if isinstance(point, str) else f"fill.C{point}.after"
    client = site.lab.client
    await client.admin.command({"setParameter": 1, "transactionLifetimeLimitSeconds": 1})
    await site.begin()
    granted = await site.early()
    await site.processes.kill(site.pid)
    site.valve.open()
    for _ in range(2):
        pid = site.start(failpoints=f"{name}=kill")
        async with asyncio.timeout(30 * PATIENCE):
            while site.processes.alive(pid) and (await site.document())["state"] != "READY":
                await asyncio.sleep(0.01)
        await site.processes.kill(pid)
        site.shown(granted)
    site.start(sweep=True)
    entry = await site.until(state="READY")
    await client.admin.command({"setParameter": 1, "transactionLifetimeLimitSeconds": 5})
    assert list(entry["leases"]) == [granted["lease"].split(".")[3]]
    assert site.shown(granted) == set(site.packs)
    known = await site.manager.world.entries.get(key(site.version).id)
    assert await site.lab.charged(site.manager) == known.charge
    assert (await site.lab.event_types(), await site.lab.violations(site.manager)) == (["cache.ready"], [])
    await renew_lease(granted["lease"], "default", world=site.manager.world)
