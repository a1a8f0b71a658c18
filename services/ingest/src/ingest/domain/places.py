"""Where data may land: below `<project>/landing/` of an allowed bucket, or in a landing zone of the project."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from ingest.errors import PlaceRefused

SCHEME = "s3://"
Mode = Literal["replace", "append"]


@dataclass(frozen=True)
class Place:
    """A folder of a bucket; `prefix` ends with a slash."""

    bucket: str
    prefix: str

    @property
    def uri(self) -> str:
        """Return `s3://<bucket>/<prefix>`."""
        return f"{SCHEME}{self.bucket}/{self.prefix}"

    def holds(self, other: Place) -> bool:
        """Return whether `other` is this folder or lies in it."""
        return self.bucket == other.bucket and other.prefix.startswith(self.prefix)


@dataclass(frozen=True)
class Zone:
    """A place that is looked at on a timer: finished batches in it become versions of the dataset."""

    project: str
    dataset: str
    place: Place
    mode: Mode = "append"


def parse(uri: str) -> Place:
    """Return the folder that a URI names.

    Raises:
        PlaceRefused: not `s3://<bucket>/<prefix>`, or a prefix with empty or dotted segments.
    """
    if not uri.startswith(SCHEME):
        raise PlaceRefused("only s3:// places can be ingested")
    bucket, _, prefix = uri.removeprefix(SCHEME).partition("/")
    segments = prefix.removesuffix("/").split("/")
    if not bucket or any(segment in {"", ".", ".."} for segment in segments) or not prefix.isprintable():
        raise PlaceRefused("the place must be s3://<bucket>/<prefix>, without empty or dotted segments")
    return Place(bucket, f"{'/'.join(segments)}/")


def permitted(place: Place, project: str, *, buckets: Collection[str], zones: Sequence[Zone]) -> Place:
    """Return `place` if data of `project` may land there.

    Raises:
        PlaceRefused: another bucket, another project's folder, or no landing folder at all.
    """
    if any(zone.project == project and zone.place.holds(place) for zone in zones):
        return place
    if place.bucket not in buckets:
        raise PlaceRefused(f"bucket {place.bucket} is not one that data is taken from", hint="register a landing zone")
    own = f"{project}/landing/"
    if not place.prefix.startswith(own) or place.prefix == own:
        raise PlaceRefused(
            f"data of project {project} lands below {own}<zone>/", hint="or in a registered landing zone"
        )
    return place
