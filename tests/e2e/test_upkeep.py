"""Removing, restoring, collecting and rebuilding by the command line, against the running platform."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from millrace.clock import new_id
from millrace.datasets.readers import Dataset
from tests.e2e.conftest import Platform, until
from tests.e2e.test_cli import run

pytestmark = [pytest.mark.servers, pytest.mark.slow, pytest.mark.timeout(300)]


def _json(platform: Platform, *arguments: str) -> Any:
    done = run(platform, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def dataset(platform: Platform, tmp_path: Path) -> str:
    """A dataset of two versions, of its own for each test."""
    name = f"kept-{new_id().hex[-12:]}"
    run(platform, "data", "init", name, "-C", str(tmp_path))
    for content in ("one", "two"):
        (tmp_path / "a.txt").write_text(content)
        assert run(platform, "data", "sync", "-m", content, "-C", str(tmp_path)).returncode == 0
    return name


def test_a_version_is_removed_cleared_from_its_sites_and_restored(platform: Platform, dataset: str) -> None:
    assert run(platform, "cache", "add", f"{dataset}@1", "--site", "nfs-a", "--wait").returncode == 0
    refused = run(platform, "data", "rm", f"{dataset}@2", "-y")
    assert refused.returncode != 0
    assert "head of its dataset" in refused.stderr
    assert _json(platform, "data", "rm", f"{dataset}@1", "-y", "--reason", "consent")["removed"]["reason"] == "consent"
    platform.event("cache.evicted", lambda data: data["dataset"] == dataset)
    gone = run(platform, "data", "ls", f"{dataset}@1")
    assert gone.returncode == 4
    assert "was removed on" in gone.stderr
    assert "data restore" in gone.stderr
    assert run(platform, "data", "restore", f"{dataset}@1").returncode == 0
    assert run(platform, "data", "ls", f"{dataset}@1").stdout.split() == ["3", "a.txt"]
    assert run(platform, "data", "verify", f"{dataset}@1").returncode == 0


def test_nothing_goes_without_a_yes(platform: Platform, dataset: str) -> None:
    assert run(platform, "data", "rm", dataset).returncode != 0
    assert run(platform, "data", "ls", dataset).returncode == 0
    assert run(platform, "data", "rm", dataset, "-y").returncode == 0
    assert run(platform, "data", "ls", dataset).returncode == 4
    assert run(platform, "data", "restore", dataset).returncode == 0
    assert run(platform, "data", "ls", dataset).returncode == 0


def test_garbage_is_shown_asked_to_go_and_spared(platform: Platform, dataset: str) -> None:
    plan = _json(platform, "data", "gc")["plan"]
    assert plan["objects"] == 0
    assert plan["kept"]["objects"] > 0
    people = run(platform, "data", "gc")
    assert people.returncode == 0
    assert "needed" in people.stderr
    assert _json(platform, "data", "gc", "--sweep")["collection"]["state"] == "condemning"
    until("the collection", lambda: _json(platform, "data", "gc")["collection"]["state"] == "done" or None)
    assert _json(platform, "data", "gc", "--stop")["collection"]["state"] == "done"
    assert run(platform, "data", "verify", dataset).returncode == 0


def test_a_manifest_that_the_lake_lost_is_made_again(platform: Platform, dataset: str) -> None:
    manifest = _json(platform, "data", "log", dataset)["items"][0]["manifest"]
    platform.lose_object(f"default/manifests/{manifest}")
    assert run(platform, "data", "verify", f"{dataset}@2").returncode != 0
    assert _json(platform, "data", "rebuild", dataset)["manifests"] == [manifest]
    assert run(platform, "data", "verify", f"{dataset}@2").returncode == 0
    assert run(platform, "data", "rebuild", dataset).returncode == 0


def test_a_part_of_a_version_and_its_packs_are_cached_and_read_by_runs(platform: Platform, tmp_path: Path) -> None:
    name = f"parts-{new_id().hex[-12:]}"
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for number in range(5):
            (tmp_path / label / f"{number}.txt").write_text(f"{label}{number}")
    run(platform, "data", "init", name, "-C", str(tmp_path))
    assert run(platform, "data", "sync", "-C", str(tmp_path)).returncode == 0

    part = _json(platform, "cache", "add", name, "--site", "nfs-a", "--path", "a/", "--wait")
    assert sorted(it.name for it in (Path(part["path"]) / "a").iterdir()) == [f"{n}.txt" for n in range(5)]
    assert not (Path(part["path"]) / "b").exists()
    nothing = run(platform, "cache", "add", name, "--site", "nfs-a", "--path", "c/", "--wait")
    assert nothing.returncode != 0
    assert "c/" in nothing.stderr
    assert run(platform, "cache", "add", name, "--site", "nfs-a", "--path", "!a").returncode == 2

    start = ("runs", "start", "-d", name, "-c", "noop", "-s", "nfs-a", "--early", "--path", "a/", "--gpus", "0")
    started = _json(platform, *start)
    done = platform.event("training.completed", lambda data: data["run"] == started["run"], 120)
    assert done
    shown = platform.get(f"/v1/runs/{started['run']}")
    assert (shown["mode"], shown["paths"], shown["early"]) == ("packs", ["a/"], True)
    with Dataset.open_packs(shown["path"]) as dataset:
        assert list(dataset.paths) == [f"a/{number}.txt" for number in range(5)]

    listed = run(platform, "cache", "ls").stdout
    assert "a/ (packs)" in listed
    why = run(platform, "cache", "why", name, "--site", "nfs-a")
    assert why.returncode == 4
    assert "there are: " in why.stderr
    assert run(platform, "cache", "clear", name, "--site", "nfs-a", "--packs", "--path", "a/").returncode == 0
