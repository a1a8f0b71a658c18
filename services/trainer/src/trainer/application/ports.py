"""What the trainer needs from the world outside."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from millrace.documents.ports import UnitOfWork
from millrace.leases.ports import Lease
from trainer.domain.devices import Device, Node
from trainer.domain.jobs import CacheLease, Job, Process, State


class Jobs(Protocol):
    """Jobs inside one transaction."""

    async def get(self, run: str) -> Job | None:
        """Return a job."""

    async def add(self, job: Job) -> None:
        """Store a new job."""

    async def save(self, job: Job) -> None:
        """Store a job by compare-and-set on the revision before."""

    async def in_state(self, *states: State) -> list[Job]:
        """Return all jobs in these states, oldest first."""

    async def held_by(self, node: str) -> list[Job]:
        """Return the jobs that hold devices of a node."""


class Nodes(Protocol):
    """Nodes and the holders of their devices inside one transaction."""

    async def all(self) -> list[Node]:
        """Return every node."""

    async def get(self, name: str) -> Node | None:
        """Return a node."""

    async def save(self, node: Node) -> None:
        """Store a node by compare-and-set on the revision before; a new one has revision 1."""


class TrainerUnit(UnitOfWork, Protocol):
    """One transaction of the trainer."""

    @property
    def jobs(self) -> Jobs:
        """Return the jobs."""

    @property
    def nodes(self) -> Nodes:
        """Return the nodes."""

    async def next(self, counter: str) -> int:
        """Return the next value of a counter that only rises."""

    async def guard(self, lease: Lease) -> None:
        """Let the transaction fail if `lease` is lost before it commits."""


class Queue(Protocol):
    """Reads outside of transactions."""

    async def get(self, run: str) -> Job | None:
        """Return a job."""

    async def in_state(self, *states: State) -> list[Job]:
        """Return all jobs in these states, oldest first."""

    async def held_by(self, node: str) -> list[Job]:
        """Return the jobs that hold devices of a node."""

    async def with_lease(self) -> list[Job]:
        """Return the jobs that have a cache lease, whatever their state."""

    async def of_project(self, project: str, *, ended: int) -> list[Job]:
        """Return a project's jobs that have not ended, and the `ended` last ones that have."""

    async def nodes(self) -> list[Node]:
        """Return every node."""

    async def counter(self, name: str) -> int:
        """Return the last value of a counter."""


@dataclass(frozen=True)
class PackWish:
    """What one of a run's readers needs next: names of packs and chunks; seconds that it waited since the last wish."""

    names: Sequence[str]
    reader: int = 0
    waited: float = 0.0


@dataclass(frozen=True)
class Standing:
    """How the copy that a run reads stands: `coming`, `there` or `failed`; and why."""

    kind: str
    reason: str = ""


class Cache(Protocol):
    """The cache manager's leases."""

    async def acquire(self, job: Job) -> CacheLease:
        """Take the run's lease; taking it again returns the same one.

        Raises:
            NotCached: not readable at the site yet; the message says why.
            Unavailable: the cache manager does not answer.
        """

    async def renew(self, job: Job) -> None:
        """Renew the run's lease.

        Raises:
            LeaseGone: the cache manager does not know it any more.
        """

    async def release(self, job: Job) -> None:
        """Give the run's lease back; an unknown one is no error."""

    async def want(self, job: Job, wish: PackWish) -> Standing:
        """Say which packs the run needs next, and return how its copy stands.

        Raises:
            LeaseGone: the cache manager does not know the lease any more; the message says why.
            Unavailable: the cache manager does not answer.
        """


@dataclass(frozen=True)
class Report:
    """One thing a run said: a metric point set, a stage, or a line of output (`offset` numbers the lines)."""

    kind: str
    at: str
    values: Mapping[str, float] = field(default_factory=dict)
    step: int = 0
    code: int = 0
    text: str = ""
    stream: str = ""
    offset: int = 0


class Catalog(Protocol):
    """The catalog's API, as far as runs use it."""

    async def report(self, project: str, run: str, fence: int, reports: Sequence[Report]) -> None:
        """Store reports of one kind. Repeating them changes nothing.

        Raises:
            Fenced: a newer grant is in force.
            Unavailable: try again later.
        """

    async def register(self, job: Job) -> int:
        """Register the job's package as a model version and return its number; idempotent by run.

        Raises:
            Unavailable: try again later.
            MillraceError: refused for good.
        """


class Inventory(Protocol):
    """The devices of this machine."""

    async def devices(self, ours: frozenset[int]) -> list[Device]:
        """Return the devices. One that is used by a process not in the process groups `ours` has a `trouble`."""


@dataclass(frozen=True)
class Order:
    """What a process is started with."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path


class Child(Protocol):
    """A running process group under our supervision."""

    @property
    def process(self) -> Process:
        """Return what names the group."""

    async def lines(self, stream: str) -> bytes | None:
        """Return the next line of `stdout` or `stderr` without its end, cut if very long; None at the end."""

    def beat(self) -> None:
        """Let the group live for another deadline."""

    def terminate(self) -> None:
        """Ask the component to write a checkpoint and exit."""

    def kill(self) -> None:
        """End the whole group now."""

    async def wait(self) -> int:
        """Return the component's exit code, negative for a signal, once nothing of the group is left."""


class Processes(Protocol):
    """Starts components, and ends what an earlier agent left behind."""

    async def spawn(self, order: Order) -> Child:
        """Start a process group.

        Raises:
            Unavailable: the system has no room for one. Invalid: the command does not exist.
        """

    async def end(self, process: Process) -> None:
        """Kill a recorded process group, if that very one still runs, and wait until it is gone."""


class Talk(Protocol):
    """The socket on which a component reports to its agent."""

    address: str

    async def close(self) -> None:
        """Stop listening and remove the socket."""


Told = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
"""Takes one message of a component, and returns what to answer. Raises `Invalid` to refuse it."""


class Switchboard(Protocol):
    """Opens sockets for components."""

    async def open(self, name: str, told: Told) -> Talk:
        """Listen on a fresh socket, and hand each message to `told`."""
