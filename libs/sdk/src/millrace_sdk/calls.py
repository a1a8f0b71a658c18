"""The HTTP API as methods, once for both clients: each builds a `Call`, and the client decides how it is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from millrace_sdk.call import Call, Json, R, path_of
from millrace_sdk.calls_cache import CacheCalls
from millrace_sdk.calls_datasets import DatasetCalls

__all__ = ["Call", "Calls", "Json"]


class Calls(DatasetCalls[R], CacheCalls[R]):
    """Every route of the gateway. `R` is `Json` for the synchronous client, `Awaitable[Json]` for the other."""

    # runs and models

    def start_run(self, body: Mapping[str, Any], *, key: str | None = None) -> R:
        """Ask for a run."""
        return self.do(Call("POST", path_of("runs"), body=dict(body), key=key))

    def runs(self, **params: Any) -> R:
        """List runs, newest first."""
        return self.do(Call("GET", path_of("runs"), params))

    def run(self, run: str) -> R:
        """Return a run."""
        return self.do(Call("GET", path_of("runs", run)))

    def run_metrics(self, run: str, **params: Any) -> R:
        """Return a run's points."""
        return self.do(Call("GET", path_of("runs", run, "metrics"), params))

    def run_logs(self, run: str, **params: Any) -> R:
        """Return a run's log lines."""
        return self.do(Call("GET", path_of("runs", run, "logs"), params))

    def cancel_run(self, run: str) -> R:
        """Stop a run."""
        return self.do(Call("DELETE", path_of("queue", run)))

    def models(self, **params: Any) -> R:
        """List models."""
        return self.do(Call("GET", path_of("models"), params))

    def model_versions(self, model: str, **params: Any) -> R:
        """List a model's versions."""
        return self.do(Call("GET", path_of("models", model, "versions"), params))

    def model_version(self, model: str, ref: str | int = "latest") -> R:
        """Return a model version by number or alias."""
        return self.do(Call("GET", path_of("models", model, "versions", ref)))

    def set_alias(self, model: str, alias: str, version: int) -> R:
        """Let an alias name a version."""
        return self.do(Call("PUT", path_of("models", model, "aliases", alias), body={"version": version}))

    # policies and deployments

    def apply_policy(self, name: str, document: Mapping[str, Any]) -> R:
        """Create or replace a policy."""
        return self.do(Call("PUT", path_of("policies", name), body=dict(document)))

    def policies(self, **params: Any) -> R:
        """List policies."""
        return self.do(Call("GET", path_of("policies"), params))

    def policy(self, name: str) -> R:
        """Return a policy."""
        return self.do(Call("GET", path_of("policies", name)))

    def delete_policy(self, name: str) -> R:
        """Remove a policy."""
        return self.do(Call("DELETE", path_of("policies", name)))

    def policy_executions(self, name: str, **params: Any) -> R:
        """List what a policy did."""
        return self.do(Call("GET", path_of("policies", name, "executions"), params))

    def deploy(self, name: str, model: str, version: int) -> R:
        """Let an endpoint serve a model version."""
        return self.do(Call("PUT", path_of("deployments", name), body={"model": model, "version": version}))

    def deployments(self, **params: Any) -> R:
        """List deployments, desired and observed."""
        return self.do(Call("GET", path_of("deployments"), params))

    def deployment(self, name: str) -> R:
        """Return a deployment."""
        return self.do(Call("GET", path_of("deployments", name)))

    def retire(self, name: str) -> R:
        """Retire an endpoint."""
        return self.do(Call("DELETE", path_of("deployments", name)))

    # events, drift, labels

    def events(self, **params: Any) -> R:
        """Return the event log: `{position, event}`."""
        return self.do(Call("GET", path_of("events"), params))

    def send_event(self, event: Mapping[str, Any]) -> R:
        """Send a CloudEvent, as external ETL does."""
        headers = {"content-type": "application/cloudevents+json"}
        return self.do(Call("POST", path_of("events"), body=dict(event), headers=headers))

    def operations(self, **params: Any) -> R:
        """List what became of events from outside; `state`, `dataset` and `source` narrow it."""
        return self.do(Call("GET", path_of("operations"), params))

    def operation(self, operation: str) -> R:
        """Return what became of an event that was sent."""
        return self.do(Call("GET", path_of("operations", operation)))

    def drift(self, deployment: str) -> R:
        """Return a deployment's windows."""
        return self.do(Call("GET", path_of("drift", "deployments", deployment)))

    def incidents(self, **params: Any) -> R:
        """List drift incidents."""
        return self.do(Call("GET", path_of("drift", "incidents"), params))

    def incident(self, incident: str) -> R:
        """Return a drift incident."""
        return self.do(Call("GET", path_of("drift", "incidents", incident)))

    def label_queues(self, **params: Any) -> R:
        """List label queues."""
        return self.do(Call("GET", path_of("labels", "queues"), params))

    def label_items(self, queue: str, **params: Any) -> R:
        """List the samples of a queue."""
        return self.do(Call("GET", path_of("labels", "queues", queue, "items"), params))

    def submit_labels(self, queue: str, answers: Sequence[Mapping[str, str]]) -> R:
        """Answer samples of a queue: `{prediction, label}` each."""
        return self.do(Call("POST", path_of("labels", "queues", queue, "answers"), body={"answers": list(answers)}))

    # operations

    def queue(self, **params: Any) -> R:
        """Return the training queue."""
        return self.do(Call("GET", path_of("queue"), params))

    def gpus(self) -> R:
        """Return nodes and devices."""
        return self.do(Call("GET", path_of("gpus")))

    def waiting(self) -> R:
        """Return everything that waits, why, and what would unblock it."""
        return self.do(Call("GET", path_of("waiting")))

    def lineage(self, node: str) -> R:
        """Return what a version, run, model or deployment came from, and what came of it."""
        return self.do(Call("GET", path_of("lineage"), {"node": node}))

    def audit(self, **params: Any) -> R:
        """List who changed what."""
        return self.do(Call("GET", path_of("audit"), params))

    def endpoints(self, **params: Any) -> R:
        """List what serving really serves."""
        return self.do(Call("GET", path_of("endpoints"), params))

    def fsck(self) -> R:
        """Check the invariants of every service."""
        return self.do(Call("GET", path_of("fsck")))

    def dead_letters(self, **params: Any) -> R:
        """List dead letters."""
        return self.do(Call("GET", path_of("dlq"), params))

    def dead_letter(self, letter: str) -> R:
        """Return a dead letter with its body."""
        return self.do(Call("GET", path_of("dlq", letter)))

    def replay(self, letter: str) -> R:
        """Hand a dead letter to the consumer that failed, once more."""
        return self.do(Call("POST", path_of("dlq", letter, "replay"), body={}))

    def create_token(self, body: Mapping[str, Any]) -> R:
        """Create an API token; its text is in the answer, and nowhere else."""
        return self.do(Call("POST", path_of("tokens"), body=dict(body)))

    def tokens(self, **params: Any) -> R:
        """List tokens."""
        return self.do(Call("GET", path_of("tokens"), params))

    def revoke_token(self, token: str) -> R:
        """Revoke a token."""
        return self.do(Call("DELETE", path_of("tokens", token)))
