"""What commands print: tables for people, JSON for programs, progress where somebody watches."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from millrace.datasets.progress import Progress

NOTHING = "-"

UNFOLDED = 4_096
"""Columns of a table that is not shown on a terminal: rows stay lines, for grep and awk."""


def clean(value: Any) -> str:
    """Return a value as text that cannot move the cursor: what a server says is data, also on a terminal."""
    text = NOTHING if value is None or value == "" else str(value)
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def print_json(value: Any) -> None:
    """Print JSON to standard output."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=True) + "\n")


def print_table(rows: Iterable[Sequence[Any]], columns: Sequence[str], *, empty: str) -> None:
    """Print a table to standard output, or say on standard error that there is nothing."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    found = [[clean(cell) for cell in row] for row in rows]
    if not found:
        say(empty)
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in found:
        table.add_row(*(Text(cell) for cell in row))
    width = None if sys.stdout.isatty() else UNFOLDED
    Console(width=width, highlight=False).print(table)


def print_facts(facts: dict[str, Any]) -> None:
    """Print name and value pairs, one a line, to standard output."""
    width = max((len(name) for name in facts), default=0)
    for name, value in facts.items():
        sys.stdout.write(f"{name.ljust(width)}  {clean(value)}\n")


def report(result: Any, text: str, *, as_json: bool) -> None:
    """Say what a command did: its result as JSON on standard output, or a line for people on standard error."""
    if as_json:
        print_json(result)
    else:
        say(text)


def say(text: str) -> None:
    """Print a line for people to standard error."""
    sys.stderr.write(f"{text}\n")


def size(value: int | None) -> str:
    """Return bytes as a person reads them."""
    if value is None:
        return NOTHING
    amount = float(value)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1_000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1_000
    return f"{amount:.1f} TB"


@contextmanager
def progress(what: str) -> Iterator[Callable[[Progress], None]]:
    """Show a transfer: a bar on a terminal, a JSON line a second elsewhere, all on standard error."""
    if not sys.stderr.isatty():
        yield _Lines(what)
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Bars(*columns, console=console, transient=True) as bars:
        task = bars.add_task(what, total=None)

        def show(state: Progress) -> None:
            bars.update(task, total=state.bytes or None, completed=state.bytes_done)

        yield show


class _Lines:
    def __init__(self, what: str) -> None:
        from millrace.clock import SystemClock

        self._what = what
        self._clock = SystemClock()
        self._next = self._clock.monotonic() + 1.0

    def __call__(self, state: Progress) -> None:
        now = self._clock.monotonic()
        if now < self._next:
            return
        self._next = now + 1.0
        line = {"progress": self._what, "files_done": state.files_done, "bytes_done": state.bytes_done}
        say(json.dumps({**line, "files": state.files, "bytes": state.bytes}))
