"""The component of `second_training.py`: opens its input, takes one shuffled batch, and says when it had it."""

import os
from pathlib import Path

from millrace.clock import SystemClock
from millrace_sdk import Dataset

BATCH = 32

if __name__ == "__main__":
    with Dataset.open(Path(os.environ["MILLRACE_INPUT_DATASET"])) as dataset:
        data = dataset.read_many(dataset.order(7)[:BATCH].tolist())
    print(f"first-step {SystemClock().now().isoformat()} {sum(map(len, data))}", flush=True)
