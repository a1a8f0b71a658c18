"""Judging a table in a process of its own: whatever a hostile file does to the parser, it does it there.

The child knows nothing but the rule and the file: no environment, no secrets, bounded memory and time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import sys
from pathlib import Path

from millrace.checks.document import TableRule
from millrace.checks.evaluate import judge_table
from millrace.checks.verdict import Verdict

MEMORY = 3 * 1024**3
SECONDS = 120.0
MAX_ANSWER = 1024 * 1024
TOO_MUCH: Verdict = [("the table could not be read within the limits of time and memory", ())]


async def judge_apart(rule: TableRule, path: Path, *, seconds: float = SECONDS, memory: int = MEMORY) -> Verdict:
    """Return what is wrong with the table at `path`; a table that breaks its reader is wrong, too."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-m",
        __name__,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={},
        cwd="/",
    )
    task = {"rule": rule.model_dump(mode="json"), "path": str(path), "seconds": seconds, "memory": memory}
    try:
        async with asyncio.timeout(seconds):
            answer, _ = await process.communicate(json.dumps(task).encode())
    except TimeoutError:
        return TOO_MUCH
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode != 0 or len(answer) > MAX_ANSWER:
        return TOO_MUCH
    return [(str(reason), tuple(map(str, places))) for reason, places in json.loads(answer)]


def main() -> None:
    """Judge what standard input says, and write the verdict to standard output."""
    task = json.loads(sys.stdin.buffer.read())
    seconds = int(task["seconds"]) + 1
    resource.setrlimit(resource.RLIMIT_AS, (task["memory"], task["memory"]))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    verdict = judge_table(TableRule.model_validate(task["rule"]), Path(task["path"]))
    sys.stdout.write(json.dumps(verdict))


if __name__ == "__main__":
    main()
