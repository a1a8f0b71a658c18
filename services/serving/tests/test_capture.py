"""Captured requests: decoded, numbered, batched, and kept or counted while the bus is down."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from millrace.errors import Forbidden, Unavailable
from millrace.inference import decode_batch
from serving.adapters.batches import BatchMaker, Encoded
from serving.adapters.outlet import Outlet
from serving.adapters.spool import Spool
from serving.adapters.tensors import Undecodable, first_tensor
from serving.application.capture import FLUSH_ROWS, Captured, RecentIds, Ring, row_ids
from serving.domain.routes import Route

AT = datetime(2026, 11, 25, 8, 0, 0, 123456, tzinfo=UTC)


def a_capture(kit: Any, rows: int = 1, prediction: str = "p", revision: int = 1, binary: bool = False) -> Captured:
    images = kit.some_images(rows)
    outputs = np.full((rows, 10), 0.1, dtype=np.float32)
    arm = kit.a_spec(revision=revision).arm()
    route = Route("default", "digits", 3, (arm,), 0.5)
    if binary:
        question = kit.a_question(images)
        question["inputs"][0] |= {"parameters": {"binary_data_size": images.nbytes}}
        del question["inputs"][0]["data"]
        head = json.dumps(question).encode()
        request, request_head = head + images.tobytes(), len(head)
    else:
        request, request_head = json.dumps(kit.a_question(images)).encode(), None
    tensor = {"name": "p", "datatype": "FP32", "shape": [rows, 10], "data": outputs.reshape(-1).tolist()}
    reply = json.dumps({"model_name": "digits", "outputs": [tensor]}).encode()
    return Captured(route, arm, prediction, AT, 1_500, request, request_head, reply, None)


@pytest.mark.parametrize("binary", [False, True])
def test_a_batch_holds_what_was_asked_and_answered(kit: Any, binary: bool) -> None:
    maker = BatchMaker(worker="serving-0", boot="b1")
    items = [a_capture(kit, 1, "one", binary=binary), a_capture(kit, 3, "three", binary=binary)]
    (encoded,) = maker.make(items, rows_lost=7)
    batch = decode_batch(encoded.payload, subject=encoded.subject)
    assert encoded.message_id == "serving-0-b1-0"
    assert batch.prediction_ids == ["one", "three/0", "three/1", "three/2"]
    np.testing.assert_array_equal(batch.inputs[1:], kit.some_images(3))
    np.testing.assert_allclose(batch.outputs, 0.1)
    assert batch.latency_us.tolist() == [1_500] * 4
    assert batch.at[0] == np.datetime64(AT.replace(tzinfo=None))
    header = batch.header
    assert (header.deployment, header.revision, header.route_epoch) == ("digits", 1, 3)
    assert (header.sampling, header.rows_lost, header.seq0) == (0.5, 7, 0)


def test_batches_are_split_by_rows_and_by_revision_and_numbered_on(kit: Any) -> None:
    maker = BatchMaker(worker="w", boot="b")
    items = [a_capture(kit, 700), a_capture(kit, 2, revision=2)]
    batches = [decode_batch(encoded.payload) for encoded in maker.make(items, rows_lost=0)]
    assert [len(batch) for batch in batches] == [FLUSH_ROWS, 200, 2]
    assert [batch.header.seq0 for batch in batches] == [0, 500, 700]
    assert [batch.header.revision for batch in batches] == [1, 1, 2]
    (more,) = maker.make([a_capture(kit)], rows_lost=0)
    assert decode_batch(more.payload).header.seq0 == 702


def test_large_rows_make_small_batches(kit: Any) -> None:
    maker = BatchMaker(worker="w", boot="b")
    sizes = [len(encoded.payload) for encoded in maker.make([a_capture(kit, 900)], rows_lost=0)]
    assert max(sizes) < 256 * 1024


@pytest.mark.parametrize(
    ("payload", "head"),
    [
        (b"", None),
        (b"[]", None),
        (b"{}", None),
        (b'{"inputs":[]}', None),
        (b'{"inputs":[{"datatype":"BYTES","shape":[1],"data":["x"]}]}', None),
        (b'{"inputs":[{"datatype":"FP32","shape":[2],"data":[1]}]}', None),
        (b'{"inputs":[{"datatype":"FP32","shape":[0],"data":[]}]}', None),
        (b'{"inputs":[{"datatype":"FP32","shape":[],"data":[1]}]}', None),
        (b'{"inputs":[{"datatype":"FP32","shape":[1],"data":["x"]}]}', None),
        (b'{"inputs":[{"datatype":"FP32","shape":[-1],"data":[1]}]}', None),
        (b'{"inputs":[{"datatype":"FP32","shape":[1],"parameters":{"binary_data_size":3}}]}abc', 74),
        (b"\x00\x00\x80?", 0),
    ],
)
def test_what_holds_no_numbers_is_skipped(payload: bytes, head: int | None) -> None:
    with pytest.raises(Undecodable):
        first_tensor(payload, head, "inputs")


def test_nan_and_nested_data_are_read(kit: Any) -> None:
    payload = b'{"inputs":[{"datatype":"FP32","shape":[2,2],"data":[[NaN,1],[1e39,-Infinity]]}]}'
    found = first_tensor(payload, None, "inputs")
    np.testing.assert_array_equal(found, np.array([[np.nan, 1], [np.inf, -np.inf]], np.float32))


def test_a_skipped_request_does_not_take_its_neighbours_along(kit: Any) -> None:
    good = a_capture(kit)
    bad = Captured(good.route, good.arm, "bad", AT, 1, b"{", None, b"{", None)
    (encoded,) = BatchMaker(worker="w", boot="b").make([bad, good], rows_lost=0)
    assert decode_batch(encoded.payload).prediction_ids == ["p"]


def test_ids_are_given_once() -> None:
    ids = RecentIds(capacity=2)
    assert ids.claim("default", "d", "a")
    assert not ids.claim("default", "d", "a")
    assert ids.claim("default", "other", "a")
    assert ids.claim("default", "d", "b")
    assert ids.claim("default", "d", "a")
    assert list(row_ids("x", 1)) == ["x"]


async def test_a_full_ring_drops_and_counts(kit: Any) -> None:
    item = a_capture(kit)
    ring = Ring(max_bytes=item.size * 2)
    assert [ring.offer(item) for _ in range(4)] == [True, True, False, False]
    assert (len(ring.take()), ring.dropped) == (2, 2)
    assert ring.offer(item)


def an_encoded(number: int, size: int = 100) -> Encoded:
    return Encoded("tlm.inference.default.d", f"w-b-{number}", bytes([number % 256]) * size, 2)


def test_the_spool_gives_back_what_it_took_in_order_also_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "spool" / "w.batches"
    spool = Spool(path, max_bytes=10_000)
    assert all(spool.append(an_encoded(number)) for number in range(3))
    assert spool.peek() == an_encoded(0)
    spool.close()
    again = Spool(path, max_bytes=10_000)
    found = []
    while (batch := again.peek()) is not None:
        found.append(batch)
        again.advance()
    assert found == [an_encoded(number) for number in range(3)]
    assert (again.empty, path.stat().st_size) == (True, 0)
    again.close()


def test_the_spool_is_bounded_and_survives_a_torn_end(tmp_path: Path) -> None:
    path = tmp_path / "w.batches"
    spool = Spool(path, max_bytes=500)
    taken = sum(spool.append(an_encoded(number)) for number in range(10))
    assert 2 <= taken <= 4
    spool.close()
    path.write_bytes(path.read_bytes()[:-5])
    again = Spool(path, max_bytes=500)
    count = 0
    while again.peek() is not None:
        again.advance()
        count += 1
    assert count == taken - 1
    assert again.append(an_encoded(1))
    assert again.peek() == an_encoded(1)
    again.close()


class Broker:
    """A broker that can be away."""

    def __init__(self) -> None:
        self.up = True
        self.refuses = False
        self.stored: dict[str, bytes] = {}

    async def publish(self, subject: str, payload: bytes, message_id: str) -> None:
        await asyncio.sleep(0)
        if not self.up:
            raise Unavailable("down")
        if self.refuses:
            raise Forbidden("no")
        self.stored[message_id] = payload


async def run_outlet(outlet: Outlet) -> list[asyncio.Task[None]]:
    outlet.start()
    return [asyncio.create_task(outlet.fill()), asyncio.create_task(outlet.drain())]


async def stop(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_nothing_is_lost_while_the_bus_is_down_and_memory_and_file_hold_it(kit: Any, tmp_path: Path) -> None:
    ring, broker = Ring(10_000_000), Broker()
    broker.up = False
    spool = Spool(tmp_path / "s", max_bytes=10_000_000)
    outlet = Outlet(ring, BatchMaker(worker="w", boot="b"), broker, memory_bytes=6_000, spool=spool)
    tasks = await run_outlet(outlet)
    for number in range(20):
        ring.offer(a_capture(kit, 1, f"p{number}"))
        await outlet.flush()
    assert outlet.backlog > 6_000
    assert not spool.empty
    broker.up = True

    async def all_stored() -> bool:
        return outlet.backlog == 0

    await kit.eventually(all_stored)
    await stop(tasks)
    rows = [row for raw in broker.stored.values() for row in decode_batch(raw).prediction_ids]
    assert sorted(rows) == sorted(f"p{number}" for number in range(20))
    assert outlet.rows_lost == 0
    spool.close()


async def test_what_does_not_fit_is_dropped_and_counted_in_the_next_batch(kit: Any) -> None:
    ring, broker = Ring(10_000_000), Broker()
    broker.up = False
    outlet = Outlet(ring, BatchMaker(worker="w", boot="b"), broker, memory_bytes=6_000, spool=None)
    for _ in range(10):
        ring.offer(a_capture(kit))
        await outlet.flush()
    lost = outlet.rows_lost
    assert 0 < lost < 10
    broker.up = True
    tasks = await run_outlet(outlet)

    async def drained() -> bool:
        return outlet.backlog == 0

    await kit.eventually(drained)
    ring.offer(a_capture(kit))
    await outlet.flush()
    await kit.eventually(drained)
    await stop(tasks)
    last = max((decode_batch(raw) for raw in broker.stored.values()), key=lambda batch: batch.header.seq0)
    assert last.header.rows_lost == lost


async def test_a_refused_batch_is_counted_and_does_not_block_the_rest(kit: Any) -> None:
    ring, broker = Ring(10_000_000), Broker()
    broker.refuses = True
    outlet = Outlet(ring, BatchMaker(worker="w", boot="b"), broker, memory_bytes=1_000_000, spool=None)
    tasks = await run_outlet(outlet)
    ring.offer(a_capture(kit, 3))

    async def counted() -> bool:
        return outlet.rows_lost == 3 and outlet.backlog == 0

    await kit.eventually(counted)
    await stop(tasks)


async def test_closing_keeps_the_rest_in_the_file(kit: Any, tmp_path: Path) -> None:
    ring, broker = Ring(10_000_000), Broker()
    broker.up = False
    spool = Spool(tmp_path / "s", max_bytes=10**6)
    outlet = Outlet(ring, BatchMaker(worker="w", boot="b"), broker, memory_bytes=1_000_000, spool=spool)
    ring.offer(a_capture(kit))
    await outlet.close()
    again = Spool(tmp_path / "s", max_bytes=10**6)
    batch = again.peek()
    again.close()
    assert batch is not None
    assert decode_batch(batch.payload).prediction_ids == ["p"]
