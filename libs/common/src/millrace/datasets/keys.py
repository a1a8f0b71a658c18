"""Where things lie in the lake: every key is made here, from validated parts, and starts with the project."""

from __future__ import annotations

import re
from typing import Literal

from millrace.errors import Invalid
from millrace.events.names import NAME_PATTERN
from millrace.objects.port import check_key

Kind = Literal["packs", "chunks", "manifests", "commits"]

KINDS: tuple[Kind, ...] = ("packs", "chunks", "manifests", "commits")

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
    if not _NAME.fullmatch(project) or project.endswith("\n"):
        raise Invalid(f"not a project name: {project[:80]!r}")
    return project


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
