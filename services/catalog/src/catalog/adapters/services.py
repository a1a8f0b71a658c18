"""The other services over HTTP, as far as the catalog has to ask them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx

FSCK_SECONDS = 30.0


class HttpServices:
    """Asks each service with the caller's own rights."""

    def __init__(self, addresses: Mapping[str, str], client: httpx.AsyncClient) -> None:
        self._addresses = dict(addresses)
        self._client = client

    async def fsck(self, authorization: str) -> list[dict[str, Any]]:
        """Return each service's report; one that cannot be had is a violation by itself."""
        return list(await asyncio.gather(*(self._ask(name, authorization) for name in self._addresses)))

    async def _ask(self, service: str, authorization: str) -> dict[str, Any]:
        url = f"{self._addresses[service].rstrip('/')}/v1/fsck"
        try:
            answer = await self._client.get(url, headers={"authorization": authorization}, timeout=FSCK_SECONDS)
            answer.raise_for_status()
            report: dict[str, Any] = answer.json()
            return {"service": service, "checked": int(report["checked"]), "violations": list(report["violations"])}
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            violation = {"invariant": "-", "what": f"cannot be checked: {type(error).__name__}", "where": service}
            return {"service": service, "checked": 0, "violations": [violation]}
