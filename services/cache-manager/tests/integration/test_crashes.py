"""A worker that dies while its version is cleared, and a fresh one that goes on (see test_processes for the rest)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cache_manager.domain.charge import Charge
from millrace import failpoints

from .patience import PATIENCE, TAKEOVER

pytestmark = pytest.mark.servers


class Died(BaseException):
    """Ends a worker as abruptly as one process can end another's work: no handler of ours catches it."""


@pytest.fixture
def die_at(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Arm one failpoint: the coroutine that passes it never goes on. Returns an event of its being hit."""

    def arm(name: str) -> asyncio.Event:
        hit = asyncio.Event()
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(failpoints, "_ARMED", {name: failpoints.parse(f"{name}=raise")[name]})
        monkeypatch.setattr(failpoints, "_HITS", {})

        def act(_name: str, _armed: Any) -> None:
            loop.call_soon_threadsafe(hit.set)
            raise Died(name)

        monkeypatch.setattr(failpoints, "_act", act)
        return hit

    return arm


async def until_dead(engine: Any, hit: asyncio.Event) -> None:
    """Let a manager work until it dies, and leave everything as it lies there: nothing is released."""

    async def keep(*_: Any, **__: Any) -> None:
        return

    engine.world.leases.release = keep
    async with asyncio.timeout(15 * PATIENCE):
        while not hit.is_set():
            await engine.folders.refresh(engine.world.sites)
            await engine.attendance.step()
            await asyncio.wait([asyncio.create_task(hit.wait()), asyncio.create_task(asyncio.sleep(0.05))])
    await engine.attendance.close()


@pytest.mark.filterwarnings("default::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("point", ["fill.C2.after", "fill.C3.during", "fill.C8.after", "fill.C10.before"])
async def test_a_fill_that_dies_is_withdrawn_by_another(lab: Any, die_at: Any, point: str) -> None:
    version = await lab.version()
    first = await lab.manager(takeover_seconds=TAKEOVER)
    await lab.ask(first, version)
    await until_dead(first, die_at(point))
    second = await lab.manager(takeover_seconds=TAKEOVER)
    await lab.ask(second, version, desired="absent")

    await lab.until_state(second, lab.key(version), "ABSENT")

    assert await lab.charged(second) == Charge()
    assert await lab.violations(second) == []
    assert [path.name for path in lab.site.rglob("*.png")] == []
