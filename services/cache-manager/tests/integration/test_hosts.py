"""Two hosts on one site: what one has just done the other acts upon, whatever its mount remembers."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.servers


async def test_a_copy_that_was_just_published_is_known_and_leaves(lab: Any, other_host: Any) -> None:
    manager, version = await lab.manager(), await lab.version()
    key = lab.key(version)
    assert await other_host.marker(key) is None
    assert not await other_host.trash(key)
    await lab.ready(manager, version)

    assert (await other_host.marker(key)).files == 40
    assert await other_host.measure(key) == (40, 36_000)
    assert await other_host.trash(key)

    assert await manager.folders.get("nfs-a").marker(key) is None
    assert await other_host.restore(key)
    assert await lab.violations(manager) == []


async def test_what_just_left_is_known_to_be_gone(lab: Any, other_host: Any) -> None:
    manager, version = await lab.manager(), await lab.version()
    await lab.ready(manager, version)
    key, folder = lab.key(version), manager.folders.get("nfs-a")
    assert (await other_host.marker(key)).files == 40
    await folder.trash(key)

    assert await other_host.marker(key) is None
    assert not await other_host.trash(key)
    [name] = (await other_host.found()).trash
    await folder.remove(".trash", name)
    assert not await other_host.restore(key)
    assert (await other_host.found()).trash == []
