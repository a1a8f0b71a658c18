"""Process groups: what a component says comes through, and nothing of it outlives its agent."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from millrace.clock import SystemClock
from millrace.errors import Invalid
from trainer.adapters.processes import GroupChild, GroupProcesses
from trainer.application.ports import Order
from trainer.domain.jobs import Process

CLOCK = SystemClock()


def an_order(tmp_path: Path, *argv: str) -> Order:
    return Order(argv, {"PATH": os.environ["PATH"]}, tmp_path)


def python(tmp_path: Path, code: str) -> Order:
    return an_order(tmp_path, sys.executable, "-I", "-u", "-c", code)


async def drained(child: GroupChild) -> tuple[list[bytes], list[bytes]]:
    async def read(stream: str) -> list[bytes]:
        found = []
        while (line := await child.lines(stream)) is not None:
            found.append(line)
        return found

    out, err = await asyncio.gather(read("stdout"), read("stderr"))
    return out, err


@pytest.mark.parametrize("code", [0, 1, 65, 75, 255])
async def test_exit_codes_come_through(tmp_path: Path, code: int) -> None:
    child = await GroupProcesses(CLOCK).spawn(python(tmp_path, f"raise SystemExit({code})"))
    await drained(child)
    assert await child.wait() == code
    assert await child.wait() == code


async def test_signals_come_through(tmp_path: Path) -> None:
    child = await GroupProcesses(CLOCK).spawn(python(tmp_path, "import os; os.kill(os.getpid(), 11)"))
    await drained(child)
    assert await child.wait() == -signal.SIGSEGV


async def test_lines_of_both_streams_and_very_long_ones(tmp_path: Path) -> None:
    code = "import sys; print('a'); print('b', file=sys.stderr); print('x' * 200_000); sys.stdout.write('end')"
    child = await GroupProcesses(CLOCK).spawn(python(tmp_path, code))
    out, err = await drained(child)
    assert out[0] == b"a"
    assert err == [b"b"]
    assert b"".join(out[1:-1]) == b"x" * 200_000
    assert out[-1] == b"end"
    assert await child.wait() == 0


async def test_a_command_that_does_not_exist_says_so(tmp_path: Path) -> None:
    child = await GroupProcesses(CLOCK).spawn(an_order(tmp_path, "/no/such/command"))
    _, err = await drained(child)
    assert await child.wait() == 127
    assert err == [b"cannot start /no/such/command: No such file or directory"]


async def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid):
        await GroupProcesses(CLOCK).spawn(an_order(tmp_path / "absent", "true"))


async def test_terminate_asks_and_kill_ends(tmp_path: Path) -> None:
    code = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(75)); print('up'); time.sleep(60)"
    child = await GroupProcesses(CLOCK).spawn(python(tmp_path, code))
    assert await child.lines("stdout") == b"up"
    child.terminate()
    await drained(child)
    assert await child.wait() == 75
    other = await GroupProcesses(CLOCK).spawn(an_order(tmp_path, "sleep", "60"))
    other.kill()
    await drained(other)
    assert await other.wait() == -signal.SIGKILL


async def test_limits_hold(tmp_path: Path) -> None:
    code = "import resource as r; print(r.getrlimit(r.RLIMIT_NOFILE)[0], r.getrlimit(r.RLIMIT_CORE)[1])"
    child = await GroupProcesses(CLOCK, limits={"nofile": 128, "core": 0, "nice": 3}).spawn(python(tmp_path, code))
    out, _ = await drained(child)
    assert out == [b"128 0"]
    assert await child.wait() == 0


async def test_a_beat_lengthens_the_deadline(tmp_path: Path) -> None:
    child = await GroupProcesses(CLOCK, deadline=0.8).spawn(an_order(tmp_path, "sleep", "2"))
    waiting = asyncio.create_task(child.wait())
    while not waiting.done():
        child.beat()
        await asyncio.sleep(0.1)
    assert await waiting == 0
    silent = await GroupProcesses(CLOCK, deadline=0.3).spawn(an_order(tmp_path, "sleep", "60"))
    await drained(silent)
    assert await silent.wait() == -signal.SIGKILL


def test_the_whole_group_dies_with_its_agent(tmp_path: Path) -> None:
    agent = f"""
import asyncio, os
from pathlib import Path
from millrace.clock import SystemClock
from trainer.adapters.processes import GroupProcesses
from trainer.application.ports import Order

async def main():
    code = "import subprocess, os; c = subprocess.Popen(['sleep', '60']); print(os.getpid(), c.pid); c.wait()"
    order = Order(({sys.executable!r}, "-u", "-c", code), {{"PATH": os.environ["PATH"]}}, Path({str(tmp_path)!r}))
    child = await GroupProcesses(SystemClock()).spawn(order)
    print(child.process.pid, (await child.lines("stdout")).decode(), flush=True)
    await child.wait()

asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", agent], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        pids = [int(part) for part in process.stdout.readline().split()]
        assert len(pids) == 3
        process.kill()
    deadline = CLOCK.monotonic() + 10
    while any(alive(pid) for pid in pids):
        assert CLOCK.monotonic() < deadline


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    return False


async def test_only_the_very_process_is_ended(tmp_path: Path) -> None:
    processes = GroupProcesses(CLOCK)
    child = await processes.spawn(an_order(tmp_path, "sleep", "60"))
    other = Process(child.process.pid, "12345", child.process.boot)
    await processes.end(other)
    await processes.end(Process(child.process.pid, ""))
    assert alive(child.process.pid)
    waiting = asyncio.create_task(child.wait())
    await processes.end(child.process)
    await drained(child)
    assert await waiting == -signal.SIGKILL
