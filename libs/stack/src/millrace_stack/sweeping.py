"""Finding and ending what a killed supervisor's processes left behind."""

from __future__ import annotations

import contextlib

import psutil

from millrace_stack import process as processes

MARKER = "MILLRACE_STACK_ID"
"""Marks the environment of every process of a stack, so that leftovers can be told from all else."""


def sweep(stack: str) -> list[int]:
    """Kill whatever still carries the stack's mark; return the process ids."""
    found = processes.marked(f"{MARKER}={stack}")
    for leftover in found:
        with contextlib.suppress(psutil.Error):
            leftover.kill()
    psutil.wait_procs(found, timeout=5)
    return [leftover.pid for leftover in found]
