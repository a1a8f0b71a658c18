"""What a compute node sees while the cache manager works: never a wrong byte, and no stale handle under a lease.

Under `make test-nfs` the node reads through a mount of its own, whose caches know nothing of the manager's.
"""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from cache_manager.application.leases import AcquireLease, acquire_lease, release_lease
from cache_manager.application.scrubbing import Scrubber
from cache_manager.domain.names import EntryKey
from cache_manager.domain.selection import Selection
from millrace.clock import new_id
from millrace.datasets.readers import Dataset
from millrace.errors import Corrupt, NotFound

pytestmark = pytest.mark.servers

WHOLE, PACKS = Selection(), Selection("packs")
ATTRIBUTE_SECONDS = float(os.environ.get("MILLRACE_TEST_ATTRIBUTE_SECONDS", "0"))
"""For how long the node's mount believes what it was told; nothing where it reads the manager's own folder."""
GRACE = {"grace_seconds": ATTRIBUTE_SECONDS + 0.5}
SIZE = 300_000
"""Bytes of a file that is more than one read-ahead, so that its end is still on the server when its start was read."""


def key(version: Any, selection: Selection) -> EntryKey:
    return EntryKey("nfs-a", "default", version.commit, selection.variant)


async def leased(lab: Any, manager: Any, version: Any, selection: Selection = WHOLE) -> dict[str, Any]:
    """Bring a copy to READY, and take a lease on it."""
    await lab.ask(manager, version, selection=selection)
    await lab.until_state(manager, key(version, selection), "READY")
    given = {"run": str(new_id()), "site": "nfs-a", "project": "default", "dataset": version.dataset}
    lease = AcquireLease(**given, commit=version.commit, selection=selection)
    return dict(await acquire_lease(lease, world=manager.world))


async def read_all(root: Path, selection: Selection = WHOLE) -> dict[str, bytes]:
    """Return every file of a copy, read in a thread as another process would: the manager goes on meanwhile."""

    def work() -> dict[str, bytes]:
        opened = Dataset.open_packs(root) if selection.mode == "packs" else Dataset.open_tree(root)
        with opened as dataset:
            return dict(dataset.samples(seed=3))

    found = await asyncio.to_thread(work)
    found.pop("_READY", None)
    return found


def expected(files: int, size: int = 900, like: int = 1) -> dict[str, bytes]:
    return {
        f"train/{index % 10}/{index:04d}.png": f"digits {like} {index} ".encode().ljust(size, b".")
        for index in range(files)
    }


def open_unread(path: Path) -> int:
    """Open a file and read its first byte; of the rest nothing is fetched ahead."""
    handle = os.open(path, os.O_RDONLY)
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_RANDOM)
    assert os.pread(handle, 1, 0) == b"d"
    return handle


def end_of(handle: int) -> bytes | int:
    """Return a file's last bytes, or why they are refused: a server that knows no open files (NFSv3) lost them."""
    try:
        return os.pread(handle, 9, SIZE - 9)
    except OSError as error:
        return error.errno or 0


@pytest.mark.parametrize("selection", [WHOLE, PACKS], ids=["tree", "packs"])
async def test_a_lease_holder_reads_on_while_its_copy_is_to_go(lab: Any, as_node: Any, selection: Selection) -> None:
    manager, version = await lab.manager(), await lab.version()
    lease = await leased(lab, manager, version, selection)
    handles = [open_unread(path) for path in sorted(as_node(lease["path"]).rglob("*.png"))[:5]]
    await lab.ask(manager, version, desired="absent", selection=selection)
    for _ in range(3):
        seen, _ = await asyncio.gather(read_all(as_node(lease["path"]), selection), lab.step(manager))
        assert seen == expected(40)
    for handle in handles:
        assert os.pread(handle, 900, 0).startswith(b"digits 1 ")
        os.close(handle)

    await release_lease(lease["lease"], "default", world=manager.world)
    await lab.until_state(manager, key(version, selection), "ABSENT")
    assert await lab.violations(manager) == []


