"""The broker's shape as data: streams, consumers, and what each user may do. The provisioner makes it so.

Who consumes and publishes what is the table `SERVICES`; everything else follows from it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from millrace.bus.names import DLQ, EVENTS, INFERENCE, JOBS
from millrace.events.registry import MAX_EVENT_BYTES

SECOND = 1_000_000_000
DAY = 86_400 * SECOND
KIB = 1_024

ATTEMPTS = 20
"""Deliveries after which a transient failure counts as exhausted: about 50 minutes with growing delays."""

MAX_DELIVER = ATTEMPTS + 5
"""The server's own limit: a net below ours, because a message that meets it is skipped in silence."""

ACK_WAIT_SECONDS = 30

EVENT_HEADER_BYTES = 4 * KIB
"""Room for headers beside the largest event: the broker counts headers into a message's size."""

DEAD_LETTER_HEADER_BYTES = 16 * KIB


@dataclass(frozen=True)
class Stream:
    """A stream as it should be; `config` in the words of the JetStream API."""

    name: str
    subjects: tuple[str, ...]
    config: dict[str, Any]

    def wanted(self, *, replicas: int = 1) -> dict[str, Any]:
        """Return the configuration that the server should report."""
        common = {"retention": "limits", "storage": "file", "discard": "old", "num_replicas": replicas}
        return {"name": self.name, "subjects": list(self.subjects), **common, **self.config}


@dataclass(frozen=True)
class Consumer:
    """A durable pull consumer as it should be."""

    durable: str
    stream: str
    service: str
    subjects: tuple[str, ...]
    max_ack_pending: int = 256

    def wanted(self) -> dict[str, Any]:
        """Return the configuration that the server should report."""
        return {
            "name": self.durable,
            "durable_name": self.durable,
            "filter_subjects": list(self.subjects),
            "deliver_policy": "all",
            "ack_policy": "explicit",
            "ack_wait": ACK_WAIT_SECONDS * SECOND,
            "max_deliver": MAX_DELIVER,
            "max_ack_pending": self.max_ack_pending,
            "max_waiting": 64,
            "replay_policy": "instant",
        }


@dataclass(frozen=True)
class Service:
    """What one service hears and says on the bus."""

    facts: tuple[str, ...] = ()
    """Event types that it alone, or it beside others, publishes."""

    consumes: tuple[str, ...] = ()
    """Event types with a durable of their own, `<service>-on-<fact>`."""

    publishes: tuple[str, ...] = ()
    """Further subjects that it publishes on."""

    hears: tuple[str, ...] = ()
    """Core subjects that it subscribes to."""

    consumers: tuple[Consumer, ...] = field(default=())
    """Durables that are not one event type each."""


STREAMS: dict[str, Stream] = {
    stream.name: stream
    for stream in (
        Stream(
            EVENTS,
            ("evt.>", "replay.>"),
            {
                "max_age": 30 * DAY,
                "max_bytes": -1,
                "max_msgs": -1,
                "max_msg_size": MAX_EVENT_BYTES + EVENT_HEADER_BYTES,
                "duplicate_window": 1_200 * SECOND,
                "compression": "s2",
                "deny_delete": True,
                "republish": {
                    "src": "evt.*.*.v1.*",
                    "dest": "{{wildcard(1)}}.{{wildcard(2)}}.{{wildcard(3)}}",
                },
            },
        ),
        Stream(
            JOBS,
            ("job.>",),
            {
                "max_age": DAY,
                "max_bytes": 256 * KIB * KIB,
                "max_msgs": -1,
                "max_msg_size": MAX_EVENT_BYTES + EVENT_HEADER_BYTES,
                "duplicate_window": 1_200 * SECOND,
                "compression": "s2",
            },
        ),
        Stream(
            INFERENCE,
            ("tlm.inference.>",),
            {
                "max_age": 2 * DAY,
                "max_bytes": 512 * KIB * KIB,
                "max_msgs": -1,
                "max_msg_size": KIB * KIB,
                "duplicate_window": 1_200 * SECOND,
                "compression": "s2",
            },
        ),
        Stream(
            DLQ,
            ("dlq.>",),
            {
                "max_age": 30 * DAY,
                "max_bytes": -1,
                "max_msgs": -1,
                "max_msg_size": MAX_EVENT_BYTES + EVENT_HEADER_BYTES + DEAD_LETTER_HEADER_BYTES,
                "duplicate_window": 1_200 * SECOND,
                "compression": "s2",
                "deny_delete": True,
            },
        ),
    )
}

