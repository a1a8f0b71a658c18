"""The life of a cache entry as a pure function: which move leads from which state to which.

    ABSENT    -> QUEUED                 requested
    QUEUED    -> FETCHING | WAIT_SPACE  room was reserved | there is none
    FETCHING  -> VERIFYING              everything landed
    VERIFYING -> READY                  root and counts match
    READY     -> REPAIRING | EVICTING   found damaged | nobody uses it and it should go
    REPAIRING -> READY                  replaced from the lake
    EVICTING  -> TRASHED -> ABSENT      left its final path; the grace is over and it is deleted
    TRASHED   -> QUEUED                 requested again: the copy may be taken back instead of fetched

What has not become ready may fail (FAILED, tried again from QUEUED) or be withdrawn (ABSENT).
"""

from __future__ import annotations

from enum import StrEnum

from cache_manager.errors import IllegalMove


class State(StrEnum):
    """Where an entry stands."""

    ABSENT = "ABSENT"
    QUEUED = "QUEUED"
    WAIT_SPACE = "WAIT_SPACE"
    FETCHING = "FETCHING"
    VERIFYING = "VERIFYING"
    READY = "READY"
    REPAIRING = "REPAIRING"
    FAILED = "FAILED"
    EVICTING = "EVICTING"
    TRASHED = "TRASHED"


class Move(StrEnum):
    """What happens to an entry."""

    REQUEST = "request"
    RESERVE = "reserve"
    WAIT = "wait"
    LAND = "land"
    CONFIRM = "confirm"
    FIND_DAMAGE = "find-damage"
    FAIL = "fail"
    WITHDRAW = "withdraw"
    EVICT = "evict"
    TRASH = "trash"
    DELETE = "delete"


_UNFINISHED = (State.QUEUED, State.WAIT_SPACE, State.FETCHING, State.VERIFYING)

_MOVES: dict[tuple[State, Move], State] = {
    (State.ABSENT, Move.REQUEST): State.QUEUED,
    (State.FAILED, Move.REQUEST): State.QUEUED,
    (State.TRASHED, Move.REQUEST): State.QUEUED,
    (State.FETCHING, Move.LAND): State.VERIFYING,
    (State.VERIFYING, Move.CONFIRM): State.READY,
    (State.READY, Move.FIND_DAMAGE): State.REPAIRING,
    (State.REPAIRING, Move.CONFIRM): State.READY,
    (State.READY, Move.EVICT): State.EVICTING,
    (State.REPAIRING, Move.EVICT): State.EVICTING,
    (State.EVICTING, Move.TRASH): State.TRASHED,
    (State.TRASHED, Move.DELETE): State.ABSENT,
    (State.FAILED, Move.WITHDRAW): State.ABSENT,
    **{(state, Move.RESERVE): State.FETCHING for state in _UNFINISHED},
    **{(state, Move.WAIT): State.WAIT_SPACE for state in _UNFINISHED},
    **{(state, Move.FAIL): State.FAILED for state in _UNFINISHED},
    **{(state, Move.WITHDRAW): State.ABSENT for state in _UNFINISHED},
}

CHARGED = frozenset({State.FETCHING, State.VERIFYING, State.READY, State.REPAIRING, State.EVICTING, State.TRASHED})
"""States in which the entry's bytes count against its site. QUEUED does too when it came from TRASHED."""

PUBLISHED = frozenset({State.READY, State.REPAIRING})
"""States in which readers may have the final path open."""


FILLING = frozenset(_UNFINISHED)
"""States on the way to the first READY."""

SHOWN = frozenset({State.FETCHING, State.VERIFYING})
"""States in which packs that have landed may be read already."""

LEASED = PUBLISHED | FILLING
"""States in which there may be leases: in those of a fill only leases of early starts."""


def after(state: State, move: Move) -> State:
    """Return the state that `move` leads to.

    Raises:
        IllegalMove: there is no such move in this state.
    """
    try:
        return _MOVES[state, move]
    except KeyError:
        raise IllegalMove(f"{move} is no move of an entry that is {state}") from None


def moves(state: State) -> frozenset[Move]:
    """Return the moves that are possible in a state."""
    return frozenset(move for origin, move in _MOVES if origin is state)