async def test_what_was_open_at_a_leases_end_is_read_until_the_grace_is_over(
    lab: Any, as_node: Any, record_property: Any
) -> None:
    manager, version = await lab.manager(**GRACE), await lab.version(files=4, size=SIZE)
    lease = await leased(lab, manager, version)
    [first, second, *_] = [open_unread(path) for path in sorted(as_node(lease["path"]).rglob("*.png"))]
    await release_lease(lease["lease"], "default", world=manager.world)
    await lab.ask(manager, version, desired="absent")
    await lab.until_state(manager, lab.key(version), "TRASHED")

    assert os.pread(first, 9, SIZE - 9) == b"." * 9
    await lab.until_state(manager, lab.key(version), "ABSENT")

    after = end_of(second)
    assert after in {b"." * 9, errno.ESTALE}
    record_property("an open file after the deletion", str(after))
    for handle in (first, second):
        os.close(handle)


@pytest.mark.parametrize("selection", [WHOLE, PACKS], ids=["tree", "packs"])
@pytest.mark.parametrize("grace", [0.0, GRACE["grace_seconds"]], ids=["at-once", "after-the-grace"])
async def test_a_copy_that_left_and_came_back_is_read_whole(
    lab: Any, as_node: Any, selection: Selection, grace: float
) -> None:
    manager, version = await lab.manager(grace_seconds=grace), await lab.version()
    for _ in range(2):
        lease = await leased(lab, manager, version, selection)
        assert await read_all(as_node(lease["path"]), selection) == expected(40)
        await release_lease(lease["lease"], "default", world=manager.world)
        await lab.ask(manager, version, desired="absent", selection=selection)
        await lab.until_state(manager, key(version, selection), "ABSENT")


async def test_who_looked_too_early_finds_the_copy_once_the_mount_looks_again(
    lab: Any, as_node: Any, record_property: Any
) -> None:
    manager, version = await lab.manager(), await lab.version()
    path = as_node(manager.folders.get("nfs-a").path(lab.key(version)))
    with pytest.raises(NotFound):
        Dataset.open_packs(path)
    assert not path.exists()
    await leased(lab, manager, version)
    record_property("found at once", path.exists())
    async with asyncio.timeout(ATTRIBUTE_SECONDS + 10):
        while not path.exists():
            await asyncio.sleep(0.05)
    assert await read_all(path) == expected(40)


async def test_a_repair_puts_a_good_file_where_a_reader_has_the_damaged_one_open(lab: Any, as_node: Any) -> None:
    manager, version = await lab.manager(scrub_bytes_per_second=1e12), await lab.version(files=4, size=SIZE)
    lease = await leased(lab, manager, version)
    path = Path(lease["path"]) / "train/1/0001.png"
    handle = open_unread(as_node(path))
    path.chmod(0o640)
    with path.open("r+b") as file:
        file.seek(3)
        file.write(b"!")
    await manager.world.entries.want_scrub({"site": "nfs-a"})
    while await Scrubber(manager.world).step():
        pass
    await lab.until_state(manager, lab.key(version), "READY")

    assert os.pread(handle, 9, SIZE - 9) == b"." * 9
    os.close(handle)
    async with asyncio.timeout(ATTRIBUTE_SECONDS + 10):
        while (seen := await attempt(as_node(lease["path"]))) != expected(4, SIZE):
            assert seen is None, "a wrong byte was read"
            await asyncio.sleep(0.05)
    assert await lab.violations(manager) == []


async def attempt(root: Path) -> dict[str, bytes] | None:
    """Read everything; None where a file is refused."""
    try:
        return await read_all(root)
    except (NotFound, Corrupt):
        return None


async def test_a_file_that_the_managers_own_host_has_open_delays_its_deletion_only(
    lab: Any, record_property: Any
) -> None:
    manager, version = await lab.manager(), await lab.version()
    await lab.ready(manager, version)
    tree = lab.site / "v" / "default" / version.commit
    handle = open_unread(next(iter(sorted(tree.rglob("*.png")))))
    await lab.ask(manager, version, desired="absent")
    for _ in range(20):
        await lab.step(manager)
        await asyncio.sleep(0.01)
    assert not tree.exists()
    assert os.pread(handle, 6, 0) == b"digits"
    record_property("while it is open", (await manager.world.entries.get(lab.key(version).id)).reason)
    os.close(handle)

    await lab.until_state(manager, lab.key(version), "ABSENT")
    assert list((lab.site / ".trash").iterdir()) == []
    assert await lab.violations(manager) == []
