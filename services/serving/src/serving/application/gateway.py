"""The data plane: one inference request from its route to its answer."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from millrace.clock import Clock, new_id
from millrace.errors import DeadlineExceeded, Exhausted, Unavailable
from serving.application.capture import Captured, RecentIds, Ring
from serving.application.world import World
from serving.domain.oip import Renaming, Target, infer_status, is_dead, prediction_id, read_status
from serving.domain.routes import WHOLE, Arm, Route
from serving.errors import EndpointNotFound, ModelServerAway

READ_SECONDS = 5.0


class Reply(Protocol):
    """The model server's answer; header names in lower case."""

    @property
    def status(self) -> int:
        """Return the HTTP status."""

    @property
    def headers(self) -> dict[bytes, bytes]:
        """Return the headers."""

    @property
    def body(self) -> bytes:
        """Return the body."""


class ModelData(Protocol):
    """The model server's data side."""

    async def request(
        self, method: bytes, path: bytes, headers: Iterable[tuple[bytes, bytes]], body: bytes, *, seconds: float
    ) -> Reply:
        """Send one request.

        Raises:
            Exhausted, ModelServerAway, DeadlineExceeded: there is no answer.
        """


@dataclass(frozen=True, slots=True)
class Question:
    """One inference request whose sender may ask it. `head` is the JSON head's length; None: all is JSON."""

    project: str
    target: Target
    body: bytes
    head: int | None
    content_type: bytes
    capture: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back. `upstream` is the time spent at the model server, seconds."""

    status: int
    body: bytes
    content_type: bytes
    head: int | None = None
    arm: Arm | None = None
    epoch: int = 0
    prediction: str = ""
    upstream: float = 0.0


@dataclass(frozen=True, slots=True)
class _Way:
    """What is the same for every request to one arm, made once."""

    path: bytes
    renaming: Renaming


class Gateway:
    """Routes inference requests; knows how many are under way at each backend model."""

    def __init__(
        self,
        *,
        world: World,
        data: ModelData,
        ring: Ring,
        clock: Clock,
        seconds: float,
        on_away: Callable[[], None],
    ) -> None:
        self._world = world
        self._data = data
        self._ring = ring
        self._clock = clock
        self._seconds = seconds
        self._on_away = on_away
        self._ids = RecentIds()
        self._in_flight: Counter[str] = Counter()
        self._ways: dict[tuple[str, str, int], _Way] = {}

    def in_flight(self, backend: str) -> int:
        """Return how many requests this process has at a backend model now."""
        return self._in_flight[backend]

    def find(self, project: str, target: Target) -> tuple[Route, Arm]:
        """Return the route and the arm that a path means.

        Raises:
            EndpointNotFound: no such deployment serves, or not in that version.
            Unavailable: no route table was read yet.
        """
        if not self._world.table_read:
            raise Unavailable("the routes are not known yet")
        route = self._world.table.find(project, target.name)
        if route is None:
            raise EndpointNotFound(f"Request for unknown model: '{target.name}' is not found")
        if target.version is not None:
            arm = route.serving_version(target.version)
            if arm is None:
                message = f"Request for unknown model: '{target.name}' version {target.version} is not found"
                raise EndpointNotFound(message)
            return route, arm
        if len(route.arms) == 1:
            return route, route.arms[0]
        return route, route.choose(random.randrange(WHOLE))  # noqa: S311 - a share of traffic, not a secret

    async def infer(self, question: Question) -> Answer:
        """Ask the model that the route names, and capture the answered question.

        Raises:
            EndpointNotFound, Unavailable, DeadlineExceeded, Exhausted: there is no answer.
        """
        route, arm = self.find(question.project, question.target)
        way = self._way(arm, route.deployment)
        at, began = self._clock.now(), self._clock.monotonic()
        headers = [(b"content-type", question.content_type)]
        if question.head is not None:
            headers.append((b"inference-header-content-length", str(question.head).encode()))
        self._in_flight[arm.backend_model] += 1
        try:
            reply = await self._ask(b"POST", way.path, headers, question.body, self._seconds)
        finally:
            self._in_flight[arm.backend_model] -= 1
        upstream = self._clock.monotonic() - began
        if reply.status != 200:
            return self._refused(route, arm, reply, way, upstream)
        head = reply.headers.get(b"inference-header-content-length")
        body, head_size = way.renaming.reply(reply.body, int(head) if head is not None else None)
        prediction = self._prediction(route, body)
        if question.capture and (route.sampling >= 1.0 or random.random() < route.sampling):  # noqa: S311
            latency = int(upstream * 1_000_000)
            self._ring.offer(
                Captured(route, arm, prediction, at, latency, question.body, question.head, body, head_size)
            )
        content_type = reply.headers.get(b"content-type", b"application/json")
        return Answer(200, body, content_type, head_size, arm, route.epoch, prediction, upstream)

    async def read(self, project: str, target: Target) -> tuple[Answer, Route]:
        """Pass a question about a model on.

        Raises:
            EndpointNotFound, Unavailable, DeadlineExceeded, Exhausted: there is no answer.
        """
        route, arm = self.find(project, target)
        suffix = "" if target.verb == "metadata" else f"/{target.verb}"
        path = f"/v2/models/{arm.backend_model}{suffix}".encode()
        reply = await self._ask(b"GET", path, (), b"", READ_SECONDS)
        status = read_status(target.verb, reply.status)
        if status != 200:
            self._on_away()
        body = reply.body if status == 200 else self._way(arm, route.deployment).renaming.error(reply.body)
        return Answer(status, body, b"application/json", None, arm, route.epoch), route

    async def _ask(
        self, method: bytes, path: bytes, headers: Iterable[tuple[bytes, bytes]], body: bytes, seconds: float
    ) -> Reply:
        try:
            return await self._data.request(method, path, headers, body, seconds=seconds)
        except (ModelServerAway, DeadlineExceeded, Exhausted):
            self._on_away()
            raise

    def _refused(self, route: Route, arm: Arm, reply: Reply, way: _Way, upstream: float) -> Answer:
        status = infer_status(reply.status, reply.body)
        if is_dead(reply.body):
            self._world.broken.add(arm.backend_model)
        if status == 503:
            self._on_away()
        body = way.renaming.error(reply.body)
        return Answer(status, body, b"application/json", None, arm, route.epoch, "", upstream)

    def _way(self, arm: Arm, deployment: str) -> _Way:
        key = (arm.backend_model, deployment, arm.version)
        way = self._ways.get(key)
        if way is None:
            if len(self._ways) > 1_000:
                self._ways.clear()
            path = f"/v2/models/{arm.backend_model}/infer".encode()
            way = self._ways[key] = _Way(path, Renaming.of(arm.backend_model, deployment, arm.version))
        return way

    def _prediction(self, route: Route, reply: bytes) -> str:
        """Return the client's request id if it is usable and new here, else a fresh one."""
        given = prediction_id(reply)
        if given is not None and self._ids.claim(route.project, route.deployment, given):
            return given
        return str(new_id())
