"""Policies and their executions: when this happens and that holds, ask for these things, once per event."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from catalog.domain.entity import Entity, key

RequestState = Literal["requested", "done", "failed", "skipped", "refused"]


@dataclass(frozen=True, kw_only=True)
class Policy(Entity):
    """A validated policy document, stored as it was understood."""

    name: str
    on: str
    document: dict[str, Any]
    created_by: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class Request:
    """One thing that a policy asked for: how far it is and why it is not further."""

    kind: str
    target: str
    state: RequestState
    reason: str
    spec: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Execution(Entity):
    """One policy meeting one event. Its id holds both, so that it happens once."""

    policy: str
    policy_revision: int
    event: str
    event_type: str
    correlation: str
    requests: tuple[Request, ...]
    targets: tuple[str, ...] = ()
    created_at: datetime

    def settle(self, target: str, state: RequestState, reason: str) -> Execution:
        """Return the execution with the request for `target` brought to `state`, unless it is settled already."""
        return replace(
            self,
            requests=tuple(
                replace(request, state=state, reason=reason)
                if request.target == target and request.state == "requested"
                else request
                for request in self.requests
            ),
        )


def execution_id(project: str, policy: str, event: str) -> str:
    """Return the id that makes an execution happen once per policy and event."""
    return key(project, policy, event)


def matches(where: dict[str, Any], data: dict[str, Any]) -> bool:
    """Return whether every dotted field of `where` equals that of `data`."""
    return all(_at(data, path.split(".")) == value for path, value in where.items())


def _at(data: Any, path: list[str]) -> Any:
    for name in path:
        if not isinstance(data, dict) or name not in data:
            return _MISSING
        data = data[name]
    return data


_MISSING = object()


@dataclass(frozen=True)
class Verdict:
    """Whether a condition lets the requests pass, and why."""

    passes: bool
    why: str


def not_worse(metric: str, candidate: float | None, deployed: float | None, tolerance: float) -> Verdict:
    """Judge a candidate's metric (higher is better) against the deployed model's, less a tolerance."""
    if candidate is None:
        return Verdict(False, f"the candidate reports no {metric}")
    if deployed is None:
        return Verdict(True, f"{metric} {candidate:.4f}; the deployed model reports none")
    line = f"{metric} {candidate:.4f} against the deployed {deployed:.4f} less {tolerance:g}"
    return Verdict(candidate >= deployed - tolerance, line)
