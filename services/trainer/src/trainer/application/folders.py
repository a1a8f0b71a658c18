"""Where the agent keeps a run's files on its node, as a port."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from trainer.application.shipping import Spool
from trainer.domain.jobs import Job


class RunFolder(Protocol):
    """The files of one attempt: `path` is what the component sees and may write."""

    path: Path
    spool: Spool

    def place(self, said: object, *, what: str) -> Path:
        """Return a path that the component named, if it lies inside its folder and is one.

        Raises:
            Invalid: it does not.
        """

    def take(self, folder: Path) -> Path:
        """Return a private copy (hard links) of a folder, which the component may then remove."""

    def discard(self, folder: Path) -> None:
        """Remove a folder that was taken."""

    def existing(self, name: str) -> Path | None:
        """Return a file of the component's folder, if it is a plain one."""

    def remove(self) -> None:
        """Remove everything of the attempt."""


class Folders(Protocol):
    """All attempts' folders of this node."""

    async def prepare(self, job: Job) -> RunFolder:
        """Make the folder of the job's attempt with `params.json` and `run.json`."""

    def leftovers(self) -> list[tuple[str, str, int, Spool]]:
        """Return (project, run, fence, spool) of what earlier agents left unshipped."""

    def sweep(self) -> None:
        """Remove everything that earlier agents left."""
