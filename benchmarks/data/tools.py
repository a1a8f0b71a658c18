"""Running one side of a comparison as a process, and what it cost."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

JOBS = Path(__file__).with_name("jobs.py")
LIMIT_SECONDS = 1_800


@dataclass(frozen=True)
class Cost:
    """Wall and CPU in seconds (children included), peak memory in MiB, and what was printed."""

    wall: float
    cpu: float
    memory: float
    output: str


def run(argv: Sequence[str], environ: Mapping[str, str]) -> Cost:
    """Run a command to its end.

    Raises:
        RuntimeError: it failed; its last words are in the message.
    """
    before = _used()
    begun = time.perf_counter()
    done = subprocess.run(argv, env=dict(environ), capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
    wall = time.perf_counter() - begun
    if done.returncode:
        raise RuntimeError(f"{argv[0]} ended with {done.returncode}: {done.stderr[-500:]}")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return Cost(wall, _used() - before, peak, done.stdout)


def _used() -> float:
    found = resource.getrusage(resource.RUSAGE_CHILDREN)
    return found.ru_utime + found.ru_stime


@dataclass(frozen=True)
class Lake:
    """One bucket of the server under test."""

    endpoint: str
    bucket: str
    keys: tuple[str, str]

    @property
    def environ(self) -> dict[str, str]:
        """Return what all tools need; a CA bundle of the environment makes some of them stumble, and none needs it."""
        kept = {name: value for name, value in os.environ.items() if name != "AWS_CA_BUNDLE"}
        key, secret = self.keys
        return kept | {
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_DEFAULT_REGION": "us-east-1",
            "BENCH_S3": self.endpoint,
            "BENCH_BUCKET": self.bucket,
            "RCLONE_CONFIG": os.devnull,
            "RCLONE_CONFIG_LAKE_TYPE": "s3",
            "RCLONE_CONFIG_LAKE_PROVIDER": "Other",
            "RCLONE_CONFIG_LAKE_ENDPOINT": self.endpoint,
            "RCLONE_CONFIG_LAKE_ENV_AUTH": "true",
            "RCLONE_CONFIG_LAKE_REGION": "us-east-1",
        }


def ours(lake: Lake, *arguments: str) -> Cost:
    """Do one of our jobs; see `jobs`."""
    return run([sys.executable, str(JOBS), *arguments], lake.environ)


def rclone(lake: Lake, source: str, target: str) -> Cost:
    """Let rclone copy; `lake:` stands for the bucket."""
    full = [place.replace("lake:", f"lake:{lake.bucket}/") for place in (source, target)]
    return run(["rclone", "copy", "--transfers", "32", "--checkers", "32", "-q", *full], lake.environ)


def aws(lake: Lake, source: str, target: str) -> Cost:
    """Let the AWS command line synchronise."""
    full = [place.replace("lake:", f"s3://{lake.bucket}/") for place in (source, target)]
    return run(["aws", "--endpoint-url", lake.endpoint, "s3", "sync", "--only-show-errors", *full], lake.environ)


def dvc(lake: Lake, source: str, target: str) -> Cost:
    """Let DVC track and push a folder, or pull it into a fresh repository; both lie beside the folder.

    Each bucket begins with an empty cache of DVC's own, as a first push on a fresh machine does.
    """
    pushing = target.startswith("lake:")
    folder = Path(source if pushing else target)
    repository = folder.parent if pushing else folder.with_name(f"{folder.name}-dvc")
    kept = f"{lake.bucket}.dvc-file"
    steps = [] if (repository / kept).exists() else ["rm -rf .dvc *.dvc", *_dvc_remote(lake)]
    if pushing:
        steps += [f"dvc add -q {folder.name}", "dvc push -q", f"cp {folder.name}.dvc {kept}"]
    else:
        repository.mkdir(parents=True)
        steps += [f"cp ../{kept} data.dvc", "dvc pull -q"]
    return run(["sh", "-ec", f"cd '{repository}'; " + "; ".join(steps)], lake.environ | {"DVC_NO_ANALYTICS": "1"})


def _dvc_remote(lake: Lake) -> list[str]:
    return [
        "dvc init -q --no-scm",
        f"dvc remote add -q -d lake s3://{lake.bucket}/dvc",
        f"dvc remote modify -q lake endpointurl {lake.endpoint}",
    ]


def available(tool: str) -> bool:
    """Return whether a peer is installed."""
    return shutil.which(tool) is not None
