"""Places and job states, without any server."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.domain.jobs import ENDED, Move, State, after, backoff
from ingest.domain.places import LocalPlace, Place, Root, Zone, parse, permitted
from ingest.errors import IllegalMove, PlaceRefused
from ingest.settings import IngestSettings

ZONE = Zone("default", "digits", Place("factory", "out/"))


@given(st.sampled_from(State), st.sampled_from(Move))
def test_ended_jobs_never_change(state: State, move: Move) -> None:
    if state in ENDED:
        with pytest.raises(IllegalMove):
            after(state, move)


@pytest.mark.parametrize(
    "uri",
    [
        "s3://b",
        "s3:///x",
        "s3://b/",
        "s3://b//x",
        "s3://b/x/../y",
        "s3://b/./x",
        "ftp://x",
        "file:///",
        "file:///a/%2e./b",
        "s3://b/x\n",
    ],
)
def test_uris_that_name_no_folder(uri: str) -> None:
    with pytest.raises(PlaceRefused):
        parse(uri)


@given(st.text(max_size=60))
def test_no_text_escapes_the_projects_landing_folder(text: str) -> None:
    try:
        place = permitted(parse(f"s3://lake/{text}"), "default", buckets={"lake"}, zones=())
    except PlaceRefused:
        return
    assert isinstance(place, Place)
    assert place.prefix.startswith("default/landing/")
    assert not {"", ".", ".."} & set(place.prefix.removesuffix("/").split("/"))


def test_a_zone_is_its_projects_own() -> None:
    inside = parse("s3://factory/out/monday")
    assert permitted(inside, "default", buckets={"lake"}, zones=[ZONE]) == Place("factory", "out/monday/")
    for project, uri in (("other", "s3://factory/out/monday"), ("default", "s3://factory/outside/monday")):
        with pytest.raises(PlaceRefused):
            permitted(parse(uri), project, buckets={"lake"}, zones=[ZONE])


ROOTS = [Root("scans", "/mnt/scans/"), Root("*", "/mnt/shared")]


@pytest.mark.parametrize(
    ("uri", "project", "allowed"),
    [
        ("file:///mnt/scans/monday", "scans", True),
        ("file:///mnt/scans/monday", "default", False),
        ("file:///mnt/scans", "scans", False),
        ("file:///mnt/scans-of-others/x", "scans", False),
        ("file:///mnt/shared/a%20b/", "default", True),
        ("file:///etc", "default", False),
    ],
)
def test_folders_lie_below_a_root_of_the_project(uri: str, project: str, allowed: bool) -> None:
    if allowed:
        place = permitted(parse(uri), project, buckets=(), zones=(), roots=ROOTS)
        assert isinstance(place, LocalPlace)
        assert "%" not in place.path
    else:
        with pytest.raises(PlaceRefused):
            permitted(parse(uri), project, buckets=(), zones=(), roots=ROOTS)


@pytest.mark.parametrize("uri", ["file:///", "file:///a/../b", "file:///a/%2e%2e/b", "file:///a/%0ab", "file:////a"])
def test_paths_that_name_no_folder(uri: str) -> None:
    with pytest.raises(PlaceRefused):
        parse(uri)


def test_urls_of_a_list_begin_with_their_place() -> None:
    parse("https://host/x/", urls=("https://host/x/a.csv",))
    for base, url in (("https://host/x/", "https://other/x/a.csv"), ("https://host/x", "https://host/xa.csv")):
        with pytest.raises(PlaceRefused):
            parse(base, urls=(url,))


def test_pauses_grow_and_end() -> None:
    pauses = [backoff(attempts, first=1, last=60) for attempts in range(10)]
    assert pauses == [0, 1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_INGEST_LANDING_ZONES", '[{"dataset": "digits", "uri": "s3://factory/out/"}]')
    monkeypatch.setenv("MILLRACE_INGEST_BUCKETS", '["factory"]')
    settings = IngestSettings()
    assert [item.zone() for item in settings.landing_zones] == [ZONE]
    assert settings.buckets == ("factory",)


@pytest.mark.parametrize("scheme", ["s3", "az", "gs"])
def test_places_are_of_the_lakes_own_kind(scheme: Any) -> None:
    uri = f"{scheme}://lake/default/landing/monday/"
    place = parse(uri)
    assert isinstance(place, Place)
    assert place.uri == uri
    assert permitted(place, "default", buckets={"lake"}, zones=(), scheme=scheme) == place
    others: set[Any] = {"s3", "az", "gs"} - {scheme}
    for other in others:
        with pytest.raises(PlaceRefused, match="not what this lake is"):
            permitted(place, "default", buckets={"lake"}, zones=(), scheme=other)
        assert not Place("lake", "default/", other).holds(place)
