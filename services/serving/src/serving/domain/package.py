"""What a model package must look like before its model is served.

<project>/models/<digest>/model.onnx    the graph that is served
package.json  signature and facts
golden.json   inputs, the outputs they must give, and the tolerance
…             other files are verified and not used
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

MODEL, MANIFEST, GOLDEN = "model.onnx", "package.json", "golden.json"
REQUIRED = (MODEL, MANIFEST, GOLDEN)
MAX_FILES = 64
MAX_TENSORS = 64
MAX_RANK = 8
MAX_GOLDEN_VALUES = 4_000_000

DTYPES = frozenset(
    {"BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES"}
)
_FILE = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")
_TENSOR = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_.:/-]{0,127}$")


class PackageRule(ValueError):
    """A rule that the package breaks, in words."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input or output: OIP data type, and shape with -1 for a free side."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def batched(self) -> bool:
        """Return whether the first side is free and counts rows."""
        return bool(self.shape) and self.shape[0] == -1


@dataclass(frozen=True, slots=True)
class Signature:
    """What the model takes and gives."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    @property
    def batched(self) -> bool:
        """Return whether every tensor counts rows in its first side."""
        return all(tensor.batched for tensor in (*self.inputs, *self.outputs))


@dataclass(frozen=True, slots=True)
class Golden:
    """A question whose answer is known: values of the first input and of the first output, flattened by row."""

    rows: int
    inputs: tuple[float, ...]
    outputs: tuple[float, ...]
    tolerance: float


def check_files(names: list[str]) -> None:
    """Return if the package's file names are safe and complete.

    Raises:
        PackageRule: a name that is no plain file name, too many files, or a required one missing.
    """
    if len(names) > MAX_FILES:
        raise PackageRule(f"more than {MAX_FILES} files")
    unsafe = [name for name in names if not _FILE.fullmatch(name)]
    if unsafe:
        raise PackageRule(f"unsafe file name {unsafe[0][:80]!r}")
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        raise PackageRule(f"{missing[0]} is missing")


def signature(manifest: Any) -> Signature:
    """Return the signature in the parsed `package.json`.

    Raises:
        PackageRule: it is missing or malformed.
    """
    section = manifest.get("signature") if isinstance(manifest, dict) else None
    if not isinstance(section, dict):
        raise PackageRule("package.json has no signature")
    return Signature(_tensors(section, "inputs"), _tensors(section, "outputs"))


def _tensors(section: dict[str, Any], side: str) -> tuple[Tensor, ...]:
    items = section.get(side)
    if not isinstance(items, list) or not 0 < len(items) <= MAX_TENSORS:
        raise PackageRule(f"the signature's {side} are no list of 1 to {MAX_TENSORS} tensors")
    tensors = tuple(_tensor(item, side) for item in items)
    if len({tensor.name for tensor in tensors}) != len(tensors):
        raise PackageRule(f"two {side} have one name")
    return tensors


def _tensor(item: Any, side: str) -> Tensor:
    if not isinstance(item, dict):
        raise PackageRule(f"a tensor of {side} is no object")
    name, dtype, shape = item.get("name"), item.get("dtype"), item.get("shape")
    if not isinstance(name, str) or not _TENSOR.fullmatch(name):
        raise PackageRule(f"a tensor of {side} has no usable name")
    if dtype not in DTYPES:
        raise PackageRule(f"{name}: unknown data type")
    if not isinstance(shape, list) or not 0 < len(shape) <= MAX_RANK:
        raise PackageRule(f"{name}: the shape is no list of 1 to {MAX_RANK} sides")
    if not all(type(edge) is int and (edge == -1 or 0 < edge < 2**31) for edge in shape):
        raise PackageRule(f"{name}: sides are positive, or -1 for a free one")
    return Tensor(name, dtype, tuple(shape))


def golden(document: Any, expected: Signature) -> Golden:
    """Return the golden pair in the parsed `golden.json`; rows may be nested or flat.

    Raises:
        PackageRule: it is malformed, or does not fit the signature.
    """
    if not isinstance(document, dict):
        raise PackageRule("golden.json is no object")
    tolerance: Any = document.get("tolerance")
    if not _finite(tolerance) or not 0 <= tolerance <= 1:
        raise PackageRule("golden.json: the tolerance is no number from 0 to 1")
    if len(expected.inputs) != 1:
        raise PackageRule("a golden pair is defined for models with one input")
    if "BYTES" in {expected.inputs[0].dtype, expected.outputs[0].dtype}:
        raise PackageRule("a golden pair is defined for numbers")
    inputs, outputs = document.get("inputs"), document.get("outputs")
    if not isinstance(inputs, list) or not isinstance(outputs, list) or not inputs or not outputs:
        raise PackageRule("golden.json: inputs and outputs are no lists of rows")
    if expected.batched and len(inputs) != len(outputs):
        raise PackageRule("golden.json: inputs and outputs are not equally many rows")
    values = tuple(_flattened(inputs)), tuple(_flattened(outputs))
    for flat, tensor in zip(values, (expected.inputs[0], expected.outputs[0]), strict=True):
        if not fits(len(flat), len(inputs), tensor):
            raise PackageRule(f"golden.json: {len(flat)} values do not fit {tensor.name}")
    return Golden(len(inputs), values[0], values[1], float(tolerance))


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def fits(count: int, rows: int, tensor: Tensor) -> bool:
    """Return whether `count` values make `rows` rows of `tensor`."""
    sides = tensor.shape[1:] if tensor.batched else tensor.shape
    fixed = math.prod(side for side in sides if side > 0) * (rows if tensor.batched else 1)
    return count == fixed if all(side > 0 for side in sides) else count > 0 and count % fixed == 0


def _flattened(rows: list[Any]) -> list[float]:
    flat: list[float] = []
    stack: list[Any] = list(reversed(rows))
    while stack:
        value = stack.pop()
        if isinstance(value, list):
            stack.extend(reversed(value))
        elif _finite(value):
            flat.append(float(value))
        else:
            raise PackageRule("golden.json: a value is no finite number")
        if len(flat) + len(stack) > MAX_GOLDEN_VALUES:
            raise PackageRule("golden.json is too large")
    return flat


def golden_error(expected: Golden, outputs: list[float]) -> float:
    """Return the largest absolute difference of the answer; infinity if it has another length or is not finite."""
    if len(outputs) != len(expected.outputs):
        return math.inf
    worst = 0.0
    for want, got in zip(expected.outputs, outputs, strict=True):
        if not math.isfinite(got):
            return math.inf
        worst = max(worst, abs(want - got))
    return worst
