"""The classifier as a process: exact resume, stopping, refusing, and what it leaves behind."""

from __future__ import annotations

import json
import signal
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnxruntime
import pytest

from millrace import reference as ref

pytestmark = pytest.mark.slow

PARAMS: dict[str, Any] = {"epochs": 4, "batch_size": 16, "width": 8, "siblings": 2, "seed": 11}


def weights(folder: Path, scratch: Path) -> dict[str, np.ndarray]:
    """Return every variable in a `.keras` file, the optimizer's included."""
    with zipfile.ZipFile(folder / "model.keras") as archive:
        archive.extract("model.weights.h5", scratch)
    found: dict[str, np.ndarray] = {}
    with h5py.File(scratch / "model.weights.h5") as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def assert_same_bits(one: Path, other: Path, scratch: Path) -> None:
    left, right = weights(one, scratch / "left"), weights(other, scratch / "right")
    assert left.keys() == right.keys()
    assert len(left) > 20
    different = [name for name in left if left[name].tobytes() != right[name].tobytes()]
    assert different == []


@pytest.mark.timeout(300)
def test_resumed_runs_equal_an_uninterrupted_one_bit_for_bit(
    tree: Path, tmp_path: Path, start: Callable[..., Any], write: Any
) -> None:
    write(tree, "reference/incident-1", 4, 5, invert=True)
    reached, measured = threading.Event(), threading.Event()

    def hold_second_checkpoint(message: dict[str, Any]) -> bool:
        if message["op"] == "checkpoint" and message["epoch"] == 2:
            reached.set()
            return False
        return True

    def note_second_metric(message: dict[str, Any]) -> bool:
        if message["op"] == "metric" and message["step"] == 2:
            stopped.process.send_signal(signal.SIGTERM)
            measured.set()
        return True

    whole = start(tree, "whole", **PARAMS)
    killed = start(tree, "killed", answer=hold_second_checkpoint, **PARAMS)
    stopped = start(tree, "stopped", answer=note_second_metric, **PARAMS)
    assert reached.wait(100), killed.errors
    killed.process.kill()
    assert killed.finish() == -signal.SIGKILL
    assert measured.wait(100), stopped.errors
    assert stopped.finish() == 75
    in_the_middle = Path(stopped.listener.of("checkpoint")[-1]["path"])
    assert in_the_middle.name == "epoch-0002-batch-000001"
    after_kill = start(tree, "after-kill", checkpoint=tmp_path / "killed/checkpoints/epoch-0002", **PARAMS)
    after_stop = start(tree, "after-stop", checkpoint=in_the_middle, **PARAMS)
    assert [run.finish() for run in (whole, after_kill, after_stop)] == [0, 0, 0], after_kill.errors
    assert "resumed after epoch 2, batch 1" in (after_stop.folder / "stdout").read_text()
    final = whole.folder / "checkpoints" / "epoch-0004"
    assert_same_bits(final, after_kill.folder / "checkpoints" / "epoch-0004", tmp_path)
    assert_same_bits(final, after_stop.folder / "checkpoints" / "epoch-0004", tmp_path)
    tail = {json.dumps(message["values"]) for message in whole.listener.of("metric") if message["step"] > 2}
    for run in (after_kill, after_stop):
        assert {json.dumps(message["values"]) for message in run.listener.of("metric")} == tail
    check_package(whole)
    check_reference(whole.folder / "reference.json")
    assert (after_kill.folder / "reference.json").read_bytes() == (whole.folder / "reference.json").read_bytes()


def check_package(run: Any) -> None:
    folder = run.folder / "model"
    assert {path.name for path in folder.iterdir()} == {"model.keras", "model.onnx", "package.json", "golden.json"}
    about, golden = (json.loads((folder / name).read_text()) for name in ("package.json", "golden.json"))
    assert about["signature"]["inputs"] == [{"name": "image", "dtype": "FP32", "shape": [-1, 8, 8, 1]}]
    assert about["signature"]["outputs"] == [{"name": "probabilities", "dtype": "FP32", "shape": [-1, 3]}]
    assert (about["dataset"], about["commit"]) == ("shapes", "d" * 64)
    assert about["parity"]["max_abs_error"] <= 1e-4
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    (answers,) = session.run(["probabilities"], {"image": np.array(golden["inputs"], dtype=np.float32)})
    assert np.abs(answers - np.array(golden["outputs"])).max() <= golden["tolerance"]
    (told,) = run.listener.of("model")
    assert told["path"] == str(folder)
    assert {"accuracy", "loss"} <= set(told["metrics"])
    assert [message["epoch"] for message in run.listener.of("checkpoint")] == [1, 2, 3, 4]
    assert [message["code"] for message in run.listener.of("stage")] == [200, 201, 300, 301]


def check_reference(path: Path) -> None:
    made = ref.load(path.read_bytes())
    assert (made.record_set, made.incident, made.rows) == ("incident", "incident-1", 12)
    assert made.predictions.basis == "cross-fitted"
    assert made.predictions.classes == ("bar", "dot", "ring")
    assert (made.dataset, made.commit) == ("shapes", "d" * 64)


@pytest.mark.timeout(120)
def test_unusable_input_and_parameters_end_with_65_and_a_reason(
    tree: Path, tmp_path: Path, start: Callable[..., Any]
) -> None:
    bad = start(tree, "bad", epochs="many")
    assert bad.finish() == 65
    assert bad.errors.splitlines()[-1].startswith("unusable: parameter epochs")
    empty = start(tmp_path / "nothing", "empty")
    assert empty.finish() == 65
    assert "no PNG files" in empty.errors.splitlines()[-1]


@pytest.mark.timeout(120)
def test_a_damaged_checkpoint_is_refused_and_the_run_starts_anew(
    tree: Path, tmp_path: Path, start: Callable[..., Any]
) -> None:
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "model.keras").write_bytes(b"half")
    (damaged / "state.json").write_text("{}")
    run = start(tree, "run", checkpoint=damaged, **{**PARAMS, "epochs": 1})
    assert run.finish() == 0, run.errors
    assert "starting from the beginning" in (run.folder / "stdout").read_text()
    made = ref.load((run.folder / "reference.json").read_bytes())
    assert (made.record_set, made.predictions.basis, made.rows) == ("holdout", "held-out", 24)
