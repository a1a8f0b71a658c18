"""The one update that grants a lease: token, hit or miss, and what was saved, decided inside the database."""

from __future__ import annotations

from typing import Any


def grant_stages(run: str) -> list[dict[str, Any]]:
    """Return the update pipeline that gives `run` (a run id: no dots, no dollars) its lease.

    The first use of a fill is a miss, since the bytes were fetched for it. Every further use is a hit, and saves the
    whole version. A run that asks again gets a new token and counts once.
    """
    mine = f"$leases.{run}"
    counts = {"$and": ["$fresh", "$hit"]}
    return [
        {
            "$set": {
                "lease_token": {"$add": ["$lease_token", 1]},
                "idle_seconds": 0.0,
                "fresh": {"$eq": [{"$type": mine}, "missing"]},
            }
        },
        {"$set": {"hit": {"$cond": ["$fresh", {"$gt": ["$uses", 0]}, f"{mine}.hit"]}}},
        {
            "$set": {
                f"leases.{run}": {"token": "$lease_token", "beat": 0, "hit": "$hit", "fresh": "$fresh"},
                "uses": {"$add": ["$uses", {"$cond": ["$fresh", 1, 0]}]},
                "heat": {"$add": [{"$ifNull": ["$heat", 0.0]}, {"$cond": ["$fresh", 1.0, 0.0]}]},
                "hits": {"$add": ["$hits", {"$cond": [counts, 1, 0]}]},
                "saved_bytes": {"$add": ["$saved_bytes", {"$cond": [counts, "$bytes", 0]}]},
            }
        },
        {"$unset": ["fresh", "hit"]},
    ]
