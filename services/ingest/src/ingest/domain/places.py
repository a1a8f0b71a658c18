"""Where data may land.

Below `<project>/landing/` of an allowed bucket, in a landing zone of the project, at a host that the installation
allows, or below a folder that it mounts for the project.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, get_args
from urllib.parse import unquote, urlsplit

from ingest.errors import PlaceRefused

Scheme = Literal["s3", "az", "gs"]
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
Mode = Literal["replace", "append"]
Format = Literal["files", "archive"]


@dataclass(frozen=True)
class Place:
    """A folder of a bucket; `prefix` ends with a slash, unless it is one object: an archive.

    `scheme` says in what kind of lake the bucket is: S3, Azure Blob or Google Cloud Storage.
    """

    bucket: str
    prefix: str
    scheme: Scheme = "s3"

    @property
    def uri(self) -> str:
        """Return `s3://<bucket>/<prefix>`."""
        return f"{self.scheme}://{self.bucket}/{self.prefix}"

    def holds(self, other: Place) -> bool:
        """Return whether `other` is this folder or lies in it."""
        same = (self.scheme, self.bucket) == (other.scheme, other.bucket)
        return same and other.prefix.startswith(self.prefix)


@dataclass(frozen=True)
class WebPlace:
    """An archive or a list at a URL, or the URLs themselves, all of which begin with `uri`."""

    uri: str
    urls: tuple[str, ...] = ()


@dataclass(frozen=True)
class LocalPlace:
    """A folder, or an archive, of the local file system: an absolute path without dotted segments."""

    path: str

    @property
    def uri(self) -> str:
        """Return `file://<path>`."""
        return f"file://{self.path}"


AnyPlace = Place | WebPlace | LocalPlace


@dataclass(frozen=True)
class Zone:
    """A place that is looked at on a timer: finished batches in it become versions of the dataset."""

    project: str
    dataset: str
    place: Place
    mode: Mode = "append"


@dataclass(frozen=True)
class Root:
    """A mounted folder from which a project's data may be taken (`*`: every project's)."""

    project: str
    path: str

    def holds(self, path: str) -> bool:
        """Return whether a path lies below this folder."""
        return path.startswith(self.path.rstrip("/") + "/")


def parse(uri: str, *, form: Format = "files", urls: Sequence[str] = ()) -> AnyPlace:
    """Return what a URI names.

    Raises:
        PlaceRefused: no place that can be, or `urls` that do not begin with it.
    """
    if uri.partition("://")[0] in SCHEMES:
        return parse_object(uri, form)
    if uri.startswith(("https://", "http://")):
        return _web(uri, tuple(urls))
    if uri.startswith("file:///"):
        return LocalPlace(_local(uri))
    raise PlaceRefused("only s3://, az://, gs://, https:// and file:/// places can be ingested")


def parse_object(uri: str, form: Format = "files") -> Place:
    """Return the folder, or the archive, of a bucket that a URI names.

    Raises:
        PlaceRefused: not `s3://<bucket>/<prefix>`, or a prefix with empty or dotted segments.
    """
    scheme = next((scheme for scheme in SCHEMES if uri.startswith(f"{scheme}://")), None)
    bucket, _, prefix = uri.partition("://")[2].partition("/")
    segments = prefix.removesuffix("/").split("/")
    if scheme is None or not bucket or not _plain(segments) or not prefix.isprintable():
        raise PlaceRefused("the place must be s3://<bucket>/<prefix>, without empty or dotted segments")
    if form == "archive" and prefix.endswith("/"):
        raise PlaceRefused("an archive is one object, and its name ends without a slash")
    return Place(bucket, "/".join(segments) + ("" if form == "archive" else "/"), scheme)


def _plain(segments: Sequence[str]) -> bool:
    return not any(segment in {"", ".", ".."} for segment in segments)


def _web(uri: str, urls: tuple[str, ...]) -> WebPlace:
    if urls and not uri.endswith("/"):
        raise PlaceRefused("with a list of URLs, the place is what they all begin with, and ends with a slash")
    if any(not url.startswith(uri) for url in urls):
        raise PlaceRefused("a URL of the list does not begin with the place")
    return WebPlace(uri, urls)


def _local(uri: str) -> str:
    path = unquote(urlsplit(uri).path, errors="surrogateescape")
    segments = path.removeprefix("/").removesuffix("/").split("/")
    if not _plain(segments) or not path.isprintable():
        raise PlaceRefused("the place must be file:///<folder>, without empty or dotted segments")
    return "/" + "/".join(segments)


def shown(uri: str) -> str:
    """Return a URI as it may be repeated: what follows `?` may be a signature, which lets its holder in."""
    return uri.partition("?")[0] if uri.startswith(("https://", "http://")) else uri


def permitted(
    place: AnyPlace,
    project: str,
    *,
    buckets: Collection[str],
    zones: Sequence[Zone],
    roots: Sequence[Root] = (),
    scheme: Scheme = "s3",
) -> AnyPlace:
    """Return `place` if data of `project` may land there; hosts are judged by the egress guard when they are asked.

    `scheme` is the lake's: only its own kind of bucket is read.

    Raises:
        PlaceRefused: another kind of lake, another bucket, another project's folder, or no landing folder at all.
    """
    if isinstance(place, LocalPlace):
        if any(root.project in {project, "*"} and root.holds(place.path) for root in roots):
            return place
        raise PlaceRefused("the folder lies below none that this project's data may be taken from")
    if isinstance(place, WebPlace):
        return place
    if place.scheme != scheme:
        raise PlaceRefused(f"{place.scheme}:// is not what this lake is", hint=f"data lands at {scheme}:// places")
    return _permitted_object(place, project, buckets, zones)


def _permitted_object(place: Place, project: str, buckets: Collection[str], zones: Sequence[Zone]) -> Place:
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