SERVICES: dict[str, Service] = {
    "catalog": Service(
        facts=(
            "dataset.committed",
            "dataset.removed",
            "dataset.restored",
            "cache.requested",
            "training.requested",
            "model.registered",
            "model.promoted",
            "deployment.requested",
            "data.landed",
            "study.requested",
            "pipeline.*",
        ),
        publishes=("replay.>",),
        hears=("tlm.progress.>", "tlm.logs.>"),
        consumers=(
            Consumer("catalog-on-event", EVENTS, "catalog", ("evt.>", "replay.catalog-on-event"), 1_024),
            Consumer("catalog-on-dead-letter", DLQ, "catalog", ("dlq.>",)),
        ),
    ),
    "ingest": Service(
        facts=("ingest.started", "ingest.completed", "ingest.failed"),
        consumes=("data.landed",),
        publishes=("job.ingest.>", "tlm.progress.>", "tlm.logs.>"),
    ),
    "cache-manager": Service(
        facts=("cache.ready", "cache.failed", "cache.evicted", "cache.repaired"),
        consumes=("cache.requested", "dataset.committed", "dataset.removed", "training.requested"),
        publishes=("job.cache-manager.>", "tlm.progress.>", "tlm.logs.>"),
    ),
    "trainer": Service(
        facts=(
            "training.queued",
            "training.started",
            "training.checkpointed",
            "training.completed",
            "training.failed",
            "training.cancelled",
            "training.preempted",
            "study.started",
            "study.completed",
            "study.failed",
        ),
        consumes=("training.requested", "cache.ready", "cache.failed"),
        publishes=("job.trainer.>", "tlm.progress.>", "tlm.logs.>"),
    ),
    "serving": Service(
        facts=("deployment.ready", "deployment.failed", "deployment.rolled_back", "deployment.retired"),
        consumes=("deployment.requested", "model.promoted"),
        publishes=("tlm.inference.>", "tlm.progress.>", "tlm.logs.>"),
    ),
    "drift-monitor": Service(
        facts=("drift.detected", "drift.resolved", "labels.requested", "labels.submitted", "data.landed"),
        consumes=("deployment.ready", "deployment.retired", "dataset.committed"),
        publishes=("tlm.progress.>", "tlm.logs.>"),
        consumers=(Consumer("drift-monitor-on-inference", INFERENCE, "drift-monitor", ("tlm.inference.>",), 1_024),),
    ),
}

PROVISIONER = "provisioner"


def durable_name(service: str, event_type: str) -> str:
    """Return `<service>-on-<fact>`: `trainer-on-cache-ready` for `cache.ready`."""
    return f"{service}-on-{event_type.replace('.', '-').replace('_', '-')}"


def _consumers() -> dict[str, Consumer]:
    found: dict[str, Consumer] = {}
    for name, service in SERVICES.items():
        for event_type in service.consumes:
            durable = durable_name(name, event_type)
            subjects = (f"evt.{event_type}.*.*", f"replay.{durable}")
            found[durable] = Consumer(durable, EVENTS, name, subjects)
        found.update({consumer.durable: consumer for consumer in service.consumers})
    return found


CONSUMERS: dict[str, Consumer] = _consumers()
"""Every durable of the platform by name."""


@dataclass(frozen=True)
class Permissions:
    """Allow-lists of one user; what is not here is denied."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def inbox_prefix(user: str) -> str:
    """Return the prefix of a user's reply subjects, without the trailing dot."""
    return f"_INBOX_{user}"


def service_permissions(name: str) -> Permissions:
    """Return what a service's user may do: its own facts, its own durables, its own inbox."""
    service = SERVICES[name]
    own = [consumer for consumer in CONSUMERS.values() if consumer.service == name]
    publish = [f"evt.{fact}.*.*" for fact in service.facts]
    publish += [f"dlq.{name}.>", *service.publishes]
    publish += [f"$JS.API.STREAM.INFO.{stream}" for stream in STREAMS]
    for consumer in own:
        address = f"{consumer.stream}.{consumer.durable}"
        publish += [
            f"$JS.API.CONSUMER.INFO.{address}",
            f"$JS.API.CONSUMER.MSG.NEXT.{address}",
            f"$JS.ACK.{address}.>",
        ]
    return Permissions(tuple(publish), (f"{inbox_prefix(name)}.>", *service.hears))


def etl_permissions(project: str) -> Permissions:
    """Return what an outside system's user may do: say that data landed, in its own project."""
    return Permissions((f"evt.data.landed.v1.{project}",), (f"{inbox_prefix(etl_user(project))}.>",))


def etl_user(project: str) -> str:
    """Return the name of a project's ETL user."""
    return f"etl-{project}"


def permissions(projects: tuple[str, ...] = ("default",)) -> dict[str, Permissions]:
    """Return the permissions of every user: services, provisioner, and one ETL user per project."""
    users = {name: service_permissions(name) for name in SERVICES}
    users[PROVISIONER] = Permissions(("$JS.API.>",), (f"{inbox_prefix(PROVISIONER)}.>",))
    users.update({etl_user(project): etl_permissions(project) for project in projects})
    return users


PERMISSIONS: dict[str, Permissions] = permissions()
"""Permissions with the ETL user of project `default`."""
