"""What the monitor measures about itself, for Prometheus."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

ROWS = Counter("millrace_drift_rows", "Captured rows by what became of them", ["outcome"])
BATCHES = Counter("millrace_drift_batches", "Captured batches by what became of them", ["outcome"])
WINDOWS = Counter("millrace_drift_windows", "Closed windows by verdict", ["outcome"])
INCIDENTS = Counter("millrace_drift_incidents", "Incidents by what happened to them", ["what"])
EVALUATION = Histogram(
    "millrace_drift_evaluation_seconds",
    "From a full window to its stored verdict",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
ALPHA = Gauge(
    "millrace_drift_expected_false_alarms", "Allowance of false alarms spent this month", ["project", "deployment"]
)
QUEUE = Gauge("millrace_drift_label_items", "Samples in open label queues", ["state"])
LABELS = Counter("millrace_drift_labels", "Answers that people gave", ["what"])
