"""What a check writes down."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, TypeVar

from catalog.application.ports import Repository
from catalog.domain.entity import Entity

E = TypeVar("E", bound=Entity)
PAGE = 500
MAX_VIOLATIONS = 1_000


class Report:
    """Counts what was checked and lists what does not hold."""

    def __init__(self) -> None:
        self.checked = 0
        self.violations: list[dict[str, str]] = []

    def expect(self, holds: bool, invariant: str, what: str, where: str) -> None:
        """Count one check, and note it if it does not hold."""
        self.checked += 1
        if not holds and len(self.violations) < MAX_VIOLATIONS:
            self.violations.append({"invariant": invariant, "what": what, "where": where})


async def every(repository: Repository[E], where: Mapping[str, Any]) -> AsyncIterator[E]:
    """Yield all entities that match, a page at a time, in the order of their ids."""
    after = None
    while page := await repository.find(where, after=after, limit=PAGE):
        for entity in page:
            yield entity
        after = page[-1].id
