"""One small HTTP GET on the loopback interface: cheap enough to ask every process every second."""

from __future__ import annotations

import http.client
import json

MAX_BODY = 64 * 1024


def get(port: int, path: str, *, seconds: float = 2.0) -> tuple[int, bytes]:
    """Return status and body (at most 64 KiB).

    Raises:
        OSError: nobody answers in time.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    try:
        connection.request("GET", path, headers={"connection": "close"})
        answer = connection.getresponse()
        return answer.status, answer.read(MAX_BODY)
    except http.client.HTTPException as error:
        raise OSError(f"no HTTP: {type(error).__name__}") from None
    finally:
        connection.close()


def why_not_ok(port: int, path: str, *, seconds: float = 2.0) -> str | None:
    """Return None where the answer is 200, else why not."""
    try:
        status, _ = get(port, path, seconds=seconds)
    except OSError as error:
        return f"no answer on port {port}: {error.strerror or error}"
    return None if status == http.client.OK else f"it answers {status}"


def readiness(port: int) -> dict[str, str]:
    """Return why a service is not ready, by its /readyz: check → reason. Empty means ready."""
    try:
        status, body = get(port, "/readyz", seconds=6.0)
    except OSError as error:
        return {"http": f"no answer on port {port}: {error.strerror or error}"}
    if status == http.client.OK:
        return {}
    try:
        reasons = json.loads(body).get("reasons")
    except (ValueError, AttributeError):
        reasons = None
    if isinstance(reasons, dict) and reasons:
        return {str(name)[:80]: str(reason)[:400] for name, reason in reasons.items()}
    return {"http": f"it answers {status}"}
