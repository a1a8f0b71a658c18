"""What sealing costs: one core, a pack of 32 MiB, beside BLAKE3 and beside one bare AES-256-GCM message.

The same bytes are, in rounds: sealed, checked against their name and sealed (as a put does), opened (as a get does),
hashed by BLAKE3 on one thread, and encrypted and decrypted as one message of 32 MiB. The bare message is the floor: it
can be neither read nor verified in part.

    python benchmarks/sealing.py [--rounds 15] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from millrace.datasets.limits import CHUNK, MIB
from millrace.datasets.pack import footer, pack_id
from millrace.sealing import ProjectKey
from millrace.sealing.content import check_content
from millrace.sealing.segments import SEGMENT

FILE = 19 * 1024
SAMPLES = 1_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    jobs, size = work()
    rates: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(options.rounds):
        for name, job in jobs.items():
            began = time.perf_counter()
            job()
            rates[name].append(size / (time.perf_counter() - began) / 1e9)
    for name, found in rates.items():
        print(f"{name:<28} {statistics.median(found):5.2f} GB/s ({min(found):.2f} to {max(found):.2f})")
    samples = small()
    print(f"{'samples of 19 KiB, opened':<28} {samples:5.0f} thousand a second")
    if options.json:
        options.json.write_text(json.dumps({"rates": rates, "samples": samples}, indent=1))
    return 0


def work() -> tuple[dict[str, Callable[[], object]], int]:
    """Return what is measured, by name, and the bytes that each does it to."""
    blobs = [secrets.token_bytes(FILE) for _ in range(32 * MIB // FILE)]
    end = footer([(blake3(blob).digest(), len(blob)) for blob in blobs])
    pack, name = b"".join((*blobs, end)), pack_id(end)
    segments = ProjectKey.new("bench").segments(f"bench/packs/{name[:2]}/{name}")
    sealed = segments.seal(pack)
    bare, nonce = AESGCM(secrets.token_bytes(32)), secrets.token_bytes(12)
    message = bare.encrypt(nonce, pack, None)

    def put() -> None:
        check_content("packs", name, pack)
        segments.seal(pack)

    jobs: dict[str, Callable[[], object]] = {
        "seal": lambda: segments.seal(pack),
        "check and seal (put)": put,
        "open (get)": lambda: segments.open(sealed),
        "BLAKE3": lambda: blake3(pack).digest(),
        "one AES-GCM message": lambda: bare.encrypt(nonce, pack, None),
        "… decrypted": lambda: bare.decrypt(nonce, message, None),
    }
    return jobs, len(pack)


def small() -> float:
    """Return how many thousand ranges of 19 KiB a second are opened, each by the segments that it lies in."""
    segments = ProjectKey.new("bench").segments("bench/chunks/x")
    sealed = segments.seal(secrets.token_bytes(CHUNK))
    stored, whole = len(sealed), SEGMENT + (len(segments.seal(b"")))
    began = time.perf_counter()
    for number in range(SAMPLES):
        first = (number * FILE) % (CHUNK - FILE) // SEGMENT
        last = ((number * FILE) % (CHUNK - FILE) + FILE - 1) // SEGMENT
        segments.open_part(sealed[first * whole : (last + 1) * whole], first * whole, stored)
    return SAMPLES / (time.perf_counter() - began) / 1_000


if __name__ == "__main__":
    raise SystemExit(main())
