"""The parameters of a run, checked before anything is loaded."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from millrace.errors import Invalid

Prefix = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9_][A-Za-z0-9_.-]{0,63}/){1,4}$")]


class Params(BaseModel):
    """What a person or a policy may set; the defaults suit small grey images."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epochs: int = Field(default=36, ge=1, le=10_000)
    batch_size: int = Field(default=64, ge=1, le=65_536)
    learning_rate: float = Field(default=3e-3, gt=0, le=1, description="at the start; it falls to 0 along a cosine")
    seed: int = Field(default=0, ge=0, le=2**32 - 1)
    width: int = Field(default=32, ge=2, le=1_024, description="filters of the second convolution")
    dropout: float = Field(default=0.2, ge=0, lt=1)
    rotation: float = Field(default=10.0, ge=0, le=180, description="largest random rotation, degrees")
    translation: float = Field(default=0.09, ge=0, le=0.5, description="largest random translation, share of the side")
    scaling: float = Field(default=0.1, ge=0, lt=1, description="largest random change of size, share")
    noise: float = Field(default=0.05, ge=0, le=1, description="largest random noise, deviation in units of the range")
    train: Prefix = "train/"
    holdout: Prefix = "holdout/"
    reference: Prefix = "reference/"
    reference_share: float = Field(
        default=0.2, ge=0, lt=1, description="least share of an epoch that the newest incident's random rows get"
    )
    siblings: int = Field(
        default=3, ge=2, le=20, description="models that answer for reference rows that were trained on (cross-fitting)"
    )
    checkpoint_every: int = Field(default=1, ge=1, le=10_000, description="epochs")


def parse(document: Any) -> Params:
    """Return checked parameters.

    Raises:
        Invalid: a parameter is unknown or out of range.
    """
    try:
        return Params.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise Invalid(f"parameter {'.'.join(map(str, first['loc'])) or '(all)'}: {first['msg']}") from None
