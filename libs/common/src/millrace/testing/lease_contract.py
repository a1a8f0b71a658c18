"""What every lease store must do. A test module subclasses this and gives the fixture `observer`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from millrace.errors import Fenced
from millrace.leases.ports import Leases
from millrace.testing.clock import ManualClock

MakeObserver = Callable[[ManualClock], Leases]
"""Returns another observer of the same leases, with a ttl of 20 s on the given clock."""


class LeaseContract:
    """The contract suite: run on memory and on MongoDB. Each observer has a clock of its own."""

    async def test_a_free_lease_is_given_with_token_one(self, observer: MakeObserver) -> None:
        """The first holder gets token 1 and passes the check."""
        leases = observer(ManualClock())
        lease = await leases.acquire("gpu", "a")
        assert lease is not None
        assert (lease.name, lease.holder, lease.token) == ("gpu", "a", 1)
        await leases.check(lease)

    async def test_a_held_lease_is_not_given(self, observer: MakeObserver) -> None:
        """Nobody else gets it, nor the holder a second time; another name is free."""
        first, second = observer(ManualClock()), observer(ManualClock())
        assert await first.acquire("gpu", "a") is not None
        assert await second.acquire("gpu", "b") is None
        assert await first.acquire("gpu", "a") is None
        assert await second.acquire("other", "b") is not None

    async def test_a_released_lease_is_given_with_a_higher_token(self, observer: MakeObserver) -> None:
        """The token rises across releases, and the old lease is dead."""
        first, second = observer(ManualClock()), observer(ManualClock())
        old = await first.acquire("gpu", "a")
        assert old is not None
        await first.release(old)
        new = await second.acquire("gpu", "b")
        assert new is not None
        assert new.token == old.token + 1
        with pytest.raises(Fenced):
            await first.renew(old)
        with pytest.raises(Fenced):
            await first.check(old)

    async def test_takeover_needs_a_whole_ttl_of_silence_seen_by_the_observer(self, observer: MakeObserver) -> None:
        """The observer's own clock counts, from its own first sight."""
        clock = ManualClock()
        holder, rival = observer(ManualClock()), observer(clock)
        lease = await holder.acquire("gpu", "a")
        assert lease is not None
        clock.jump(1_000)
        assert await rival.acquire("gpu", "b") is None
        clock.jump(19.9)
        assert await rival.acquire("gpu", "b") is None
        clock.jump(0.2)
        taken = await rival.acquire("gpu", "b")
        assert taken is not None
        assert taken.token == lease.token + 1
        with pytest.raises(Fenced):
            await holder.renew(lease)

    async def test_a_beat_starts_the_silence_anew(self, observer: MakeObserver) -> None:
        """A holder that beats keeps its lease for ever."""
        clock = ManualClock()
        holder, rival = observer(ManualClock()), observer(clock)
        lease = await holder.acquire("gpu", "a")
        assert lease is not None
        for _ in range(5):
            assert await rival.acquire("gpu", "b") is None
            clock.jump(19)
            await holder.renew(lease)
        assert await rival.acquire("gpu", "b") is None

    async def test_a_stale_holder_cannot_release_what_another_holds(self, observer: MakeObserver) -> None:
        """Release looks at the token."""
        clock = ManualClock()
        holder, rival = observer(ManualClock()), observer(clock)
        old = await holder.acquire("gpu", "a")
        assert old is not None
        await rival.acquire("gpu", "b")
        clock.jump(21)
        new = await rival.acquire("gpu", "b")
        assert new is not None
        await holder.release(old)
        await rival.check(new)
