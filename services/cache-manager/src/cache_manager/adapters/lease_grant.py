"""The one update that grants leases: tokens, hits and misses, and what was saved, decided inside the database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cache_manager.domain.states import State

_READY = {"$eq": ["$state", State.READY.value]}


def grant_stages(runs: Sequence[str]) -> list[dict[str, Any]]:
    """Return the update pipeline that gives each of `runs` (run ids, all different: no dots, no dollars) its lease.

    The first use of a fill is a miss, since the bytes were fetched for it. Every further use is a hit, and saves the
    whole version; but who begins before the fill is over waits for the lake, and is a miss. A run that asks again gets
    a new token and counts once. The order is that of `runs`.
    """
    return [
        {
            "$set": {
                "lease_token": {"$add": ["$lease_token", len(runs)]},
                "idle_seconds": 0.0,
                "fresh": [{"$eq": [{"$type": f"$leases.{run}"}, "missing"]} for run in runs],
            }
        },
        {"$set": {"first": _first(), "count": {"$size": {"$filter": {"input": "$fresh", "cond": "$$this"}}}}},
        {"$set": {**_leases(runs), "missed": _missed(len(runs))}},
        {"$set": _sums()},
        {"$unset": ["fresh", "first", "count", "missed"]},
    ]


def _first() -> dict[str, Any]:
    """Return which of the runs is the first to use the fill: its place, or one beyond the last if none is."""
    place = {"$indexOfArray": ["$fresh", True]}
    none = {"$size": "$fresh"}
    return {"$cond": [{"$or": [{"$gt": ["$uses", 0]}, {"$lt": [place, 0]}]}, none, place]}


def _missed(runs: int) -> dict[str, Any]:
    return {"$cond": [_READY, {"$cond": [{"$lt": ["$first", runs]}, 1, 0]}, "$count"]}


def _leases(runs: Sequence[str]) -> dict[str, Any]:
    """Return the lease of each run."""
    leases: dict[str, Any] = {}
    for place, run in enumerate(runs):
        fresh: dict[str, Any] = {"$arrayElemAt": ["$fresh", place]}
        leases[f"leases.{run}"] = {
            "token": {"$subtract": ["$lease_token", len(runs) - 1 - place]},
            "beat": 0,
            "hit": {"$cond": [fresh, {"$and": [_READY, {"$ne": ["$first", place]}]}, f"$leases.{run}.hit"]},
            "fresh": fresh,
        }
    return leases


def _sums() -> dict[str, Any]:
    hits: dict[str, Any] = {"$subtract": ["$count", "$missed"]}
    return {
        "uses": {"$add": ["$uses", "$count"]},
        "heat": {"$add": [{"$ifNull": ["$heat", 0.0]}, "$count"]},
        "hits": {"$add": ["$hits", hits]},
        "misses": {"$add": [{"$ifNull": ["$misses", 0]}, "$missed"]},
        "saved_bytes": {"$add": ["$saved_bytes", {"$multiply": [hits, "$bytes"]}]},
    }
