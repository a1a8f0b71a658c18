"""How the demo tells its story: headings while it goes, a table at the end, one line of JSON for machines."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.table import Table

from millrace.clock import SystemClock


class Story:
    """Prints what happens and keeps how long each stage took, in seconds."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self.seconds: dict[str, float] = {}
        self.stage_name = "preparation"
        self._clock = SystemClock()
        self._begun = self._clock.monotonic()

    @contextmanager
    def stage(self, name: str, title: str) -> Iterator[None]:
        """Head a stage and time it."""
        self.stage_name = name
        self.console.print(f"\n[bold]{title}[/bold]")
        begun = self._clock.monotonic()
        yield
        self.seconds[name] = round(self._clock.monotonic() - begun, 1)

    def say(self, text: str) -> None:
        """Tell one thing that happened, with the time since the start."""
        self.console.print(f"  [dim]{self._clock.monotonic() - self._begun:6.1f} s[/dim]  {text}")

    @property
    def total(self) -> float:
        """Return the seconds since the start."""
        return round(self._clock.monotonic() - self._begun, 1)

    def table(self, rows: list[tuple[str, str, str]], title: str, columns: tuple[str, str, str]) -> None:
        """Print the table at the end."""
        table = Table(title=title, title_justify="left", title_style="bold")
        table.add_column(columns[0])
        for name in columns[1:]:
            table.add_column(name, justify="right", overflow="fold")
        for row in rows:
            table.add_row(*row)
        self.console.print()
        self.console.print(table)

    def lines(self, title: str, lines: list[str]) -> None:
        """Print a titled list."""
        self.console.print(f"\n[bold]{title}[/bold]")
        for line in lines:
            self.console.print(f"  {line}")

    def result(self, result: dict[str, Any]) -> None:
        """Print the last line, for machines."""
        sys.stdout.write(f"demo-result: {json.dumps(result, sort_keys=True)}\n")
        sys.stdout.flush()
