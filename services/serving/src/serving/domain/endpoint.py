"""The life of an endpoint: what is desired, what serves, and what still drains.

A revision goes REQUESTED → LOADING → READY, or FAILED with a reason while the one before it goes on serving. The
desire to be absent goes REQUESTED → RETIRING → RETIRED. A newer revision starts over at REQUESTED from any state.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from serving.domain.names import backend_model
from serving.domain.routes import WHOLE, Arm, Route

State = Literal["REQUESTED", "LOADING", "READY", "FAILED", "RETIRING", "RETIRED"]

MAX_ATTEMPTS = 5
"""Loads of one revision that may end without an answer (the model server died); a model that kills it is refused."""
MAX_REFUSALS = 3
"""Loads of one revision that may end in a refusal, since a busy machine can make a good model time out."""


@dataclass(frozen=True, slots=True)
class Spec:
    """One revision of a deployment as it was requested."""

    project: str
    deployment: str
    revision: int
    model: str
    version: int
    digest: str
    prefix: str
    dataset: str
    commit: str
    reference: str | None = None
    present: bool = True

    @property
    def backend(self) -> str:
        """Return the name of this model version inside the model server."""
        return backend_model(self.project, self.model, self.version)

    def arm(self, weight: int = WHOLE) -> Arm:
        """Return the route's arm of this revision."""
        return Arm(
            revision=self.revision,
            backend_model=self.backend,
            weight=weight,
            model=self.model,
            version=self.version,
            digest=self.digest,
            dataset=self.dataset,
            commit=self.commit,
        )


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Desired and observed state of one deployment. `revision` counts changes of this document, not deployments.

    `cause` is the event that asked for `desired`, as received; what follows from it names it. `attempts` counts the
    loads of `desired` that were begun. `draining` are revisions without traffic that are not yet unloaded.
    """

    desired: Spec
    cause: str
    state: State = "REQUESTED"
    reason: str = ""
    attempts: int = 0
    serving: Spec | None = None
    draining: tuple[Spec, ...] = ()
    revision: int = 0

    @property
    def pending(self) -> bool:
        """Return whether the reconciler has to act for the desired revision."""
        return self.state in {"REQUESTED", "LOADING", "RETIRING"}

    @property
    def backends(self) -> frozenset[str]:
        """Return the backend models that this endpoint still needs, or may need in a moment."""
        specs = [*self.draining, *([self.serving] if self.serving else [])]
        if self.pending and self.desired.present:
            specs.append(self.desired)
        return frozenset(spec.backend for spec in specs)

    def requested(self, spec: Spec, cause: str) -> Endpoint:
        """Return the endpoint after a request: the newest revision wins, an old or repeated one changes nothing."""
        if spec.revision <= self.desired.revision:
            return self
        return replace(self, desired=spec, cause=cause, state="REQUESTED", reason="", attempts=0)

    def loading(self) -> Endpoint:
        """Return the endpoint with one more load begun."""
        return replace(self, state="LOADING", attempts=self.attempts + 1, reason="the model server loads the model")

    def waiting(self, reason: str) -> Endpoint:
        """Return the endpoint with the reason why it does not advance."""
        return self if reason == self.reason else replace(self, reason=reason[:2_000])

    def failed(self, reason: str) -> Endpoint:
        """Return the endpoint with its desired revision given up."""
        return replace(self, state="FAILED", reason=reason[:2_000])

    def shifted(self) -> Endpoint:
        """Return the endpoint with its desired revision serving, or with none if absence is desired."""
        old = (self.serving,) if self.serving else ()
        if self.desired.present:
            return replace(self, state="READY", reason="", serving=self.desired, draining=self.draining + old)
        state: State = "RETIRING" if self.draining + old else "RETIRED"
        return replace(self, state=state, reason="", serving=None, draining=self.draining + old)

    def drained(self, spec: Spec) -> Endpoint:
        """Return the endpoint without the drained revision `spec`."""
        draining = tuple(other for other in self.draining if other != spec)
        done = self.state == "RETIRING" and not draining and self.serving is None
        return replace(self, draining=draining, state="RETIRED" if done else self.state)


def shifted_route(endpoint: Endpoint, route: Route | None, sampling: float) -> Route:
    """Return the route that gives all traffic to the desired revision, or to none if absence is desired."""
    spec = endpoint.desired
    arms = (spec.arm(),) if spec.present else ()
    epoch = (route.epoch if route else 0) + 1
    return Route(spec.project, spec.deployment, epoch, arms, route.sampling if route else sampling)
