"""One look at the broker: what is missing is created, what differs is updated, and everything is read back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from millrace.bus import jetstream
from millrace.bus.jetstream import Asker
from millrace.bus.topology import Consumer, Stream
from millrace.errors import Invalid, NotFound


@dataclass(frozen=True)
class Change:
    """Something that was not as it should be, and was made so."""

    kind: str
    name: str
    action: str
    fields: tuple[str, ...] = ()


@dataclass
class Report:
    """What one look found. `contradictions` are what the server would not change."""

    epochs: dict[str, str] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    contradictions: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)


async def reconcile(
    connection: Asker,
    streams: Iterable[Stream],
    consumers: Iterable[Consumer],
    *,
    replicas: int = 1,
    report: Report | None = None,
) -> Report:
    """Make streams and consumers so, read the effective configuration back, and report.

    A `report` that is passed in tells what was done even if the broker goes away in between.

    Raises:
        Unavailable, DeadlineExceeded: the broker is away; look again later.
    """
    report = report or Report()
    known = {stream.name for stream in streams}
    for stream in streams:
        await _stream(connection, stream, replicas, report)
    wanted = list(consumers)
    for consumer in wanted:
        await _consumer(connection, consumer, report)
    for name in sorted(known):
        await _strangers(connection, name, {item.durable for item in wanted if item.stream == name}, report)
    return report


async def _stream(connection: Asker, stream: Stream, replicas: int, report: Report) -> None:
    wanted = stream.wanted(replicas=replicas)
    info: dict[str, Any] | None
    try:
        info = await jetstream.stream_info(connection, stream.name)
    except NotFound:
        info = await _change(connection, f"STREAM.CREATE.{stream.name}", wanted, ("stream", stream.name), report)
    else:
        differing = differences(wanted, info["config"])
        if differing:
            merged = {**info["config"], **wanted}
            change = ("stream", stream.name, *differing)
            info = await _change(connection, f"STREAM.UPDATE.{stream.name}", merged, change, report)
    if info is not None:
        report.epochs[stream.name] = str(info["created"])
        _read_back(f"stream {stream.name}", wanted, info["config"], report)


async def _consumer(connection: Asker, consumer: Consumer, report: Report) -> None:
    wanted = consumer.wanted()
    address = f"CONSUMER.CREATE.{consumer.stream}.{consumer.durable}"
    info: dict[str, Any] | None
    try:
        info = await jetstream.consumer_info(connection, consumer.stream, consumer.durable)
    except NotFound:
        request = {"stream_name": consumer.stream, "config": wanted, "action": "create"}
        info = await _change(connection, address, request, ("consumer", consumer.durable), report)
    else:
        differing = differences(wanted, info["config"])
        if differing:
            merged = {key: value for key, value in info["config"].items() if key != "filter_subject"} | wanted
            request = {"stream_name": consumer.stream, "config": merged, "action": "update"}
            info = await _change(connection, address, request, ("consumer", consumer.durable, *differing), report)
    if info is not None:
        _read_back(f"consumer {consumer.durable}", wanted, info["config"], report)


async def _change(
    connection: Asker, address: str, request: Mapping[str, Any], what: tuple[str, ...], report: Report
) -> dict[str, Any] | None:
    kind, name, *fields = what
    try:
        info = await jetstream.call(connection, address, dict(request))
    except Invalid as error:
        report.contradictions.append(f"{kind} {name}: {error.message}")
        return None
    action = "updated" if fields else "created"
    report.changes.append(Change(kind, name, action, tuple(fields)))
    return info


def _read_back(what: str, wanted: Mapping[str, Any], effective: Mapping[str, Any], report: Report) -> None:
    for name in differences(wanted, effective):
        report.contradictions.append(f"{what}: {name} is {effective.get(name)!r}, wanted {wanted[name]!r}")


async def _strangers(connection: Asker, stream: str, known: set[str], report: Report) -> None:
    try:
        found = await jetstream.call(connection, f"CONSUMER.NAMES.{stream}")
    except NotFound:
        return
    report.strangers += sorted(set(found.get("consumers") or ()) - known)


def differences(wanted: Mapping[str, Any], effective: Mapping[str, Any]) -> list[str]:
    """Return the names of settings that are not in force, one filter subject and a list of one being the same."""
    return sorted(name for name, value in wanted.items() if _effective(name, effective) != value)


def _effective(name: str, effective: Mapping[str, Any]) -> Any:
    value = effective.get(name)
    if name == "filter_subjects" and value is None and "filter_subject" in effective:
        return [effective["filter_subject"]]
    return value
