"""The drift reference of a model: what its inputs and answers look like on rows it was not trained on.

The trainer's evaluation stage writes one (`<project>/references/<digest>`, canonical JSON, immutable) and the drift
monitor compares live windows with it. Both sides measure rows by the functions of this module, so that a number means
the same on both.

    summarise(inputs)              what is seen of an input row: image statistics, or the columns of a table
    Basis.error(inputs)            distance of a row from what the training rows span (PCA reconstruction error)
    measure(reference, x, y)       all of that and the confidence, for a batch of rows: name → one value per row
    count(values, edges)           the histogram cells that `Histogram.counts` uses

Cells of a histogram over `k` ascending edges: `k + 1` intervals `[edge, next edge)`, then one for what is not finite.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from millrace.errors import Invalid, TooLarge
from millrace.events.envelope import canonical_json
from millrace.events.names import Digest, ResourceName, RunId

MAX_REFERENCE_BYTES = 4 * 1024 * 1024
"""Largest reference that is read, in bytes."""
CUTS = 31
"""Quantile cuts per feature; fewer where values repeat."""
GRID = 4
"""Block means are taken over a grid of this many rows and columns."""
REDUCED_SIDE = 16
"""Images with longer sides are averaged down to this side before the reconstruction error is taken."""
MAX_COLUMNS = 64
"""Columns of a table that are watched."""
ERROR = "reconstruction_error"
CONFIDENCE = "confidence"

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{1,64}$")]
Floats = NDArray[np.float64]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Histogram(_Frozen):
    """Counts of one measured quantity on the reference rows, and its moments over the finite values."""

    name: Name
    edges: tuple[float, ...] = Field(max_length=1_024)
    counts: tuple[Annotated[int, Field(ge=0)], ...] = Field(description="one per cell: `len(edges) + 2`")
    mean: float = 0.0
    deviation: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _fits(self) -> Histogram:
        if len(self.counts) != len(self.edges) + 2:
            raise ValueError("counts must be two more than edges")
        if any(high <= low for low, high in zip(self.edges, self.edges[1:], strict=False)):
            raise ValueError("edges must ascend")
        return self


class Basis(_Frozen):
    """The principal components of the training rows, by which the reconstruction error of any row is taken."""

    mean: tuple[float, ...] = Field(min_length=1, max_length=4_096)
    components: tuple[tuple[float, ...], ...] = Field(min_length=1, max_length=256)

    @model_validator(mode="after")
    def _fits(self) -> Basis:
        if any(len(component) != len(self.mean) for component in self.components):
            raise ValueError("components must be as long as the mean")
        return self

    def error(self, inputs: NDArray[np.floating]) -> Floats:
        """Return the root mean square distance of each row from its projection onto the components.

        Raises:
            Invalid: the rows have another width than the basis.
        """
        rows = flatten(inputs)
        if rows.shape[1] != len(self.mean):
            raise Invalid(f"rows of width {rows.shape[1]} do not fit a basis of width {len(self.mean)}")
        centred = rows - np.asarray(self.mean)
        components = np.asarray(self.components)
        return np.asarray(np.sqrt(np.mean((centred - centred @ components.T @ components) ** 2, axis=1)))


class Bounds(_Frozen):
    """Quantiles of the reconstruction error on the reference rows: both tails, because blur lowers the error."""

    q005: float
    q05: float
    q95: float
    q995: float


class Predictions(_Frozen):
    """What the model answers on the reference rows.

    `basis` says how those answers were made without showing the model its own training rows: `held-out` rows were
    never trained on; `cross-fitted` rows were, and each was answered by a sibling model trained without it.
    """

    classes: tuple[Annotated[str, StringConstraints(max_length=128)], ...] = Field(min_length=1, max_length=10_000)
    counts: tuple[Annotated[int, Field(ge=0)], ...] = Field(description="predicted class counts; one more for no class")
    confidence: Histogram = Field(description="largest probability of each row")
    accuracy: float = Field(ge=0, le=1, description="of these answers")
    basis: Literal["held-out", "cross-fitted"]

    @model_validator(mode="after")
    def _fits(self) -> Predictions:
        if len(self.counts) != len(self.classes) + 1:
            raise ValueError("counts must be one more than classes")
        return self


class Reference(_Frozen):
    """What live rows of one model version are compared with."""

    schema_version: Literal[1] = 1
    dataset: ResourceName
    commit: Digest
    run: RunId
    record_set: Literal["holdout", "incident"] = Field(description="which rows of the version the reference is made of")
    incident: str | None = Field(default=None, max_length=128)
    rows: int = Field(ge=1)
    shape: tuple[int, ...] = Field(max_length=8, description="of one input row, without the batch")
    features: tuple[Histogram, ...] = Field(max_length=256, description="as `summarise` names them")
    basis: Basis
    error: Histogram
    error_bounds: Bounds
    predictions: Predictions

    def to_bytes(self) -> bytes:
        """Return the canonical JSON, whose BLAKE3 digest names the reference."""
        return canonical_json(self.model_dump(mode="json"))


def load(raw: bytes) -> Reference:
    """Parse a reference.

    Raises:
        TooLarge: more bytes than any reference may have.
        Invalid: not a reference, or a later schema.
    """
    if len(raw) > MAX_REFERENCE_BYTES:
        raise TooLarge(f"reference of {len(raw)} bytes exceeds {MAX_REFERENCE_BYTES}")
    try:
        return Reference.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise Invalid(f"not a drift reference: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def summarise(inputs: NDArray[np.floating]) -> dict[str, Floats]:
    """Return what is watched of input rows: feature name → one value per row.

    Rows are images (`H,W` or `H,W,C`: brightness, contrast, edge energy, block means) or vectors (their columns).
    """
    values = np.asarray(inputs, dtype=np.float64)
    if values.ndim in (3, 4):
        return _image_features(_grey(values))
    table = values.reshape(len(values), -1)[:, :MAX_COLUMNS]
    return {f"x{column:03d}": table[:, column] for column in range(table.shape[1])}


def flatten(inputs: NDArray[np.floating]) -> Floats:
    """Return rows as vectors; large images are averaged down so that a basis stays small."""
    values = np.asarray(inputs, dtype=np.float64)
    if values.ndim in (3, 4):
        values = _blocks(_grey(values), REDUCED_SIDE)
    return values.reshape(len(values), -1)


def measure(
    reference: Reference, inputs: NDArray[np.floating], outputs: NDArray[np.floating]
) -> tuple[dict[str, Floats], NDArray[np.int64]]:
    """Return every watched quantity of a batch (name → values), and the predicted class of each row.

    Names are those of `reference.features`, `reconstruction_error` and `confidence`. A row without a finite
    probability has the class `len(classes)`.
    """
    measured = {**summarise(inputs), ERROR: reference.basis.error(inputs), CONFIDENCE: confidence(outputs)}
    return measured, predicted(outputs, len(reference.predictions.classes))


def confidence(outputs: NDArray[np.floating]) -> Floats:
    """Return the largest probability of each row; NaN where one is not finite."""
    return np.asarray(np.max(np.asarray(outputs, dtype=np.float64), axis=1))


def predicted(outputs: NDArray[np.floating], classes: int) -> NDArray[np.int64]:
    """Return the class of the largest probability of each row; `classes` where there is none."""
    values = np.asarray(outputs, dtype=np.float64)
    choice = np.argmax(values, axis=1).astype(np.int64)
    valid = np.isfinite(values).all(axis=1) & (choice < classes)
    return np.where(valid, choice, np.int64(classes))


def count(values: NDArray[np.floating], edges: NDArray[np.floating] | tuple[float, ...]) -> NDArray[np.int64]:
    """Return the counts of `values` over the cells of `edges`; NaN and infinities fall into the last cell."""
    numbers = np.asarray(values, dtype=np.float64).reshape(-1)
    cuts = np.asarray(edges, dtype=np.float64)
    finite = np.isfinite(numbers)
    counts = np.bincount(np.searchsorted(cuts, numbers[finite], side="right"), minlength=len(cuts) + 2)
    counts[-1] = len(numbers) - int(finite.sum())
    return counts.astype(np.int64)


def histogram(name: str, values: NDArray[np.floating], *, cuts: int = CUTS) -> Histogram:
    """Return the histogram of reference values over their own quantiles."""
    finite = np.asarray(values, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    edges = np.unique(np.quantile(finite, np.arange(1, cuts + 1) / (cuts + 1))) if len(finite) else np.empty(0)
    return Histogram(
        name=name,
        edges=tuple(edges.tolist()),
        counts=tuple(count(values, edges).tolist()),
        mean=float(finite.mean()) if len(finite) else 0.0,
        deviation=float(finite.std()) if len(finite) else 0.0,
    )


def fit_basis(inputs: NDArray[np.floating], *, share: float = 0.9, most: int = 64) -> Basis:
    """Return the fewest principal components that hold `share` of the variance of training rows, at most `most`."""
    rows = flatten(inputs)
    mean = rows.mean(axis=0)
    _, singular, components = np.linalg.svd(rows - mean, full_matrices=False)
    variance = np.cumsum(singular**2)
    total = variance[-1] if variance[-1] > 0 else 1.0
    kept = min(most, int(np.searchsorted(variance / total, share)) + 1, len(components))
    return Basis(mean=tuple(mean.tolist()), components=tuple(map(tuple, components[:kept].tolist())))


def _grey(images: Floats) -> Floats:
    return images.mean(axis=3) if images.ndim == 4 else images


def _image_features(images: Floats) -> dict[str, Floats]:
    flat = images.reshape(len(images), -1)
    across, down = np.abs(np.diff(images, axis=2)), np.abs(np.diff(images, axis=1))
    features = {
        "brightness": flat.mean(axis=1),
        "contrast": flat.std(axis=1),
        "edge_energy": across.reshape(len(images), -1).mean(axis=1) + down.reshape(len(images), -1).mean(axis=1),
    }
    blocks = _blocks(images, GRID)
    for row in range(blocks.shape[1]):
        for column in range(blocks.shape[2]):
            features[f"block_{row}_{column}"] = blocks[:, row, column]
    return features


def _blocks(images: Floats, side: int) -> Floats:
    """Return the means over a grid of at most `side` rows and columns of nearly equal blocks."""
    rows, columns = (np.array_split(np.arange(size), min(side, size)) for size in images.shape[1:])
    by_row = np.stack([images[:, block].mean(axis=1) for block in rows], axis=1)
    return np.stack([by_row[:, :, block].mean(axis=2) for block in columns], axis=2)
