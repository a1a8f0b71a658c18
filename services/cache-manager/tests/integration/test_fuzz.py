"""Requests, clears, leases, kills and a full disk in any order: never over capacity, no bad byte, no lost file.

Versions come as files and as packs; packs are read early, too.

`MILLRACE_FUZZ_SECONDS` (15) says for how long, `MILLRACE_FUZZ_SEED` repeats a run.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cache_manager.application.leases import AcquireLease, acquire_lease, release_lease
from cache_manager.domain.charge import Charge
from cache_manager.domain.selection import Selection
from cache_manager.errors import EntryNotReady, LeaseLost, SiteUnavailable
from millrace.clock import new_id
from millrace.datasets.pack import read_pack
from millrace.errors import Conflict, Unavailable

SECONDS = float(os.environ.get("MILLRACE_FUZZ_SECONDS", "15"))
pytestmark = [pytest.mark.servers, pytest.mark.timeout(SECONDS + 150)]

FILES, SIZE, CAPACITY = 12, 1_500, 60_000
PACKS = Selection("packs")
POINTS = (
    "fill.C2.after",
    "fill.C3.during",
    "fill.C6.after",
    "fill.C8.before",
    "fill.C8.after",
    "evict.E3.after",
    "evict.E4.before",
)


@dataclass
class Reader:
    """A run that holds a lease and has one file open since it got it."""

    lease: str
    version: Any
    path: Path
    open: Any = field(repr=False)


@dataclass
class EarlyReader:
    """A run that reads packs, perhaps while they are fetched, and has one open since it saw it."""

    lease: str
    roots: tuple[Path, Path]
    open: Any = None
    name: str = ""

    def check(self) -> None:
        """What has a name is whole, and stays so for whoever has it open."""
        for root in self.roots:
            for path in (root / "packs").glob("[0-9a-f]*"):
                try:
                    file = path.open("rb")
                except FileNotFoundError:
                    continue
                if self.open is None:
                    self.open, self.name = file, path.name
                read_pack(file.read(), expect=path.name)
                if self.open is not file:
                    file.close()
        if self.open is not None:
            self.open.seek(0)
            read_pack(self.open.read(), expect=self.name)

    def close(self) -> None:
        if self.open is not None:
            self.open.close()


class Fuzz:
    """The actions, and what must hold after each."""

    def __init__(self, lab: Any, processes: Any, manager: Any, chance: random.Random) -> None:
        self.lab, self.processes, self.manager, self.chance = lab, processes, manager, chance
        self.versions: list[Any] = []
        self.readers: list[Reader] = []
        self.early: list[EarlyReader] = []
        self.workers: list[int] = []
        self.done: list[str] = []

    def start(self, failpoints: str = "") -> None:
        sites = ({"site": "nfs-a", "path": str(self.lab.site), "capacity_bytes": CAPACITY},)
        settings = {"sites": sites, "grace_seconds": 0.05, "age_step_seconds": 0.5}
        pid = self.processes.start(settings=settings, failpoints=failpoints, sweep=True, housekeeping=True)
        self.workers.append(pid)

    async def step(self) -> None:
        action = self.chance.choice(
            (
                *(self.ask, self.ask, self.ask, self.clear, self.kill),
                *(self.lease, self.lease, self.release, self.lease_early, self.lease_early, self.release_early),
            )
        )
        self.done.append(action.__name__)
        await action()
        await asyncio.sleep(self.chance.random() * 0.15)

    async def ask(self, desired: str = "present") -> None:
        for _ in range(50):
            try:
                chosen = {"desired": desired, "selection": self.chance.choice((Selection(), PACKS))}
                await self.lab.ask(self.manager, self.chance.choice(self.versions), **chosen)
            except (Unavailable, Conflict):
                await asyncio.sleep(0.02)
            else:
                return

    async def clear(self) -> None:
        await self.ask("absent")

    async def lease(self) -> None:
        version = self.chance.choice(self.versions)
        wish = AcquireLease(str(new_id()), "nfs-a", "default", version.dataset, version.commit)
        try:
            lease = await acquire_lease(wish, world=self.manager.world)
        except (EntryNotReady, SiteUnavailable, Unavailable, Conflict):
            return
        files = sorted(Path(lease["path"]).rglob("*.png"))
        assert len(files) == FILES
        self.readers.append(Reader(lease["lease"], version, Path(lease["path"]), files[0].open("rb")))

    async def lease_early(self) -> None:
        version = self.chance.choice(self.versions)
        given = {"run": str(new_id()), "site": "nfs-a", "project": "default", "dataset": version.dataset}
        wish = AcquireLease(**given, commit=version.commit, selection=PACKS, early=True)
        try:
            lease = await acquire_lease(wish, world=self.manager.world)
        except (EntryNotReady, SiteUnavailable, Unavailable, Conflict):
            return
        final = Path(lease["path"])
        self.early.append(EarlyReader(lease["lease"], (Path(lease["early"] or final), final)))

    async def release_early(self) -> None:
        if self.early:
            reader = self.early.pop(self.chance.randrange(len(self.early)))
            reader.close()
            try:
                await release_lease(reader.lease, "default", world=self.manager.world)
            except (LeaseLost, Unavailable):
                return

    async def release(self) -> None:
        if self.readers:
            reader = self.readers.pop(self.chance.randrange(len(self.readers)))
            reader.open.close()
            try:
                await release_lease(reader.lease, "default", world=self.manager.world)
            except (LeaseLost, Unavailable):
                return

    async def kill(self) -> None:
        """Kill a worker, or let the disk be full for its successor, or let that one die at a failpoint."""
        pid = self.workers.pop(self.chance.randrange(len(self.workers)))
        await self.processes.kill(pid)
        self.start(
            self.chance.choice(
                ("", "fill.C3.after=enospc", f"{self.chance.choice(POINTS)}=kill@{self.chance.randint(1, 3)}")
            )
        )
        for place, worker in enumerate(self.workers):
            if not self.processes.alive(worker):
                del self.workers[place]
                self.start()
                return

    async def check(self) -> None:
        """Look at charges, then at what lies there, then at charges; each is within what the site may hold."""
        before = await self.lab.charged(self.manager)
        lying = _size(self.lab.site)
        after = await self.lab.charged(self.manager)
        assert max(before.bytes, after.bytes) <= CAPACITY
        assert lying <= CAPACITY
        for early in self.early:
            early.check()
        for reader in self.readers:
            self._whole(reader.version, reader.path)
            reader.open.seek(0)
            assert len(reader.open.read()) == SIZE
        for version in self.versions:
            self._whole(version, self.lab.site / "v" / "default" / version.commit, leased=False)

    def _whole(self, version: Any, tree: Path, *, leased: bool = True) -> None:
        """Read every file of a published tree; only one that nobody leases may go meanwhile."""
        for index in range(FILES):
            path = tree / "train" / str(index % 10) / f"{index:04d}.png"
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                assert not leased, (path, self.done[-10:])
                continue
            assert data == f"{version.dataset} {version.version} {index} ".encode().ljust(SIZE, b"."), path


def _size(site: Path) -> int:
    """Return the bytes that lay there at one moment: those of the files that two looks, one after the other, both find.

    One look would count a tree twice that is renamed meanwhile, and what comes in place of what went.
    """
    before, after = _files(site), _files(site)
    return sum(min(size, after[file]) for file, size in before.items() if file in after)


def _files(site: Path) -> dict[tuple[int, int], int]:
    """Return the size of each file by its inode and the time that this was made or changed."""
    found = {}
    for folder, _, names in os.walk(site):
        for name in names:
            if not name.startswith(("_READY", ".millrace-site")):
                try:
                    status = (Path(folder) / name).stat()
                except FileNotFoundError:
                    continue
                found[status.st_ino, status.st_ctime_ns] = status.st_size
    return found


async def test_nothing_is_ever_wrong(s3_lab: Any, processes: Any) -> None:
    seed = int(os.environ.get("MILLRACE_FUZZ_SEED", random.randrange(2**32)))
    print("MILLRACE_FUZZ_SEED", seed)
    site = ({"site": "nfs-a", "path": str(s3_lab.site), "capacity_bytes": CAPACITY},)
    manager = await s3_lab.manager(sites=site, lease_seconds=3_600.0)
    fuzz = Fuzz(s3_lab, processes, manager, random.Random(seed))
    fuzz.versions = [await s3_lab.version(number, files=FILES, size=SIZE) for number in range(1, 7)]
    for _ in range(2):
        fuzz.start()
    end, steps = time.monotonic() + SECONDS, 0
    while time.monotonic() < end:
        await fuzz.step()
        await fuzz.check()
        steps += 1
    print("steps", steps)
    await settle(s3_lab, fuzz, manager)


async def settle(lab: Any, fuzz: Fuzz, manager: Any) -> None:
    """Clear everything: what is left is nothing, and nothing is charged."""
    while fuzz.readers or fuzz.early:
        await fuzz.release()
        await fuzz.release_early()
    for pid in list(fuzz.workers):
        await fuzz.processes.kill(pid)
    fuzz.workers.clear()
    for version in fuzz.versions:
        for selection in (Selection(), PACKS):
            await lab.ask(manager, version, desired="absent", selection=selection)
    fuzz.start()
    async with asyncio.timeout(60):
        while await manager.world.entries.find({"state": STATES}):
            await asyncio.sleep(0.05)
    assert await lab.charged(manager) == Charge()
    assert _size(lab.site) == 0
    assert await lab.violations(manager) == []


STATES = ("QUEUED", "WAIT_SPACE", "FETCHING", "VERIFYING", "READY", "REPAIRING", "FAILED", "EVICTING", "TRASHED")
