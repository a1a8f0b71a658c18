"""A component for tests that reads its packs as any training does, and prints what it read."""

import json

from blake3 import blake3

from millrace_sdk import Dataset
from millrace_sdk.run import current

run = current()
with Dataset.open(run.input("dataset"), patience=20) as dataset:
    for path, data in dataset.samples(seed=3, window=1, read_ahead=2):
        print("read", json.dumps([path, blake3(data).hexdigest()]), flush=True)
