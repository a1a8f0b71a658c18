"""What has been counted, per producer: the reason why a row is counted once, however often it is delivered.

A producer is one boot of one serving worker; its rows carry rising numbers. A mark is the next number expected and
the gaps below it, because a retried batch may follow its successor. Nothing here depends on the broker's sequence
numbers, which a broker may use again after its disk was lost.

Sizes are bounded: beyond `MAX_GAPS` the lowest gap is given up (a batch that fills it later is not counted), beyond
`MAX_PRODUCERS` the producer that was silent longest is forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

MAX_GAPS = 64
MAX_PRODUCERS = 256

Span = tuple[int, int]
"""Half-open range of row numbers."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One producer: rows below `next` are counted, except those in `gaps` (ascending, disjoint)."""

    next: int = 0
    gaps: tuple[Span, ...] = ()
    touched: int = 0
    """Number of the last batch of any producer that moved this mark; the lowest is forgotten first."""

    def claim(self, start: int, stop: int) -> tuple[Mark, tuple[Span, ...]]:
        """Return the mark after rows `start` to `stop`, and which of them are new, ascending."""
        fresh: list[Span] = []
        gaps: list[Span] = []
        for low, high in self.gaps:
            inner_low, inner_high = max(low, start), min(high, stop)
            if inner_low >= inner_high:
                gaps.append((low, high))
                continue
            fresh.append((inner_low, inner_high))
            gaps.extend(span for span in ((low, inner_low), (inner_high, high)) if span[0] < span[1])
        if start > self.next:
            gaps.append((self.next, start))
        if stop > self.next:
            fresh.append((max(start, self.next), stop))
        return replace(self, next=max(self.next, stop), gaps=tuple(gaps[-MAX_GAPS:])), tuple(fresh)


@dataclass(frozen=True, slots=True)
class Marks:
    """The marks of all producers of one deployment's batches."""

    producers: dict[str, Mark] = field(default_factory=dict)
    batches: int = 0

    def claim(self, producer: str, start: int, rows: int) -> tuple[Marks, tuple[Span, ...]]:
        """Return the marks after a batch, and the offsets within the batch that were never counted before."""
        moved, fresh = self.producers.get(producer, Mark()).claim(start, start + rows)
        if not fresh:
            return self, ()
        batches = self.batches + 1
        producers = {**self.producers, producer: replace(moved, touched=batches)}
        while len(producers) > MAX_PRODUCERS:
            del producers[min(producers, key=lambda name: producers[name].touched)]
        return Marks(producers, batches), tuple((low - start, high - start) for low, high in fresh)
