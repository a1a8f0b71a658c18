"""Filling: from a wish to a verified tree at its final path, and what it says meanwhile."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cache_manager.domain.charge import Charge

pytestmark = pytest.mark.servers


async def test_a_requested_version_becomes_ready(lab: Any) -> None:
    manager, version = await lab.manager(), await lab.version()

    entry = await lab.ready(manager, version)

    tree = lab.site / "v" / "default" / version.commit
    assert (entry.files, entry.bytes, entry.fetched_bytes > 0) == (40, 36_000, True)
    assert sorted(path.name for path in tree.rglob("*.png")) == [f"{index:04d}.png" for index in range(40)]
    assert json.loads((tree / "_READY").read_text())["tree_root"] == entry.tree_root
    assert list((lab.site / ".staging").iterdir()) == []
    assert await lab.charged(manager) == entry.charge == Charge(36_000, 40 + 11 + 3)
    [event] = await lab.events()
    assert (event.type, event.data.path, event.data.files) == ("cache.ready", str(tree), 40)
    assert await lab.violations(manager) == []


async def test_asking_again_fetches_nothing_and_is_answered(lab: Any) -> None:
    manager, version = await lab.manager(), await lab.version()
    await lab.ready(manager, version)
    reads = dict(lab.store.reads)

    await lab.ask(manager, version)

    assert dict(lab.store.reads) == reads
    first, second = await lab.events()
    assert (first.type, second.type) == ("cache.ready", "cache.ready")
    assert (first.data.fetched_bytes > 0, second.data.fetched_bytes) == (True, 0)


async def test_a_corrupt_pack_fails_with_a_reason_and_leaves_nothing(lab: Any) -> None:
    manager, version = await lab.manager(), await lab.version()
    [pack] = lab.store.file_packs()
    data = bytearray(lab.store.objects[pack])
    data[100] ^= 1
    lab.store.objects[pack] = bytes(data)
    await lab.ask(manager, version)

    entry = await lab.until_state(manager, lab.key(version), "FAILED")

    assert entry.reason
    assert (entry.retry_at, entry.charge, await lab.charged(manager)) == (None, Charge(), Charge())
    assert await lab.event_types() == ["cache.failed"]
    assert list(lab.site.rglob("*.png")) == []
    assert await lab.violations(manager) == []


async def test_a_lake_that_is_away_is_tried_again(lab: Any) -> None:
    manager, version = await lab.manager(), await lab.version()
    calls = 0

    async def fail_twice(key: str) -> None:
        nonlocal calls
        if "/packs/" in key:
            calls += 1
            if calls <= 2:
                raise ConnectionResetError(104, "connection reset")

    lab.store.before = fail_twice

    entry = await lab.ready(manager, version)

    assert (calls, entry.attempts) == (3, 0)
    assert await lab.event_types() == ["cache.ready"]
    assert await lab.violations(manager) == []


async def test_a_version_that_the_lake_does_not_have_fails(lab: Any) -> None:
    manager, version = await lab.manager(), await lab.version()
    await lab.ask(manager, version, commit="0" * 64)
    key = lab.key(version)
    entry = await lab.until_state(manager, type(key)("nfs-a", "default", "0" * 64), "FAILED")
    assert "no such object" in entry.reason


async def test_an_unknown_site_is_waited_for_with_a_reason(lab: Any) -> None:
    manager, version = await lab.manager(), await lab.version()
    await lab.ask(manager, version, site="nfs-z")
    await lab.step(manager)

    entry = await manager.world.entries.get(lab.key(version, site="nfs-z").id)

    assert entry.state == "QUEUED"
    assert "no cache site nfs-z" in entry.reason


async def test_a_newer_version_shares_what_an_older_copy_has(lab: Any) -> None:
    manager, first = await lab.manager(), await lab.version()
    await lab.ready(manager, first)
    second = await lab.version(2, files=41, like=1)
    reads = dict(lab.store.reads)

    entry = await lab.ready(manager, second)

    assert entry.state == "READY"
    assert entry.fetched_bytes < 2_000
    assert sum(lab.store.pack_reads().values()) <= sum(n for key, n in reads.items() if "/packs/" in key) + 1
    old, new = (lab.site / "v/default" / version.commit for version in (first, second))
    shared = [path for path in old.rglob("*.png") if (new / path.relative_to(old)).samefile(path)]
    assert len(shared) == 40
    assert await lab.violations(manager) == []
