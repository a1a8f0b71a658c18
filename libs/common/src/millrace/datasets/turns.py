"""Whose pack is fetched next: what readers wait for, in turn, and otherwise the fixed order of the version."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence


class Turns:
    """What a fill has still to take, by name. Not for several threads.

    Readers take turns: each has its next wish taken before any of them has another, however much one of them wants.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._left = dict.fromkeys(names)
        self._wishes: dict[str, deque[str]] = {}

    def begin(self, names: Iterable[str]) -> None:
        """Have these to take, in this order; wishes stay."""
        self._left = dict.fromkeys(names)

    def want(self, wishes: Mapping[str, Sequence[str]]) -> None:
        """Replace what each reader wants next, in its order. Who was there before keeps its place in the round."""
        known = [reader for reader in self._wishes if reader in wishes]
        new = [reader for reader in wishes if reader not in self._wishes]
        self._wishes = {reader: deque(wishes[reader]) for reader in (*known, *new)}

    def take(self) -> str | None:
        """Return what is to be fetched next, which is then taken; None if nothing is left."""
        for reader in list(self._wishes):
            wishes = self._wishes.pop(reader)
            self._wishes[reader] = wishes
            while wishes:
                name = wishes.popleft()
                if name in self._left:
                    del self._left[name]
                    return name
        first = next(iter(self._left), None)
        if first is not None:
            del self._left[first]
        return first


def in_turn(lists: Iterable[Sequence[str]]) -> list[str]:
    """Return the first of each list, then the second of each, and so on, each name once."""
    queues = [deque(names) for names in lists]
    found: dict[str, None] = {}
    while any(queues):
        found.update(dict.fromkeys(queue.popleft() for queue in queues if queue))
    return list(found)
