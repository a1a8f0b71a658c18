"""Judging silence: for how long the own monotonic clock has seen a value unchanged. No clocks are ever compared."""

from __future__ import annotations

from collections.abc import Collection, Hashable


class Beats:
    """Remembers since when each key has shown the same value. After a restart every silence begins anew."""

    def __init__(self) -> None:
        self._seen: dict[Hashable, tuple[Hashable, float]] = {}

    def silence(self, key: Hashable, value: Hashable, now: float) -> float:
        """Return the seconds for which `key` has been seen with this `value`, 0 at first sight."""
        seen = self._seen.get(key)
        if seen is None or seen[0] != value:
            self._seen[key] = (value, now)
            return 0.0
        return now - seen[1]

    def keep(self, keys: Collection[Hashable]) -> None:
        """Forget all keys but these."""
        for key in self._seen.keys() - set(keys):
            del self._seen[key]
