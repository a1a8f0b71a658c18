"""What `CHAOS=1` breaks: chosen by a seed, printed, and the same again with `SEED=`.

Each service dies by SIGKILL at a failpoint: five moments are always among them, the others and the hit counts are
drawn. So does the broker, which has no failpoints of its own: a service holds still at one of its own meanwhile. Then
each service, Triton and the broker are killed once more at a free moment. The supervisor starts them again.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from millrace.failpoints import hits, parse

ALWAYS = {
    "catalog": ("commit.D8.before", 1),  # outbox before publish
    "cache-manager": ("fill.C3.during", 1),  # mid-fill
    "serving": ("deploy.P4.during", 1),  # during a Triton load
}
TRAINER_ALWAYS = (("train.T7.after", 1), ("train.T8.after", 1))  # after epoch 1; between upload and registration
DRAWN = {
    "catalog": ("commit.D5.after", "commit.D6.after", "commit.D9.after"),
    "cache-manager": ("fill.C7.after", "fill.C8.after", "fill.C10.before"),
    "serving": ("deploy.P2.after", "deploy.P5.before", "deploy.P6.after"),
    "ingest": ("commit.D1.after", "commit.D4.after"),
    "drift-monitor": ("drift.M2.after", "drift.M3.before", "drift.M5.before", "drift.M6.before"),
    "trainer": ("train.T2.after", "train.T6.after", "train.T9.before"),
}
HITS = {"drift.M2.after": (3, 9), "drift.M6.before": (3, 9), "commit.D9.after": (2, 8)}
BROKER = (
    ("catalog", "commit.D7.after", (3, 12)),  # rows were read, and are about to be published
    ("catalog", "commit.D10.before", (3, 10)),  # published, and not yet marked as sent
    ("cache-manager", "fill.C11.before", (1, 2)),
    ("trainer", "train.T1.during", (1, 2)),  # consumed, and not yet acknowledged
    ("serving", "deploy.P1.after", (1, 2)),
    ("ingest", "commit.D11.before", (1, 1)),
)
HOLD_SECONDS = 1.0
FREE = ("catalog", "ingest", "cache-manager", "trainer", "serving", "drift-monitor", "triton", "nats")
STAGES = ("train", "traffic", "shift", "retrain")


@dataclass(frozen=True)
class Moment:
    """The time at which a service has passed one of its failpoints so often."""

    service: str
    name: str
    hit: int

    def came(self, folder: Callable[[str], Path]) -> bool:
        """Return whether it is there; `folder(service)` holds the hits."""
        return hits(folder(self.service), self.name) >= self.hit


@dataclass(frozen=True)
class Plan:
    """What dies, and when."""

    seed: int
    failpoints: dict[str, str]
    broker: Moment
    free: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def deaths(self) -> dict[str, int]:
        """Return how often each process dies at least."""
        counts = {name: 1 for names in self.free.values() for name in names}
        for service, points in self.failpoints.items():
            counts[service] += sum(armed.action == "kill" for armed in parse(points).values())
        return {**counts, "nats": counts["nats"] + 1}

    def lines(self) -> list[str]:
        """Return the plan for people."""
        points = [f"{service}: {points}" for service, points in sorted(self.failpoints.items())]
        return [
            *points,
            f"nats: {self.broker.service} at {self.broker.name}@{self.broker.hit}",
            *(f"at a free moment of stage {stage}: {', '.join(names)}" for stage, names in self.free.items()),
        ]

    def unfired(self, folder: Callable[[str], Path]) -> list[str]:
        """Return the failpoints that were never reached often enough; `folder(service)` holds the hits."""
        return [
            f"{service} {name}@{armed.hit}"
            for service, points in self.failpoints.items()
            for name, armed in parse(points).items()
            if hits(folder(service), name) < armed.hit
        ]


def plan(seed: int) -> Plan:
    """Return the plan of a seed."""
    draw = random.Random(seed)  # noqa: S311 - repeatable by intent
    points: dict[str, list[tuple[str, int]]] = {name: [place] for name, place in ALWAYS.items()}
    points["trainer"] = list(TRAINER_ALWAYS)
    for service, candidates in DRAWN.items():
        name = draw.choice(candidates)
        points.setdefault(service, []).append((name, draw.randint(*HITS.get(name, (1, 1)))))
    failpoints = {
        service: ";".join(f"{name}=kill@{hit}" for name, hit in places) for service, places in sorted(points.items())
    }
    service, name, between = draw.choice(BROKER)
    broker = Moment(service, name, draw.randint(*between))
    failpoints[service] += f";{name}=sleep:{HOLD_SECONDS:g}@{broker.hit}"
    free: dict[str, list[str]] = {stage: [] for stage in STAGES}
    for name in draw.sample(FREE, len(FREE)):
        free[draw.choice(STAGES)].append(name)
    return Plan(seed, failpoints, broker, {stage: tuple(names) for stage, names in free.items() if names})
