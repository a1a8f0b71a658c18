"""The commit object: canonical JSON that names a tree and says where it came from. Its id is the BLAKE3 of its bytes.

Only the catalog makes commits. The object is written once, create-only, before the catalog advances the dataset's head.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Literal, Self, TypeAlias

from blake3 import blake3
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_serializer

from millrace.datasets.limits import MAX_COMMIT, MAX_FILES
from millrace.errors import Corrupt, Invalid
from millrace.events.datasets import Lineage, Text
from millrace.events.envelope import canonical_json
from millrace.events.names import Digest

Raw: TypeAlias = bytes
"""`bytes` where a field of that name hides the type."""


def _aware(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("time must carry a timezone")
    return value.astimezone(UTC)


class Commit(BaseModel):
    """One version's commit. `time` is for people; order comes from `parents`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["millrace-commit/1"] = "millrace-commit/1"
    parents: tuple[Digest, ...] = Field(default=(), max_length=16)
    root: Digest = Field(description="tree root: BLAKE3 over sorted (path, hash, size)")
    manifest: Digest
    files: int = Field(ge=0, le=MAX_FILES)
    bytes: int = Field(ge=0, le=2**63 - 1)
    author: str = Field(max_length=256)
    message: Text = ""
    time: Annotated[datetime, AfterValidator(_aware)]
    lineage: Lineage = Lineage()
    records: Digest | None = Field(default=None, description="the version's table of records, if it has one")

    @field_serializer("time")
    def _canonical_time(self, value: datetime) -> str:
        return value.strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def to_bytes(self) -> Raw:
        """Return the canonical JSON that is stored and hashed; without records, that field is left out."""
        document = self.model_dump(mode="json")
        if self.records is None:
            del document["records"]
        return canonical_json(document)

    @property
    def id(self) -> str:
        """Return the commit's id: BLAKE3 of `to_bytes()`, hex."""
        return blake3(self.to_bytes()).hexdigest()

    @classmethod
    def parse(cls, data: Raw, *, expect: str | None = None) -> Self:
        """Return the commit in `data`; `expect` is the id it was asked for by.

        Raises:
            Corrupt: the bytes do not have that id.
            Invalid: not a commit, or not in canonical form.
        """
        if len(data) > MAX_COMMIT:
            raise Invalid(f"a commit of {len(data)} bytes exceeds {MAX_COMMIT}")
        if expect is not None and blake3(data).hexdigest() != expect:
            raise Corrupt(f"commit {expect} does not have the bytes that its id promises")
        try:
            commit = cls.model_validate(json.loads(data.decode()))
        except (ValidationError, ValueError, RecursionError) as error:
            raise Invalid(f"not a commit object: {type(error).__name__}") from None
        if commit.to_bytes() != data:
            raise Invalid("the commit is not in canonical form")
        return commit
