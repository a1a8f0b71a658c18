"""Single files and zips of versions over HTTP, without a working copy: verified, and whole once they have a name."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote

from blake3 import blake3

from millrace.errors import Conflict, Corrupt, MillraceError
from millrace_sdk.calls import Call

if TYPE_CHECKING:
    from millrace_sdk.client import Catalog

TRIES = 5
"""Failures in a row, without a byte between them, after which a file is given up."""

Progress = Callable[[int, int], None]
"""Called with the bytes that are there, and all of them."""


def get_file(client: Catalog, name: str, ref: str, path: str, *, out: IO[bytes], progress: Progress) -> dict[str, Any]:
    """Write a file of a version, and return its size and digest; what came is not asked for again when it breaks.

    Raises:
        NotFound: the version has no such file.
        Corrupt: what came has another digest.
        Unavailable: it broke off too often.
    """
    hasher, done, total, tag, failures = blake3(), 0, 1, "", 0
    while done < total:
        headers = {"range": f"bytes={done}-"} if done else {}
        before = done
        try:
            with client.stream(Call("GET", _file_path(name, ref, path), headers=headers)) as answer:
                total = done + int(answer.headers["content-length"])
                tag = answer.headers["etag"].strip('"')
                for data in answer.iter_raw():
                    out.write(data)
                    hasher.update(data)
                    done += len(data)
                    progress(done, total)
        except MillraceError as error:
            failures = 1 if done > before else failures + 1
            if not error.transient or failures == TRIES:
                raise
            time.sleep(min(2.0, 0.1 * 2**failures))
    if hasher.hexdigest() != tag:
        raise Corrupt(f"{path[:200]!r} came with another digest", hint="get it again")
    return {"path": path, "size": done, "blake3": tag}


def get_zip(client: Catalog, name: str, ref: str, prefix: str, *, out: IO[bytes], progress: Progress) -> dict[str, Any]:
    """Write a version, or a folder of it, as a zip, and return its size.

    Raises:
        NotFound: there is no such version, or nothing lies below the prefix.
        Unavailable: it broke off; that is also how a file that is damaged in the lake ends it.
    """
    done = 0
    with client.stream(Call("GET", _version_path(name, ref, "archive.zip"), {"prefix": prefix or None})) as answer:
        total = int(answer.headers["content-length"])
        for data in answer.iter_raw():
            out.write(data)
            done += len(data)
            progress(done, total)
    return {"prefix": prefix, "size": done}


@contextlib.contextmanager
def appearing(target: Path, *, force: bool) -> Iterator[IO[bytes]]:
    """Give a file that has its name only once it is whole.

    Raises:
        Conflict: something of that name is there already.
    """
    if target.exists() and not force:
        raise Conflict(f"{target} is there already", hint="--force replaces it")
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with partial.open("xb") as out:
            yield out
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _version_path(name: str, ref: str, last: str) -> str:
    return f"/v1/datasets/{quote(name, safe='')}/versions/{quote(ref, safe='')}/{last}"


def _file_path(name: str, ref: str, path: str) -> str:
    return _version_path(name, ref, f"files/{quote(path)}")
