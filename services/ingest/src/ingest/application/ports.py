"""What the handlers need from the outside, as protocols."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from ingest.domain.jobs import Job, Move
from ingest.domain.places import AnyPlace, Format, Mode, Place
from millrace.documents.ports import UnitOfWork
from millrace.leases.ports import Lease


class Jobs(Protocol):
    """Ingestion jobs. Each write is one compare-and-set on one document."""

    async def get(self, job_id: str) -> Job | None:
        """Return a job, or None."""

    async def add(self, job: Job) -> bool:
        """Store a new job; False if its id is taken."""

    async def waiting(self) -> list[Job]:
        """Return the jobs that have not ended, oldest first."""

    async def find(self, where: Mapping[str, Any], *, before: str | None = None, limit: int = 100) -> list[Job]:
        """Return jobs whose fields equal `where`, newest first, older than the job `before`."""

    async def claim(self, job_id: str, token: int) -> Job | None:
        """Record a worker's token, unless a higher one was seen; return the job as it is then."""

    async def move(self, job: Job, move: Move, **changes: Any) -> Job:
        """Change the state and further fields, if state and token are still those of `job`; the revision rises.

        Raises:
            Fenced: the job went on without this worker.
        """

    async def note(self, job: Job, **changes: Any) -> Job:
        """Change fields in the same state; otherwise like `move`."""


class Unit(UnitOfWork, Protocol):
    """One transaction."""

    jobs: Jobs

    async def guard(self, lease: Lease) -> None:
        """Let the transaction fail if the worker's lease is lost before it commits. Raises Fenced."""


Read = Callable[[int, int], Awaitable[bytes]]
"""Returns exactly so many bytes from an offset on."""


Done = Callable[[int], None]
"""Hears how many files of a step are done."""


@dataclass(frozen=True, slots=True)
class Landed:
    """One file of a landing: `path` below the place, size in bytes."""

    path: str
    size: int
    read: Read
    mtime_ns: int = 0


@dataclass(frozen=True)
class Landing:
    """What lies at a place: the files, and the producer's mark that it is whole, if there is one.

    `source` is what the URI of every file begins with. `check` raises LandingChanged if what was listed is not there
    any more as it was; None where nobody else can change it.
    """

    source: str
    files: Sequence[Landed]
    mark: str | None = None
    promised: Mapping[str, Any] | None = None
    check: Callable[[], Awaitable[None]] | None = None

    @property
    def bytes(self) -> int:
        """Return the sum of the sizes."""
        return sum(landed.size for landed in self.files)


@dataclass(frozen=True)
class Batch:
    """A finished batch in a landing zone."""

    place: Place
    mark: str


@dataclass(frozen=True)
class Bounds:
    """What one landing may hold, and whether messages may quote the names of its files."""

    max_files: int
    max_bytes: int
    openly: bool


class LandingPlaces(Protocol):
    """Where data lands: object stores, hosts, mounted folders; archives there are unpacked."""

    def open(self, place: AnyPlace, form: Format, bounds: Bounds) -> AbstractAsyncContextManager[Landing]:
        """Return what lies at a place; its files can be read until the context ends.

        Raises:
            NothingLanded, LandingTooLarge, LandingIncomplete, ArchiveRefused, PlaceRefused: what their names say.
            Invalid: names that no version may hold; nothing is taken then.
        """

    async def batches(self, place: Place, *, limit: int) -> Sequence[Batch]:
        """Return the finished batches below a place, at most `limit` of them."""


@dataclass(frozen=True, slots=True)
class Draft:
    """One file as it goes into the version, and what its record says; `metadata` is JSON text."""

    path: str
    size: int
    read: Read
    mtime_ns: int
    type: str
    media_type: str
    metadata: str
    source: str


@dataclass(frozen=True)
class Examined:
    """A landing that may be taken, sorted by path. `anonymous`: it held patients' data, and no name of it is left."""

    files: Sequence[Draft]
    anonymous: bool = False
    dropped: int = 0
    check: Callable[[], Awaitable[None]] | None = None

    @property
    def bytes(self) -> int:
        """Return the sum of the sizes."""
        return sum(draft.size for draft in self.files)


class Examiner(Protocol):
    """Looks at every file before anything is written."""

    def openly(self, project: str) -> bool:
        """Return whether messages may quote the names of a project's landed files."""

    def open(self, project: str, landing: Landing, done: Done) -> AbstractAsyncContextManager[Examined]:
        """Return what may be taken; it can be read until the context ends. `done` hears of every file.

        Raises:
            DicomRefused, ContentRefused, LandingTooLarge, NothingLanded: what their names say.
        """


@dataclass(frozen=True)
class Head:
    """The newest version of a dataset."""

    version: int
    commit: str


@dataclass(frozen=True)
class Built:
    """A version that lies in the lake and is not committed yet."""

    manifest: str
    tree_root: str
    files: int
    bytes: int
    packs: tuple[str, ...]
    records: str


class Lake(Protocol):
    """Dataset versions in the object store."""

    async def build(self, project: str, landed: Examined, head: Head | None, mode: Mode, done: Done) -> Built:
        """Write packs, manifest and records of the landed files; nothing that the head has is written again."""


@dataclass(frozen=True)
class Committed:
    """A version as the catalog answers it."""

    dataset: str
    version: int
    commit: str
    files: int
    bytes: int


class Catalog(Protocol):
    """The system of record, asked over HTTP in the name of a job."""

    async def head(self, job: Job) -> Head | None:
        """Return the head of the job's dataset, making the dataset if there is none."""

    async def commit(self, job: Job, body: Mapping[str, Any]) -> Committed:
        """Ask for a commit; the job's id makes repeats harmless.

        Raises:
            HeadMoved: `body["parent"]` is not the head.
            KeyReused: the job's commit was answered before, for another body.
            Invalid, Forbidden, Unavailable: what their names say.
        """

    async def made_by(self, job: Job) -> Committed | None:
        """Return the version whose lineage names the job's event, if there is one."""
