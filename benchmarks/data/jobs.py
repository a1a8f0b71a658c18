"""Our side of each comparison, run as a process of its own, so that start-up and imports count: `jobs.py JOB …`.

The lake is reached by keys, as the services do; what the gateway adds is measured by `cli` in `__main__`.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from millrace.datasets.buffers import Buffers, anonymous
from millrace.datasets.direct import write_all
from millrace.datasets.fill import fill
from millrace.datasets.manifest import Manifest
from millrace.datasets.pack_fill import fill_packs
from millrace.datasets.push import push
from millrace.datasets.statcache import StatCache
from millrace.objects.s3 import S3ObjectStore

PROJECT = "default"
CEILING_BYTES = 512 * 1024 * 1024
PIECE = 32 * 1024 * 1024


def store() -> S3ObjectStore:
    """Return the bucket that the environment names."""
    return S3ObjectStore(
        endpoint=os.environ["BENCH_S3"],
        bucket=os.environ["BENCH_BUCKET"],
        region="us-east-1",
        access_key=os.environ["AWS_ACCESS_KEY_ID"],
        secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
    )


async def do_push(root: str, state: str) -> None:
    """Push a folder; its manifest and stat cache are kept in `state`, as parent of the next push."""
    folder, lake = Path(state), store()
    folder.mkdir(exist_ok=True)
    known = folder / "manifest"
    parent = Manifest.parse(known.read_bytes()) if known.exists() else None
    with StatCache(folder / "stat.sqlite") as cache:
        done = await push(Path(root), lake, project=PROJECT, parent=parent, stat_cache=cache)
    if done.changed:
        known.write_bytes(done.manifest.to_bytes())
    await lake.close()


async def do_pull(state: str, target: str, mode: str) -> None:
    """Bring the version of `state` to a folder, as a tree or as packs."""
    manifest = Manifest.parse((Path(state) / "manifest").read_bytes())
    lake = store()
    if mode == "tree":
        await fill(lake, manifest, Path(target), project=PROJECT)
    else:
        await fill_packs(lake, manifest, Path(target), project=PROJECT)
    await lake.close()


async def do_ceiling(direction: str) -> None:
    """Print the server's own rate in bytes per second: whole objects of 32 MiB, four at once, nothing else done."""
    lake = store()
    data, buffers = os.urandom(PIECE), Buffers()
    keys = [f"ceiling/{index}" for index in range(CEILING_BYTES // PIECE)]
    room = asyncio.Semaphore(4)

    async def one(key: str) -> None:
        async with room:
            if direction == "put":
                await lake.put(key, data)
            else:
                buffer = buffers.take(PIECE)
                await lake.get_into(key, memoryview(buffer))
                buffers.give(buffer)

    begun = time.perf_counter()
    await asyncio.gather(*(one(key) for key in keys))
    print(CEILING_BYTES / (time.perf_counter() - begun))
    await lake.close()


def disk(target: str, files: int, size: int) -> None:
    """Print the disk's own rate in bytes per second: files of that size, two threads, written as we do, one `sync`."""
    root = Path(target)
    root.mkdir()
    view = memoryview(anonymous(size))
    view[:] = os.urandom(size)
    begun = time.perf_counter()

    def some(part: int) -> None:
        folder = root / str(part)
        folder.mkdir()
        for index in range(files // 16):
            handle = os.open(folder / str(index), os.O_WRONLY | os.O_CREAT)
            write_all(handle, view)
            os.close(handle)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(some, range(16)))
    handle = os.open(root, os.O_RDONLY)
    os.fsync(handle)
    os.sync()
    os.close(handle)
    print(files // 16 * 16 * size / (time.perf_counter() - begun))


def main(job: str, *arguments: str) -> None:
    """Do one job."""
    if job == "disk":
        disk(arguments[0], int(arguments[1]), int(arguments[2]))
        return
    jobs = {"push": do_push, "pull": do_pull, "ceiling": do_ceiling}
    asyncio.run(jobs[job](*arguments))  # type: ignore[operator]


if __name__ == "__main__":
    main(*sys.argv[1:])
