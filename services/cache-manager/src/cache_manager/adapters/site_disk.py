"""Blocking work on the directory of a site, called in threads by `site_folder`. Follows no link out of the site."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from millrace.datasets.folders import FILE_MODE, FOLDER_MODE, folder, open_root

MARKER = "_READY"
OWNER = ".millrace-site"
VERSIONS, STAGING, TRASH, QUARANTINE, EARLY = "v", ".staging", ".trash", ".quarantine", ".early"
MAX_MARKER_BYTES = 64 * 1024
IN_THE_WAY = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)
"""A name that went away (a hidden part that just got its own), or that is a file here and a folder there."""


def prepare(root: Path, site: str) -> str | None:
    """Create the site's folders and mark the directory as its own; return why that cannot be, or None."""
    root.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    owner = read_owner(root)
    if owner is not None and owner != site:
        return f"{root} belongs to site {owner}"
    for name in (VERSIONS, STAGING, TRASH):
        (root / name).mkdir(mode=FOLDER_MODE, exist_ok=True)
    write_durably(root / OWNER, json.dumps({"format": 1, "site": site}).encode())
    return None


def retire(root: Path, site: str) -> None:
    """Take away a site's mark and the folders of its own that are empty."""
    if read_owner(root) != site:
        return
    for name in (VERSIONS, STAGING, TRASH, QUARANTINE, EARLY):
        for path in [*(root / name / inner for inner in names(root / name)), root / name]:
            with contextlib.suppress(OSError):
                path.rmdir()
    (root / OWNER).unlink()
    sync_folder(root)


def read_owner(root: Path) -> str | None:
    """Return the site that a directory is marked for, or None."""
    document = read_json(root / OWNER)
    return None if document is None else str(document.get("site"))


