"""The document that says what every version of a dataset must hold. YAML or JSON; each check has a name and one rule.

    checks:
      - name: enough scans
        files: {match: ["train/"], min: 100}
      - name: nothing else
        paths: {allow: ["*.png", "labels.csv"], require: ["labels.csv"]}
      - name: no patient in two splits
        disjoint: {path: "^(?P<split>train|val)/(?P<group>p[0-9]+)_"}
      - name: labels
        table:
          file: labels.csv
          rows: {min: 1}
          columns:
            age: {type: integer, min: 0, max: 120, nulls: 0}
            sex: {values: [F, M]}
            id: {unique: true}
      - name: slices
        records: {type: CT Slice, min: 1, fields: {slice_thickness: {min: 0.5, max: 5}}}
      - name: ours
        python: {file: checks/ours.py}

Patterns of paths are those of `.gitignore`; regular expressions are RE2's, which cannot run away.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, Self

import yaml
from blake3 import blake3
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from millrace.datasets.paths import check_path
from millrace.datasets.patterns import Pattern, compiled
from millrace.errors import Invalid, MillraceError
from millrace.events.names import Digest

MAX_DOCUMENT = 64 * 1024
MAX_CHECKS = 64
MAX_COLUMNS = 500
MAX_VALUES = 1_000

Count = Annotated[int, Field(ge=0, le=2**53)]
Short = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Number = Annotated[float, Field(allow_inf_nan=False)]


def _split_expression(text: str) -> str:
    compiled(text)
    if "(?P<split>" not in text:
        raise ValueError("the expression needs a group (?P<split>…)")
    return text


def _path(text: str) -> str:
    try:
        return check_path(text)
    except MillraceError as error:
        raise ValueError(error.message) from None


Patterns = Annotated[tuple[Pattern, ...], Field(max_length=64)]
SplitExpression = Annotated[str, StringConstraints(max_length=500), AfterValidator(_split_expression)]
FilePath = Annotated[str, StringConstraints(max_length=1_024), AfterValidator(_path)]


class Part(BaseModel):
    """Base of the parts: frozen, and unknown fields are refused so that a typo shows."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Bounds(Part):
    """A range, both ends included; at least one end is given."""

    min: Number | None = None
    max: Number | None = None

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("give `min`, `max` or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("`min` is more than `max`")
        return self


class FilesRule(Bounds):
    """How many files there are, of those that match."""

    match: Patterns = ()


class BytesRule(Bounds):
    """How many bytes the files have together, of those that match."""

    match: Patterns = ()


class PathsRule(Part):
    """Which paths may, must not and must be there."""

    allow: Patterns = Field(default=(), description="every path matches one of these")
    forbid: Patterns = Field(default=(), description="no path matches any of these")
    require: Patterns = Field(default=(), description="each of these matches some path")


class DisjointRule(Part):
    """Groups (patients, say) that may not be in two splits.

    `path` finds the split, and the group unless it is a metadata field of the version's records of `type`.
    """

    path: SplitExpression
    field: Short | None = None
    type: Short | None = None

    @model_validator(mode="after")
    def _has_group(self) -> Self:
        if self.field is None and "(?P<group>" not in self.path:
            raise ValueError("the expression needs a group (?P<group>…), or the check a `field` of the records")
        return self


class ColumnRule(Part):
    """What a column holds. `nulls` is the largest share of empty cells."""

    type: Literal["integer", "number", "boolean", "date", "text"] | None = None
    min: Number | None = None
    max: Number | None = None
    nulls: Annotated[float, Field(ge=0, le=1)] | None = None
    values: Annotated[tuple[str | int | float | bool, ...], Field(max_length=MAX_VALUES)] | None = None
    unique: bool = False


class TableRule(Part):
    """What a CSV, TSV or Parquet file holds. `only`: it has no other columns."""

    file: FilePath
    rows: Bounds | None = None
    columns: Annotated[dict[Short, ColumnRule], Field(max_length=MAX_COLUMNS)] = {}
    only: bool = False


class RecordsRule(Part):
    """How many typed records of a type there are, and the range of their metadata fields, which all of them have."""

    type: Short
    min: Count | None = None
    max: Count | None = None
    fields: Annotated[dict[Short, Bounds], Field(max_length=64)] = {}


class PythonRule(Part):
    """A program of the project's own, run where the version is made; `blake3` is the digest of its text."""

    file: FilePath
    blake3: Digest | None = None


RULES = ("files", "bytes", "paths", "disjoint", "table", "records", "python")


class Check(Part):
    """A name and one rule."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]
    files: FilesRule | None = None
    bytes: BytesRule | None = None
    paths: PathsRule | None = None
    disjoint: DisjointRule | None = None
    table: TableRule | None = None
    records: RecordsRule | None = None
    python: PythonRule | None = None

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        given = [name for name in RULES if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"a check has one rule of {', '.join(RULES)}; this one has {len(given)}")
        return self


class Checks(Part):
    """All checks of a dataset."""

    checks: Annotated[tuple[Check, ...], Field(max_length=MAX_CHECKS)] = ()

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [check.name for check in self.checks]
        if len(set(names)) != len(names):
            raise ValueError("two checks have one name")
        return self

    @property
    def document(self) -> dict[str, Any]:
        """Return the checks as JSON types, without what was not said."""
        return self.model_dump(mode="json", exclude_defaults=True)

    @property
    def digest(self) -> str:
        """Return the BLAKE3 of the canonical document, hex."""
        return blake3(json.dumps(self.document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def tables(self) -> list[str]:
        """Return the files that have to be read."""
        return sorted({check.table.file for check in self.checks if check.table is not None})


def parse_checks(text: str | bytes) -> Checks:
    """Return the checks of a YAML or JSON document.

    Raises:
        Invalid: it is none, with the place that is wrong.
    """
    if len(text) > MAX_DOCUMENT:
        raise Invalid(f"a document of checks has at most {MAX_DOCUMENT} bytes")
    try:
        found = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}" if mark is not None else ""
        raise Invalid(f"not YAML{place}") from None
    return checks_from(found)


def checks_from(document: Any) -> Checks:
    """Return the checks of a document that is parsed already.

    Raises:
        Invalid: it breaks a rule, with the place.
    """
    try:
        return Checks.model_validate(document)
    except (ValidationError, RecursionError) as error:
        raise Invalid(f"not a document of checks: {_first(error)}", hint="see docs/how-to/checks.md") from None


def _first(error: ValidationError | RecursionError) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"[:500]
