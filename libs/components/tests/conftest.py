"""A small tree of images, and an agent that listens to a component."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

CLASSES = ("bar", "dot", "ring")


def draw(kind: str, random: np.random.Generator) -> np.ndarray:
    image = random.normal(0.05, 0.03, (8, 8))
    row, column = random.integers(2, 5, 2)
    if kind == "bar":
        image[row, :] += 0.8
    if kind == "dot":
        image[row : row + 2, column : column + 2] += 0.8
    if kind == "ring":
        image[[1, 6], 1:7] += 0.8
        image[1:7, [1, 6]] += 0.8
    return (np.clip(image, 0, 1) * 255).astype(np.uint8)


def write(root: Path, prefix: str, count: int, seed: int, *, invert: bool = False) -> None:
    random = np.random.default_rng(seed)
    for kind in CLASSES:
        folder = root / prefix / kind
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = draw(kind, random)
            Image.fromarray(255 - pixels if invert else pixels).save(folder / f"{number:03d}.png")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """train/ and holdout/ of three easy classes."""
    root = tmp_path / "tree"
    write(root, "train", 20, 1)
    write(root, "holdout", 8, 2)
    return root


@pytest.fixture(name="write")
def write_fixture() -> Callable[..., None]:
    """Write more rows: `write(root, prefix, count, seed, invert=…)`."""
    return write


@dataclass
class Listener:
    """Plays the agent: records what a component says; `answer` may hold an answer back by returning False."""

    path: Path
    said: list[dict[str, Any]] = field(default_factory=list)
    answer: Callable[[dict[str, Any]], bool] = lambda _: True

    def start(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(self.path))
        self._socket.listen(4)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as lines:
                for line in lines:
                    message = json.loads(line)
                    self.said.append(message)
                    if not self.answer(message):
                        break
                    connection.sendall(b'{"ok": true}\n')
                else:
                    continue
                threading.Event().wait()

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.said if message["op"] == kind]

    def close(self) -> None:
        self._socket.close()


@dataclass
class Run:
    """One process of the classifier under the run contract."""

    folder: Path
    listener: Listener
    process: subprocess.Popen[bytes]

    def finish(self, seconds: float = 100) -> int:
        return self.process.wait(seconds)

    @property
    def errors(self) -> str:
        return (self.folder / "stderr").read_text()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Start a classifier; what still runs at the end is killed."""
    runs: list[Run] = []

    def begin(tree: Path, name: str, *, checkpoint: Path | None = None, answer: Any = None, **params: Any) -> Run:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "params.json").write_text(json.dumps(params))
        facts = {"run": "00000000-0000-7000-8000-000000000001", "dataset": "shapes", "commit": "d" * 64}
        (folder / "run.json").write_text(json.dumps(facts))
        if checkpoint is not None:
            (folder / "checkpoint").symlink_to(checkpoint)
        listener = Listener(folder / "s")
        if answer is not None:
            listener.answer = answer
        listener.start()
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "MILLRACE_RUN_ID": facts["run"],
            "MILLRACE_RUN_DIR": str(folder),
            "MILLRACE_INPUT_DATASET": str(tree),
            "MILLRACE_SOCKET": str(folder / "s"),
        }
        with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
            process = subprocess.Popen(
                [sys.executable, "-m", "millrace_components.classifier"],
                env=environment,
                cwd=folder,
                stdout=out,
                stderr=err,
            )
        runs.append(Run(folder, listener, process))
        return runs[-1]

    yield begin
    for run in runs:
        if run.process.poll() is None:
            run.process.kill()
            run.process.wait()
        run.listener.close()
