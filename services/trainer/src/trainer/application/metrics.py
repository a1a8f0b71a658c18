"""What Prometheus sees of the queue."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

WAITING = Gauge("millrace_trainer_waiting", "Runs that wait, by what they wait for", ["for"])
STARTED = Counter("millrace_trainer_started", "Processes that were spawned", ["component"])
ENDED = Counter("millrace_trainer_attempts_ended", "Attempts that ended, by the state the run is in then", ["state"])
DEVICES = Gauge("millrace_trainer_devices", "Devices of this node", ["kind"])
