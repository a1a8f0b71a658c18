"""Paths, head lengths and renaming: pure functions on hostile bytes."""

from __future__ import annotations

import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.domain.oip import REFUSED, BadHead, Renaming, head_length, infer_status, parse_path, prediction_id

RENAMING = Renaming.of("digits.v12", "my-endpoint", 12)


def a_reply(request_id: str | None, data: list[float], backend: str = "digits.v12") -> bytes:
    """What Triton sends: compact, the id first."""
    head = {} if request_id is None else {"id": request_id}
    outputs = [{"name": "p", "datatype": "FP32", "shape": [len(data)], "data": data}]
    document = head | {"model_name": backend, "model_version": "1", "outputs": outputs}
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=60)
tricky = st.sampled_from(
    ['"model_name":"digits.v12","model_version":"1"', '\\"model_name\\":\\"digits.v12\\"', "digits.v12", '"}', "\\"]
)


@given(request_id=st.none() | texts | tricky | st.builds("".join, st.lists(tricky, max_size=4)))
def test_a_json_reply_changes_in_its_names_and_nowhere_else(request_id: str | None) -> None:
    body, head = RENAMING.reply(a_reply(request_id, [0.5, 1.0]), None)
    before, after = json.loads(a_reply(request_id, [0.5, 1.0])), json.loads(body)
    assert head is None
    assert (after.pop("model_name"), after.pop("model_version")) == ("my-endpoint", "12")
    del before["model_name"], before["model_version"]
    assert after == before


@given(request_id=st.none() | texts | tricky, binary=st.binary(max_size=200))
def test_a_binary_reply_keeps_its_tensors_and_says_the_new_head_length(request_id: str | None, binary: bytes) -> None:
    json_head = a_reply(request_id, [])
    body, head = RENAMING.reply(json_head + binary, len(json_head))
    assert head is not None
    assert body[head:] == binary
    assert json.loads(body[:head])["model_name"] == "my-endpoint"


def test_tensor_bytes_that_look_like_a_head_stay() -> None:
    json_head, evil = b'{"outputs":[]}', RENAMING.server
    assert RENAMING.reply(json_head + evil, len(json_head)) == (json_head + evil, len(json_head))


@given(st.text(max_size=60))
def test_the_echoed_id_is_read_as_the_client_wrote_it(request_id: str) -> None:
    allowed = string.ascii_letters + string.digits + "._:-"
    usable = 0 < len(request_id) <= 128 and request_id[0].isalnum() and all(char in allowed for char in request_id)
    usable = usable and request_id.isascii()
    assert prediction_id(a_reply(request_id, [])) == (request_id if usable else None)


@given(st.binary(max_size=80))
def test_no_reply_breaks_the_reading_of_ids(raw: bytes) -> None:
    assert prediction_id(raw) is None
    prediction_id(b'{"id":' + raw)
    RENAMING.reply(raw, min(3, len(raw)))


@given(value=st.binary(max_size=20), length=st.integers(0, 10**6))
def test_a_head_length_is_a_plain_number_within_the_body(value: bytes, length: int) -> None:
    try:
        found = head_length(value, length)
    except BadHead:
        return
    assert found is not None
    assert 0 <= found <= length
    assert value.isdigit()


@pytest.mark.parametrize("value", [b"-1", b"+1", b"1_0", b" 1", b"0x1", b"", b"1.0", "\uff11".encode(), b"9" * 30])
def test_other_head_lengths_are_refused(value: bytes) -> None:
    with pytest.raises(BadHead):
        head_length(value, 100)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/v2/models/digits", ("digits", None, "metadata")),
        ("/v2/models/digits/infer", ("digits", None, "infer")),
        ("/v2/models/digits/versions/3/infer", ("digits", "3", "infer")),
        ("/v2/models/digits/versions/3", ("digits", "3", "metadata")),
        ("/v2/models/digits/ready", ("digits", None, "ready")),
        ("/v2/models/digits/trace/setting", None),
        ("/v2/models/digits/infer/", None),
        ("/v2/models//infer", None),
        ("/v2/models/a/b/infer", None),
        ("/v2/models/digits/infer\n", None),
        ("/v2/systemsharedmemory/region/r/register", None),
        ("/v2/repository/models/digits/load", None),
        ("/v2/logging", None),
    ],
)
def test_paths(path: str, found: tuple[str, str | None, str] | None) -> None:
    target = parse_path(path)
    assert (None if target is None else (target.name, target.version, target.verb)) == found


@given(st.text(max_size=40))
def test_no_path_breaks_the_parser(text: str) -> None:
    target = parse_path(f"/v2/models/{text}/infer")
    assert target is None or "/" not in target.name


@pytest.mark.parametrize(
    ("status", "message", "ours"),
    [
        (200, b"", 200),
        (400, b'{"error":"unexpected size for input"}', 400),
        (500, b'{"error":"failed to parse the request JSON buffer"}', 400),
        (500, b'{"error":"Unable to parse \'data\'"}', 400),
        (404, b'{"error":"Unable to find shared memory region: \'r\'"}', 400),
        (404, b'{"error":"Request for unknown model: \'digits.v1\' is not found"}', 503),
        (400, b'{"error":"requested model \'x\' is not available"}', 503),
        (
            500,
            b'{"error":"Failed to process the request(s) for model instance \'d_0\': Stub process is not healthy."}',
            503,
        ),
        (503, b"", 503),
        (501, b"", 501),
    ],
)
def test_the_status_of_an_inference(status: int, message: bytes, ours: int) -> None:
    assert infer_status(status, message) == ours


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (b'{"error":"no model m-1"}', {"error": "no model digits"}),
        (b'{"error":"cannot parse \x80"}', {"error": "cannot parse \N{REPLACEMENT CHARACTER}"}),
        (b'{"error":"a\nb"}', {"error": "a\nb"}),
        (b"", REFUSED),
        (b"<html>", REFUSED),
        (b'{"error":7}', REFUSED),
        (b"[" * 100_000, REFUSED),
    ],
)
def test_an_error_of_the_server_is_always_json(said: bytes, shown: object) -> None:
    expected = json.loads(shown) if isinstance(shown, bytes) else shown
    assert json.loads(Renaming.of("m-1", "digits", 1).error(said)) == expected
