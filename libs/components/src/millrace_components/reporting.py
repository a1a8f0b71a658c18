"""How a component talks about its run: to its agent through the SDK, and always in plain words on standard output."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from millrace.errors import Invalid

EXIT_UNUSABLE = 65
"""Input or parameters are unusable: trying again cannot help (sysexits' EX_DATAERR)."""
EXIT_AGAIN = 75
"""A checkpoint is written; run me again (sysexits' EX_TEMPFAIL)."""


class Reporter(Protocol):
    """The part of `millrace_sdk.run.Run` that components use."""

    def metric(self, step: int, values: Mapping[str, float]) -> None:
        """Report values measured at a step."""

    def stage(self, code: int, message: str) -> None:
        """Report where the run stands: 2xx training, 3xx evaluation."""

    def save_checkpoint(self, epoch: int, path: Path) -> None:
        """Hand over a whole checkpoint folder."""

    def model(self, path: Path, metrics: Mapping[str, float]) -> None:
        """Hand over the model package."""

    def result(self, values: Mapping[str, Any]) -> None:
        """Say what came of the run."""


@dataclass(frozen=True)
class Facts:
    """Which run this is; a run by hand has made-up ones."""

    run: str = "00000000-0000-0000-0000-000000000000"
    dataset: str = "local"
    commit: str = "0" * 64


def facts(directory: Path) -> Facts:
    """Return the facts in `run.json`, which the agent writes.

    Raises:
        Invalid: the file is damaged.
    """
    path = directory / "run.json"
    if not path.exists():
        return Facts()
    try:
        document = json.loads(path.read_bytes())
        return Facts(run=str(document["run"]), dataset=str(document["dataset"]), commit=str(document["commit"]))
    except (ValueError, KeyError, TypeError) as error:
        raise Invalid(f"run.json is damaged: {type(error).__name__}") from None


class Termination:
    """Notes SIGTERM, so that the run can stop at a good place."""

    def __init__(self) -> None:
        self._asked = False
        signal.signal(signal.SIGTERM, self._note)

    def __call__(self) -> bool:
        """Return whether the run was asked to stop."""
        return self._asked

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self._asked = True


def say(text: str) -> None:
    """Write one line to standard output at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
