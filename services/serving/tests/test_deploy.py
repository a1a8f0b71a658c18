"""The reconciler in memory: every way a deployment can end, and every step interrupted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from millrace.clock import SystemClock
from millrace.errors import Conflict, Fenced, MillraceError, Unavailable
from millrace.leases.ports import Lease
from serving.application.deploy import Deployer, Rules
from serving.application.loading import Loader, keep_up
from serving.application.ports import Installed, ModelState
from serving.application.record import record_request
from serving.application.world import World
from serving.domain.endpoint import MAX_ATTEMPTS, MAX_REFUSALS, Endpoint, Spec
from serving.domain.package import Golden, Signature, Tensor
from serving.domain.routes import Route
from serving.errors import BadPackage, LoadFailed, ModelServerAway

LEASE = Lease("deployer", "me", 1)
SIGNATURE = Signature((Tensor("image", "FP32", (-1, 1)),), (Tensor("p", "FP32", (-1, 1)),))
GOLDEN = Golden(1, (1.0,), (0.5,), 1e-3)


class KilledError(BaseException):
    """The process ends here."""


class Database:
    """Endpoints and routes with compare-and-set, and transactions that roll back."""

    def __init__(self) -> None:
        self.stored_endpoints: dict[tuple[str, str], Endpoint] = {}
        self.stored_routes: dict[tuple[str, str], Route] = {}
        self.events: list[Any] = []
        self.token = 1
        self.fail_commits = 0

    async def endpoints(self) -> list[Endpoint]:
        return list(self.stored_endpoints.values())

    async def routes(self) -> list[Route]:
        return list(self.stored_routes.values())

    async def __call__(self, work: Callable[[Any], Awaitable[Any]], *, inbox: Any = None) -> Any:
        unit = Unit(self)
        result = await work(unit)
        if self.fail_commits:
            self.fail_commits -= 1
            raise Unavailable("no commit")
        self.stored_endpoints, self.stored_routes = unit.endpoints.rows, unit.routes.rows
        self.events += unit.emitted
        for call in unit.calls:
            call()
        return result


class Endpoints:
    def __init__(self, rows: dict[tuple[str, str], Endpoint]) -> None:
        self.rows = dict(rows)

    async def get(self, project: str, deployment: str) -> Endpoint | None:
        return self.rows.get((project, deployment))

    async def save(self, endpoint: Endpoint) -> Endpoint:
        key = (endpoint.desired.project, endpoint.desired.deployment)
        known = self.rows.get(key)
        if (known.revision if known else 0) != endpoint.revision:
            raise Conflict("changed")
        self.rows[key] = replace(endpoint, revision=endpoint.revision + 1)
        return self.rows[key]


class Routes:
    def __init__(self, rows: dict[tuple[str, str], Route]) -> None:
        self.rows = dict(rows)

    async def get(self, project: str, deployment: str) -> Route | None:
        return self.rows.get((project, deployment))

    async def save(self, route: Route) -> None:
        known = self.rows.get((route.project, route.deployment))
        if (known.epoch if known else 0) != route.epoch - 1:
            raise Conflict("changed")
        self.rows[route.project, route.deployment] = route


class Unit:
    def __init__(self, database: Database) -> None:
        self.endpoints = Endpoints(database.stored_endpoints)
        self.routes = Routes(database.stored_routes)
        self.emitted: list[Any] = []
        self.audits: list[Any] = []
        self.calls: list[Callable[[], None]] = []
        self._database = database

    async def guard(self, lease: Lease) -> None:
        if lease.token < self._database.token:
            raise Fenced("lost")

    def emit(self, data: Any, **more: Any) -> Any:
        self.emitted.append((data, more))
        return data

    def audit(self, *facts: Any) -> None:
        self.audits.append(facts)

    def after_commit(self, call: Callable[[], None]) -> None:
        self.calls.append(call)


class Server:
    """A model server that can refuse, die and forget."""

    def __init__(self) -> None:
        self.loaded: set[str] = set()
        self.up = True
        self.refuse: set[str] = set()
        self.deadly: set[str] = set()
        self.answers: dict[str, list[float]] = {}
        self.loads: list[str] = []
        self.unloads: list[str] = []

    async def index(self) -> Mapping[str, ModelState]:
        if not self.up:
            raise ModelServerAway("down")
        return {name: ModelState("READY") for name in self.loaded}

    async def load(self, backend: str) -> None:
        if not self.up:
            raise ModelServerAway("down")
        self.loads.append(backend)
        if backend in self.deadly:
            self.loaded.clear()
            raise ModelServerAway("died")
        if backend in self.refuse:
            raise LoadFailed("cannot open the graph")
        self.loaded.add(backend)

    async def unload(self, backend: str) -> None:
        self.unloads.append(backend)
        self.loaded.discard(backend)

    async def ask(self, backend: str, signature: Signature, golden: Golden) -> list[float]:
        return self.answers.get(backend, [0.5])


class Repository:
    def __init__(self) -> None:
        self.folders: dict[str, str] = {}
        self.broken: dict[str, MillraceError] = {}

    async def find(self, backend: str) -> Installed | None:
        digest = self.folders.get(backend)
        return None if digest is None else Installed(backend, digest, SIGNATURE, GOLDEN)

    async def install(self, spec: Spec) -> Installed:
        if spec.backend in self.broken:
            raise self.broken[spec.backend]
        fresh = self.folders.get(spec.backend) != spec.digest
        self.folders[spec.backend] = spec.digest
        return Installed(spec.backend, spec.digest, SIGNATURE, GOLDEN, fresh)

    async def remove(self, backend: str) -> None:
        self.folders.pop(backend, None)

    async def names(self) -> frozenset[str]:
        return frozenset(self.folders)


class Traffic:
    def __init__(self) -> None:
        self.now: dict[str, int] = {}

    def in_flight(self, backend: str) -> int:
        return self.now.get(backend, 0)


class House:
    """Everything together."""

    def __init__(self, kit: Any) -> None:
        self.kit = kit
        self.database, self.server, self.repository, self.traffic = Database(), Server(), Repository(), Traffic()
        self.restart()

    def restart(self) -> None:
        """A fresh process on the same documents, folders and server."""
        self.world = World()
        self.loader = Loader(self.server, self.repository)
        self.deployer = Deployer(
            world=self.world,
            documents=self.database,
            transact=self.database,
            server=self.server,
            repository=self.repository,
            loader=self.loader,
            traffic=self.traffic,
            check_lease=self._check,
            clock=SystemClock(),
            rules=Rules(drain_seconds=0.0),
        )

    async def _check(self, lease: Lease) -> None:
        await Unit(self.database).guard(lease)

    async def request(self, **changes: Any) -> None:
        event = self.kit.a_request(self.kit.a_spec(**changes))

        async def work(uow: Any) -> None:
            await record_request(event, uow=uow)

        await self.database(work)

    async def settle(self, steps: int = 4) -> None:
        for _ in range(steps):
            await self.deployer.step(LEASE)

    @property
    def endpoint(self) -> Endpoint:
        return self.database.stored_endpoints["default", "digits"]

    @property
    def route(self) -> Route:
        return self.database.stored_routes["default", "digits"]

    def said(self) -> list[tuple[str, int]]:
        return [(data.TYPE, data.revision) for data, _ in self.database.events]


@pytest.fixture
def house(kit: Any) -> House:
    return House(kit)


async def test_a_request_ends_in_one_ready_and_repeats_change_nothing(house: House) -> None:
    for _ in range(3):
        await house.request()
        await house.settle()
    assert house.said() == [("deployment.ready", 1)]
    assert (house.endpoint.state, house.route.epoch, house.server.loads) == ("READY", 1, ["digits.v1"])
    assert house.world.table.find("default", "digits") == house.route


async def test_a_new_revision_takes_over_and_the_old_one_is_retired(house: House) -> None:
    await house.request()
    await house.settle()
    await house.request(revision=2, version=2, digest="b" * 64)
    await house.settle()
    assert house.said() == [("deployment.ready", 1), ("deployment.ready", 2), ("deployment.retired", 1)]
    assert house.server.loaded == {"digits.v2"} == set(house.repository.folders)
    assert [arm.backend_model for arm in house.route.arms] == ["digits.v2"]


async def test_the_same_version_in_a_new_revision_is_not_unloaded(house: House) -> None:
    await house.request()
    await house.settle()
    await house.request(revision=2)
    await house.settle()
    assert house.server.unloads == []
    assert house.said() == [("deployment.ready", 1), ("deployment.ready", 2), ("deployment.retired", 1)]


async def test_a_busy_old_revision_is_not_unloaded(house: House) -> None:
    await house.request()
    await house.settle()
    house.traffic.now["digits.v1"] = 1
    await house.request(revision=2, version=2, digest="b" * 64)
    await house.settle()
    assert house.server.loaded == {"digits.v1", "digits.v2"}
    house.traffic.now.clear()
    await house.settle()
    assert house.server.loaded == {"digits.v2"}


@pytest.mark.parametrize("trouble", ["golden", "package", "load"])
async def test_a_failed_revision_leaves_the_old_one_untouched(house: House, trouble: str) -> None:
    await house.request()
    await house.settle()
    before = house.route
    if trouble == "golden":
        house.server.answers["digits.v2"] = [0.9]
    elif trouble == "package":
        house.repository.broken["digits.v2"] = BadPackage("unsafe file name")
    else:
        house.server.refuse.add("digits.v2")
    await house.request(revision=2, version=2, digest="b" * 64)
    await house.settle(6)
    assert house.said() == [("deployment.ready", 1), ("deployment.failed", 2)]
    assert house.route == before
    assert house.server.loaded == {"digits.v1"} == set(house.repository.folders)
    assert house.server.loads.count("digits.v2") == {"golden": 1, "package": 0, "load": MAX_REFUSALS}[trouble]
    assert house.endpoint.reason


async def test_a_model_that_kills_the_server_is_given_up(house: House) -> None:
    await house.request()
    await house.settle()
    house.server.deadly.add("digits.v2")
    await house.request(revision=2, version=2, digest="b" * 64)
    for _ in range(MAX_ATTEMPTS + 3):
        await house.settle(1)
        await keep_up(house.world, house.loader, house.server)
    assert house.said()[-1] == ("deployment.failed", 2)
    assert house.server.loads.count("digits.v2") == MAX_ATTEMPTS
    assert house.server.loaded == {"digits.v1"}


async def test_waiting_for_the_model_server_is_said_and_costs_no_attempt(house: House) -> None:
    house.server.up = False
    await house.request()
    for _ in range(10):
        with pytest.raises(ModelServerAway):
            await house.settle(1)
    assert "down" in house.endpoint.reason
    assert (house.endpoint.state, house.endpoint.attempts) == ("REQUESTED", 0)
    house.server.up = True
    await house.settle()
    assert house.endpoint.state == "READY"


async def test_a_store_that_is_away_is_waited_for(house: House) -> None:
    house.repository.broken["digits.v1"] = Unavailable("no object store")
    await house.request()
    await house.settle(10)
    assert (house.endpoint.state, house.endpoint.reason) == ("REQUESTED", "waits: no object store")
    house.repository.broken.clear()
    await house.settle()
    assert house.said() == [("deployment.ready", 1)]


async def test_a_superseded_revision_never_gets_traffic(house: House) -> None:
    await house.request()
    load = house.server.load

    async def meanwhile(backend: str) -> None:
        await load(backend)
        if backend == "digits.v1":
            await house.request(revision=2, version=2, digest="b" * 64)

    house.server.load = meanwhile  # type: ignore[method-assign]
    await house.settle(5)
    assert house.said() == [("deployment.ready", 2)]
    assert house.server.loaded == {"digits.v2"}


async def test_absence_retires(house: House) -> None:
    await house.request()
    await house.settle()
    await house.request(revision=2, present=False)
    await house.settle()
    assert house.endpoint.state == "RETIRED"
    assert house.said() == [("deployment.ready", 1), ("deployment.retired", 1)]
    assert (house.route.arms, house.route.epoch) == ((), 2)
    assert (house.server.loaded, house.repository.folders) == (set(), {})
    await house.request(revision=3)
    await house.settle()
    assert (house.endpoint.state, house.route.epoch) == ("READY", 3)


async def test_a_stale_leader_changes_nothing(house: House) -> None:
    await house.request()
    house.database.token = 2
    with pytest.raises(Fenced):
        await house.settle(1)
    assert (house.database.events, house.database.stored_routes) == ([], {})


async def test_two_deployments_of_one_version_share_it(house: House) -> None:
    await house.request()
    await house.request(deployment="other")
    await house.settle()
    await house.request(revision=2, present=False)
    await house.settle()
    assert house.server.loaded == {"digits.v1"}
    assert [arm.backend_model for arm in house.database.stored_routes["default", "other"].arms] == ["digits.v1"]


async def test_other_bytes_under_a_served_name_are_refused(house: House) -> None:
    await house.request()
    await house.settle()
    await house.request(deployment="other", digest="b" * 64)
    await house.settle()
    assert ("deployment.failed", 1) in house.said()
    assert house.repository.folders == {"digits.v1": "a" * 64}


async def test_a_restarted_model_server_gets_back_what_is_routed(house: House) -> None:
    await house.request()
    await house.settle()
    house.server.loaded.clear()
    house.repository.folders.clear()
    await keep_up(house.world, house.loader, house.server)
    assert house.server.loaded == {"digits.v1"}
    assert house.world.waits() == []


async def test_a_model_whose_process_died_is_loaded_afresh(house: House) -> None:
    await house.request()
    await house.settle()
    house.world.broken.add("digits.v1")
    assert house.world.waits() == ["digits.v1"]
    await keep_up(house.world, house.loader, house.server)
    assert (house.server.unloads, house.server.loads) == (["digits.v1"], ["digits.v1", "digits.v1"])
    assert house.world.waits() == []


async def test_without_documents_the_last_table_stays_in_force(house: House) -> None:
    await house.request()
    await house.settle()

    async def away() -> list[Any]:
        raise Unavailable("no MongoDB")

    setattr(house.database, "routes", away)  # noqa: B010
    with pytest.raises(Unavailable):
        await house.settle(1)
    assert house.world.table.find("default", "digits") == house.route
    house.server.loaded.clear()
    await keep_up(house.world, house.loader, house.server)
    assert house.server.loaded == {"digits.v1"}


async def test_a_step_that_breaks_says_so_and_does_not_stop_the_others(house: House) -> None:
    house.repository.broken["digits.v1"] = ZeroDivisionError("oops")  # type: ignore[assignment]
    await house.request()
    await house.request(deployment="other", model="other")
    await house.settle()
    assert "ZeroDivisionError" in house.endpoint.reason
    assert ("default", "other") in house.database.stored_routes


@pytest.mark.parametrize("hit", range(12))
async def test_whatever_step_is_interrupted_the_end_is_the_same(house: House, hit: int) -> None:
    await house.request()
    await house.settle()
    await house.request(revision=2, version=2, digest="b" * 64)
    calls = 0

    def interrupted(call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def maybe(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == hit + 1:
                raise KilledError
            return await call(*args, **kwargs)

        return maybe

    plain = {name: getattr(house.server, name) for name in ("load", "ask", "unload", "index")}
    plain_install = house.repository.install
    for name, call in plain.items():
        setattr(house.server, name, interrupted(call))
    setattr(house.repository, "install", interrupted(plain_install))  # noqa: B010
    try:
        await house.settle()
    except KilledError:
        house.restart()
    for name, call in plain.items():
        setattr(house.server, name, call)
    setattr(house.repository, "install", plain_install)  # noqa: B010
    await house.settle(6)
    assert house.said() == [("deployment.ready", 1), ("deployment.ready", 2), ("deployment.retired", 1)]
    assert house.server.loaded == {"digits.v2"} == set(house.repository.folders)
