"""The entry's state machine against a small model: charge, publication and leases never contradict the state."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cache_manager.domain.entry import Entry, Grant
from cache_manager.domain.plan import Patience, Step, next_step
from cache_manager.domain.states import CHARGED, FILLING, LEASED, PUBLISHED, SHOWN, Move, State, after, moves
from cache_manager.errors import IllegalMove

PATIENCE = Patience(grace=2.0, first_retry=1.0, last_retry=4.0)


def entry(**changes: object) -> Entry:
    return Entry(site="s", project="p", commit="0" * 64, dataset="d", version=1, **changes)  # type: ignore[arg-type]


@given(st.sampled_from(State), st.sampled_from(Move))
def test_every_move_is_decided(state: State, move: Move) -> None:
    if move in moves(state):
        assert isinstance(after(state, move), State)
    else:
        with pytest.raises(IllegalMove):
            after(state, move)


def test_every_state_is_reached_and_left() -> None:
    seen, ahead = {State.ABSENT}, [State.ABSENT]
    while ahead:
        state = ahead.pop()
        assert moves(state), f"{state} is a dead end"
        for reached in {after(state, move) for move in moves(state)} - seen:
            seen.add(reached)
            ahead.append(reached)
    assert seen == set(State)


def test_only_verified_trees_become_ready_and_only_through_the_trash_do_they_go() -> None:
    to_ready = {state for state in State for move in moves(state) if after(state, move) is State.READY}
    from_ready = {after(State.READY, move) for move in moves(State.READY)}
    assert to_ready == {State.VERIFYING, State.REPAIRING}
    assert from_ready == {State.REPAIRING, State.EVICTING}


@given(st.sampled_from(State), st.sampled_from(["present", "absent"]), st.integers(0, 6), st.floats(0, 1_000))
def test_a_planned_step_is_possible(state: State, desired: str, attempts: int, unchanged: float) -> None:
    step = next_step(entry(state=state, desired=desired, attempts=attempts), unchanged, PATIENCE)
    wanted = {
        Step.QUEUE: Move.REQUEST,
        Step.WITHDRAW: Move.WITHDRAW,
        Step.EVICT: Move.EVICT,
        Step.TRASH: Move.TRASH,
        Step.DELETE: Move.DELETE,
        Step.FILL: Move.RESERVE,
        Step.REPAIR: Move.CONFIRM,
    }
    assert step is None or wanted[step] in moves(state)


@given(st.sampled_from(State), st.sampled_from(["present", "absent"]))
def test_only_settled_entries_rest_for_ever(state: State, desired: str) -> None:
    """With patience at its end and no leases, an entry rests only where it is wished (or failed for good)."""
    step = next_step(entry(state=state, desired=desired), 1e9, PATIENCE)
    rests = (state, desired) in {(State.READY, "present"), (State.ABSENT, "absent"), (State.FAILED, "present")}
    assert (step is None) == rests


def test_nothing_is_evicted_under_a_lease() -> None:
    for state in PUBLISHED:
        leased = entry(state=state, desired="absent", leases={"run": Grant(1)})
        assert next_step(leased, 1e9, PATIENCE) in {None, Step.REPAIR}


def test_a_fill_that_runs_read_already_goes_on_until_they_end() -> None:
    for state in FILLING:
        assert next_step(entry(state=state, desired="absent", leases={"run": Grant(1)}), 1e9, PATIENCE) is Step.FILL
        assert next_step(entry(state=state, desired="absent"), 1e9, PATIENCE) is Step.WITHDRAW


@dataclass
class Disk:
    """Where the bytes of the modelled entry are."""

    staged: bool = False
    published: bool = False
    trashed: bool = False
    shown: bool = False


class EntryMachine(RuleBasedStateMachine):
    """A worker that does what is planned, crashes anywhere, and wishes that change at any moment."""

    def __init__(self) -> None:
        super().__init__()
        self.state = State.ABSENT
        self.desired = "absent"
        self.leases: set[int] = set()
        self.charged = self.readable = False
        self.disk = Disk()
        self.attempts = 0

    def move(self, move: Move) -> None:
        self.state = after(self.state, move)

    def planned(self) -> Step | None:
        leases = {str(lease): Grant(lease) for lease in self.leases}
        return next_step(entry(state=self.state, desired=self.desired, leases=leases), 1e9, PATIENCE)

    @rule(desired=st.sampled_from(["present", "absent"]))
    def wish(self, desired: str) -> None:
        self.desired = desired
        if self.state is State.FAILED and desired == "present":
            self.move(Move.REQUEST)

    @rule(run=st.integers(0, 2))
    def lease(self, run: int) -> None:
        if self.state is State.READY and self.desired == "present":
            self.leases.add(run)

    @rule(run=st.integers(0, 2))
    def lease_early(self, run: int) -> None:
        if self.state in SHOWN and self.readable and self.desired == "present":
            assert self.disk.shown or self.disk.published
            self.leases.add(run)

    @rule(run=st.integers(0, 2))
    def release(self, run: int) -> None:
        self.leases.discard(run)

    @precondition(lambda self: self.state is State.READY)
    @rule()
    def damage(self) -> None:
        self.move(Move.FIND_DAMAGE)

    @precondition(lambda self: self.planned() is not None)
    @rule(crash=st.integers(0, 5), room=st.booleans(), broken=st.booleans())
    def work(self, crash: int, room: bool, broken: bool) -> None:
        step = self.planned()
        assert step is not None
        getattr(self, f"_{step.value}")(crash, room, broken)

    def _queue(self, *_: object) -> None:
        self.move(Move.REQUEST)

    def _fill(self, crash: int, room: bool, broken: bool) -> None:
        if not room and not self.charged:
            self.move(Move.WAIT)
            return
        self.move(Move.RESERVE)
        self.charged = True
        if crash == 0:
            return
        if not self.disk.published and self.disk.trashed:
            self.disk.trashed, self.disk.published = False, True
        if not self.disk.published:
            self.disk.staged = self.disk.shown = self.readable = True
            if crash == 1:
                return
            if broken:
                self._give_up(crash)
                return
        self._finish(crash)

    def _give_up(self, crash: int) -> None:
        self.readable = False
        if crash == 4:
            return
        self.disk = Disk()
        self.move(Move.WAIT if crash == 5 else Move.FAIL)
        self.charged = False
        if self.state is State.FAILED:
            self.leases.clear()

    def _finish(self, crash: int) -> None:
        self.move(Move.LAND)
        if crash == 2:
            return
        self.disk.staged, self.disk.published = False, True
        if crash == 3:
            return
        self.disk.shown = False
        if crash == 4:
            return
        self.move(Move.CONFIRM)
        self.readable = False

    def _repair(self, crash: int, *_: object) -> None:
        if crash:
            self.move(Move.CONFIRM)

    def _withdraw(self, crash: int, *_: object) -> None:
        assert not self.leases
        self.readable = False
        self.disk = Disk()
        if crash:
            self.move(Move.WITHDRAW)
            self.charged = False

    def _evict(self, *_: object) -> None:
        assert not self.leases
        self.move(Move.EVICT)

    def _trash(self, crash: int, *_: object) -> None:
        self.disk.trashed, self.disk.published = self.disk.published or self.disk.trashed, False
        if crash:
            self.move(Move.TRASH)

    def _delete(self, crash: int, *_: object) -> None:
        self.disk.trashed = False
        if crash:
            self.move(Move.DELETE)
            self.charged = False

    @invariant()
    def bytes_on_disk_are_charged(self) -> None:
        if self.disk.staged or self.disk.published or self.disk.trashed or self.disk.shown:
            assert self.charged, f"{self.disk} without a charge in {self.state}"

    @invariant()
    def charged_states_have_a_charge(self) -> None:
        if self.state in CHARGED:
            assert self.charged

    @invariant()
    def ready_means_published(self) -> None:
        if self.state in PUBLISHED:
            assert self.disk.published

    @invariant()
    def leases_only_on_what_is_there_or_comes(self) -> None:
        if self.leases:
            assert self.state in LEASED

    @invariant()
    def nothing_is_shown_but_what_is_being_filled(self) -> None:
        if self.disk.shown:
            assert self.state in SHOWN
        if self.readable:
            assert self.state in SHOWN

    @invariant()
    def something_is_always_next(self) -> None:
        """Nothing waits in silence: what is not as wished has a next step, or a lease that it waits for."""
        if self.state in FILLING or self.state in {State.EVICTING, State.TRASHED}:
            assert self.planned() is not None


TestEntryMachine = EntryMachine.TestCase
TestEntryMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
