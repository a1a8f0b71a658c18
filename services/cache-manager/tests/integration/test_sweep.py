"""Start-up reconcile: what lies on the site against what is remembered."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from cache_manager.application.sites import DefineSite, define_site
from cache_manager.application.sweep import Sweep
from cache_manager.domain.charge import Charge
from cache_manager.errors import SiteInvalid

pytestmark = pytest.mark.servers


def tree(lab: Any, version: Any) -> Any:
    return lab.site / "v" / "default" / version.commit


async def test_a_tree_that_the_database_forgot_is_verified_and_adopted(lab: Any) -> None:
    manager, version = await lab.manager(), await lab.version()
    await lab.ready(manager, version)
    database = lab.client[lab.database]
    await database["entries"].delete_many({})
    await database["sites"].update_many({}, {"$set": {"charged": {"bytes": 0, "inodes": 0}}})
    reads = lab.store.pack_reads()

    await Sweep(manager.world).all()
    entry = await lab.until_state(manager, lab.key(version), "READY")

    assert (entry.dataset, entry.version, entry.files) == ("digits", 1, 40)
    assert lab.store.pack_reads() == reads
    assert await lab.charged(manager) == entry.charge
    assert await lab.violations(manager) == []


async def test_a_forgotten_tree_with_a_flipped_byte_is_fetched_again(lab: Any) -> None:
    manager, version = await lab.manager(), await lab.version()
    await lab.ready(manager, version)
    await lab.client[lab.database]["entries"].delete_many({})
    await lab.client[lab.database]["sites"].update_many({}, {"$set": {"charged": {"bytes": 0, "inodes": 0}}})
    flip(next(tree(lab, version).rglob("0007.png")))

    await Sweep(manager.world).all()
    entry = await lab.until_state(manager, lab.key(version), "READY")

    assert entry.fetched_bytes > 0
    assert await lab.violations(manager, deep=True) == []


def flip(path: Any) -> None:
    data = bytearray(path.read_bytes())
    data[3] ^= 1
    path.chmod(0o640)
    path.write_bytes(data)


async def test_a_missing_file_of_a_ready_tree_is_repaired(lab: Any) -> None:
    manager, version = await lab.manager(), await lab.version()
    await lab.ready(manager, version)
    next(tree(lab, version).rglob("0007.png")).unlink()
    assert await lab.violations(manager, deep=False) != []

    await Sweep(manager.world).all()
    await lab.until_state(manager, lab.key(version), "READY")

    assert await lab.event_types() == ["cache.ready", "cache.repaired"]
    assert (await lab.events())[1].data.files == 1
    await Sweep(manager.world).all()
    assert await lab.violations(manager) == []


async def test_a_ready_tree_that_vanished_is_repaired(lab: Any) -> None:
    manager, version = await lab.manager(), await lab.version()
    await lab.ready(manager, version)
    shutil.rmtree(tree(lab, version))
    await Sweep(manager.world).all()
    await lab.until_state(manager, lab.key(version), "READY")
    assert await lab.violations(manager) == []
    assert (await lab.event_types())[-1] == "cache.repaired"


async def test_what_nobody_owns_is_removed(lab: Any) -> None:
    manager, version = await lab.manager(), await lab.version()
    await lab.ready(manager, version)
    key = lab.key(version)
    strays = [
        lab.site / ".staging" / f"{key.id}.1",
        lab.site / ".staging" / "rubbish",
        lab.site / ".trash" / "rubbish",
        lab.site / ".quarantine" / "rubbish",
        lab.site / "v" / "default" / ("0" * 64),
    ]
    for stray in strays:
        (stray / "deep").mkdir(parents=True)
        (stray / "deep" / "file").write_text("x")
    assert len(await lab.violations(manager)) == 4

    sweep = Sweep(manager.world)
    for _ in range(3):
        await sweep.all()

    assert [stray for stray in strays if stray.exists()] == []
    assert await lab.violations(manager) == []


async def test_an_export_that_is_not_mounted_loses_nothing(lab: Any) -> None:
    manager, version = await lab.manager(), await lab.version()
    entry = await lab.ready(manager, version)
    away = lab.site.rename(lab.site.with_name("away"))
    lab.site.mkdir()

    await Sweep(manager.world).all()
    await lab.step(manager)

    assert (await manager.world.entries.get(entry.id)).state == "READY"
    assert list(lab.site.iterdir()) == []
    [violation] = await lab.violations(manager)
    assert "is the export mounted?" in violation["what"]
    lab.site.rmdir()
    away.rename(lab.site)
    assert await lab.violations(manager) == []


async def test_two_sites_cannot_share_a_directory(lab: Any) -> None:
    manager = await lab.manager()

    async def define(command: DefineSite) -> None:
        async def work(uow: Any) -> None:
            await define_site(command, uow=uow, clock=manager.world.clock)

        await manager.transactor(work)

    for path in (lab.site, lab.site / "inside", lab.site.parent):
        with pytest.raises(SiteInvalid):
            await define(DefineSite("nfs-b", str(path), 1_000))
    assert await lab.charged(manager) == Charge()
