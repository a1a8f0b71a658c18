"""Rules of endpoints, routes, packages and names."""

from __future__ import annotations

import contextlib
import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.adapters.mongo import endpoint_from, endpoint_row, route_from, route_row
from serving.domain.endpoint import Endpoint, shifted_route
from serving.domain.names import backend_model, is_backend_model
from serving.domain.package import PackageRule, check_files, golden, golden_error, signature
from serving.domain.routes import Route, RouteTable

SIGNATURE = {
    "signature": {
        "inputs": [{"name": "image", "dtype": "FP32", "shape": [-1, 2, 2]}],
        "outputs": [{"name": "probabilities", "dtype": "FP32", "shape": [-1, 3]}],
    }
}


def test_the_newest_revision_wins_in_whatever_order_they_come(kit: Any) -> None:
    endpoint = Endpoint(kit.a_spec(revision=2), "cause")
    assert endpoint.requested(kit.a_spec(revision=1), "old") is endpoint
    assert endpoint.requested(kit.a_spec(revision=2), "again") is endpoint
    newer = endpoint.requested(kit.a_spec(revision=3), "new")
    assert (newer.desired.revision, newer.state, newer.cause, newer.attempts) == (3, "REQUESTED", "new", 0)


def test_a_shift_drains_the_old_revision_and_keeps_epochs_rising(kit: Any) -> None:
    first = Endpoint(kit.a_spec(revision=1), "c").shifted()
    route = shifted_route(first, None, 0.5)
    second = first.requested(kit.a_spec(revision=2, version=2), "c").shifted()
    after = shifted_route(second, route, 1.0)
    assert second.serving == second.desired
    assert [spec.revision for spec in second.draining] == [1]
    assert (route.epoch, after.epoch, after.sampling) == (1, 2, 0.5)
    assert second.drained(second.draining[0]).draining == ()


def test_a_failure_leaves_what_serves_alone(kit: Any) -> None:
    serving = Endpoint(kit.a_spec(revision=1), "c").shifted()
    failed = serving.requested(kit.a_spec(revision=2, version=2), "c").loading().failed("golden answer differs")
    assert (failed.state, failed.serving) == ("FAILED", serving.serving)
    assert failed.backends == {"digits.v1"}


def test_absence_ends_in_retired_once_nothing_drains(kit: Any) -> None:
    serving = Endpoint(kit.a_spec(revision=1), "c").shifted()
    gone = serving.requested(kit.a_spec(revision=2, present=False), "c").shifted()
    assert (gone.state, gone.serving) == ("RETIRING", None)
    assert gone.drained(gone.draining[0]).state == "RETIRED"
    assert Endpoint(kit.a_spec(present=False), "c").shifted().state == "RETIRED"


def test_documents_give_back_what_was_stored(kit: Any) -> None:
    endpoint = Endpoint(kit.a_spec(), "{}").shifted().requested(kit.a_spec(revision=2, version=2), "{}").loading()
    endpoint = replace(endpoint, draining=(kit.a_spec(revision=0),), revision=4)
    assert endpoint_from(json.loads(json.dumps(endpoint_row(endpoint)))) == endpoint
    route = shifted_route(endpoint, None, 0.25)
    assert route_from(json.loads(json.dumps(route_row(route)))) == route


@given(st.lists(st.integers(1, 50), max_size=20))
def test_a_route_never_goes_back_to_a_lower_epoch(epochs: list[int]) -> None:
    table, highest = RouteTable(), 0
    for epoch in epochs:
        table = table.advanced_by([Route("default", "digits", epoch, ())])
        highest = max(highest, epoch)
        assert table.routes["default", "digits"].epoch == highest


def test_arms_share_the_traffic_by_weight(kit: Any) -> None:
    arms = (kit.a_spec(revision=1).arm(9_000), kit.a_spec(revision=2, version=2).arm(1_000))
    route = Route("default", "digits", 1, arms)
    assert [route.choose(point).revision for point in (0, 8_999, 9_000, 9_999)] == [1, 1, 2, 2]
    with pytest.raises(ValueError, match="weights"):
        Route("default", "digits", 1, arms[:1])


@given(
    project=st.from_regex(r"[a-z0-9][a-z0-9-]{0,10}", fullmatch=True),
    model=st.from_regex(r"[a-z0-9][a-z0-9-]{0,10}", fullmatch=True),
    version=st.integers(1, 10**6),
)
def test_backend_names_are_recognised(project: str, model: str, version: int) -> None:
    assert is_backend_model(backend_model(project, model, version))


@pytest.mark.parametrize("name", ["", ".", "..", ".staging", "a.v0", "a/b.v1", "../a.v1", "a.v1/..", "A.v1", "a.v1\n"])
def test_other_names_are_not_ours(name: str) -> None:
    assert not is_backend_model(name)


@pytest.mark.parametrize(
    "names",
    [
        ["model.onnx", "package.json"],
        ["model.onnx", "package.json", "golden.json", "../evil"],
        ["model.onnx", "package.json", "golden.json", "sub/file"],
        ["model.onnx", "package.json", "golden.json", ".hidden"],
        ["model.onnx", "package.json", "golden.json", *(f"f{i}" for i in range(80))],
    ],
)
def test_unsafe_or_incomplete_packages_are_refused(names: list[str]) -> None:
    with pytest.raises(PackageRule):
        check_files(names)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(json_values)
def test_no_document_breaks_the_checks(document: Any) -> None:
    for section in (document, {"signature": document}, {"signature": {"inputs": document, "outputs": document}}):
        with pytest.raises(PackageRule):
            signature(section)
    for pair in (document, {"inputs": document, "outputs": document, "tolerance": 0.1}):
        with contextlib.suppress(PackageRule):
            golden(pair, signature(SIGNATURE))


@pytest.mark.parametrize("name", ['a"', "a b", "", "x" * 200, "a\n", 'x" } ]'])
def test_tensor_names_cannot_leave_the_configuration(name: str) -> None:
    document = json.loads(json.dumps(SIGNATURE))
    document["signature"]["inputs"][0]["name"] = name
    with pytest.raises(PackageRule):
        signature(document)


def test_golden_rows_may_be_nested_or_flat() -> None:
    outputs = [[0.1, 0.2, 0.7]]
    nested = {"inputs": [[[1, 2], [3, 4]]], "outputs": outputs, "tolerance": 1e-3}
    flat = {"inputs": [[1, 2, 3, 4]], "outputs": outputs, "tolerance": 1e-3}
    expected = signature(SIGNATURE)
    assert golden(nested, expected) == golden(flat, expected)
    assert golden_error(golden(flat, expected), [0.1, 0.2, 0.6]) == pytest.approx(0.1)
    assert golden_error(golden(flat, expected), [0.1, 0.2, math.nan]) == math.inf
    assert golden_error(golden(flat, expected), [0.1]) == math.inf


@pytest.mark.parametrize("tolerance", [None, "1", True, -1, 2, math.inf])
def test_a_golden_pair_needs_a_sane_tolerance(tolerance: Any) -> None:
    with pytest.raises(PackageRule, match="tolerance"):
        golden({"inputs": [[1, 2, 3, 4]], "outputs": [[1, 2, 3]], "tolerance": tolerance}, signature(SIGNATURE))
