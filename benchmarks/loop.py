"""From a commit to a running process, on a warm stack: how long the whole chain of services takes.

Twenty tiny versions, one after the other: each is committed over HTTP, a policy asks for cache and training,
cache-manager fills the site, the trainer grants a slot and spawns the component `noop`. The time runs from just before
the commit request until the moment that `training.started` carries, which is written after the spawn.

    python benchmarks/loop.py [--commits 20] [--json FILE]

Target: p50 at most 1 s. There is no peer that does all of this; the floor beside it is the bare work of the same steps
(a push, a spawn), measured in the same run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from millrace.clock import SystemClock, new_id
from millrace.datasets.push import push
from millrace.objects.s3 import S3ObjectStore
from millrace_stack.config import StackConfig
from millrace_stack.stack import Stack, down, up

DATASET = "bench"
WARM_UPS = 2
PATIENCE = 60.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commits", type=int, default=20)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as home:
        stack = up(home, StackConfig(ports="auto"), seconds=240)
        try:
            rows = asyncio.run(measure(stack, options.commits, Path(home) / "data"))
        finally:
            down(home)
    summary = report(rows)
    if options.json:
        options.json.write_text(json.dumps({"summary": summary, "rows": rows}, indent=1))
    return 0


async def measure(stack: Stack, commits: int, folder: Path) -> list[dict[str, float]]:
    """Return one row per commit: seconds of the whole, of its parts, and of the bare work."""
    layout = stack.layout
    headers = {"authorization": f"Bearer {layout.owner_token.read_text().strip()}"}
    store = S3ObjectStore(
        endpoint=stack.state.urls["s3"],
        bucket="millrace",
        region="us-east-1",
        access_key=layout.s3_access_key.read_text().strip(),
        secret_key=layout.s3_secret_key.read_text().strip(),
    )
    async with httpx.AsyncClient(base_url=stack.state.urls["gateway"], headers=headers, timeout=15) as http:
        await _prepare(http)
        rows = []
        for number in range(WARM_UPS + commits):
            row = await _once(http, store, folder, number)
            if number >= WARM_UPS:
                rows.append(row)
                print(f"commit {number - WARM_UPS + 1:3d}: " + "  ".join(f"{k} {v:6.3f}" for k, v in row.items()))
    return rows


async def _prepare(http: httpx.AsyncClient) -> None:
    (await http.put(f"/v1/datasets/{DATASET}", json={})).raise_for_status()
    train = {"train": {"component": "noop", "site": "nfs-a"}}
    policy = {
        "on": "dataset.committed",
        "where": {"dataset": DATASET},
        "do": [{"cache": {"site": "nfs-a"}}, train],
    }
    (await http.put("/v1/policies/bench", json=policy)).raise_for_status()


async def _once(http: httpx.AsyncClient, store: S3ObjectStore, folder: Path, number: int) -> dict[str, float]:
    folder.mkdir(exist_ok=True)
    (folder / f"{number:03d}.txt").write_text(f"version {number}\n")
    begun = time.perf_counter()
    pushed = await push(folder, store, project="default")
    pushing = time.perf_counter() - begun
    spawn = time.perf_counter()
    subprocess.run([sys.executable, "-S", "-c", ""], check=True)
    spawning = time.perf_counter() - spawn
    head = (await http.get(f"/v1/datasets/{DATASET}")).json()["head"]
    body = {
        "manifest": pushed.manifest_id,
        "tree_root": pushed.tree_root,
        "files": pushed.files,
        "bytes": pushed.bytes,
        "packs": list(pushed.packs),
        "parent": head["commit"] if head else None,
        "message": f"version {number}",
    }
    clock = SystemClock()
    start = clock.now()
    answer = await http.post(f"/v1/datasets/{DATASET}/commits", json=body, headers={"idempotency-key": str(new_id())})
    answer.raise_for_status()
    committed = clock.now()
    commit = answer.json()["commit"]
    ready = await _event(http, "cache.ready", lambda data: data["commit"] == commit)
    started = await _event(http, "training.started", lambda data: data["commit"] == commit)
    run = started["data"]["run"]
    await _event(http, "training.completed", lambda data: data["run"] == run)
    return {
        "total": _between(start, started["time"]),
        "commit": (committed - start).total_seconds(),
        "to_ready": _between(start, ready["time"]),
        "bare_push": pushing,
        "bare_spawn": spawning,
    }


async def _event(http: httpx.AsyncClient, kind: str, match: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        params: dict[str, str | int] = {"type": kind, "order": "newest", "limit": 5}
        found = (await http.get("/v1/events", params=params)).json()["items"]
        for event in (item["event"] for item in found):
            if match(event["data"]):
                return dict(event)
        await asyncio.sleep(0.05)
    raise TimeoutError(f"{kind} did not come within {PATIENCE:g} s")


def _between(start: datetime, later: str) -> float:
    return (datetime.fromisoformat(later) - start).total_seconds()


def report(rows: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Print and return p50, p95 and the range of every column, in seconds."""
    summary = {}
    print(f"\n{'':>12} {'p50':>8} {'p95':>8} {'min':>8} {'max':>8}   seconds, n={len(rows)}")
    for name in rows[0]:
        values = sorted(row[name] for row in rows)
        p95 = values[min(len(values) - 1, round(0.95 * len(values)))]
        summary[name] = {"p50": statistics.median(values), "p95": p95, "min": values[0], "max": values[-1]}
        print(f"{name:>12} " + " ".join(f"{value:8.3f}" for value in summary[name].values()))
    return summary


if __name__ == "__main__":
    sys.exit(main())
