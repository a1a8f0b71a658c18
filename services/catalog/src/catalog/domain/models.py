"""Models, their versions, and the aliases that name one of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from catalog.domain.entity import Entity, key
from millrace.errors import NotFound


@dataclass(frozen=True, kw_only=True)
class Model(Entity):
    """A named line of model versions. `revision` rises by one per announced change, so it is the events' sequence."""

    name: str
    latest: int = 0
    aliases: dict[str, int] = field(default_factory=dict)
    created_at: datetime

    def next_version(self) -> Model:
        """Return the model with one more version."""
        return replace(self, latest=self.latest + 1)

    def named(self, alias: str, version: int) -> Model:
        """Return the model with `alias` naming `version`."""
        return replace(self, aliases={**self.aliases, alias: version})

    def resolve(self, reference: str) -> int:
        """Return the version number that a number, `latest` or an alias means.

        Raises:
            NotFound: no such version or alias.
        """
        if reference == "latest" and "latest" not in self.aliases:
            number = self.latest
        elif reference.isdecimal() and len(reference) < 10:
            number = int(reference)
        else:
            number = self.aliases.get(reference, 0)
        if not 1 <= number <= self.latest:
            raise NotFound(f"model {self.name} has no version {reference[:64]!r}")
        return number


@dataclass(frozen=True)
class PackageFile:
    """One file of a model package."""

    path: str
    digest: str
    size: int


@dataclass(frozen=True, kw_only=True)
class ModelVersion(Entity):
    """One immutable model version: its bytes by digest, and where it came from."""

    model: str
    version: int
    run: str
    digest: str
    prefix: str
    uri: str
    files: tuple[PackageFile, ...]
    framework: str
    signature: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    dataset: str
    dataset_version: int
    commit: str
    reference: str | None = None
    created_by: str
    created_at: datetime


def model_id(project: str, name: str) -> str:
    """Return the id of a model."""
    return key(project, name)


def model_version_id(project: str, name: str, version: int) -> str:
    """Return the id of a model version; uniqueness of numbers rests on it."""
    return key(project, name, version)
