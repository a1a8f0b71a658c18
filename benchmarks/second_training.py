"""The second training at a site: what it downloads, and how long after its grant it takes its first step.

    python benchmarks/second_training.py [--files 3000] [--mean 398000] [--trainings 4]

A version is pushed, and trained on several times, one run after the other, at one site. The component (`first_step.py`)
opens its input, takes one shuffled batch of 32 files, and says when it had it; importing a framework is its own affair
and not in it. The time runs from `training.started`, which is written once the process of a granted run exists, and
from the run's request.
"""

from __future__ import annotations

import argparse
import asyncio
import json
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

DATASET = "bench"
SITE = "nfs-a"
PATIENCE = 600.0


def config(site_bytes: int) -> StackConfig:
    """Return a stack whose trainer knows the component."""
    argv = [sys.executable, str(Path(__file__).resolve().with_name("first_step.py"))]
    env = {"MILLRACE_TRAINER_COMPONENTS": json.dumps({"first-step": argv})}
    services = [spec.model_copy(update={"env": env}) if spec.name == "trainer" else spec for spec in SERVICES]
    return StackConfig(ports="auto", services=tuple(services), site_bytes=site_bytes)


async def measure(stack: Stack, folder: Path, trainings: int) -> None:
    """Push, train, and print a line for each training."""
    layout = stack.layout
    headers = {"authorization": f"Bearer {layout.owner_token.read_text().strip()}"}
    store = S3ObjectStore(
        endpoint=stack.state.urls["s3"],
        bucket="millrace",
        region="us-east-1",
        access_key=layout.s3_access_key.read_text().strip(),
        secret_key=layout.s3_secret_key.read_text().strip(),
    )
    pushed = await push(folder, store, project="default")
    async with httpx.AsyncClient(base_url=stack.state.urls["gateway"], headers=headers, timeout=30) as http:
        (await http.put(f"/v1/datasets/{DATASET}", json={})).raise_for_status()
        names = ("tree_root", "files", "bytes")
        body = {
            "manifest": pushed.manifest_id,
            "packs": list(pushed.packs),
            **{it: getattr(pushed, it) for it in names},
        }
        (await http.post(f"/v1/datasets/{DATASET}/commits", json=body)).raise_for_status()
        fetched = 0
        for number in range(1, trainings + 1):
            fetched = await training(http, number, fetched)


async def training(http: httpx.AsyncClient, number: int, before: int) -> int:
    """Run one training, print what it took, and return the bytes that its site has fetched so far."""
    wish = {"dataset": DATASET, "component": "first-step", "site": SITE, "gpus": 0}
    asked = SystemClock().now()
    run = (await http.post("/v1/runs", json=wish)).raise_for_status().json()["run"]
    found = await _until(http, f"/v1/runs/{run}", lambda it: it["state"] in {"completed", "failed"})
    lines = (await http.get(f"/v1/runs/{run}/logs")).json()["items"]
    said = next((line["line"] for line in lines if line["line"].startswith("first-step")), None)
    if found["state"] != "completed" or said is None:
        raise SystemExit(f"run {run}: {found['state']}, {found['reason']}; {lines[-3:]}")
    step = datetime.fromisoformat(said.split()[1])
    granted = datetime.fromisoformat(found["started_at"])
    entries = (await http.get("/v1/cache/entries", params={"dataset": DATASET})).json()["items"]
    fetched: int = sum(entry["fetched_bytes"] for entry in entries)
    what = f"{(fetched - before) / 1e6:.0f} MB downloaded, cache {'hit' if found['cache_hit'] else 'miss'}"
    after = f"{(step - granted).total_seconds():.2f} s after the grant"
    whole = f"{(step - asked).total_seconds():.2f} s after the request"
    print(f"training {number}: {what}, first step {after}, {whole}", flush=True)
    return fetched


async def _until(http: httpx.AsyncClient, path: str, done: Any) -> dict[str, Any]:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found: dict[str, Any] = (await http.get(path)).raise_for_status().json()
        if done(found):
            return found
        await asyncio.sleep(0.1)
    raise SystemExit(f"{path}: not done within {PATIENCE} s")


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(prog="second_training.py")
    parser.add_argument("--files", type=int, default=3_000)
    parser.add_argument("--mean", type=int, default=398_000)
    parser.add_argument("--trainings", type=int, default=4)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-training-") as home:
        source = Path(home) / "source"
        size = generate(source, Shape("second", options.files, options.mean))
        stack = up(str(Path(home) / "stack"), config(4 * size), seconds=240)
        try:
            asyncio.run(measure(stack, source, options.trainings))
        finally:
            down(str(Path(home) / "stack"))


if __name__ == "__main__":
    main()
