"""The bus's pure parts."""

from __future__ import annotations

import asyncio

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from millrace.bus import dead_letters, tracing
from millrace.bus.codec import dead_letter
from millrace.bus.messages import Position, position
from millrace.bus.names import REASON
from millrace.bus.order import Turns
from millrace.bus.reconcile import differences
from millrace.bus.topology import DEAD_LETTER_HEADER_BYTES
from millrace.bus.verdict import Refuse, Retry, delay_after, judge
from millrace.errors import Conflict, Corrupt, DeadlineExceeded, Exhausted, Invalid, Unavailable
from millrace.testing.bus_contract import landed

AT = Position("EVENTS", "ingest-on-data-landed", 3, 42, 1_700_000_000, 0)


@pytest.mark.parametrize(
    "error", [Unavailable("x"), DeadlineExceeded("x"), Exhausted("x"), ConnectionError(), TimeoutError()]
)
def test_transient_errors_are_retried_up_to_the_limit(error: Exception) -> None:
    assert isinstance(judge(error, 1), Retry)
    assert isinstance(judge(error, 19), Retry)
    assert isinstance(judge(error, 20), Refuse)


@pytest.mark.parametrize("error", [Invalid("x"), Conflict("x"), Corrupt("x")])
def test_final_errors_are_refused_at_once(error: Exception) -> None:
    assert isinstance(judge(error, 1), Refuse)


@pytest.mark.parametrize("error", [KeyError("x"), ZeroDivisionError(), RecursionError(), OSError("disk")])
def test_unforeseen_errors_get_a_few_tries(error: Exception) -> None:
    assert isinstance(judge(error, 4), Retry)
    assert isinstance(judge(error, 5), Refuse)


def test_delays_grow_to_five_minutes() -> None:
    assert [delay_after(number) for number in (1, 2, 3)] == [0.2, 0.4, 0.8]
    assert delay_after(50) == delay_after(10_000) == 300.0


def test_positions_of_both_forms() -> None:
    old = position("$JS.ACK.EVENTS.durable.2.7.9.1700000000000.5")
    new = position("$JS.ACK._.hash.EVENTS.durable.2.7.9.1700000000000.5.token")
    assert old == new == Position("EVENTS", "durable", 2, 7, 1_700_000_000_000, 5)
    for bad in ("", "$JS.ACK.x", "_INBOX.x.1.2.3.4.5.6.7"):
        with pytest.raises(Invalid):
            position(bad)


@given(
    reason=st.text(max_size=3_000),
    subject=st.text(max_size=300),
    original=st.dictionaries(st.text(max_size=200), st.text(max_size=5_000), max_size=40),
)
def test_dead_letter_headers_are_always_clean_and_small(reason: str, subject: str, original: dict[str, str]) -> None:
    """Whatever came in: printable, one line each, without orders to the server, and within the room that is kept."""
    headers = dead_letters.headers_of(
        AT, service="ingest", subject=subject, reason=reason, error="Invalid", original=original, event=landed()
    )
    for key, value in headers.items():
        assert key
        assert key.isascii()
        assert key.isprintable()
        assert ":" not in key
        assert " " not in key
        assert value.isascii()
        assert value.isprintable() or value == ""
        assert not key.lower().startswith("nats-")
        assert key.lower() != "status"
    assert sum(len(key) + len(value) + 4 for key, value in headers.items()) < DEAD_LETTER_HEADER_BYTES - 1_024


def test_lone_surrogates_and_newlines_in_a_reason_are_escaped() -> None:
    assert dead_letters.clean("a\r\nInjected: b\ud800", 100) == r"a  Injected: b\ud800"


def test_ids_of_dead_letters_tell_lives_and_durables_apart() -> None:
    other = Position("EVENTS", "ingest-on-data-landed", 1, 42, 1_800_000_000, 0)
    neighbour = Position("EVENTS", "catalog-on-event", 1, 42, 1_700_000_000, 0)
    assert len({dead_letters.message_id(at) for at in (AT, other, neighbour)}) == 3


def test_a_dead_letter_without_our_headers_is_still_one() -> None:
    letter = dead_letter(
        "dlq.trainer.trainer-on-x", b"?", {REASON: "r", "Millrace-Attempts": "many"}, "$JS.ACK.DLQ.d.1.9.9.1.0"
    )
    assert (letter.id, letter.service, letter.durable, letter.reason, letter.attempts) == (
        "DLQ-9",
        "trainer",
        "trainer-on-x",
        "r",
        0,
    )


def test_one_filter_and_a_list_of_one_are_the_same() -> None:
    assert differences({"filter_subjects": ["a"]}, {"filter_subject": "a"}) == []
    assert differences({"filter_subjects": ["a"], "x": 1}, {"filter_subjects": ["b"]}) == ["filter_subjects", "x"]


async def test_turns_are_taken_in_order_and_survive_cancellation() -> None:
    turns, order = Turns(), []

    async def take(key: str, number: int) -> None:
        await turns.enter(key)
        try:
            await asyncio.sleep(0)
            order.append((key, number))
        finally:
            turns.leave(key)

    tasks = [asyncio.create_task(take("a" if number % 2 else "b", number)) for number in range(20)]
    await asyncio.sleep(0)
    tasks[4].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert [number for key, number in order if key == "a"] == list(range(1, 20, 2))
    assert [number for key, number in order if key == "b"] == [0, 2, *range(6, 20, 2)]
    assert turns._queues == {}


def test_the_span_is_a_child_of_the_event_and_logs_carry_its_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "_TRACER", provider.get_tracer("test"))
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    event = landed().model_copy(update={"traceparent": parent})
    structlog.contextvars.clear_contextvars()
    bound: dict[str, str] = {}

    def fail() -> None:
        with tracing.Consuming(event, durable="d", stream="EVENTS"):
            assert f"{trace.get_current_span().get_span_context().trace_id:032x}" == parent.split("-")[1]
            bound.update(structlog.contextvars.get_contextvars())
            raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        fail()
    structlog.contextvars.clear_contextvars()
    assert (bound["trace_id"], bound["event_id"], bound["project"]) == (parent.split("-")[1], event.id, "default")
    assert bound["correlation_id"] == event.correlationid
    (span,) = exporter.get_finished_spans()
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == parent.split("-")[2]
    assert span.attributes is not None
    assert span.attributes["messaging.system"] == "nats"
    assert span.attributes["error.type"] == "ValueError"
    assert not trace.get_current_span().get_span_context().is_valid


@pytest.mark.parametrize("parent", [None, "", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "nonsense"])
def test_without_a_parent_the_span_is_a_root(parent: str | None) -> None:
    event = landed().model_copy(update={"traceparent": parent})
    with tracing.Consuming(event, durable="d", stream="EVENTS"):
        pass
    structlog.contextvars.clear_contextvars()
