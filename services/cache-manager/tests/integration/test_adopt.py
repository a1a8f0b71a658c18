"""A tree that is near already becomes a copy: hashed, linked, and only what differs is fetched."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from cache_manager.application.adopting import adopt_tree
from cache_manager.domain.entry import Cause
from millrace.errors import Conflict, Invalid, NotFound

pytestmark = pytest.mark.servers

ANNA = Cause(principal="anna")


async def adopted(lab: Any, manager: Any, path: Path, reference: str = "1") -> Any:
    return await adopt_tree(str(path), "nfs-a", "default", "digits", reference, cause=ANNA, world=manager.world)


async def test_a_whole_tree_is_adopted_without_a_byte_from_the_lake(lab: Any, manager: Any) -> None:
    version = await lab.version()
    tree = lab.scratch / "digits-1"
    lab.store.reads.clear()
    await adopted(lab, manager, tree)
    entry = await lab.until_state(manager, lab.key(version), "READY")
    assert (lab.store.pack_reads(), entry.fetched_bytes, entry.adopt_from) == ({}, 0, "")
    copy = lab.site / "v" / "default" / version.commit / "train" / "7" / "0007.png"
    assert copy.stat().st_ino == (tree / "train" / "7" / "0007.png").stat().st_ino
    assert {path.stat().st_mode & 0o777 for path in (lab.site / "v").rglob("*.png")} == {0o440}
    assert await lab.event_types() == ["cache.ready"]
    assert await lab.violations(manager) == []
    with pytest.raises(Conflict, match="already"):
        await adopted(lab, manager, tree)


async def test_what_differs_is_fetched_and_what_is_strange_stays_behind(lab: Any, manager: Any) -> None:
    version = await lab.version()
    tree = lab.scratch / "near"
    shutil.copytree(lab.scratch / "digits-1", tree)
    other = tree / "train" / "7" / "0007.png"
    content = b"?" * other.stat().st_size
    other.write_bytes(content)
    mode = other.stat().st_mode
    (tree / "train" / "8" / "0008.png").unlink()
    (tree / "notes.txt").write_text("mine")
    (tree / "link").symlink_to("/etc/passwd")
    await adopted(lab, manager, tree)
    entry = await lab.until_state(manager, lab.key(version), "READY")
    assert 0 < entry.fetched_bytes < 10_000
    assert not list((lab.site / "v").rglob("notes.txt"))
    assert (other.read_bytes(), other.stat().st_mode) == (content, mode)
    assert await lab.violations(manager) == []


async def test_files_of_another_user_come_from_the_lake(
    lab: Any, manager: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    version, mine = await lab.version(), os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    await adopted(lab, manager, lab.scratch / "digits-1")
    entry = await lab.until_state(manager, lab.key(version), "READY")
    assert entry.fetched_bytes > 0
    assert {path.stat().st_nlink for path in (lab.scratch / "digits-1").rglob("*.png")} == {1}


async def test_a_folder_that_vanishes_is_no_loss(lab: Any, manager: Any) -> None:
    version = await lab.version()
    await adopted(lab, manager, lab.scratch / "digits-1")
    shutil.rmtree(lab.scratch / "digits-1")
    await lab.until_state(manager, lab.key(version), "READY")
    assert await lab.violations(manager) == []


async def test_what_is_no_folder_to_adopt_is_refused(lab: Any, manager: Any) -> None:
    version = await lab.version()
    await lab.ready(manager, version)
    for path in (lab.scratch / "nothing", lab.site / "v", lab.site, Path("relative"), Path("/etc")):
        with pytest.raises(Invalid):
            await adopted(lab, manager, path)
    with pytest.raises(NotFound):
        await adopted(lab, manager, lab.scratch / "digits-1", "7")
