"""What comes in over HTTP as an event, and values that must not pass."""

from __future__ import annotations

import json

import pytest

from catalog.application.landing import operation_id
from catalog.application.values import check_json
from catalog.entrypoints.cloudevents_http import BATCH, STRUCTURED, read_events
from millrace.errors import Invalid

DATA = {"dataset": "digits", "uri": "s3://lake/landing/digits/", "mode": "replace"}
EVENT = {"specversion": "1.0", "id": "e-1", "source": "/adf/pipeline", "type": "data.landed", "data": DATA}


def read(document, content_type: str = STRUCTURED):
    return read_events({"content-type": content_type}, json.dumps(document).encode())


def test_structured_binary_and_batched_say_the_same() -> None:
    (structured,) = read(EVENT)
    (plain,) = read(EVENT, "application/json; charset=utf-8")
    headers = {
        "content-type": "application/json",
        "ce-specversion": "1.0",
        "ce-id": "e-1",
        "ce-source": "/adf/pipeline",
        "ce-type": "data.landed",
    }
    (binary,) = read_events(headers, json.dumps(DATA).encode())
    batched = read([EVENT, {**EVENT, "id": "e-2"}], BATCH)
    assert structured == plain == binary == batched[0]
    assert [landing.id for landing in batched] == ["e-1", "e-2"]
    assert structured.data.dataset == "digits"


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        "text",
        {},
        {**EVENT, "specversion": "0.3"},
        {**EVENT, "type": "dataset.committed"},
        {**EVENT, "id": ""},
        {**EVENT, "id": 7},
        {**EVENT, "source": None},
        {**EVENT, "source": "x" * 300},
        {**EVENT, "data": None},
        {**EVENT, "data": "text"},
        {**EVENT, "data": {**DATA, "dataset": "../etc"}},
        {**EVENT, "data": {**DATA, "uri": "file://host/etc/passwd"}},
        {**EVENT, "data": {**DATA, "uri": "ftp://host/x"}},
        {**EVENT, "data": {**DATA, "urls": ["file:///etc/passwd"]}},
        {**EVENT, "data": {**DATA, "urls": ["https://host/x"] * 1_001}},
        {**EVENT, "data": {**DATA, "format": "floppy"}},
        {**EVENT, "data": {**DATA, "message": "nul\0nul"}},
        {**EVENT, "data": {**DATA, "message": "\ud800"}},
        {**EVENT, "time": "yesterday"},
        {**EVENT, "id": "a\0b"},
        {**EVENT, "Bad-Name": 1},
        {**EVENT, "data_base64": "!!!"},
    ],
)
def test_what_is_no_event_of_ours_is_invalid(document) -> None:
    with pytest.raises(Invalid):
        read(document)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 10_000, b"NaN", b'{"specversion": "1.0"'])
def test_what_is_no_json_is_invalid(body: bytes) -> None:
    for content_type in (STRUCTURED, BATCH, "application/json", "text/plain", ""):
        with pytest.raises(Invalid):
            read_events({"content-type": content_type}, body)


def test_the_same_source_and_id_are_the_same_operation() -> None:
    assert operation_id("default", "/a", "1") == operation_id("default", "/a", "1")
    assert operation_id("default", "/a", "1") != operation_id("other", "/a", "1")
    assert operation_id("default", "/a", "11") != operation_id("default", "/a1", "1")


@pytest.mark.parametrize("value", [{"a": "\0"}, {"a": "\ud800"}, {"a": float("nan")}, {"a": 2**63}, {"a" * 300: 1}])
def test_values_that_cannot_be_stored_or_sent_are_refused(value) -> None:
    with pytest.raises(ValueError, match=r".+"):
        check_json(value)


def test_depth_is_bounded() -> None:
    deep: object = 1
    for _ in range(40):
        deep = [deep]
    with pytest.raises(ValueError, match="deeper"):
        check_json(deep)
