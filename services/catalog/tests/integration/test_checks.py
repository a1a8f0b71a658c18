"""Checks that a dataset demands: a version that fails them is not committed, and the refusal says why."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from millrace.datasets.push import push

pytestmark = [pytest.mark.servers, pytest.mark.timeout(120)]


def _checks(*checks: dict[str, Any]) -> dict[str, Any]:
    return {"checks": list(checks)}


async def _demand(gateway, *checks: dict[str, Any], who: str = "owner") -> Any:
    await gateway.call("PUT", "/v1/datasets/digits", json={})
    return await gateway.call("PUT", "/v1/datasets/digits/checks", json=_checks(*checks), who=who)


async def test_a_version_that_fails_is_not_committed_and_says_why(gateway) -> None:
    demanded = await _demand(
        gateway, {"name": "two files", "files": {"min": 2}}, {"name": "b", "paths": {"require": ["b.txt"]}}
    )
    assert demanded.status_code == 200, demanded.text
    refused = await gateway.commit(await gateway.push(a=b"one"))
    assert (refused.status_code, refused.json()["code"]) == (422, "checks-failed")
    assert "two files: 1 files, less than 2" in refused.json()["detail"]
    assert [failure["check"] for failure in refused.json()["failures"]] == ["two files", "b"]
    assert (await gateway.call("GET", "/v1/datasets/digits")).json()["head"] is None
    passed = await gateway.commit(await gateway.push(a=b"one", b=b"two"))
    assert (passed.status_code, passed.json()["checks"]) == (201, demanded.json()["digest"])


async def test_tables_are_read_from_the_lake(gateway, tmp_path) -> None:
    column = {"name": "ages", "table": {"file": "people.csv", "columns": {"age": {"type": "integer", "max": 120}}}}
    await _demand(gateway, column)

    async def commit(text: str, parent: str | None = None) -> Any:
        folder = tmp_path / f"t{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        (folder / "people.csv").write_text(text)
        return await gateway.commit(await push(folder, gateway.parts.store, project="default"), parent)

    refused = await commit("age\n30\n130\n")
    assert refused.json()["failures"] == [
        {"check": "ages", "reason": "column 'age': 1 cells more than 120", "where": ["row 2"]}
    ]
    assert (await commit("age\n30\n\x00\xff")).status_code == 422
    assert (await commit("age\n30\n120\n")).status_code == 201


async def test_programs_are_demanded_by_their_text(gateway) -> None:
    ours: dict[str, Any] = {"name": "ours", "python": {"file": "checks/ours.py"}}
    assert (await _demand(gateway, ours)).status_code == 400
    ours["python"]["blake3"] = "a" * 64
    assert (await _demand(gateway, ours)).status_code == 200
    pushed = await gateway.push(a=b"one")
    assert (await gateway.commit(pushed)).status_code == 422
    assert (await gateway.commit(pushed, attested={"ours": "b" * 64})).status_code == 422
    assert (await gateway.commit(pushed, attested={"ours": "a" * 64})).status_code == 201


async def test_who_may_demand_and_what_is_no_document(gateway) -> None:
    assert (await _demand(gateway, {"name": "a", "files": {"min": 1}}, who="contributor")).status_code == 403
    for bad in (
        {"name": "a"},
        {"name": "a", "disjoint": {"path": "("}},
        {"name": "a", "files": {"min": "x"}},
        {"$a": 1},
    ):
        answer = await _demand(gateway, bad)
        assert answer.status_code == 400, answer.text
    assert (await gateway.call("GET", "/v1/datasets/digits/checks", who="viewer")).json()["checks"] == []
    await _demand(gateway, {"name": "a.$b", "files": {"min": 1}})
    assert (await gateway.call("GET", "/v1/datasets/digits/checks")).json()["checks"][0]["name"] == "a.$b"


async def test_an_existing_version_is_tried(gateway) -> None:
    await _demand(gateway)
    await gateway.commit(await gateway.push(a=b"one"))
    await _demand(gateway, {"name": "two", "files": {"min": 2}})
    tried = (await gateway.call("POST", "/v1/datasets/digits/versions/1/checks")).json()
    assert (tried["passed"], tried["failures"][0]["check"]) == (False, "two")
    other = _checks({"name": "one", "files": {"max": 1}})
    assert (await gateway.call("POST", "/v1/datasets/digits/versions/1/checks", json=other)).json()["passed"]


async def test_checks_that_change_while_a_version_is_judged_are_not_passed(gateway, monkeypatch) -> None:
    await _demand(gateway, {"name": "one", "files": {"min": 1}})
    checker = gateway.parts.catalog.checker
    judge = checker.failures
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(*arguments: Any) -> Any:
        found = await judge(*arguments)
        begun.set()
        await go_on.wait()
        return found

    monkeypatch.setattr(checker, "failures", slow)
    commit = asyncio.create_task(gateway.commit(await gateway.push(a=b"one")))
    await begun.wait()
    await _demand(gateway, {"name": "two", "files": {"min": 2}})
    go_on.set()
    answer = await commit
    assert (answer.status_code, answer.json()["code"]) == (409, "checks-changed")
