"""The classifier as a process. By hand: `python -m millrace_components.classifier --data DIR --out DIR -p epochs=3`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from millrace.errors import Invalid
from millrace_components.classifier.params import parse
from millrace_components.classifier.place import Interrupted
from millrace_components.reporting import EXIT_AGAIN, EXIT_UNUSABLE, Termination, facts
from millrace_sdk import run as sdk


def main() -> int:
    """Run, and return the exit code."""
    stop = Termination()
    _by_hand()
    report = sdk.current()
    try:
        params, root = parse(report.params), _dataset(report.inputs)
        os.environ.setdefault("KERAS_HOME", str(report.directory / ".keras"))
        from millrace_components.classifier import work  # noqa: PLC0415 - TensorFlow loads for seconds

        work.run(
            root,
            report.directory,
            params,
            facts=facts(report.directory),
            report=report,
            checkpoint=report.checkpoint,
            stop=stop,
        )
    except Invalid as error:
        print(f"unusable: {error.message}", file=sys.stderr)  # noqa: T201 - the last line is the run's reason
        return EXIT_UNUSABLE
    except Interrupted as stopped:
        print(f"stopped in epoch {stopped.place.epoch + 1}; a checkpoint is written", file=sys.stderr)  # noqa: T201
        return EXIT_AGAIN
    return 0


def _dataset(inputs: Mapping[str, Path]) -> Path:
    if "dataset" not in inputs:
        raise Invalid("there is no input `dataset`", hint="name a folder by --data")
    return inputs["dataset"]


def _by_hand() -> None:
    """Turn command-line arguments, if any, into the run contract's environment and files."""
    parser = argparse.ArgumentParser(prog="millrace_components.classifier", description=__doc__)
    parser.add_argument("--data", type=Path, help="tree with train/, holdout/ and perhaps reference/")
    parser.add_argument("--out", type=Path, help="folder for checkpoints, package and reference")
    parser.add_argument("-p", "--param", action="append", default=[], metavar="NAME=VALUE")
    chosen = parser.parse_args()
    if chosen.data is None:
        return
    out = (chosen.out or Path("run")).absolute()
    out.mkdir(parents=True, exist_ok=True)
    pairs = (text.partition("=") for text in chosen.param)
    params = {name: _value(value) for name, _, value in pairs}
    (out / "params.json").write_text(json.dumps(params), encoding="utf-8")
    os.environ |= {"MILLRACE_RUN_DIR": str(out), "MILLRACE_INPUT_DATASET": str(chosen.data.absolute())}


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


if __name__ == "__main__":
    sys.exit(main())
