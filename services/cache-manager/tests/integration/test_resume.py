"""A fill that is broken off in the middle is gone on with: what the site has is checked, and not fetched again."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cache_manager.adapters import site_disk
from cache_manager.application.sweep import Sweep
from millrace.datasets import folder_push, packer

from .patience import PATIENCE, TAKEOVER

pytestmark = pytest.mark.servers

PACK = 4096
"""Bytes of a pack here, so that a version of 40 files has about ten of them."""


@pytest.fixture(autouse=True)
def small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (packer, folder_push):
        monkeypatch.setattr(module, "PACK_TARGET", PACK)


def staged(lab: Any) -> list[Path]:
    """Return the files that lie in staging under their own names, oldest first."""
    found = [path for path in (lab.site / ".staging").rglob("*.png") if not path.name.startswith(".")]
    return sorted(found, key=lambda path: (path.stat().st_mtime_ns, path))


async def break_off(lab: Any, version: Any, *, after: int) -> dict[str, int]:
    """Let a manager fetch that many packs, one by one, and be gone; return what it has read whole by then."""
    first = await lab.manager(transfers=1)
    gone = asyncio.Event()

    async def hang(key: str) -> None:
        if "/packs/" in key and len(lab.store.pack_reads()) > after:
            del lab.store.reads[key]
            gone.set()
            await asyncio.Event().wait()

    async def keep(*_: Any, **__: Any) -> None:
        return

    lab.store.before = hang
    first.world.leases.release = keep
    await lab.ask(first, version)
    async with asyncio.timeout(15 * PATIENCE):
        await first.attendance.step()
        await gone.wait()
    await first.attendance.close()
    lab.store.before = None
    return dict(lab.store.pack_reads())


async def test_a_takeover_fetches_only_what_is_missing(lab: Any) -> None:
    version = await lab.version()
    before = await break_off(lab, version, after=6)
    assert len(before) == 6
    assert len(staged(lab)) >= 20

    second = await lab.manager(transfers=1, takeover_seconds=TAKEOVER)
    ready = await lab.until_state(second, lab.key(version), "READY")

    assert set(lab.store.pack_reads()) == set(lab.store.file_packs())
    assert set(lab.store.pack_reads().values()) == {1}
    assert ready.fetched_bytes >= ready.bytes  # of the whole copy, whoever fetched it
    assert ready.fill_seconds == 0  # half a fill says nothing of how long one takes
    assert await lab.violations(second) == []
    assert list((lab.site / ".staging").iterdir()) == []


async def test_what_was_damaged_meanwhile_is_fetched_again(lab: Any) -> None:
    version = await lab.version()
    before = await break_off(lab, version, after=6)
    victim, cut, alien = staged(lab)[0], staged(lab)[-1], staged(lab)[0].with_name("alien.png")
    for path, data in ((victim, b"x" * 900), (cut, b"short"), (alien, b"nobody's")):
        path.unlink(missing_ok=True)
        path.write_bytes(data)

    second = await lab.manager(transfers=1, takeover_seconds=TAKEOVER)
    ready = await lab.until_state(second, lab.key(version), "READY")

    again = {key for key in before if lab.store.reads[key] > 1}
    assert 1 <= len(again) <= 2
    assert (ready.files, await lab.violations(second)) == (40, [])
    assert list(lab.site.rglob("alien.png")) == []


async def test_a_link_in_its_place_is_never_followed(lab: Any, tmp_path: Path) -> None:
    version = await lab.version()
    await break_off(lab, version, after=6)
    outside = tmp_path / "outside.txt"
    outside.write_text("not of this site")
    victim = staged(lab)[0]
    victim.unlink()
    victim.symlink_to(outside)

    second = await lab.manager(transfers=1, takeover_seconds=TAKEOVER)
    await lab.until_state(second, lab.key(version), "READY")

    assert outside.read_text() == "not of this site"
    assert await lab.violations(second) == []


async def test_a_copy_that_was_gone_on_with_is_no_more_open_than_any(lab: Any) -> None:
    one, other = await lab.version(), await lab.version(2)
    await break_off(lab, one, after=6)
    second = await lab.manager(transfers=1, takeover_seconds=TAKEOVER)
    await lab.until_state(second, lab.key(one), "READY")
    await lab.ready(second, other)

    def modes(version: Any) -> dict[str, int]:
        root = lab.site / "v" / "default" / version.commit
        return {path.relative_to(root).as_posix(): path.stat().st_mode for path in [root, *root.rglob("*")]}

    assert modes(one) == modes(other)
    assert modes(one)["train"] & 0o777 == 0o750


async def test_what_a_dying_takeover_had_not_taken_yet_is_taken_by_the_next(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = await lab.version()
    await break_off(lab, version, after=6)
    taken: list[str] = []

    def rename(source: Path, name: str, **options: Any) -> None:
        taken.append(name)
        if len(taken) == 10:
            raise PermissionError(13, "the export went away in the middle")
        os.rename(source, name, **options)  # noqa: PTH104 - into an open folder

    monkeypatch.setattr(site_disk, "os", SimpleNamespace(**{**vars(os), "rename": rename}))
    second = await lab.manager(transfers=1, takeover_seconds=TAKEOVER)
    ready = await lab.until_state(second, lab.key(version), "READY")

    assert len(taken) > 20
    assert set(lab.store.pack_reads().values()) == {1}
    assert (ready.files, await lab.violations(second)) == (40, [])


async def test_a_file_where_a_folder_belongs_is_in_nobodys_way(lab: Any) -> None:
    version = await lab.version()
    await break_off(lab, version, after=6)
    [there] = (lab.site / ".staging").iterdir()
    for token, odd in ((0, "train"), (7, "train/1")):
        alien = there.with_name(f"{lab.key(version).id}.{token}") / odd
        alien.parent.mkdir(parents=True)
        alien.write_text("no folder")

    second = await lab.manager(transfers=1, takeover_seconds=TAKEOVER)
    ready = await lab.until_state(second, lab.key(version), "READY")
    assert (ready.files, await lab.violations(second)) == (40, [])


async def test_what_was_linked_before_does_not_count_as_fetched(lab: Any) -> None:
    manager, older = await lab.manager(), await lab.version()
    await lab.ready(manager, older)
    newer = await lab.version(2, files=80, like=1)
    lab.store.reads.clear()
    await break_off(lab, newer, after=3)
    second = await lab.manager(transfers=1, takeover_seconds=TAKEOVER)
    ready = await lab.until_state(second, lab.key(newer), "READY")
    assert set(lab.store.pack_reads().values()) == {1}
    assert 40 * 900 <= ready.fetched_bytes < 60 * 900  # the new half, packs' own bytes included


async def test_an_attempt_that_fails_leaves_its_files_to_the_next(lab: Any) -> None:
    version, failed = await lab.version(), asyncio.Event()

    async def fail_once(key: str) -> None:
        if "/packs/" in key and len(lab.store.pack_reads()) > 5 and not failed.is_set():
            failed.set()
            del lab.store.reads[key]
            raise TimeoutError("the lake was away for a moment")

    lab.store.before = fail_once
    manager = await lab.manager(transfers=1)
    await lab.ask(manager, version)
    await lab.until_state(manager, lab.key(version), "READY")

    assert failed.is_set()
    assert set(lab.store.pack_reads().values()) == {1}
    assert await lab.violations(manager) == []


async def test_the_sweep_spares_what_will_be_gone_on_with(lab: Any) -> None:
    version = await lab.version()
    await break_off(lab, version, after=6)
    key = lab.key(version)
    before = len(staged(lab))
    await lab.set(version, token=2)  # a successor has claimed it, and has not come to its folder yet

    second = await lab.manager(transfers=1, takeover_seconds=TAKEOVER)
    await Sweep(second.world).all()

    assert len(staged(lab)) == before
    assert (await second.world.entries.get(key.id)).state == "FETCHING"


async def test_what_is_withdrawn_is_not_kept(lab: Any) -> None:
    version = await lab.version()
    await break_off(lab, version, after=6)
    second = await lab.manager(transfers=1, takeover_seconds=TAKEOVER)
    await lab.ask(second, version, desired="absent")

    await lab.until_state(second, lab.key(version), "ABSENT")

    assert staged(lab) == []
    assert await lab.violations(second) == []
