"""`millrace cache`: what the commands ask the gateway for."""

from __future__ import annotations

from typing import Any

import pytest

from millrace_sdk.cli.app import main

ENTRY = {
    "id": "nfs-a.default." + "0" * 64,
    "site": "nfs-a",
    "commit": "0" * 64,
    "state": "READY",
    "pins": [],
    "leases": [],
    "hits": 0,
}
WHY = {
    "state": "READY",
    "reason": "it is there and complete",
    "held_by": ["pin paper by anna"],
    "age_out": {"left_seconds": None, "rule": "pin"},
    "pressure": {"score": 1.5, "goes_after": None, "of": 2},
    "sites": [
        {"site": "nfs-b", "verdict": "fits", "missing_bytes": 5, "requests": 1, "seconds": 0.1, "reason": "room"}
    ],
}


@pytest.fixture
def known(gateway: Any) -> Any:
    gateway.answers["GET", "/v1/datasets/plants/versions/3"] = {"version": 3, "commit": "0" * 64}
    gateway.answers["GET", "/v1/cache/entries"] = {"items": [ENTRY], "next": None}
    return gateway


def test_pins_are_set_and_removed(known: Any) -> None:
    pin = f"/v1/cache/entries/{ENTRY['id']}/pins/paper"
    known.answers["PUT", pin] = known.answers["DELETE", pin] = ENTRY
    assert main(["cache", "pin", "plants@3", "-s", "nfs-a", "-n", "paper", "-r", "figure 3"]) == 0
    assert main(["cache", "unpin", "plants@3", "-s", "nfs-a", "-n", "paper"]) == 0


def test_why_names_holders_and_other_sites(known: Any, capsys: pytest.CaptureFixture[str]) -> None:
    known.answers["GET", f"/v1/cache/entries/{ENTRY['id']}/why"] = WHY
    assert main(["cache", "why", "plants@3", "-s", "nfs-a"]) == 0
    shown = capsys.readouterr().out
    assert "pin paper by anna" in shown
    assert "nfs-b" in shown


def test_a_folder_is_adopted(known: Any) -> None:
    known.answers["POST", "/v1/cache/adoptions"] = {**ENTRY, "state": "QUEUED"}
    assert main(["cache", "adopt", "/mnt/nfs/plants", "plants@3", "-s", "nfs-a"]) == 0


def test_a_plan_lists_the_sites(known: Any, capsys: pytest.CaptureFixture[str]) -> None:
    known.answers["GET", "/v1/cache/plan"] = {"sites": WHY["sites"]}
    assert main(["cache", "plan", "plants@3"]) == 0
    assert "fits" in capsys.readouterr().out


def test_sites_quotas_and_rules_are_changed(gateway: Any) -> None:
    site = {"site": "nfs-b", "state": "draining", "reason": "empty", "capacity_bytes": 4_000_000_000_000}
    gateway.answers["PUT", "/v1/cache/sites/nfs-b"] = gateway.answers["PUT", "/v1/cache/sites/nfs-b/drain"] = site
    gateway.answers["DELETE", "/v1/cache/sites/nfs-b/drain"] = site
    gateway.answers["DELETE", "/v1/cache/sites/nfs-b"] = {}
    gateway.answers["PUT", "/v1/cache/quotas"] = {"limit_bytes": None}
    gateway.answers["PUT", "/v1/cache/age-out"] = {"dataset": "plants", "seconds": 3_600.0}
    gateway.answers["DELETE", "/v1/cache/age-out"] = {}
    gateway.answers["GET", "/v1/cache/age-out"] = {"items": [], "sites": {"nfs-b": 60.0}, "default_seconds": 86_400.0}
    gateway.answers["PUT", "/v1/cache/prefetch/nightly"] = gateway.answers["DELETE", "/v1/cache/prefetch/nightly"] = {}
    rule = {"name": "nightly", "trigger": "schedule", "dataset": "plants", "site": "nfs-b", "at": "03:30"}
    gateway.answers["GET", "/v1/cache/prefetch"] = {
        "items": [{**rule, "every_seconds": None, "last": None, "problem": "site nfs-b is being drained"}]
    }
    for line in (
        "sites add nfs-b /mnt/b --gb 4000 --age-out-days 2",
        "sites drain nfs-b",
        "sites drain nfs-b --end",
        "sites rm nfs-b --yes",
        "quota set --site nfs-b",
        "age-out set --hours 1 plants",
        "age-out rm plants",
        "age-out ls",
        "prefetch set nightly --on schedule -d plants -s nfs-b --at 03:30",
        "prefetch ls",
        "prefetch rm nightly",
    ):
        assert main(["cache", *line.split()]) == 0, line
