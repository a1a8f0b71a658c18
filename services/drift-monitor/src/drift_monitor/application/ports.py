"""What the monitor needs from the world, as protocols."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from drift_monitor.domain.baseline import Baseline
from drift_monitor.domain.checkpoint import Checkpoint
from drift_monitor.domain.evaluation import Finding, Verdict
from drift_monitor.domain.incidents import Incident
from drift_monitor.domain.labels import LabelQueue
from drift_monitor.domain.watch import Watch
from drift_monitor.domain.window import Window
from millrace.documents.ports import UnitOfWork
from millrace.errors import MillraceError

Page = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class ClosedWindow:
    """A window with its verdict, as it is kept."""

    project: str
    deployment: str
    window: Window
    model: str
    version: int
    findings: tuple[Finding, ...]
    verdict: Verdict
    incident: str | None


class Watches(Protocol):
    """Which revisions are watched."""

    async def get(self, project: str, deployment: str, deployment_revision: int) -> Watch | None:
        """Return a watch."""

    async def add(self, watch: Watch) -> bool:
        """Add a watch; False if its revision is watched already."""

    async def save(self, watch: Watch) -> Watch:
        """Replace the document that has this revision, and return it with the next one.

        Raises:
            Conflict: it changed since it was read.
        """

    async def every(self) -> Sequence[Watch]:
        """Return all watches, newest revisions last."""


class Checkpoints(Protocol):
    """The state of counting."""

    async def get(self, project: str, deployment: str) -> Checkpoint | None:
        """Return a deployment's checkpoint."""

    async def save(self, checkpoint: Checkpoint) -> Checkpoint:
        """Replace the document that has this revision and this token, or create it at revision 0.

        Raises:
            Fenced: a newer owner has it.
            CheckpointConflict: it changed since it was read.
        """

    async def every(self) -> Sequence[Checkpoint]:
        """Return all checkpoints."""


class Windows(Protocol):
    """Closed windows."""

    async def add(self, closed: ClosedWindow) -> None:
        """Add a closed window.

        Raises:
            Conflict: this number is closed already.
        """

    async def page(self, project: str, deployment: str, revision: int, *, limit: int, before: int | None) -> Page:
        """Return the closed windows of a deployment's revision as documents, newest first."""

    async def census(self) -> dict[str, tuple[int, int, int]]:
        """Return for each checkpoint id (windows, rows, highest number) of its closed windows."""


class Incidents(Protocol):
    """Incidents."""

    async def get(self, incident: str) -> Incident | None:
        """Return an incident."""

    async def add(self, incident: Incident) -> None:
        """Add an incident.

        Raises:
            Conflict: it is open already.
        """

    async def save(self, incident: Incident) -> Incident:
        """Replace the document that has this revision, and return it with the next one.

        Raises:
            Conflict: it changed since it was read.
        """

    async def gathering(self) -> Sequence[Incident]:
        """Return the open incidents that have not asked for labels yet."""

    async def last_asked(self, project: str, deployment: str) -> int | None:
        """Return the window at which labels were last asked for, of any incident of a deployment."""

    async def every(self) -> Sequence[Incident]:
        """Return all incidents."""

    async def page(self, project: str, *, deployment: str | None, state: str | None, limit: int) -> Page:
        """Return incidents as documents, newest first."""


class Queues(Protocol):
    """Label queues."""

    async def get(self, queue: str) -> LabelQueue | None:
        """Return a queue."""

    async def add(self, queue: LabelQueue) -> None:
        """Add a queue.

        Raises:
            Conflict: the incident asked already.
        """

    async def save(self, queue: LabelQueue) -> LabelQueue:
        """Replace the document that has this revision, and return it with the next one.

        Raises:
            Conflict: it changed since it was read.
        """

    async def in_state(self, state: str) -> Sequence[LabelQueue]:
        """Return the queues of all projects that are in this state."""

    async def every(self) -> Sequence[LabelQueue]:
        """Return all queues."""

    async def page(self, project: str, *, state: str | None, limit: int) -> Sequence[LabelQueue]:
        """Return queues, newest first."""


class Repositories(Protocol):
    """Everything that is remembered; reads see what a majority has."""

    @property
    def watches(self) -> Watches:
        """Return the watched revisions."""

    @property
    def checkpoints(self) -> Checkpoints:
        """Return the state of counting."""

    @property
    def windows(self) -> Windows:
        """Return the closed windows."""

    @property
    def incidents(self) -> Incidents:
        """Return the incidents."""

    @property
    def queues(self) -> Queues:
        """Return the label queues."""


class MonitorUnitOfWork(UnitOfWork, Repositories, Protocol):
    """One transaction over everything that is remembered."""


class Baselines(Protocol):
    """Where references come from."""

    async def load(self, key: str) -> Baseline:
        """Return the reference under a key, its digest checked; remembered for later calls.

        Raises:
            ReferenceInvalid, Corrupt, NotFound: it cannot be used.
        """


class Painter(Protocol):
    """Makes pictures."""

    def paint(self, pixels: NDArray[np.uint8]) -> bytes:
        """Return the PNG of 8-bit grey (H, W) or colour (H, W, 3) levels; equal pixels give equal bytes."""


class Registry(Protocol):
    """What the catalog knows of deployments, asked when an announcement may have been lost."""

    async def watch_of(self, watch: Watch) -> Watch:
        """Return the watch completed by the registered model version (its reference).

        Raises:
            NotFound: no such model version, or its digest is another.
        """

    async def deployed(self, projects: Iterable[str]) -> Sequence[Watch]:
        """Return a watch for every revision that serves in these projects."""


class Versions(Protocol):
    """What is in dataset versions."""

    async def digests(self, project: str, commit: str) -> frozenset[str]:
        """Return the BLAKE3 digests of all files of a dataset commit."""


class Delivery(Protocol):
    """One delivered message of the capture stream; until it is settled it is not delivered again."""

    @property
    def subject(self) -> str:
        """Return the subject it came on."""

    @property
    def sequence(self) -> int:
        """Return its number in the stream; a broker that lost its disk may give it again."""

    @property
    def raw(self) -> bytes:
        """Return its bytes."""

    @property
    def attempts(self) -> int:
        """Return how often it was delivered, this time included."""

    async def ack(self) -> None:
        """Say that the message is done with, and wait until the broker knows."""

    async def retry(self, delay: float) -> None:
        """Ask for the message again after `delay` seconds."""

    async def refuse(self, error: MillraceError) -> None:
        """Give the message up: a copy goes to the dead letters with the reason."""


class Tap(Protocol):
    """The capture stream."""

    def batches(self) -> AsyncGenerator[Sequence[Delivery], None]:
        """Yield deliveries as they come; the next fetch waits until the caller asks for it.

        What is not settled when the generator is closed is given back at once.
        """
