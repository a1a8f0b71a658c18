"""What a component may say on its socket, as checked values. A component is hostile until its words are parsed."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from millrace.errors import Invalid

Key = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$")]
Text = Annotated[str, StringConstraints(max_length=500)]


class Message(BaseModel):
    """Base of all messages; what is not known is ignored, so that a newer SDK can say more."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class MetricMeasured(Message):
    """Values measured at a step; those that are not finite are kept as such."""

    op: Literal["metric"]
    step: int = Field(ge=0, le=2**53)
    values: dict[Key, float] = Field(min_length=1, max_length=1_000)


class StageReached(Message):
    """A progress code: 1xx ingestion, 2xx training, 3xx evaluation."""

    op: Literal["stage"]
    code: int = Field(ge=100, le=499)
    message: Text = ""


class CheckpointMade(Message):
    """A folder that holds a whole checkpoint."""

    op: Literal["checkpoint"]
    epoch: int = Field(ge=0, le=2**31)
    path: Annotated[str, StringConstraints(max_length=4_096)]


class ModelMade(Message):
    """A folder that holds a model package."""

    op: Literal["model"]
    path: Annotated[str, StringConstraints(max_length=4_096)]
    metrics: dict[Key, float] = Field(default_factory=dict, max_length=1_000)


class PacksWanted(Message):
    """What one of the run's readers needs next of a copy that is being filled. It is answered with how that stands."""

    op: Literal["wanted"]
    names: tuple[Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")], ...] = Field(default=(), max_length=16)
    reader: int = Field(default=0, ge=0, lt=16)
    waited: float = Field(default=0.0, ge=0, le=86_400)


class ResultSaid(Message):
    """What came of the run; its numbers are kept as the run's metrics."""

    model_config = ConfigDict(frozen=True, extra="allow")

    op: Literal["result"]
    values: dict[Key, Any] = Field(default_factory=dict, max_length=1_000)

    @property
    def numbers(self) -> dict[str, float]:
        """Return the finite numbers."""
        return {
            name: float(value)
            for name, value in self.values.items()
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        }


_KINDS: dict[str, type[Message]] = {
    "metric": MetricMeasured,
    "stage": StageReached,
    "checkpoint": CheckpointMade,
    "model": ModelMade,
    "result": ResultSaid,
    "wanted": PacksWanted,
}

Handlers = Mapping[str, Callable[[Any], None]]
Wanted = Callable[[PacksWanted], Awaitable[Mapping[str, Any]]]


def handlers(
    *,
    metric: Callable[[MetricMeasured], None],
    stage: Callable[[StageReached], None],
    checkpoint: Callable[[CheckpointMade], None],
    model: Callable[[ModelMade], None],
    result: Callable[[ResultSaid], None],
) -> Handlers:
    """Return the table of what to do with each kind of message."""
    return {"metric": metric, "stage": stage, "checkpoint": checkpoint, "model": model, "result": result}


class Hears:
    """Parses a component's messages and hands each to its handler; `wanted` is the one that is answered."""

    def __init__(self, table: Handlers, wanted: Wanted | None = None) -> None:
        self._table, self._wanted = table, wanted

    async def __call__(self, said: Mapping[str, Any]) -> Mapping[str, Any]:
        """Take one message, and return what to add to the answer.

        Raises:
            Invalid: it is of no known kind, or malformed.
        """
        kind = _KINDS.get(str(said.get("op")))
        if kind is None:
            raise Invalid(f"unknown message {str(said.get('op'))[:40]!r}")
        try:
            message = kind.model_validate(said)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise Invalid(f"{said['op']}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        if isinstance(message, PacksWanted):
            return await self._wanted(message) if self._wanted is not None else {}
        self._table[str(said["op"])](message)
        return {}
