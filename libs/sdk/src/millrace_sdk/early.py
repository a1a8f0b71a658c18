"""Early start: opening a copy near by that is still being filled, and telling whoever fills it what is needed next.

A run finds its packs in `MILLRACE_EARLY_<NAME>` until all of them are in `MILLRACE_INPUT_<NAME>`, and speaks through
its agent's socket. Who holds a lease of his own speaks to the gateway.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from millrace.datasets.waiting import PATIENCE_SECONDS, Standing
from millrace.errors import Conflict, Invalid, Unavailable
from millrace_sdk.discovery import Access
from millrace_sdk.run import INPUT, ReportRefused, current

if TYPE_CHECKING:
    from millrace_sdk.client import Catalog
    from millrace_sdk.run import Run

EARLY = "MILLRACE_EARLY_"

READERS = 16
"""Readers of one lease that are told apart: processes, by their ids."""


@dataclass(frozen=True)
class Waiting:
    """What to do about packs that have not come: wait so many seconds, or read them from the lake."""

    fallback: Literal["lake"] | None = None
    patience: float = PATIENCE_SECONDS


def shelf_of(folder: Path, environ: Mapping[str, str] | None = None) -> Path | None:
    """Return where the packs of a run's input are found while the copy is filled; None for any other folder."""
    environ = os.environ if environ is None else environ
    for name, path in environ.items():
        if name.startswith(INPUT) and Path(path) == folder:
            shelf = environ.get(EARLY + name.removeprefix(INPUT))
            return Path(shelf) if shelf else None
    return None


def version_of_run(environ: Mapping[str, str] | None = None) -> tuple[str, int, str]:
    """Return dataset, version and project of this process's run.

    Raises:
        Invalid: the agent left no word of them.
    """
    environ = os.environ if environ is None else environ
    try:
        facts = json.loads((Path(environ.get("MILLRACE_RUN_DIR", ".")) / "run.json").read_text(encoding="utf-8"))
        return str(facts["dataset"]), int(facts["version"]), str(facts["project"])
    except (OSError, ValueError, KeyError, TypeError):
        raise Invalid("it is not known of which version the packs are: there is no run.json") from None


class RunFilling:
    """`Filling` by way of the run's agent. Each process has a connection of its own."""

    def __init__(self) -> None:
        self._run: Run | None = None
        self._pid = 0

    def want(self, names: Sequence[str], waited: float) -> Standing:
        """Say what is needed next, and how long was waited since the last call.

        Raises:
            Unavailable: the agent does not answer.
        """
        if self._run is None or self._pid != os.getpid():
            self._run, self._pid = current(), os.getpid()
        try:
            answer = self._run.want(names, reader=self._pid % READERS, waited=waited)
        except ReportRefused as error:
            raise Unavailable(str(error)) from None
        return Standing(_kind(answer.get("standing")), str(answer.get("reason") or ""))

    def close(self) -> None:
        """Close the connection, if this process has one."""
        if self._run is not None and self._pid == os.getpid():
            self._run.close()
        self._run = None


class LeaseFilling:
    """`Filling` by way of the gateway, for who holds a lease. Each process has a client of its own."""

    def __init__(self, lease: str, project: str, access: Access) -> None:
        self._lease, self._project, self._access = lease, project, access
        self._client: Catalog | None = None
        self._pid = 0

    def want(self, names: Sequence[str], waited: float) -> Standing:
        """Say what is needed next, and how long was waited since the last call.

        Raises:
            MillraceError: what the gateway answers.
        """
        from millrace_sdk.client import Catalog

        if self._client is None or self._pid != os.getpid():
            self._client, self._pid = Catalog.of(self._access, project=self._project), os.getpid()
        try:
            answer = self._client.want_packs(self._lease, names, reader=self._pid % READERS, waited_seconds=waited)
        except Conflict as error:
            return Standing("failed", error.message)
        return Standing("coming" if answer["early"] else "there", str(answer["reason"]))

    def close(self) -> None:
        """Close the client, if this process has one."""
        if self._client is not None and self._pid == os.getpid():
            self._client.close()
        self._client = None


def _kind(said: Any) -> Literal["coming", "there", "failed"]:
    if said == "there":
        return "there"
    return "failed" if said == "failed" else "coming"
