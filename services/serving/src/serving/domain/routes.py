"""Routes: which revision of a deployment answers a request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

WHOLE = 10_000
"""The weights of a route's arms sum to this."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One revision that gets a share of the traffic, with what its answers are labelled with."""

    revision: int
    backend_model: str
    weight: int
    model: str
    version: int
    digest: str
    dataset: str
    commit: str


@dataclass(frozen=True, slots=True)
class Route:
    """Where requests for a deployment go. `epoch` rises with every change; no arms: retired."""

    project: str
    deployment: str
    epoch: int
    arms: tuple[Arm, ...]
    sampling: float = 1.0

    def __post_init__(self) -> None:
        if self.arms and sum(arm.weight for arm in self.arms) != WHOLE:
            raise ValueError(f"weights must sum to {WHOLE}")

    def choose(self, point: int) -> Arm:
        """Return the arm at `point` of 0 ≤ point < WHOLE; the route must have arms."""
        for arm in self.arms:
            point -= arm.weight
            if point < 0:
                return arm
        return self.arms[-1]

    def serving_version(self, version: str) -> Arm | None:
        """Return the arm that serves the model version written as `version`, if one does."""
        return next((arm for arm in self.arms if str(arm.version) == version), None)


Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class RouteTable:
    """All routes by (project, deployment); replaced as a whole, never changed."""

    routes: Mapping[Key, Route] = field(default_factory=dict)

    def find(self, project: str, deployment: str) -> Route | None:
        """Return the route of a deployment that serves."""
        route = self.routes.get((project, deployment))
        return route if route is not None and route.arms else None

    def advanced_by(self, routes: list[Route]) -> RouteTable:
        """Return the table after reading `routes`: an epoch lower than the one known never replaces it."""
        fresh: dict[Key, Route] = {}
        for route in routes:
            key = (route.project, route.deployment)
            known = self.routes.get(key)
            fresh[key] = known if known is not None and known.epoch > route.epoch else route
        return RouteTable(MappingProxyType(fresh))

    def backend_models(self) -> frozenset[str]:
        """Return every backend model that some route names."""
        return frozenset(arm.backend_model for route in self.routes.values() for arm in route.arms)
