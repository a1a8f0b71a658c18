"""The network, its optimizer, and its random state."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from millrace_components.classifier.params import Params

INPUT, OUTPUT = "image", "probabilities"
PREDICT_ROWS = 1_024


def make_deterministic() -> None:
    """Make TensorFlow's operations give the same bits every time; call it once, before any of them."""
    tf.config.experimental.enable_op_determinism()


def build(shape: tuple[int, int, int], classes: int, params: Params, *, steps: int) -> Any:
    """Return a compiled model; `steps` is the whole run's number of batches, over which the learning rate falls."""
    keras.utils.set_random_seed(params.seed)
    layers = keras.layers
    inputs = keras.Input(shape, name=INPUT)
    hidden = inputs
    for filters, pooled in ((params.width // 2, False), (params.width, True), (params.width * 2, True)):
        hidden = layers.Conv2D(filters, 3, padding="same", activation="relu")(hidden)
        if pooled:
            hidden = layers.MaxPooling2D(padding="same")(hidden)
    hidden = layers.Flatten()(hidden) if max(shape[:2]) <= 32 else layers.GlobalAveragePooling2D()(hidden)
    if params.dropout:
        hidden = layers.Dropout(params.dropout)(hidden)
    hidden = layers.Dense(4 * params.width, activation="relu")(hidden)
    model = keras.Model(inputs, layers.Dense(classes, activation="softmax", name=OUTPUT)(hidden), name="classifier")
    rate = keras.optimizers.schedules.CosineDecay(params.learning_rate, max(1, steps))
    model.compile(optimizer=keras.optimizers.Adam(rate), loss="sparse_categorical_crossentropy")
    model.optimizer.build(model.trainable_variables)
    return model


def training_step(model: Any) -> Any:
    """Return a compiled function (images, labels) → (sum of losses, right answers) that takes one step."""
    signature = [
        tf.TensorSpec((None, *model.input_shape[1:]), tf.float32),
        tf.TensorSpec((None,), tf.int64),
    ]

    @tf.function(input_signature=signature)  # type: ignore[untyped-decorator]
    def step(images: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            probabilities = model(images, training=True)
            losses = keras.losses.sparse_categorical_crossentropy(labels, probabilities)
            loss = tf.reduce_mean(losses)
        model.optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        right = tf.equal(tf.argmax(probabilities, axis=1), labels)
        return tf.reduce_sum(losses), tf.reduce_sum(tf.cast(right, tf.int64))

    return step


def answering(model: Any) -> Any:
    """Return a compiled function images → probabilities."""

    @tf.function(input_signature=[tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)])  # type: ignore[untyped-decorator]
    def answer(images: Any) -> Any:
        return model(images, training=False)

    return answer


def predict(answer: Any, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the probabilities of many images."""
    parts = [answer(images[start : start + PREDICT_ROWS]).numpy() for start in range(0, len(images), PREDICT_ROWS)]
    return np.concatenate(parts)


def scores(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> tuple[float, float]:
    """Return mean loss and accuracy of answers."""
    right = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    loss = float(-np.log(np.clip(right, 1e-7, 1.0)).mean())
    return loss, float((probabilities.argmax(axis=1) == labels).mean())


def generator_states(model: Any) -> dict[str, list[int]]:
    """Return the state of the random generators of dropout layers, which `.keras` files do not restore."""
    return {
        layer.name: [int(part) for part in layer.seed_generator.state.numpy()]
        for layer in model.layers
        if getattr(layer, "seed_generator", None) is not None
    }


def restore_generators(model: Any, states: dict[str, list[int]]) -> None:
    """Set the state of the random generators of dropout layers.

    Raises:
        KeyError: a layer is missing in `states`.
    """
    for layer in model.layers:
        if getattr(layer, "seed_generator", None) is not None:
            layer.seed_generator.state.assign(np.array(states[layer.name], dtype=np.uint32))
