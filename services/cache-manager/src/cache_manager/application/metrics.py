"""Counters of what the cache was good for."""

from __future__ import annotations

from typing import get_args

from prometheus_client import Counter, Gauge, Histogram

from cache_manager.domain.entry import EvictReason

HITS = Counter("millrace_cache_hits", "Leases of bytes that had been fetched for somebody else", ["site"])
MISSES = Counter("millrace_cache_misses", "First leases of a fill, and leases asked for what is not there", ["site"])
EARLY = Counter("millrace_cache_early_leases", "Leases that began before the fill was over", ["site"])
WAITED = Counter("millrace_cache_early_wait_seconds", "Seconds that readers of such leases waited for packs", ["site"])
JOINS = Counter("millrace_cache_joins", "Requests that joined a fill which was under way", ["site"])
SAVED = Counter("millrace_cache_saved_bytes", "Bytes that were not downloaded again", ["site"])
FETCHED = Counter("millrace_cache_fetched_bytes", "Bytes that came from the lake", ["site"])
LINKED = Counter("millrace_cache_linked_bytes", "Bytes shared with another version's copy and not fetched", ["site"])
EVICTIONS = Counter("millrace_cache_evictions", "Copies that left their final path", ["site", "reason"])
FAILURES = Counter("millrace_cache_fill_failures", "Attempts to fill that failed", ["site", "error"])
PREFETCHES = Counter("millrace_cache_prefetches", "Versions wished for by a rule", ["site", "trigger"])
SECONDS = Histogram(
    "millrace_cache_fill_seconds",
    "From the start of a fill to READY",
    ["site"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1_800, 7_200),
)
SCRUBBED = Counter("millrace_cache_scrubbed_bytes", "Bytes of copies that were read again", ["site"])
SCRUB_ERRORS = Counter("millrace_cache_scrub_errors", "Damaged files that reading again found", ["site"])
REPAIRED = Counter("millrace_cache_repaired_files", "Files that were replaced from the lake", ["site"])
LINKS = Gauge("millrace_cache_link", "Measured bytes a second (lake, read), seconds to open a file", ["site", "link"])
LEASES = Gauge("millrace_cache_leases", "Leases in force", ["site"])
PINS = Gauge("millrace_cache_pins", "Pins in force", ["site"])
BYTES = Gauge("millrace_cache_bytes", "Bytes by what they are: used, reserved, free, capacity", ["site", "kind"])
INODES = Gauge("millrace_cache_inodes", "Inodes by what they are: charged, free, capacity", ["site", "kind"])
ENTRIES = Gauge("millrace_cache_entries", "Entries by state", ["site", "state"])


def announce(site: str) -> None:
    """Let the counters of a site exist before anything happens there: a missing series is not a zero."""
    for counter in (HITS, MISSES, EARLY, WAITED, JOINS, SAVED, FETCHED, LINKED, SCRUBBED, SCRUB_ERRORS, REPAIRED):
        counter.labels(site)
    for reason in get_args(EvictReason):
        EVICTIONS.labels(site, reason)
