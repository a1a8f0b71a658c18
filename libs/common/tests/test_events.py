"""The envelope and the registry: what goes in comes out, and nothing else comes in."""

from __future__ import annotations

import json
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from millrace import events
from millrace.clock import SystemClock
from millrace.errors import Invalid
from millrace.events import (
    EVENT_CLASSES,
    MAX_EVENT_BYTES,
    AnyEvent,
    CacheEvicted,
    CacheRequested,
    DataLanded,
    EventData,
    FutureVersion,
    IngestFailed,
    MismatchedEvent,
    Selected,
    UnknownEventType,
    UnparsableEvent,
    build,
    decode,
    encode,
)
from millrace.events.envelope import canonical_json, data_digest


def an_event(reason: str = "no such prefix") -> AnyEvent:
    data = IngestFailed(job="j1", dataset="digits", reason=reason)
    return build(data, source="/millrace/ingest", subject="j1", project="default", sequence=3, clock=SystemClock())


def altered(**changes: Any) -> bytes:
    document = json.loads(encode(an_event()))
    document.update(changes)
    return json.dumps(document).encode()


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=500))
def test_an_event_survives_the_wire(reason: str) -> None:
    event = an_event(reason)
    assert decode(encode(event), subject=event.bus_subject) == event


def test_a_cause_hands_down_its_correlation() -> None:
    first = an_event()
    second = build(
        first.data, source="/millrace/x", subject="s", project="default", sequence=1, clock=SystemClock(), cause=first
    )
    assert second.correlationid == first.correlationid == first.id
    assert second.causationid == first.id


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b"", UnparsableEvent),
        (b"{", UnparsableEvent),
        (b"[]", UnparsableEvent),
        (b"\xff\xfe", UnparsableEvent),
        (b"[" * 100_000, UnparsableEvent),
        (altered(type="dataset.exploded"), UnknownEventType),
        (altered(type="ingest.failed", dataschema="urn:millrace:event:ingest.failed:v9"), FutureVersion),
        (altered(dataschema="urn:millrace:event:dataset.committed:v1"), MismatchedEvent),
        (altered(dataschema="urn:millrace:event:ingest.failed:v99999999999999"), MismatchedEvent),
        (altered(datadigest="0" * 64), MismatchedEvent),
        (altered(project="../etc"), UnparsableEvent),
        (altered(subject="a\0b"), UnparsableEvent),
        (altered(subject="\ud800"), UnparsableEvent),
        (altered(time="2026-11-25T00:00:00"), UnparsableEvent),
        (altered(data={"job": "j", "dataset": "Not A Name", "reason": ""}), UnparsableEvent),
        (altered(data=float("nan")), UnparsableEvent),
        (b" " * (MAX_EVENT_BYTES + 1), UnparsableEvent),
    ],
)
def test_poison_is_refused_with_a_reason(raw: bytes, error: type[Invalid]) -> None:
    with pytest.raises(error) as caught:
        decode(raw)
    assert caught.value.message
    assert not caught.value.transient


def test_a_subject_of_another_project_is_refused() -> None:
    event = an_event()
    with pytest.raises(MismatchedEvent):
        decode(encode(event), subject=event.bus_subject.replace(".default", ".other"))


def test_an_event_too_large_for_the_broker_is_not_made() -> None:
    from millrace.clock import new_id
    from millrace.events import TrainingRequested

    data = TrainingRequested(
        run=str(new_id()),
        dataset="d",
        version=1,
        commit="0" * 64,
        site="s",
        component="c",
        params={"blob": "x" * MAX_EVENT_BYTES},
    )
    event = build(data, source="/x", subject="d", project="default", sequence=1, clock=SystemClock())
    with pytest.raises(Invalid):
        encode(event)


@given(st.binary(max_size=300))
def test_no_bytes_break_the_decoder(raw: bytes) -> None:
    with pytest.raises(Invalid):
        decode(raw)


def test_every_type_is_named_aggregate_dot_fact() -> None:
    for event_type, version in EVENT_CLASSES:
        aggregate, _, fact = event_type.partition(".")
        assert aggregate.isidentifier()
        assert fact.isidentifier()
        assert version >= 1


def test_an_outside_system_may_send_a_plain_cloudevent() -> None:
    plain = {
        "specversion": "1.0",
        "id": "adf-2026-11-25-001",
        "source": "/subscriptions/x/factories/etl",
        "type": "data.landed",
        "time": "2026-11-25T08:00:00Z",
        "project": "default",
        "data": {"dataset": "digits", "uri": "s3://millrace/default/landing/day-1/"},
    }
    event = decode(json.dumps(plain).encode(), subject="evt.data.landed.v1.default")
    assert event.data.mode == "replace"
    assert event.correlationid == plain["id"]
    assert decode(encode(event), subject=event.bus_subject) == event


