"""Tensors out of captured requests and replies, as float32 rows for the drift monitor."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

_TYPES: dict[str, str] = {
    "BOOL": "?",
    "UINT8": "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}


class Undecodable(ValueError):
    """The payload holds no numbers that can be captured, and why."""


def first_tensor(payload: bytes, head: int | None, side: str) -> NDArray[np.float32]:
    """Return the first tensor of `side` ("inputs" or "outputs") with rows in its first axis.

    Raises:
        Undecodable: a raw payload without a head, text or label outputs, or a malformed document.
    """
    if head == 0:
        raise Undecodable("raw")
    try:
        document = _parse(payload if head is None else payload[:head])
        tensors = document[side]
        values = _values(tensors, payload[head:] if head is not None else b"")
    except Undecodable:
        raise
    except (KeyError, IndexError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise Undecodable("malformed") from error
    if values.ndim == 0 or len(values) == 0:
        raise Undecodable("no-rows")
    return values


def _parse(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return json.loads(text)  # the server takes and gives NaN as a bare token, orjson does not


def _values(tensors: list[dict[str, Any]], binary: bytes) -> NDArray[np.float32]:
    tensor = tensors[0]
    shape = [int(side) for side in tensor["shape"]]
    kind = _TYPES.get(tensor["datatype"])
    if kind is None:
        raise Undecodable("not-numeric")
    size = tensor.get("parameters", {}).get("binary_data_size")
    if size is not None:  # the first tensor's bytes come first, so its offset is always 0
        raw = np.frombuffer(binary[: int(size)], dtype=kind)
    else:
        raw = np.asarray(_flat(tensor["data"]), dtype=np.float64)
    if raw.size != math.prod(shape):
        raise ValueError("size and shape differ")
    with np.errstate(over="ignore"):
        return raw.astype(np.float32).reshape(shape)


def _flat(data: list[Any]) -> Any:
    return np.asarray(data).reshape(-1) if data and isinstance(data[0], list) else data
