"""The catalog over HTTP: deployments that serve, and model versions with their references."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from drift_monitor.domain.watch import Watch
from drift_monitor.errors import ModelVersionUnknown
from millrace.errors import DeadlineExceeded, Unavailable
from millrace.events.names import Digest, ObjectKey, ResourceName

TIMEOUT_SECONDS = 5.0
PAGE = 200

M = TypeVar("M", bound=BaseModel)


class _Lenient(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _ModelVersion(_Lenient):
    digest: Digest
    dataset: ResourceName
    commit: Digest
    reference: ObjectKey | None = None


class _Desired(_ModelVersion):
    revision: int = Field(ge=1)
    presence: str
    model: ResourceName
    version: int = Field(ge=1)


class _Observed(_Lenient):
    state: str
    revision: int = 0


class _Deployment(_Lenient):
    name: ResourceName
    desired: _Desired
    observed: _Observed


class CatalogRegistry:
    """`Registry` on the catalog's API, with the service's own token."""

    def __init__(self, client: httpx.AsyncClient, token: str) -> None:
        self._client = client
        self._headers = {"authorization": f"Bearer {token}"}

    async def watch_of(self, watch: Watch) -> Watch:
        """Return the watch completed by the registered model version.

        Raises:
            ModelVersionUnknown: no such version, or its digest is another.
        """
        path = f"/v1/models/{watch.model}/versions/{watch.version}"
        found = _parse(_ModelVersion, await self._get(path, project=watch.project))
        if found is None or found.digest != watch.digest:
            raise ModelVersionUnknown(f"the catalog has no {watch.model}@{watch.version} with digest {watch.digest}")
        return replace(watch, reference=found.reference, dataset=found.dataset, commit=found.commit)

    async def deployed(self, projects: Iterable[str]) -> Sequence[Watch]:
        """Return a watch for every revision that serves in these projects."""
        found: list[Watch] = []
        for project in sorted(projects):
            answer = await self._get("/v1/deployments", project=project, limit=str(PAGE))
            items = (_parse(_Deployment, item) for item in (answer or {}).get("items", []))
            found += [_watch(project, item) for item in items if item is not None and _serves(item)]
        return found

    async def _get(self, path: str, **query: str) -> dict[str, Any] | None:
        """Return the JSON object at a path; None if there is none.

        Raises:
            Unavailable, DeadlineExceeded: the catalog does not answer, or refuses.
        """
        try:
            answer = await self._client.get(path, params=query, headers=self._headers, timeout=TIMEOUT_SECONDS)
            if answer.status_code == httpx.codes.NOT_FOUND:
                return None
            answer.raise_for_status()
            document = answer.json()
        except httpx.TimeoutException:
            raise DeadlineExceeded("the catalog did not answer in time") from None
        except (httpx.HTTPError, ValueError) as error:
            raise Unavailable(f"the catalog cannot be asked: {type(error).__name__}") from None
        return document if isinstance(document, dict) else None


def _parse(model: type[M], document: Any) -> M | None:
    try:
        return None if document is None else model.model_validate(document)
    except ValidationError:
        return None


def _serves(item: _Deployment) -> bool:
    current = item.observed.revision == item.desired.revision
    return item.desired.presence == "present" and item.observed.state == "ready" and current


def _watch(project: str, item: _Deployment) -> Watch:
    wish = item.desired
    return Watch(
        project=project,
        deployment=item.name,
        deployment_revision=wish.revision,
        model=wish.model,
        version=wish.version,
        digest=wish.digest,
        dataset=wish.dataset,
        commit=wish.commit,
        reference=wish.reference,
    )