def test_an_outside_system_may_not_leave_out_what_makes_it_an_event() -> None:
    for missing in ("id", "source", "project", "time", "data"):
        plain: dict[str, Any] = {
            "specversion": "1.0",
            "id": "i",
            "source": "s",
            "type": "data.landed",
            "time": "2026-11-25T08:00:00Z",
        }
        plain |= {"project": "default", "data": {"dataset": "digits", "uri": "s3://millrace/default/landing/a/"}}
        del plain[missing]
        with pytest.raises(UnparsableEvent):
            decode(json.dumps(plain).encode())


def landed(source: str, event_id: str, project: str = "default") -> AnyEvent:
    data = DataLanded(dataset="digits", uri="s3://lake/landing/digits/")
    event = build(data, source=source, subject="digits", project=project, sequence=0, clock=SystemClock())
    return event.model_copy(update={"id": event_id})


def test_two_outside_systems_may_number_alike() -> None:
    events = [landed("/etl/a", "1"), landed("/etl/b", "1"), landed("/etl/a", "2"), landed("/etl/a", "1", "other")]
    assert len({event.key for event in events}) == len(events)
    assert landed("/etl/a", "1").key == events[0].key
    assert an_event().key != an_event().key


def test_who_claims_to_be_one_of_us_cannot_choose_a_key() -> None:
    assert landed("/millrace/catalog", "zone-1234").key not in {
        "zone-1234",
        landed("/millrace/ingest", "zone-1234").key,
    }
    own = an_event()
    assert own.key == own.id


def test_what_follows_an_outside_event_names_its_key() -> None:
    cause = landed("/etl/a", "1")
    data = IngestFailed(job="j1", dataset="digits", reason="no such prefix")
    after = build(
        data, source="/millrace/ingest", subject="j1", project="default", sequence=1, clock=SystemClock(), cause=cause
    )
    assert after.causationid == cause.key != cause.id


def test_a_landing_that_says_nothing_new_has_the_digest_it_always_had() -> None:
    plain = DataLanded(dataset="digits", uri="s3://lake/default/landing/x/")
    lineage = dict.fromkeys(("event", "source", "incident", "queue", "parent", "run", "code"))
    before = {"dataset": "digits", "uri": plain.uri, "mode": "replace", "message": "", "lineage": lineage}
    assert data_digest(plain) == blake3(canonical_json(before)).hexdigest()
    archive = DataLanded(dataset="digits", uri="s3://lake/default/landing/x.zip", format="archive")
    assert archive.model_dump(mode="json")["format"] == "archive"
    assert data_digest(archive) != data_digest(archive.model_copy(update={"format": None}))


@pytest.mark.parametrize(
    ("uri", "good"),
    [
        ("s3://lake/default/landing/x", True),
        ("https://host.example/a/b?x=1", True),
        ("http://127.0.0.1:80/a", True),
        ("file:///mnt/scans", True),
        ("ftp://host/a", False),
        ("https://user:word@host/a", False),
        ("https://host/a b", False),
        ("file://host/x", False),
        ("s3://lake/", False),
    ],
)
def test_places_that_data_may_land_in(uri: str, good: bool) -> None:
    try:
        DataLanded(dataset="digits", uri=uri)
    except ValidationError:
        assert not good
    else:
        assert good


@pytest.mark.parametrize(
    ("data", "fields"),
    [
        (
            CacheRequested(site="nfs-a", dataset="d", version=1, commit="0" * 64),
            {"site": "nfs-a", "dataset": "d", "version": 1, "commit": "0" * 64, "desired": "present", "reason": ""},
        ),
        (
            CacheEvicted(entry="e", site="nfs-a", dataset="d", version=1, commit="0" * 64, reason="age", bytes=1),
            {
                "entry": "e",
                "site": "nfs-a",
                "dataset": "d",
                "version": 1,
                "commit": "0" * 64,
                "reason": "age",
                "bytes": 1,
            },
        ),
    ],
)
def test_an_event_that_says_nothing_new_is_what_it_always_was(data: EventData, fields: dict[str, Any]) -> None:
    assert data.model_dump(mode="json") == fields
    event = build(data, source="/millrace/x", subject="s", project="default", sequence=1, clock=SystemClock())
    assert event.datadigest == blake3(canonical_json(fields)).hexdigest()
    assert decode(encode(event)).data == data


def test_what_is_selected_travels() -> None:
    selected = Selected(mode="packs", paths=("a/",))
    data = CacheRequested(site="nfs-a", dataset="d", version=1, commit="0" * 64, selected=selected)
    event = build(data, source="/millrace/x", subject="s", project="default", sequence=1, clock=SystemClock())
    assert decode(encode(event)).data.selected == selected


def test_the_package_gives_what_it_names_and_nothing_else() -> None:
    assert {name for name in events.__all__ if not hasattr(events, name)} == set()
    assert events.Event is events.envelope.Event  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="no attribute 'import_nothing'"):
        events.import_nothing  # noqa: B018 - asking is the test
