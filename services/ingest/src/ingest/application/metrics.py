"""Counters of what was ingested."""

from __future__ import annotations

from prometheus_client import Counter

JOBS = Counter("millrace_ingest_jobs", "Jobs that ended, by outcome: completed or failed", ["outcome"])
FILES = Counter("millrace_ingest_files", "Landed files that became part of a version")
BYTES = Counter("millrace_ingest_bytes", "Landed bytes that became part of a version")
RETRIES = Counter("millrace_ingest_retries", "Attempts that failed and are made again", ["error"])
