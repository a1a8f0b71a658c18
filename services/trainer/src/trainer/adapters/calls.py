"""One way to call a neighbour: the service's own token, a deadline, and answers as values or errors of ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from millrace.errors import Conflict, DeadlineExceeded, Fenced, Invalid, MillraceError, NotFound, Unavailable
from millrace.telemetry import current_traceparent

TIMEOUT_SECONDS = 10.0

_BY_STATUS: dict[int, type[MillraceError]] = {404: NotFound, 409: Conflict}
_MISCONFIGURED = frozenset({401, 403})


class Calls:
    """Calls one service."""

    def __init__(self, client: httpx.AsyncClient, token: str, *, name: str) -> None:
        self._client = client
        self._token = token
        self._name = name

    async def __call__(
        self,
        method: str,
        path: str,
        *,
        project: str,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Return the JSON object of the answer, empty if there is none.

        Raises:
            Fenced, Conflict, NotFound, Invalid: refused; the message is the neighbour's.
            Unavailable, DeadlineExceeded: no usable answer; the outcome may be unknown.
        """
        sent = {"authorization": f"Bearer {self._token}", **(headers or {})}
        if traceparent := current_traceparent():
            sent.setdefault("traceparent", traceparent)
        try:
            answer = await self._client.request(
                method, path, params={"project": project}, json=body, headers=sent, timeout=TIMEOUT_SECONDS
            )
        except httpx.TimeoutException:
            raise DeadlineExceeded(f"the {self._name} does not answer in time") from None
        except httpx.HTTPError as error:
            raise Unavailable(f"the {self._name} cannot be reached: {type(error).__name__}") from None
        document = _document(answer)
        if answer.is_success:
            return document
        raise self._error(answer.status_code, document)

    def _error(self, status: int, document: dict[str, Any]) -> MillraceError:
        detail = str(document.get("detail") or document.get("title") or f"status {status}")[:1_000]
        if status in _MISCONFIGURED:
            return Unavailable(f"the {self._name} refuses the trainer's token: {detail}")
        if status == 409 and document.get("code") == "fenced":
            return Fenced(detail)
        if status >= 500 or status == 429 or document.get("transient") is True:
            return Unavailable(f"the {self._name} answers {status}: {detail}")
        return _BY_STATUS.get(status, Invalid)(detail)


def _document(answer: httpx.Response) -> dict[str, Any]:
    try:
        document = answer.json()
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
