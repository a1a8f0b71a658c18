"""The model package: what serving needs, proven on the spot to give Keras's answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnxruntime
import tensorflow as tf
import tf2onnx
from numpy.typing import NDArray

from millrace.errors import Corrupt
from millrace_components.classifier import network
from millrace_components.classifier.network import INPUT, OUTPUT

OPSET = 17
TOLERANCE = 1e-3
"""What a golden answer may differ by on another machine."""
PARITY = 1e-4
"""What ONNX Runtime may differ from Keras by, or the package is refused."""
GOLDEN_ROWS = 8


def export(
    model: Any, folder: Path, *, rows: NDArray[np.float32], classes: tuple[str, ...], facts: dict[str, str]
) -> float:
    """Write `model.keras`, `model.onnx`, `package.json` and `golden.json` into `folder`.

    `rows` are held-out inputs to compare the two forms by; returns their largest absolute difference.

    Raises:
        Corrupt: the ONNX form answers differently.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _without_optimizer(model).save(folder / "model.keras")
    _write_onnx(model, folder / "model.onnx")
    expected = network.predict(network.answering(model), rows)
    answers = _onnx_answers(folder / "model.onnx", rows)
    difference = float(np.abs(answers - expected).max())
    if not difference <= PARITY:
        raise Corrupt(f"the ONNX form differs from Keras by {difference:g}, more than {PARITY:g}")
    golden = {
        "inputs": rows[:GOLDEN_ROWS].tolist(),
        "outputs": answers[:GOLDEN_ROWS].tolist(),
        "tolerance": TOLERANCE,
    }
    _write(folder / "golden.json", golden)
    _write(folder / "package.json", _description(model, classes, difference) | facts)
    return difference


def _without_optimizer(model: Any) -> Any:
    bare = keras.models.clone_model(model)
    bare.set_weights(model.get_weights())
    return bare


def _description(model: Any, classes: tuple[str, ...], difference: float) -> dict[str, Any]:
    height, width, channels = model.input_shape[1:]
    return {
        "framework": f"keras-{keras.__version__}",
        "signature": {
            "inputs": [{"name": INPUT, "dtype": "FP32", "shape": [-1, height, width, channels]}],
            "outputs": [{"name": OUTPUT, "dtype": "FP32", "shape": [-1, len(classes)]}],
        },
        "classes": list(classes),
        "preprocessing": {"height": height, "width": width, "channels": channels, "scale": 1 / 255},
        "parity": {"max_abs_error": difference},
    }


def _write_onnx(model: Any, path: Path) -> None:
    signature = [tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name=INPUT)]

    @tf.function(input_signature=signature)  # type: ignore[untyped-decorator]
    def forward(image: Any) -> dict[str, Any]:
        return {OUTPUT: model(image, training=False)}

    tf2onnx.convert.from_function(forward, input_signature=signature, opset=OPSET, output_path=str(path))


def _onnx_answers(path: Path, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run([OUTPUT], {INPUT: rows})[0], dtype=np.float32)


def _write(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, sort_keys=True, allow_nan=False), encoding="utf-8")
