"""Where a version goes when nobody names a site: filtered by what can take it, then by predicted seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cache_manager.application.cache import Cache
from cache_manager.application.housekeeping import probe_sites
from cache_manager.domain.charge import Charge
from cache_manager.domain.entry import Cause
from cache_manager.domain.links import Links, Rate
from cache_manager.errors import NoSiteError
from millrace.proximity import probe

ANNA = Cause(principal="anna")


def test_labels_count_until_three_samples_exist() -> None:
    assert Rate().best(5.0) == 5.0
    assert Rate(label=7.0).best(5.0) == 7.0
    assert Rate(value=9.0, samples=2, label=7.0).best(5.0) == 7.0
    assert Rate(value=9.0, samples=2).best(5.0) == 9.0
    assert Rate(value=9.0, samples=3, label=7.0).best(5.0) == 9.0


def test_compute_nodes_count_before_the_cache_manager() -> None:
    own = Links(own_read=Rate(1e6, 9), own_open=Rate(0.5, 9), read=Rate(1e9, 2), open=Rate(0.0001, 2))
    assert own.run_seconds(10**6, 2) == 2.0
    assert Links(own_read=Rate(1e6, 9), read=Rate(1e8, 3), open=Rate(0.25, 3)).run_seconds(10**8, 4) == 2.0
    assert Links(own_read=Rate(1e6, 2), read=Rate(label=1e8), open=Rate(label=0.25)).run_seconds(10**8, 4) == 2.0


def test_many_small_files_cost_opens_and_large_ones_bytes() -> None:
    near = Links(read=Rate(1e8, 3), open=Rate(0.0001, 3))
    far = Links(read=Rate(1e9, 3), open=Rate(0.01, 3))
    assert near.run_seconds(10**9, 100_000) < far.run_seconds(10**9, 100_000)
    assert near.run_seconds(10**10, 10) > far.run_seconds(10**10, 10)


def test_a_probe_reads_within_bounds_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert probe(tmp_path) is None
    for number in range(30):
        (tmp_path / f"{number}.bin").write_bytes(b"x" * 100_000)
    (tmp_path / "link").symlink_to("/etc/passwd")
    found = probe(tmp_path)
    assert found is not None
    assert found.read_bytes_per_second > 0
    monkeypatch.setattr("millrace.proximity.MAX_OPENS", 0)
    assert probe(tmp_path) is None
    assert len(list(tmp_path.iterdir())) == 31


def sites(lab: Any) -> tuple[dict[str, Any], ...]:
    names = ("nfs-a", "nfs-b", "nfs-c")
    return tuple({"site": name, "path": str(lab.site.parent / name), "capacity_bytes": 10**6} for name in names)


@pytest.mark.servers
async def test_the_quickest_site_that_can_take_it_is_chosen(lab: Any) -> None:
    manager = await lab.manager(sites=sites(lab))
    cache, version = Cache(manager.world), await lab.version()
    for name, speed in (("nfs-a", 1e6), ("nfs-b", 1e9), ("nfs-c", 1e8)):
        for _ in range(3):
            await cache.sample(name, speed, 0.0001)
    order = [it["site"] for it in (await cache.plan("default", "digits", "1", None))["sites"]]
    assert order == ["nfs-b", "nfs-c", "nfs-a"]

    await cache.drain_site("nfs-b", "anna", draining=True)
    entry = await cache.request_present(None, "default", "digits", "1", ANNA)
    assert entry["site"] == "nfs-c"
    await lab.until_state(manager, lab.key(version, site="nfs-c"), "READY")
    shown = await cache.why(entry["id"], "default")
    assert [(it["site"], it["verdict"]) for it in shown["sites"]] == [
        ("nfs-c", "ready"),
        ("nfs-a", "fits"),
        ("nfs-b", "draining"),
    ]
    assert (await cache.request_present(None, "default", "digits", "1", ANNA))["site"] == "nfs-c"


@pytest.mark.servers
async def test_where_nothing_can_take_it_every_site_says_why(lab: Any) -> None:
    manager = await lab.manager(sites=sites(lab))
    cache, _ = Cache(manager.world), await lab.version()
    await cache.drain_site("nfs-a", "anna", draining=True)
    await manager.world.sites.change("nfs-b", capacity=Charge(10, 10))
    (lab.site.parent / "nfs-c" / ".millrace-site").unlink()
    with pytest.raises(NoSiteError) as refused:
        await cache.request_present(None, "default", "digits", "1", ANNA)
    for part in ("nfs-a: nothing new", "nfs-b: site nfs-b could not hold", "nfs-c: ", "is the export mounted"):
        assert part in refused.value.message


@pytest.mark.servers
async def test_fills_and_probes_are_measured(lab: Any, manager: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cache_manager.application.filling.SAMPLE_BYTES", 1)
    await probe_sites(manager.world)
    assert (await manager.world.sites.get("nfs-a")).links.own_read.samples == 0
    await lab.ready(manager, await lab.version())
    await probe_sites(manager.world)
    links = (await manager.world.sites.get("nfs-a")).links
    assert (links.lake.samples, links.own_read.samples, links.own_open.samples, links.read.samples) == (1, 1, 1, 0)
    assert min(links.lake.value, links.own_read.value) > 0


@pytest.mark.servers
async def test_what_is_on_its_way_to_a_site_counts(lab: Any) -> None:
    manager = await lab.manager(sites=sites(lab)[:2])
    cache, first, _ = Cache(manager.world), await lab.version(), await lab.version(2)
    for site in ("nfs-a", "nfs-b"):
        for _ in range(3):
            await manager.world.sites.sample(site, "lake", 1e4)
    assert (await cache.request_present(None, "default", "digits", "1", ANNA))["site"] == "nfs-a"
    await lab.set(first, state="FETCHING", bytes=36_000, progress=0.5, charge={"bytes": 36_000, "inodes": 54})
    [under_way, other] = (await cache.plan("default", "digits", "1", None))["sites"]
    assert (under_way["site"], under_way["verdict"], under_way["missing_bytes"]) == ("nfs-a", "under way", 18_000)
    assert other["seconds"] - under_way["seconds"] == pytest.approx(1.8)
    assert (await cache.request_present(None, "default", "digits", "2", ANNA))["site"] == "nfs-b"
