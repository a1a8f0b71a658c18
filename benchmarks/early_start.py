"""Early start: from a run's request to its first batch, and to its last, beside a run that waits for the whole copy.

    python -m benchmarks.early_start [--files 2700] [--mean 398000] [--rounds 4] [--window 1]

One site, one version, packs. Each run begins with an empty site and fetches all of it; runs that begin early and runs
that wait take turns (A-B-B-A). The component (`early_step.py`) reads one epoch, shuffled within a window of packs, in
batches of 32 files. Lake and site are on the same machine, and the whole copy takes seconds: the larger a version and
the slower the lake, the more there is to gain.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from benchmarks.data.generate import Shape, generate

from millrace.clock import SystemClock
from millrace.datasets.push import push
from millrace.objects.s3 import S3ObjectStore
from millrace_stack.config import SERVICES, StackConfig
from millrace_stack.stack import Stack, down, up

DATASET, SITE = "bench", "nfs-a"
PATIENCE = 600.0
Times = tuple[float, float]


def config(site_bytes: int) -> StackConfig:
    """Return a stack whose trainer knows the component, and whose cache keeps nothing that was cleared."""
    argv = [sys.executable, str(Path(__file__).resolve().with_name("early_step.py"))]
    changed = {
        "trainer": {"MILLRACE_TRAINER_COMPONENTS": json.dumps({"early-step": argv})},
        "cache-manager": {"MILLRACE_CACHE_MANAGER_GRACE_SECONDS": "0"},
    }
    services = [
        spec.model_copy(update={"env": {**spec.env, **changed[spec.name]}}) if spec.name in changed else spec
        for spec in SERVICES
    ]
    return StackConfig(ports="auto", services=tuple(services), site_bytes=site_bytes)


async def committed(http: httpx.AsyncClient, stack: Stack, folder: Path) -> None:
    """Push the folder, and commit it."""
    store = S3ObjectStore(
        endpoint=stack.state.urls["s3"],
        bucket="millrace",
        region="us-east-1",
        access_key=stack.layout.s3_access_key.read_text().strip(),
        secret_key=stack.layout.s3_secret_key.read_text().strip(),
    )
    pushed = await push(folder, store, project="default")
    (await http.put(f"/v1/datasets/{DATASET}", json={})).raise_for_status()
    body = {name: getattr(pushed, name) for name in ("tree_root", "files", "bytes")}
    body |= {"manifest": pushed.manifest_id, "packs": list(pushed.packs)}
    (await http.post(f"/v1/datasets/{DATASET}/commits", json=body)).raise_for_status()


async def training(http: httpx.AsyncClient, *, early: bool, params: dict[str, int]) -> Times:
    """Let a run read an epoch on an empty site; return the seconds to its first batch and to its last."""
    wish = {"dataset": DATASET, "component": "early-step", "site": SITE, "gpus": 0, "mode": "packs"}
    asked = SystemClock().now()
    run = (
        (await http.post("/v1/runs", json={**wish, "early": early, "params": params})).raise_for_status().json()["run"]
    )
    found = await until(http, f"/v1/runs/{run}", lambda it: it["state"] in {"completed", "failed"})
    lines = [line["line"] for line in (await http.get(f"/v1/runs/{run}/logs")).json()["items"]]
    said = {
        line.split()[0]: datetime.fromisoformat(line.split()[1]) for line in lines if line[:5] in {"first", "epoch"}
    }
    if found["state"] != "completed" or len(said) != 2:
        raise SystemExit(f"run {run}: {found['state']}, {found['reason']}; {lines[-3:]}")
    await cleared(http)
    return (said["first-batch"] - asked).total_seconds(), (said["epoch"] - asked).total_seconds()


async def cleared(http: httpx.AsyncClient) -> None:
    """Empty the site."""
    path = f"/v1/cache/entries?dataset={DATASET}"
    for entry in (await http.get(path)).json()["items"]:
        (await http.delete(f"/v1/cache/entries/{entry['id']}")).raise_for_status()
    await until(http, path, lambda it: not it["items"])


async def until(http: httpx.AsyncClient, path: str, done: Any) -> dict[str, Any]:
    """Return what a route answers as soon as it is as wished."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found: dict[str, Any] = (await http.get(path)).raise_for_status().json()
        if done(found):
            return found
        await asyncio.sleep(0.1)
    raise SystemExit(f"{path}: not done within {PATIENCE} s")


async def measure(stack: Stack, folder: Path, rounds: int, window: int) -> None:
    """Print a line for each run, and then medians and ratios."""
    headers = {"authorization": f"Bearer {stack.layout.owner_token.read_text().strip()}"}
    taken: dict[bool, list[Times]] = {True: [], False: []}
    async with httpx.AsyncClient(base_url=stack.state.urls["gateway"], headers=headers, timeout=30) as http:
        await committed(http, stack, folder)
        for number in range(rounds):
            for early in (True, False) if number % 2 == 0 else (False, True):
                times = await training(http, early=early, params={"seed": number, "window": window})
                taken[early].append(times)
                name = "early" if early else "ready"
                print(f"round {number + 1}, {name}: first batch {times[0]:.2f} s, epoch {times[1]:.2f} s", flush=True)
    for place, what in enumerate(("first batch", "epoch")):
        soon, late = ([times[place] for times in taken[kind]] for kind in (True, False))
        ratios = [other / one for one, other in zip(soon, late, strict=True)]
        print(f"{what}: early {spread(soon)} s, ready {spread(late)} s, {spread(ratios)} times as soon")


def spread(values: list[float]) -> str:
    """Return the median with the lowest and the highest."""
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(prog="early_start.py")
    parser.add_argument("--files", type=int, default=2_700)
    parser.add_argument("--mean", type=int, default=398_000)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--window", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-early-") as home:
        source = Path(home) / "source"
        size = generate(source, Shape("early", options.files, options.mean))
        print(f"{options.files} files, {size / 1e9:.2f} GB, window {options.window}", flush=True)
        stack = up(str(Path(home) / "stack"), config(4 * size), seconds=240)
        try:
            asyncio.run(measure(stack, source, options.rounds, options.window))
        finally:
            down(str(Path(home) / "stack"))


if __name__ == "__main__":
    main()
