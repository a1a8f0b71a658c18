"""Where things lie in the lake: every key is made here, from validated parts, and starts with the project."""

from __future__ import annotations

import re
from typing import Literal

from millrace.errors import Invalid
from millrace.objects.port import check_key
from millrace.patterns import NAME_PATTERN

Kind = Literal["packs", "chunks", "manifests", "commits"]
LakeKind = Literal["packs", "chunks", "manifests", "commits", "records"]
"""What a project has in the lake for its datasets: all of it is sealed where the project is encrypted."""

KINDS: tuple[Kind, ...] = ("packs", "chunks", "manifests", "commits")
LAKE_KINDS: tuple[LakeKind, ...] = (*KINDS, "records")
SEALED = "sealed"
"""The folder of a project that holds what is sealed."""

_SEALED_NAME = re.compile(r"[0-9a-f]{96}")
_NAME = re.compile(NAME_PATTERN)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_FANNED = ("packs", "chunks")


def check_digest(digest: str) -> str:
    """Return `digest` if it is 64 lower-case hex digits.

    Raises:
        Invalid: it is not.
    """
    if not _DIGEST.fullmatch(digest):
        raise Invalid(f"not a digest: {digest[:80]!r}")
    return digest


def check_project(project: str) -> str:
    """Return `project` if it is a resource name.

    Raises:
        Invalid: it is not.
    """
    if not is_project(project):
        raise Invalid(f"not a project name: {project[:80]!r}")
    return project


def is_project(text: str) -> bool:
    """Return whether `text` is a project's name."""
    return bool(_NAME.fullmatch(text)) and not text.endswith("\n")


def object_key(project: str, kind: Kind, digest: str) -> str:
    """Return the key of a pack, chunk, manifest or commit; packs and chunks fan out over 256 prefixes."""
    check_project(project)
    check_digest(digest)
    if kind not in KINDS:
        raise Invalid(f"not a kind of object: {str(kind)[:40]!r}")
    return f"{project}/{kind}/{digest[:2]}/{digest}" if kind in _FANNED else f"{project}/{kind}/{digest}"


def parse_object_key(key: str) -> tuple[str, Kind, str]:
    """Return (project, kind, digest) of a key made by `object_key`.

    Raises:
        Invalid: it was not.
    """
    parts = key.split("/")
    for kind in KINDS:
        if len(parts) >= 3 and parts[1] == kind and object_key(parts[0], kind, parts[-1]) == key:
            return parts[0], kind, parts[-1]
    raise Invalid(f"not the key of a dataset's object: {key[:120]!r}")


def records_key(project: str, records: str) -> str:
    """Return `<project>/records/<records>`."""
    return f"{check_project(project)}/records/{check_digest(records)}"


def lake_key(project: str, kind: LakeKind, digest: str) -> str:
    """Return the key of any object that a dataset consists of."""
    return records_key(project, digest) if kind == "records" else object_key(project, kind, digest)


def find_lake_key(key: str) -> tuple[str, LakeKind, str] | None:
    """Return (project, kind, digest) of a key that `lake_key` makes, None of any other."""
    project, _, rest = key.partition("/")
    folder, digest = rest.partition("/")[0], key.rpartition("/")[2]
    if not is_project(project) or not _DIGEST.fullmatch(digest):
        return None
    kinds = (kind for kind in LAKE_KINDS if kind == folder and lake_key(project, kind, digest) == key)
    return next(((project, kind, digest) for kind in kinds), None)


def sealed_key(project: str, kind: LakeKind, name: str) -> str:
    """Return `<project>/sealed/<kind>/<n2>/<name>`: where an object lies whose name is sealed to 96 hex digits.

    Raises:
        Invalid: no such name or kind.
    """
    if kind not in LAKE_KINDS or not _SEALED_NAME.fullmatch(name):
        raise Invalid(f"not the sealed name of an object: {name[:40]!r}")
    return f"{sealed_prefix(project, kind)}{name[:2]}/{name}"


def sealed_prefix(project: str, kind: LakeKind) -> str:
    """Return `<project>/sealed/<kind>/`."""
    return f"{check_project(project)}/{SEALED}/{kind}/"


def pack_key(project: str, pack: str) -> str:
    """Return `<project>/packs/<h2>/<pack>`."""
    return object_key(project, "packs", pack)


def chunk_key(project: str, chunk: str) -> str:
    """Return `<project>/chunks/<h2>/<chunk>`."""
    return object_key(project, "chunks", chunk)


def manifest_key(project: str, manifest: str) -> str:
    """Return `<project>/manifests/<manifest>`."""
    return object_key(project, "manifests", manifest)


def commit_key(project: str, commit: str) -> str:
    """Return `<project>/commits/<commit>`."""
    return object_key(project, "commits", commit)


def model_key(project: str, digest: str, path: str) -> str:
    """Return `<project>/models/<digest>/<path>`: one file of a model package."""
    return check_key(f"{check_project(project)}/models/{check_digest(digest)}/{path}")


def run_key(project: str, run: str, fence: int, path: str) -> str:
    """Return `<project>/runs/<run>/<fence>/<path>`: what one attempt of a run leaves behind."""
    if fence < 0:
        raise Invalid("a fencing token is never negative")
    return check_key(f"{check_project(project)}/runs/{run}/{fence}/{path}")


def sample_key(project: str, digest: str) -> str:
    """Return `<project>/samples/<digest>`: one exemplar kept for people to look at."""
    return f"{check_project(project)}/samples/{check_digest(digest)}"


def reference_key(project: str, digest: str) -> str:
    """Return `<project>/references/<digest>`: the reference distribution of a model."""
    return f"{check_project(project)}/references/{check_digest(digest)}"


def landing_prefix(project: str, zone: str) -> str:
    """Return `<project>/landing/<zone>/`: where others put files for ingest."""
    return f"{check_key(f'{check_project(project)}/landing/{zone}')}/"
