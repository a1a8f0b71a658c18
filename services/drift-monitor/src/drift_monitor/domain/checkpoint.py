"""The state of counting for one deployment: a single document, replaced whole by compare-and-set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from drift_monitor.domain.exemplars import Pools
from drift_monitor.domain.marks import Marks
from drift_monitor.domain.statistics import AlphaSpending
from drift_monitor.domain.window import Pane, Window

MONTH_MICROSECONDS = 30 * 86_400 * 1_000_000

Tally = Callable[[list[int], Pools], Pane]
"""Counts the given rows of a batch, knowing the exemplars that its window has already."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """`open` holds one window per deployment revision, `closing` full ones that wait for their verdict, oldest first.

    `counted` is the number of rows ever claimed by the marks: it equals the rows of all windows, closed or not.
    `month`, `month_windows` and `spent` account for the allowance of false alarms.
    """

    project: str
    deployment: str
    token: int
    revision: int = 0
    last_seq: int = 0
    marks: Marks = field(default_factory=Marks)
    open: dict[int, Window] = field(default_factory=dict)
    closing: tuple[Window, ...] = ()
    next_window: int = 0
    counted: int = 0
    month: int = 0
    month_windows: int = 0
    spent: float = 0.0
    incident: str | None = None
    dirty: bool = field(default=False, compare=False)
    """Whether the state differs from what is stored; not stored itself."""

    @property
    def id(self) -> str:
        """Return the document's id."""
        return checkpoint_id(self.project, self.deployment)

    def absorb(self, revision: int, producer: str, start: int, rows: int, *, size: int, tally: Tally) -> Checkpoint:
        """Return the checkpoint after a batch of `rows` rows numbered from `start`; known rows are left out.

        Returns itself if nothing in the batch is new.
        """
        marks, spans = self.marks.claim(producer, start, rows)
        fresh = [row for low, high in spans for row in range(low, high)]
        if not fresh:
            return self
        counted = self.counted + len(fresh)
        state = replace(self, marks=marks, counted=counted)
        while fresh:
            state, taken = _fill(state, revision, fresh, size, tally)
            fresh = fresh[taken:]
        return state

    def retire(self, revision: int) -> Checkpoint:
        """Return the checkpoint with the open window of a revision, full or not, put among the closing ones."""
        window = self.open.get(revision)
        if window is None:
            return self
        still_open = {key: value for key, value in self.open.items() if key != revision}
        return replace(self, open=still_open, closing=(*self.closing, window))

    def alpha(self, window: Window, spending: AlphaSpending) -> tuple[float, Checkpoint]:
        """Return the level of a window, and the checkpoint with that spent.

        Months are 30 days of event time and only rise, so that no row's wrong date brings an allowance twice.
        """
        month = max(self.month, (window.pane.last_at or 0) // MONTH_MICROSECONDS)
        fresh = month > self.month
        index, spent = (0, 0.0) if fresh else (self.month_windows, self.spent)
        alpha = spending.alpha(index)
        return alpha, replace(self, month=month, month_windows=index + 1, spent=spent + alpha)

    def closed(self, incident: str | None) -> Checkpoint:
        """Return the checkpoint without the first closing window."""
        return replace(self, closing=self.closing[1:], incident=incident)

    @property
    def pending_rows(self) -> int:
        """Return the rows that are counted and not yet in a closed window."""
        return sum(window.pane.rows for window in (*self.open.values(), *self.closing))


def checkpoint_id(project: str, deployment: str) -> str:
    """Return the document id of a deployment's checkpoint."""
    return f"{project}/{deployment}"


def _fill(state: Checkpoint, revision: int, fresh: list[int], size: int, tally: Tally) -> tuple[Checkpoint, int]:
    """Return the state after as many rows as the open window takes, and how many that were."""
    window, next_window = state.open.get(revision), state.next_window
    if window is None:
        window, next_window = Window(next_window, revision), next_window + 1
    rows = fresh[: size - window.pane.rows]
    window = window.with_pane(tally(rows, window.pane.pools))
    still_open = {key: value for key, value in state.open.items() if key != revision}
    if window.pane.rows < size:
        return replace(state, open={**still_open, revision: window}, next_window=next_window), len(rows)
    closing = (*state.closing, window)
    return replace(state, open=still_open, closing=closing, next_window=next_window), len(rows)
