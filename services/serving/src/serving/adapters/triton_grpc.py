"""The model server port on Triton's gRPC control API.

Control never goes over HTTP: there a load blocks the requests of its worker thread for seconds. One client lives as
long as the process, since many gRPC clients leak.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from functools import cached_property
from typing import Any, TypeVar

import grpc  # type: ignore[import-untyped]
import numpy as np
import tritonclient.grpc.aio as triton
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

from serving.application.ports import ModelState
from serving.domain.package import Golden, Signature, Tensor
from serving.errors import LoadFailed, ModelServerAway

T = TypeVar("T")

_CALL_SECONDS = 5.0
_AWAY = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED")
_CHANNEL = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.enable_http_proxy", 0),
]


class TritonServer:
    """Triton as the model server; `load_seconds` bounds one explicit load."""

    def __init__(self, address: str, *, load_seconds: float) -> None:
        self._address = address
        self._load_seconds = load_seconds

    @cached_property
    def _client(self) -> Any:
        """The one client, made at the first call: gRPC binds it to the event loop that runs then."""
        return triton.InferenceServerClient(self._address, channel_args=_CHANNEL)

    async def close(self) -> None:
        """Close the connection."""
        await self._client.close()

    async def index(self) -> Mapping[str, ModelState]:
        """Return the state of every model in the repository; a model with no state was never loaded."""
        answer = await _call(self._client.get_model_repository_index(client_timeout=_CALL_SECONDS))
        states: dict[str, ModelState] = {}
        for model in answer.models:
            states[model.name] = ModelState(model.state or "UNAVAILABLE", model.reason)
        return states

    async def load(self, backend: str) -> None:
        """Load a model; returns when it is ready."""
        await _call(self._client.load_model(backend, client_timeout=self._load_seconds))

    async def unload(self, backend: str) -> None:
        """Unload a model. Triton finishes what it has accepted."""
        await _call(self._client.unload_model(backend, client_timeout=self._load_seconds))

    async def ask(self, backend: str, signature: Signature, golden: Golden) -> list[float]:
        """Return the first output for the golden input, flattened."""
        source, target = signature.inputs[0], signature.outputs[0]
        values = np.asarray(golden.inputs, dtype=triton_to_np_dtype(source.dtype)).reshape(_shape(source, golden))
        tensor = triton.InferInput(source.name, list(values.shape), source.dtype).set_data_from_numpy(values)
        wanted = [triton.InferRequestedOutput(target.name)]
        answer = await _call(self._client.infer(backend, [tensor], outputs=wanted, client_timeout=30.0))
        output = answer.as_numpy(target.name)
        if output is None:
            raise LoadFailed(f"{backend} gave no output {target.name}")
        flat: list[float] = np.asarray(output, dtype=np.float64).reshape(-1).tolist()
        return flat


def _shape(tensor: Tensor, golden: Golden) -> tuple[int, ...]:
    sides = [golden.rows, *tensor.shape[1:]] if tensor.batched else list(tensor.shape)
    if sides.count(-1) > 1:
        raise LoadFailed(f"{tensor.name}: more than one free side beside the batch")
    return tuple(sides)


async def _call(call: Awaitable[T]) -> T:
    """Await a call; what the server says becomes an error of ours."""
    try:
        return await call
    except InferenceServerException as error:
        status: Any = error.status() or ""
        message = str(error.message())[:1_000]
        if any(name in str(status) for name in _AWAY):
            raise ModelServerAway(f"Triton does not answer: {message}") from None
        raise LoadFailed(message) from None
    except grpc.RpcError as error:
        raise ModelServerAway(f"Triton does not answer: {type(error).__name__}") from None
