"""A watch: which revision of which deployment is observed, and against what."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Watch:
    """One revision of a deployment, as serving announced it. `cause` is the announcing event, if one was heard."""

    project: str
    deployment: str
    deployment_revision: int
    model: str
    version: int
    digest: str
    dataset: str
    commit: str
    reference: str | None
    cause: bytes | None = None
    retired: bool = False
    revision: int = 1

    @property
    def id(self) -> str:
        """Return the watch's document id."""
        return watch_id(self.project, self.deployment, self.deployment_revision)


def watch_id(project: str, deployment: str, deployment_revision: int) -> str:
    """Return the document id of the watch of a revision."""
    return f"{project}/{deployment}/{deployment_revision}"
