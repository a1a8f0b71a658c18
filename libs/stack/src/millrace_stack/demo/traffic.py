"""Predictions over the Open Inference Protocol v2, as an application would send them."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from millrace.clock import SystemClock
from millrace_stack.demo.digits import Part, Scans
from millrace_stack.demo.waiting import StepFailed

WINDOW_ROWS = 100
PARALLEL = 8
ATTEMPT_SECONDS = 60.0
AWAY = frozenset({429, 502, 503, 504})


@dataclass(frozen=True)
class Sent:
    """One prediction: its id, the digit it really was, and the digit the model saw."""

    prediction: str
    truth: int
    answer: int


class Endpoint:
    """An endpoint that answers `POST /v2/models/<name>/infer`."""

    def __init__(self, url: str, name: str, token: str) -> None:
        limits = httpx.Limits(max_connections=PARALLEL)
        self._client = httpx.Client(
            base_url=url, timeout=10, limits=limits, headers={"authorization": f"Bearer {token}"}
        )
        self._path = f"/v2/models/{name}/infer"

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def window(self, part: Part, *, number: int, phase: str, seed: int, rows: int = WINDOW_ROWS) -> list[Sent]:
        """Send one window: `rows` scans drawn from `part` without replacement, one request each."""
        chosen = np.random.default_rng([seed, number]).permutation(len(part.scans))[:rows]
        names = [f"{phase}-{number:03d}-{index:03d}" for index in range(rows)]
        with ThreadPoolExecutor(PARALLEL) as pool:
            answers = pool.map(self._one, names, part.scans[chosen])
            return [
                Sent(name, int(truth), answer)
                for name, truth, answer in zip(names, part.digits[chosen], answers, strict=True)
            ]

    def accuracy(self, part: Part) -> float:
        """Return the share of right answers over a part, in requests that the monitor does not see."""
        right = 0
        for start in range(0, len(part.scans), WINDOW_ROWS):
            batch = slice(start, start + WINDOW_ROWS)
            answers = self._classify(part.scans[batch], name=None, capture=False)
            right += int((answers == part.digits[batch]).sum())
        return right / len(part.scans)

    def _one(self, name: str, scan: NDArray[np.uint8]) -> int:
        return int(self._classify(scan[np.newaxis], name=name, capture=True)[0])

    def _classify(self, scans: Scans, *, name: str | None, capture: bool) -> NDArray[np.int64]:
        data = (scans.astype(np.float32) / 255.0).reshape(-1)
        tensor = {"name": "image", "datatype": "FP32", "shape": [*scans.shape, 1], "data": data.tolist()}
        body = {"inputs": [tensor], "outputs": [{"name": "probabilities"}], **({"id": name} if name else {})}
        answer = self._send(body, {} if capture else {"x-millrace-capture": "off"})
        output = answer["outputs"][0]
        chosen: NDArray[np.int64] = np.asarray(output["data"]).reshape(output["shape"]).argmax(axis=1)
        return chosen

    def _send(self, body: dict[str, object], headers: dict[str, str]) -> dict[str, Any]:
        """Send until an answer comes: an endpoint that restarts says 503 for a moment."""
        clock = SystemClock()
        end, delay = clock.monotonic() + ATTEMPT_SECONDS, 0.1
        while clock.monotonic() < end:
            try:
                response = self._client.post(self._path, json=body, headers=headers)
            except httpx.TransportError:
                response = None
            if response is not None and response.status_code not in AWAY:
                response.raise_for_status()
                answer: dict[str, Any] = response.json()
                return answer
            time.sleep(delay)
            delay = min(delay * 2, 1.0)
        raise StepFailed(f"no prediction within {ATTEMPT_SECONDS:g} s")
