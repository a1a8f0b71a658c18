"""The environment of a component: what it needs and nothing of ours, above all no token."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from trainer.domain.jobs import Job

PASSED_ON = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH", "SSL_CERT_FILE")


def environment(job: Job, folder: Path, socket: str, own: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables for the job's process; `own` is the trainer's environment."""
    ours = os.environ if own is None else own
    lease = job.need_lease()
    gpus = [device.removeprefix("gpu:") for device in job.need_grant().devices if device.startswith("gpu:")]
    return {
        **{name: ours[name] for name in PASSED_ON if name in ours},
        "HOME": str(folder),
        "TMPDIR": str(folder / "tmp"),
        "PYTHONUNBUFFERED": "1",
        "PYTHONHASHSEED": "0",
        "CUDA_VISIBLE_DEVICES": ",".join(gpus) if gpus else "-1",
        "MILLRACE_RUN_ID": job.run,
        "MILLRACE_RUN_DIR": str(folder),
        "MILLRACE_INPUT_DATASET": lease.path,
        **({"MILLRACE_EARLY_DATASET": lease.early} if lease.early else {}),
        "MILLRACE_SOCKET": socket,
    }
