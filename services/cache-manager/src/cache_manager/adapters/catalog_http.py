"""The catalog, asked over HTTP with the service's own token."""

from __future__ import annotations

from urllib.parse import quote

import httpx

from cache_manager.application.ports import KnownVersion
from millrace.errors import NotFound, Unavailable

SECONDS = 5.0


class HttpCatalog:
    """`Catalog` on the catalog's API."""

    def __init__(self, client: httpx.AsyncClient, *, token: str) -> None:
        self._client = client
        self._token = token

    async def version(self, project: str, dataset: str, reference: str) -> KnownVersion:
        """Return what `reference` (number, commit or `latest`) means."""
        path = f"/v1/datasets/{quote(dataset, safe='')}/versions/{quote(reference, safe='')}"
        try:
            answer = await self._client.get(
                path,
                params={"project": project},
                headers={"authorization": f"Bearer {self._token}"},
                timeout=SECONDS,
            )
        except httpx.HTTPError as error:
            raise Unavailable(f"the catalog cannot be asked: {type(error).__name__}") from None
        if answer.status_code in {httpx.codes.NOT_FOUND, httpx.codes.GONE}:
            raise NotFound(f"the catalog has no version {reference} of dataset {dataset}")
        if answer.status_code != httpx.codes.OK:
            raise Unavailable(f"the catalog answered {answer.status_code}")
        body = answer.json()
        return KnownVersion(dataset=body["dataset"], version=int(body["version"]), commit=body["commit"])