def look_again(root: Path, path: Path) -> None:
    """Learn what other hosts did to the names from `root` down to `path`.

    An NFS mount answers from what it remembers, names that were not there included, for as long as its attribute cache
    holds. Only when a folder is opened does it ask the server (close-to-open), so each on the way is.
    """
    for inner in reversed(path.relative_to(root).parents):
        with contextlib.suppress(OSError):
            os.close(os.open(root / inner, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the small JSON object in a file; None if there is none, or it is something else."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    with os.fdopen(handle, "rb") as file:
        raw = file.read(MAX_MARKER_BYTES + 1)
    try:
        document = json.loads(raw) if len(raw) <= MAX_MARKER_BYTES else None
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def write_durably(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: a temporary name, synced, renamed, its folder synced."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o440)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def rename(source: Path, target: Path) -> bool:
    """Rename a folder and sync both parents; False if there is none. The target's parents are made."""
    if not source.is_dir() or source.is_symlink():
        return False
    make_parents(target)
    source.rename(target)
    sync_folder(target.parent)
    sync_folder(source.parent)
    return True


def make_parents(target: Path) -> None:
    """Make the folder that `target` will lie in, durably."""
    parent = target.parent
    if not parent.is_dir():
        parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        sync_folder(parent.parent)


def names(folder: Path) -> list[str]:
    """Return the names in a folder, sorted; none if it is not there."""
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208 - names, not paths
    except FileNotFoundError:
        return []


def delete(path: Path) -> None:
    """Delete a tree, its marker first, so that a half-deleted one never looks whole."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        (path / MARKER).unlink()
    if path.is_symlink() or path.is_file():
        path.unlink()
        return
    shutil.rmtree(path, onerror=_gone_already)


def _gone_already(_call: Any, _path: str, info: Any) -> None:
    error = info[1]
    if not isinstance(error, FileNotFoundError):
        raise error


def measure(tree: Path) -> tuple[int, int]:
    """Return files and bytes below a tree, its own marker left out."""
    files = size = 0
    stack = [os.fspath(tree)]
    while stack:
        with os.scandir(stack.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    stack.append(entry.path)
                else:
                    files += 1
                    size += entry.stat(follow_symlinks=False).st_size
    marker = tree / MARKER
    with contextlib.suppress(FileNotFoundError):
        size -= marker.lstat().st_size
        files -= 1
    return files, size


def weigh(tree: Path, paths: Sequence[str]) -> tuple[int, int]:
    """Return bytes and inodes of those files at `paths` that are there, with a folder for each and one for all."""
    size = count = 0
    for path in paths:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            size += (tree / path).lstat().st_size
            count += 2
    return size, count + 1 if count else 0


def set_aside(tree: Path, paths: Sequence[str], target: Path | None) -> None:
    """Move files of a tree below the new folder `target`, a folder with a number for each; or delete them."""
    if target is not None:
        target.mkdir(mode=FOLDER_MODE, parents=True)
    for number, path in enumerate(paths):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            if target is None:
                (tree / path).unlink()
            else:
                (target / str(number)).mkdir(mode=FOLDER_MODE)
                (tree / path).rename(target / str(number) / Path(path).name)
            sync_folder((tree / path).parent)


def put_back(staged: Path, tree: Path) -> None:
    """Move each staged file to its place in a tree, replacing what is there, and sync the folders."""
    for current, _, files in os.walk(staged, followlinks=False):
        there = tree / os.path.relpath(current, staged)
        if files:
            there.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            for name in files:
                (Path(current) / name).replace(there / name)
            sync_folder(there)
    shutil.rmtree(staged, ignore_errors=True)


def take_over(spent: Path, target: Path) -> int:
    """Move the regular files of a folder to the same places below `target`; return how many. The marker is left.

    File by file, into folders of its own: whoever built the folder may still hold its folders open, and must not reach
    into `target` through them. What stands in another's way is left, too.
    """
    moved, root = 0, open_root(target)
    try:
        for current, _, files in os.walk(spent, followlinks=False):
            here = Path(current)
            wanted = [name for name in files if not (here / name).is_symlink() and here / name != spent / MARKER]
            if wanted:
                with contextlib.suppress(*IN_THE_WAY), folder(root, _relative(here, spent)) as handle:
                    for name in wanted:
                        with contextlib.suppress(*IN_THE_WAY):
                            os.rename(here / name, name, dst_dir_fd=handle)
                            moved += 1
    finally:
        os.close(root)
    return moved


def _relative(path: Path, root: Path) -> str:
    return "" if path == root else path.relative_to(root).as_posix()


def foreign_folder(path: Path, root: Path) -> bool:
    """Return whether `path` is a readable folder, and no part of what the site below `root` manages."""
    try:
        real = path.resolve(strict=True)
    except OSError:
        return False
    own = [root.resolve() / name for name in (VERSIONS, STAGING, TRASH, QUARANTINE, EARLY)]
    apart = not any(real.is_relative_to(area) or area.is_relative_to(real) for area in own)
    return apart and real.is_dir() and os.access(real, os.R_OK | os.X_OK)


def protect(tree: Path) -> None:
    """Make the files of a tree read-only, under whatever other names they have, too."""
    for current, _, files in os.walk(tree, followlinks=False):
        for name in files:
            handle = os.open(Path(current) / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.fchmod(handle, FILE_MODE)
            finally:
                os.close(handle)


def link_tree(source: Path, target: Path, *, tolerant: bool = False) -> None:
    """Give `target` hard links to the regular files of `source`, its marker left out.

    `tolerant`: files that cannot be linked (another file system, another owner, too many links) are left out.
    """
    target.mkdir(mode=FOLDER_MODE, exist_ok=True)
    for current, folders, files in os.walk(source, followlinks=False):
        there = target / os.path.relpath(current, source)
        for name in folders:
            if not (Path(current) / name).is_symlink():
                (there / name).mkdir(mode=FOLDER_MODE, exist_ok=True)
        for name in files:
            path = Path(current) / name
            if path.is_symlink() or not path.is_file() or (name == MARKER and Path(current) == source):
                continue
            if tolerant and path.lstat().st_uid != os.geteuid():  # its mode is not ours to change
                continue
            try:
                os.link(path, there / name, follow_symlinks=False)
            except OSError as error:
                if not tolerant or error.errno not in {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK}:
                    raise
