"""The lease protocol against a model: at most one holder that may act, and tokens that only rise."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from millrace.errors import Fenced
from millrace.leases import Lease
from millrace.testing import InMemoryLeaseStore, ManualClock
from millrace.testing.leases import LeaseTable

TTL = 20.0
NAMES = ("a", "b", "c")


class LeaseMachine(RuleBasedStateMachine):
    """Three processes whose clocks run apart: they act, pause, beat, give up and take over, in any order."""

    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        table = LeaseTable()
        self.clocks = {name: ManualClock() for name in NAMES}
        self.stores = {name: InMemoryLeaseStore(table, clock=self.clocks[name], ttl=TTL) for name in NAMES}
        self.highest = 0
        self.released: set[int] = set()
        self.silence: dict[str, float] = {}
        self.written: list[int] = []

    def call(self, coroutine: Any) -> Any:
        return asyncio.run(coroutine)

    @rule(target=leases, name=st.sampled_from(NAMES))
    def acquire(self, name: str) -> Lease | None:
        lease: Lease | None = self.call(self.stores[name].acquire("gpu", name))
        if lease is not None:
            held = self.highest and self.highest not in self.released
            assert not held or self.silence.get(name, 0.0) >= TTL, "taken from a holder that was not silent long enough"
            assert lease.token == self.highest + 1
            self.highest = lease.token
            self.silence = {}
        else:
            self.silence.setdefault(name, 0.0)
        return lease

    @rule(lease=leases)
    def renew(self, lease: Lease | None) -> None:
        if lease is None:
            return
        alive = lease.token == self.highest and lease.token not in self.released
        try:
            self.call(self.stores[lease.holder].renew(lease))
        except Fenced:
            assert not alive
        else:
            assert alive
            self.silence = {}

    @rule(lease=leases)
    def release(self, lease: Lease | None) -> None:
        if lease is not None:
            self.call(self.stores[lease.holder].release(lease))
            if lease.token == self.highest:
                self.released.add(lease.token)

    @rule(lease=leases)
    def write(self, lease: Lease | None) -> None:
        """A write that passes its token: refused once a newer one is in force."""
        if lease is None:
            return
        try:
            self.call(self.stores[lease.holder].check(lease))
        except Fenced:
            return
        self.written.append(lease.token)

    @rule(name=st.sampled_from(NAMES), seconds=st.sampled_from([0.1, 5.0, 19.9, 20.0, 3_600.0]))
    def time_passes(self, name: str, seconds: float) -> None:
        self.clocks[name].jump(seconds)
        if name in self.silence:
            self.silence[name] += seconds

    @invariant()
    def fenced_writes_never_go_back(self) -> None:
        assert self.written == sorted(self.written)


TestLeaseMachine = LeaseMachine.TestCase
TestLeaseMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
