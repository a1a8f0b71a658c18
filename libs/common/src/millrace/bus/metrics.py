"""What the bus counts, for `/metrics`."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

HANDLED = Counter("millrace_bus_handled", "Deliveries by their end", ["durable", "outcome"])
REDELIVERED = Counter("millrace_bus_redelivered", "Deliveries that were not the first", ["durable"])
SECONDS = Histogram(
    "millrace_bus_handler_seconds",
    "From decoded event to its end",
    ["durable"],
    buckets=(0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 30, 120),
)
LAG = Gauge("millrace_bus_consumer_lag", "Messages that wait for a durable", ["durable"])
UNSETTLED = Gauge("millrace_bus_consumer_unsettled", "Messages delivered to a durable and not settled", ["durable"])
CONNECTED = Gauge("millrace_bus_connected", "1 while connected to the broker")
ERRORS = Counter("millrace_bus_errors", "Errors that the connection reported", ["kind"])
TELEMETRY_DROPPED = Counter("millrace_bus_telemetry_dropped", "Unstored telemetry that had no connection", ["kind"])
