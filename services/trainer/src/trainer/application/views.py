"""Jobs and devices as people see them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trainer.domain.devices import Node
from trainer.domain.jobs import PENDING, Job


def job(item: Job, *, position: int | None = None) -> dict[str, Any]:
    """Return a job; `position` counts from 1 in its queue."""
    grant, checkpoint = item.grant, item.checkpoint
    return {
        "run": item.run,
        "project": item.project,
        "state": str(item.state),
        "reason": item.reason,
        "position": position,
        "dataset": item.dataset,
        "version": item.version,
        "commit": item.commit,
        "site": item.site,
        "component": item.component,
        "model": item.model,
        "gpus": item.gpus,
        "priority": item.priority,
        "attempt": item.attempt,
        "failures": item.failures,
        "interruptions": item.interruptions,
        "fence": item.fence,
        "node": grant.node if grant else None,
        "device": ", ".join(grant.devices) if grant else None,
        "checkpoint": {"epoch": checkpoint.epoch, "manifest": checkpoint.manifest} if checkpoint else None,
        "early": bool(item.lease and item.lease.early),
        "cancelling": item.cancelling,
        "model_version": item.model_version,
        "exit_code": item.exit_code,
        "created_at": _moment(item.created_at),
        "started_at": _moment(item.started_at),
        "ended_at": _moment(item.ended_at),
    }


def queue(items: Sequence[Job]) -> list[dict[str, Any]]:
    """Return jobs, those that wait in the order in which they get devices."""
    waiting = sorted((item for item in items if item.state in PENDING), key=lambda it: (-it.priority, it.ticket))
    positions = {item.run: place for place, item in enumerate(waiting, 1)}
    return [job(item, position=positions.get(item.run)) for item in items]


def devices(nodes: Sequence[Node]) -> list[dict[str, Any]]:
    """Return every device of every node."""
    return [
        {
            "id": slot.device.id,
            "node": node.name,
            "kind": slot.device.kind,
            "name": slot.device.name,
            "memory_bytes": slot.device.memory_bytes,
            "state": "away" if not node.token else "busy" if slot.run else "trouble" if slot.device.trouble else "free",
            "reason": slot.device.trouble or ("" if node.token else "no agent is there"),
            "run": slot.run,
            "fence": slot.fence or None,
        }
        for node in nodes
        for slot in node.slots
    ]


def _moment(at: Any) -> str | None:
    return at.isoformat() if at else None
