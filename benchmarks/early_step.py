"""The component of `early_start.py`: reads a shuffled epoch, and says when it had the first batch and the last."""

import os

from millrace.clock import SystemClock
from millrace.datasets.sample_order import Position
from millrace_sdk import Dataset
from millrace_sdk.run import current

BATCH = 32

if __name__ == "__main__":
    run, clock = current(), SystemClock()
    at, window = Position(run.params["seed"]), run.params["window"]
    with Dataset.open(os.environ["MILLRACE_INPUT_DATASET"]) as dataset:
        batches = dataset.batches(BATCH, at=at, window=window)
        next(batches)
        print(f"first-batch {clock.now().isoformat()}", flush=True)
        total = sum(len(data) for _, contents in batches for data in contents)
    print(f"epoch {clock.now().isoformat()} {total}", flush=True)
