"""Runs' files on the node.

<root>/runs/<run>/<fence>/work     the component's folder: params.json, run.json, checkpoint/, tmp/
<root>/runs/<run>/<fence>/taken    checkpoints that wait for their upload, as hard links
<root>/spool/<project>.<run>.<fence>.jsonl (+ .at)   what the run said and is not shipped yet
"""

from __future__ import annotations

import asyncio
import json
import shutil
from itertools import count
from pathlib import Path

from millrace.errors import Invalid
from trainer.adapters.spool import FileSpool
from trainer.application.shipping import Spool
from trainer.domain.jobs import Job


class FilesystemRunFolder:
    """The files of one attempt."""

    def __init__(self, base: Path, spool: FileSpool) -> None:
        self.path = base / "work"
        self.spool: Spool = spool
        self._base = base
        self._own_spool = spool
        self._numbers = count()

    def place(self, said: object, *, what: str) -> Path:
        """Return a folder that the component named, if it lies inside its own folder and is one.

        Raises:
            Invalid: it does not.
        """
        try:
            place = Path(str(said)).resolve(strict=True)
        except (OSError, ValueError, RuntimeError):
            raise Invalid(f"the {what} does not exist") from None
        if not place.is_relative_to(self.path.resolve()) or not place.is_dir():
            raise Invalid(f"the {what} is no folder below the run's own")
        return place

    def take(self, folder: Path) -> Path:
        """Return a private copy (hard links) of a folder, which the component may then remove.

        Raises:
            Invalid: it holds anything but plain files.
        """
        target = self._base / "taken" / str(next(self._numbers))
        target.mkdir(parents=True)
        for path in folder.iterdir():
            if path.is_symlink() or not path.is_file():
                raise Invalid(f"{path.name} is no plain file")
            (target / path.name).hardlink_to(path)
        return target

    def discard(self, folder: Path) -> None:
        """Remove a folder."""
        shutil.rmtree(folder, ignore_errors=True)

    def existing(self, name: str) -> Path | None:
        """Return a file of the component's folder, if it is a plain one."""
        path = self.path / name
        return path if path.is_file() and not path.is_symlink() else None

    def remove(self) -> None:
        """Remove everything of the attempt; a spool with unshipped reports stays for a later agent."""
        shutil.rmtree(self._base, ignore_errors=True)
        self._own_spool.close()


class FilesystemFolders:
    """All attempts' folders below one root, which belongs to this agent alone."""

    def __init__(self, root: Path) -> None:
        self._runs = root / "runs"
        self._spools = root / "spool"

    async def prepare(self, job: Job) -> FilesystemRunFolder:
        """Make the folder of the job's attempt with `params.json` and `run.json`."""
        return await asyncio.to_thread(self._prepare, job)

    def _prepare(self, job: Job) -> FilesystemRunFolder:
        base = self._runs / job.run / str(job.fence)
        shutil.rmtree(base, ignore_errors=True)
        self._runs.mkdir(mode=0o700, parents=True, exist_ok=True)
        (base / "work" / "tmp").mkdir(parents=True)
        self._spools.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = {
            "run": job.run,
            "project": job.project,
            "dataset": job.dataset,
            "version": job.version,
            "commit": job.commit,
            "component": job.component,
            "model": job.model,
            "attempt": job.attempt,
            "fence": job.fence,
        }
        (base / "work" / "params.json").write_text(json.dumps(job.params), encoding="utf-8")
        (base / "work" / "run.json").write_text(json.dumps(facts), encoding="utf-8")
        return FilesystemRunFolder(base, FileSpool(self._spools / f"{job.project}.{job.run}.{job.fence}.jsonl"))

    def leftovers(self) -> list[tuple[str, str, int, Spool]]:
        """Return (project, run, fence, spool) of what earlier agents left unshipped."""
        found: list[tuple[str, str, int, Spool]] = []
        for path in sorted(self._spools.glob("*.jsonl")):
            parts = path.name.removesuffix(".jsonl").split(".")
            if len(parts) == 3 and parts[2].isdecimal():
                found.append((parts[0], parts[1], int(parts[2]), FileSpool(path)))
        return found

    def sweep(self) -> None:
        """Remove everything that earlier agents left."""
        shutil.rmtree(self._runs, ignore_errors=True)
        shutil.rmtree(self._spools, ignore_errors=True)
