"""Who may do what: roles, actions and the one function that decides. Deny by default.

An action is `<resource>:<verb>`. A role grants actions within its project; `*` grants them in every project. Services
have a role each: the `service-trainer` role is not the `trainer` role of people.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from millrace.errors import Forbidden, NotFound

_READ = frozenset(
    f"{resource}:read"
    for resource in (
        "cache",
        "datasets",
        "deployments",
        "drift",
        "endpoints",
        "events",
        "gpus",
        "ingest",
        "labels",
        "lineage",
        "models",
        "operations",
        "policies",
        "projects",
        "queue",
        "runs",
        "waiting",
    )
)
_VIEW = _READ | {"datasets:key"}
_CONTRIBUTE = _VIEW | {"datasets:write", "cache:write", "events:write", "labels:write", "endpoints:infer"}
_TRAIN = _CONTRIBUTE | {"cache:pin", "runs:write", "queue:write"}
_DEPLOY = _TRAIN | {"datasets:demand", "models:promote", "deployments:write", "policies:write", "endpoints:probe"}
_ADMIN = _DEPLOY | {
    "audit:read",
    "datasets:delete",
    "datasets:encrypt",
    "dlq:read",
    "dlq:write",
    "fsck:read",
    "models:write",
    "sites:write",
    "tokens:write",
}

ROLES: MappingProxyType[str, frozenset[str]] = MappingProxyType(
    {
        "viewer": _VIEW,
        "contributor": _CONTRIBUTE,
        "trainer": _TRAIN,
        "deployer": _DEPLOY,
        "admin": _ADMIN,
        "owner": _ADMIN | {"projects:write", "platform:admin"},
        "service-catalog": _READ | {"tokens:introspect", "fsck:read"},
        "service-ingest": _VIEW | {"tokens:introspect", "datasets:write"},
        "service-cache-manager": _VIEW | {"tokens:introspect"},
        "service-trainer": _READ | {"tokens:introspect", "cache:write", "runs:report", "models:write"},
        "service-serving": _READ | {"tokens:introspect"},
        "service-drift-monitor": _VIEW | {"tokens:introspect"},
        "etl": frozenset({"events:write", "operations:read"}),
        "application": frozenset({"endpoints:infer", "endpoints:read"}),
    }
)
"""Role → the actions it grants."""

ACTIONS = frozenset().union(*ROLES.values())
"""Every action that exists."""

EVERY_PROJECT = "*"


@dataclass(frozen=True)
class Principal:
    """Who is asking. `scopes`, when given, narrows what the roles grant to the actions named."""

    id: str
    kind: Literal["person", "service", "token"]
    project: str
    roles: frozenset[str]
    scopes: frozenset[str] | None = None
    token_id: str | None = field(default=None, compare=False)

    @property
    def actions(self) -> frozenset[str]:
        """Return what this principal may do inside its project."""
        granted: frozenset[str] = frozenset().union(*(ROLES.get(role, frozenset()) for role in self.roles))
        return granted if self.scopes is None else granted & self.scopes

    def sees(self, project: str) -> bool:
        """Return whether resources of `project` exist for this principal at all."""
        return self.project in (EVERY_PROJECT, project)


def authorise(principal: Principal, action: str, project: str) -> None:
    """Return if `principal` may do `action` in `project`.

    Raises:
        NotFound: another project's resources do not exist for this principal (a 403 would confirm that they do).
        Forbidden: the project is visible, the action is not granted.
    """
    if not principal.sees(project):
        raise NotFound(f"no project {project!r}")
    if action not in principal.actions:
        raise Forbidden(f"{principal.id} may not {action}", hint="ask an admin of the project for a role that may")
