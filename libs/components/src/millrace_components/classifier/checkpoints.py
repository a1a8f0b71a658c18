"""Checkpoints: a `.keras` file with model and optimizer, and a side-car that says exactly where the run stood."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
from blake3 import blake3

from millrace.errors import Corrupt
from millrace_components.classifier import network
from millrace_components.classifier.place import Place

MODEL, STATE = "model.keras", "state.json"
KEEP = 3


def save(folder: Path, model: Any, place: Place, fingerprint: str) -> Path:
    """Write a checkpoint aside, sync it, rename it into `folder`, and return its path.

    A reader sees a whole checkpoint or none. Older ones but the last few are removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = f"epoch-{place.epoch:04d}" + (f"-batch-{place.batches:06d}" if place.batches else "")
    aside, target = folder / f".{name}.{os.getpid()}", folder / name
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    model.save(aside / MODEL)
    state = {
        "format": 1,
        "place": asdict(place),
        "fingerprint": fingerprint,
        "generators": network.generator_states(model),
        "model": blake3((aside / MODEL).read_bytes()).hexdigest(),
    }
    (aside / STATE).write_text(json.dumps(state, sort_keys=True), encoding="utf-8")
    for path in (aside / MODEL, aside / STATE, aside):
        _sync(path)
    shutil.rmtree(target, ignore_errors=True)
    aside.rename(target)
    _sync(folder)
    for old in sorted(path for path in folder.iterdir() if not path.name.startswith("."))[:-KEEP]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def load(checkpoint: Path, fingerprint: str) -> tuple[Any, Place]:
    """Return the model and the place of a checkpoint.

    Raises:
        Corrupt: it is incomplete or damaged, or belongs to other parameters or data.
    """
    try:
        state = json.loads((checkpoint / STATE).read_bytes())
        raw = (checkpoint / MODEL).read_bytes()
        if state["format"] != 1 or state["fingerprint"] != fingerprint:
            raise Corrupt(f"checkpoint {checkpoint.name} belongs to other parameters or data")
        if blake3(raw).hexdigest() != state["model"]:
            raise Corrupt(f"checkpoint {checkpoint.name} does not match its digest")
        model = keras.models.load_model(checkpoint / MODEL)
        network.restore_generators(model, state["generators"])
        return model, Place(**state["place"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Corrupt(f"checkpoint {checkpoint.name} cannot be loaded: {type(error).__name__}: {error}") from None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
