"""What the bus costs beside bare nats-py: CPU of this process per event, in one interleaved run (A-B-A-B).

    python benchmarks/bus.py [--rounds 7] [--events 2000] [--json FILE] [--check]

Real servers are started for it: nats-server (JetStream, `sync_interval: always`) and mongod (`w:majority, j:true`).
Only ratios of CPU are judged: rates depend on the machine and its neighbours. `--check` ends with 1 over a limit.

Subject of each ratio:

* publish, awaited: the relay's publisher against `js.publish`, one after the other;
* publish, 128 in flight: the same against `js.publish_async`;
* consume: a subscription (fetch 100, decode, validate, digest, no-op handler, double acknowledgement) against
  `fetch(100)`, `json.loads` and `ack_sync` of each, 100 at once; and against a plain `ack`, which may get lost;
* consume, traced: the same with an OpenTelemetry SDK that records and batches every span;
* inbox: a transaction with one insert and its inbox row against a bare transaction with one insert.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import nats
import structlog
from nats.js import JetStreamContext
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from millrace.bus import Bus, Subscription
from millrace.bus.reconcile import reconcile
from millrace.bus.topology import CONSUMERS, STREAMS
from millrace.clock import SystemClock
from millrace.documents import MongoUnitOfWork, Transactor, connect, ensure_kernel_indexes
from millrace.events import DataLanded, build, encode
from millrace.events.envelope import AnyEvent
from millrace_stack.ports import free_ports
from millrace_stack.servers import running
from millrace_stack.servers.mongo import MongoServer
from millrace_stack.servers.nats import NatsServer

LIMITS = {
    "publish, awaited": 1.5,
    "publish, 128 in flight": 1.5,
    "consume": 5.0,
    "consume, traced": 10.0,
    "inbox": 2.0,
}
DURABLE = "ingest-on-data-landed"
SUBJECT = "evt.data.landed.v1.default"
WINDOW = 128
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@dataclass
class Sample:
    """One round of one side."""

    cpu: float
    wall: float


@dataclass
class Ratio:
    """One comparison: microseconds of CPU per event, and their quotient per round."""

    name: str
    ours_us: float
    raw_us: float
    ratio: float
    lowest: float
    highest: float
    wall_ratio: float
    limit: float | None


class NullExporter(SpanExporter):
    """Takes spans and sends them nowhere."""

    def export(self, spans: Any) -> SpanExportResult:
        """Forget."""
        del spans
        return SpanExportResult.SUCCESS


def event(number: int) -> AnyEvent:
    """Return an event of a usual size (about 900 bytes)."""
    data = DataLanded(dataset="digits", uri=f"s3://bucket/landing/{number:08}", message="x" * 200)
    return build(
        data,
        source="/millrace/benchmark",
        subject=f"digits-{number % 50}",
        project="default",
        sequence=number,
        clock=SystemClock(),
        principal="benchmark",
        traceparent=TRACEPARENT,
    )


async def measure(work: Callable[[], Awaitable[None]]) -> Sample:
    """Return CPU and wall seconds of `work()`."""
    wall, cpu = time.perf_counter(), time.process_time()
    await work()
    return Sample(time.process_time() - cpu, time.perf_counter() - wall)


def compare(name: str, ours: list[Sample], raw: list[Sample], count: int) -> Ratio:
    """Return medians, and the spread of the quotient over the rounds."""
    quotients = [a.cpu / b.cpu for a, b in zip(ours, raw, strict=True)]
    return Ratio(
        name=name,
        ours_us=round(statistics.median(item.cpu for item in ours) / count * 1e6, 1),
        raw_us=round(statistics.median(item.cpu for item in raw) / count * 1e6, 1),
        ratio=round(statistics.median(quotients), 2),
        lowest=round(min(quotients), 2),
        highest=round(max(quotients), 2),
        wall_ratio=round(statistics.median(a.wall / b.wall for a, b in zip(ours, raw, strict=True)), 2),
        limit=LIMITS.get(name),
    )


async def interleave(
    rounds: int, first: Callable[[], Awaitable[Sample]], second: Callable[[], Awaitable[Sample]]
) -> tuple[list[Sample], list[Sample]]:
    """Run A-B-A-B after one warm-up of each."""
    await first()
    await second()
    a: list[Sample] = []
    b: list[Sample] = []
    for _ in range(rounds):
        a.append(await first())
        b.append(await second())
    return a, b


class BusBench:
    """The comparisons on a provisioned broker."""

    def __init__(self, url: str, *, rounds: int, count: int) -> None:
        self.url = url
        self.rounds = rounds
        self.count = count
        self.numbers = 0
        self.bus = Bus(service="ingest", servers=url)
        self.handled = 0
        self.wanted = 0
        self.done = asyncio.Event()

    async def open(self) -> None:
        """Provision and connect both sides."""
        self.connection = await nats.connect(self.url)
        await reconcile(self.connection, STREAMS.values(), CONSUMERS.values())
        self.js: JetStreamContext = self.connection.jetstream()
        await self.bus.start()
        await self.bus.wait_ready(10)

    async def close(self) -> None:
        """Disconnect both sides."""
        await self.bus.stop()
        await self.connection.close()

    def messages(self, count: int | None = None) -> list[tuple[str, bytes]]:
        """Return (id, bytes) of fresh events; making them is not measured."""
        made = [event(self.numbers + number) for number in range(count or self.count)]
        self.numbers += len(made)
        return [(item.id, encode(item)) for item in made]

    async def publish_awaited(self) -> Ratio:
        """Publish one after the other."""

        async def ours() -> Sample:
            batch = self.messages(self.count // 8)

            async def work() -> None:
                for message_id, raw in batch:
                    await self.bus.publisher.publish(SUBJECT, raw, message_id=message_id)

            return await measure(work)

        async def raw() -> Sample:
            batch = self.messages(self.count // 8)

            async def work() -> None:
                for message_id, data in batch:
                    await self.js.publish(SUBJECT, data, headers={"Nats-Msg-Id": message_id})

            return await measure(work)

        a, b = await interleave(self.rounds, ours, raw)
        return compare("publish, awaited", a, b, self.count // 8)

    async def publish_window(self) -> Ratio:
        """Publish with 128 in flight."""

        async def ours() -> Sample:
            batch = self.messages()

            async def work() -> None:
                for start in range(0, len(batch), WINDOW):
                    async with asyncio.TaskGroup() as group:
                        for message_id, data in batch[start : start + WINDOW]:
                            group.create_task(self.bus.publisher.publish(SUBJECT, data, message_id=message_id))

            return await measure(work)

        async def raw() -> Sample:
            batch = self.messages()

            async def work() -> None:
                for start in range(0, len(batch), WINDOW):
                    futures = [
                        await self.js.publish_async(SUBJECT, data, headers={"Nats-Msg-Id": message_id})
                        for message_id, data in batch[start : start + WINDOW]
                    ]
                    await asyncio.gather(*futures)

            return await measure(work)

        a, b = await interleave(self.rounds, ours, raw)
        return compare("publish, 128 in flight", a, b, self.count)

    async def consume(self, name: str, *, double: bool = True) -> Ratio:
        """Consume what was published before, 100 at once."""
        await self.js.purge_stream("EVENTS")

        async def fill() -> None:
            futures = []
            for message_id, data in self.messages():
                futures.append(await self.js.publish_async(SUBJECT, data, headers={"Nats-Msg-Id": message_id}))
            await asyncio.gather(*futures)

        async def ours() -> Sample:
            await fill()
            bus = Bus(service="ingest", servers=self.url)
            bus.subscribe([Subscription(DURABLE, DataLanded, self._handle, transactional=False, batch=100)])
            self.handled, self.wanted = 0, self.count
            self.done.clear()
            sample = await measure(lambda: self._run(bus))
            await bus.stop()
            return sample

        async def raw() -> Sample:
            await fill()
            subscription = await self.js.pull_subscribe_bind(durable=DURABLE, stream="EVENTS")
            sample = await measure(lambda: self._raw_consume(subscription, double=double))
            await subscription.unsubscribe()
            return sample

        a, b = await interleave(self.rounds, ours, raw)
        return compare(name, a, b, self.count)

    async def _run(self, bus: Bus) -> None:
        await bus.start()
        await self.done.wait()

    async def _handle(self, _event: AnyEvent) -> None:
        self.handled += 1
        if self.handled == self.wanted:
            self.done.set()

    async def _raw_consume(self, subscription: JetStreamContext.PullSubscription, *, double: bool) -> None:
        handled = 0
        while handled < self.count:
            messages = await subscription.fetch(100, timeout=5)
            for message in messages:
                json.loads(message.data)
                handled += 1
            if double:
                await asyncio.gather(*(message.ack_sync(timeout=5) for message in messages))
            else:
                for message in messages:
                    await message.ack()


async def inbox(uri: str, rounds: int, count: int) -> Ratio:
    """Compare transactions: one insert with the inbox beside one insert."""
    client = connect(uri, app_name="benchmark")
    database = client["benchmark"]
    await ensure_kernel_indexes(database)
    await database.create_collection("effects")
    transact = Transactor(client, "benchmark", MongoUnitOfWork, clock=SystemClock(), source="/millrace/benchmark")
    numbers = iter(range(10**9))

    async def insert(uow: MongoUnitOfWork) -> None:
        await uow.database["effects"].insert_one({"_id": next(numbers)}, session=uow.session)

    async def ours() -> Sample:
        async def work() -> None:
            for _ in range(count):
                await transact(insert, inbox=("benchmark", str(next(numbers))))

        return await measure(work)

    async def bare() -> Sample:
        async def work() -> None:
            for _ in range(count):
                async with client.start_session() as session, await session.start_transaction():
                    await database["effects"].insert_one({"_id": next(numbers)}, session=session)

        return await measure(work)

    a, b = await interleave(rounds, ours, bare)
    await client.close()
    return compare("inbox", a, b, count)


async def run(folder: Path, rounds: int, count: int) -> list[Ratio]:
    """Start the servers and make all comparisons."""
    ports = free_ports(2)
    found: list[Ratio] = []
    with running(NatsServer(folder / "nats", ports[0], folder / "nats.log")):
        bench = BusBench(f"nats://127.0.0.1:{ports[0]}", rounds=rounds, count=count)
        await bench.open()
        found.append(await bench.publish_awaited())
        found.append(await bench.publish_window())
        found.append(await bench.consume("consume"))
        found.append(await bench.consume("consume, against plain ack", double=False))
        provider = TracerProvider()
        provider.add_span_processor(BatchSpanProcessor(NullExporter()))
        trace.set_tracer_provider(provider)
        found.append(await bench.consume("consume, traced"))
        found.append(await bench.consume("consume, traced, against plain ack", double=False))
        await bench.close()
        provider.shutdown()
    server = MongoServer(folder / "mongo", ports[1], folder / "mongo.log")
    with running(server):
        found.append(await inbox(server.uri, rounds, max(count // 10, 50)))
    return found


def report(found: list[Ratio]) -> None:
    """Print a table."""
    print(f"{'':36} {'ours':>8} {'raw':>8}   {'CPU ratio (lowest to highest)':30} {'limit':>5} {'wall':>6}")
    for item in found:
        spread = f"{item.ratio:.2f} ({item.lowest:.2f} to {item.highest:.2f})"
        limit = "" if item.limit is None else f"{item.limit:.1f}"
        print(
            f"{item.name:36} {item.ours_us:6.1f}us {item.raw_us:6.1f}us   {spread:30} {limit:>5} {item.wall_ratio:6.2f}"
        )


def main() -> int:
    """Run, print, and judge."""
    parser = argparse.ArgumentParser(description="CPU of the bus beside bare nats-py")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--events", type=int, default=2_000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    folder = Path(tempfile.mkdtemp(prefix="millrace-bench-"))
    try:
        found = asyncio.run(run(folder, arguments.rounds, arguments.events))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    report(found)
    document = {
        "benchmark": "bus",
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()},
        "rounds": arguments.rounds,
        "events": arguments.events,
        "ratios": [asdict(item) for item in found],
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(document))
    over = [item.name for item in found if item.limit is not None and item.ratio > item.limit]
    if over:
        print(f"over the limit: {', '.join(over)}", file=sys.stderr)
    return 1 if arguments.check and over else 0


if __name__ == "__main__":
    sys.exit(main())
