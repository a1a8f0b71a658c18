"""The HTTP API as methods, once for both clients: each builds a `Call`, and the client decides how it is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote

R = TypeVar("R")

Json = Any
"""What the API answers: JSON types."""


@dataclass(frozen=True)
class Call:
    """One request to the gateway. `key` makes a POST idempotent; the client makes one up where there is none."""

    method: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    key: str | None = None


def _path(*parts: str | int) -> str:
    return "/v1/" + "/".join(quote(str(part), safe="") for part in parts)


class Calls(Generic[R]):
    """Every route of the gateway. `R` is `Json` for the synchronous client, `Awaitable[Json]` for the other."""

    def do(self, call: Call) -> R:
        """Make the call and return its JSON.

        Raises:
            MillraceError: what the API answered, or `Unavailable` where it did not.
        """
        raise NotImplementedError

    def request(self, method: str, path: str, *, params: Mapping[str, Any] | None = None, body: Any = None) -> R:
        """Call any route."""
        return self.do(Call(method, path, params or {}, body))

    # datasets

    def create_dataset(self, name: str, description: str = "") -> R:
        """Create a dataset; one that exists is fine."""
        return self.do(Call("PUT", _path("datasets", name), body={"description": description}))

    def datasets(self, **params: Any) -> R:
        """List datasets."""
        return self.do(Call("GET", _path("datasets"), params))

    def dataset(self, name: str) -> R:
        """Return a dataset with its head."""
        return self.do(Call("GET", _path("datasets", name)))

    def versions(self, name: str, **params: Any) -> R:
        """List a dataset's versions."""
        return self.do(Call("GET", _path("datasets", name, "versions"), params))

    def version(self, name: str, ref: str | int = "latest") -> R:
        """Return a version by number, commit, unique prefix of a commit, or `latest`."""
        return self.do(Call("GET", _path("datasets", name, "versions", ref)))

    def uploads(self, name: str, objects: Sequence[Mapping[str, Any]]) -> R:
        """Return presigned PUT URLs, and the headers to send, for the objects that the lake does not have yet."""
        return self.do(Call("POST", _path("datasets", name, "uploads"), body={"objects": list(objects)}))

    def downloads(self, name: str, ref: str | int, objects: Sequence[Mapping[str, Any]]) -> R:
        """Return presigned GET URLs for objects of a version."""
        body = {"objects": list(objects)}
        return self.do(Call("POST", _path("datasets", name, "versions", ref, "downloads"), body=body))

    def commit(self, name: str, body: Mapping[str, Any], *, key: str | None = None) -> R:
        """Commit a version whose objects are all in the lake."""
        return self.do(Call("POST", _path("datasets", name, "commits"), body=dict(body), key=key))

    def records(self, name: str, ref: str | int = "latest", **params: Any) -> R:
        """Return a page of a version's typed records; `type`, `path`, `after` and `limit` narrow it."""
        return self.do(Call("GET", _path("datasets", name, "versions", ref, "records"), params))

    def record_summary(self, name: str, ref: str | int = "latest") -> R:
        """Count a version's records by type."""
        return self.do(Call("GET", _path("datasets", name, "versions", ref, "records", "summary")))

    def ingest_jobs(self, **params: Any) -> R:
        """List ingestion jobs, newest first; `dataset` and `state` narrow it."""
        return self.do(Call("GET", _path("ingest", "jobs"), params))

    def ingest_job(self, job: str) -> R:
        """Return an ingestion job."""
        return self.do(Call("GET", _path("ingest", "jobs", job)))

    # runs and models

    def start_run(self, body: Mapping[str, Any], *, key: str | None = None) -> R:
        """Ask for a run."""
        return self.do(Call("POST", _path("runs"), body=dict(body), key=key))

    def runs(self, **params: Any) -> R:
        """List runs, newest first."""
        return self.do(Call("GET", _path("runs"), params))

    def run(self, run: str) -> R:
        """Return a run."""
        return self.do(Call("GET", _path("runs", run)))

    def run_metrics(self, run: str, **params: Any) -> R:
        """Return a run's points."""
        return self.do(Call("GET", _path("runs", run, "metrics"), params))

    def run_logs(self, run: str, **params: Any) -> R:
        """Return a run's log lines."""
        return self.do(Call("GET", _path("runs", run, "logs"), params))

    def cancel_run(self, run: str) -> R:
        """Stop a run."""
        return self.do(Call("DELETE", _path("queue", run)))

    def models(self, **params: Any) -> R:
        """List models."""
        return self.do(Call("GET", _path("models"), params))

    def model_versions(self, model: str, **params: Any) -> R:
        """List a model's versions."""
        return self.do(Call("GET", _path("models", model, "versions"), params))

    def model_version(self, model: str, ref: str | int = "latest") -> R:
        """Return a model version by number or alias."""
        return self.do(Call("GET", _path("models", model, "versions", ref)))

    def set_alias(self, model: str, alias: str, version: int) -> R:
        """Let an alias name a version."""
        return self.do(Call("PUT", _path("models", model, "aliases", alias), body={"version": version}))

    # policies and deployments

    def apply_policy(self, name: str, document: Mapping[str, Any]) -> R:
        """Create or replace a policy."""
        return self.do(Call("PUT", _path("policies", name), body=dict(document)))

    def policies(self, **params: Any) -> R:
        """List policies."""
        return self.do(Call("GET", _path("policies"), params))

    def policy(self, name: str) -> R:
        """Return a policy."""
        return self.do(Call("GET", _path("policies", name)))

    def delete_policy(self, name: str) -> R:
        """Remove a policy."""
        return self.do(Call("DELETE", _path("policies", name)))

    def policy_executions(self, name: str, **params: Any) -> R:
        """List what a policy did."""
        return self.do(Call("GET", _path("policies", name, "executions"), params))

    def deploy(self, name: str, model: str, version: int) -> R:
        """Let an endpoint serve a model version."""
        return self.do(Call("PUT", _path("deployments", name), body={"model": model, "version": version}))

    def deployments(self, **params: Any) -> R:
        """List deployments, desired and observed."""
        return self.do(Call("GET", _path("deployments"), params))

    def deployment(self, name: str) -> R:
        """Return a deployment."""
        return self.do(Call("GET", _path("deployments", name)))

    def retire(self, name: str) -> R:
        """Retire an endpoint."""
        return self.do(Call("DELETE", _path("deployments", name)))

    # cache

    def sites(self) -> R:
        """List sites with their room."""
        return self.do(Call("GET", _path("cache", "sites")))

    def set_site(self, site: str, path: str, capacity_bytes: int, **more: Any) -> R:
        """Register a site: a folder near the compute, and how much of it is ours.

        `more`: `capacity_inodes`, `age_out_seconds`.
        """
        body = {"path": path, "capacity_bytes": capacity_bytes, **more}
        return self.do(Call("PUT", _path("cache", "sites", site), body=body))

    def drain_site(self, site: str, *, draining: bool = True) -> R:
        """Let nothing new come to a site and everything leave it that nobody holds; or end that."""
        return self.do(Call("PUT" if draining else "DELETE", _path("cache", "sites", site, "drain")))

    def remove_site(self, site: str) -> R:
        """Forget a site that holds nothing; its directory stays."""
        return self.do(Call("DELETE", _path("cache", "sites", site)))

    def quotas(self) -> R:
        """List what the project holds and may hold, by site and at all (`*`)."""
        return self.do(Call("GET", _path("cache", "quotas")))

    def set_quota(self, site: str | None, bytes_: int | None, inodes: int | None) -> R:
        """Limit what the project may hold at a site, or at all sites together; without amounts, lift the limit."""
        body = {"site": site, "bytes": bytes_, "inodes": inodes}
        return self.do(Call("PUT", _path("cache", "quotas"), body=body))

    def age_out(self) -> R:
        """List for how long unused copies stay."""
        return self.do(Call("GET", _path("cache", "age-out")))

    def set_age_out(self, seconds: float, dataset: str | None = None) -> R:
        """Decide for how long unused copies of a dataset, or of the whole project, stay."""
        return self.do(Call("PUT", _path("cache", "age-out"), body={"dataset": dataset, "seconds": seconds}))

    def unset_age_out(self, dataset: str | None = None) -> R:
        """Let the next wider rule apply again."""
        params = {} if dataset is None else {"dataset": dataset}
        return self.do(Call("DELETE", _path("cache", "age-out"), params))

    def cache_entries(self, **params: Any) -> R:
        """List what is cached where."""
        return self.do(Call("GET", _path("cache", "entries"), params))

    def probe_site(self, site: str, read_bytes_per_second: float, open_seconds: float) -> R:
        """Send what a compute node measured at its mount of a site."""
        body = {"read_bytes_per_second": read_bytes_per_second, "open_seconds": open_seconds}
        return self.do(Call("POST", _path("cache", "sites", site, "probes"), body=body))

    def cache(self, site: str | None, dataset: str, version: int) -> R:
        """Ask for a version at a site; None: where a run would have read it soonest."""
        body = {"site": site, "dataset": dataset, "version": version}
        return self.do(Call("POST", _path("cache", "entries"), body=body))

    def adopt(self, path: str, site: str, dataset: str, version: int) -> R:
        """Make a folder near the compute a version's copy; only what differs comes from the lake."""
        body = {"path": path, "site": site, "dataset": dataset, "version": version}
        return self.do(Call("POST", _path("cache", "adoptions"), body=body))

    def clear(self, entry: str) -> R:
        """Clear a version from a site."""
        return self.do(Call("DELETE", _path("cache", "entries", entry)))

    def prefetches(self) -> R:
        """List the project's prefetch rules."""
        return self.do(Call("GET", _path("cache", "prefetch")))

    def set_prefetch(self, rule: str, body: Mapping[str, Any]) -> R:
        """Create or replace a prefetch rule."""
        return self.do(Call("PUT", _path("cache", "prefetch", rule), body=dict(body)))

    def remove_prefetch(self, rule: str) -> R:
        """Remove a prefetch rule."""
        return self.do(Call("DELETE", _path("cache", "prefetch", rule)))

    def cache_plan(self, dataset: str, version: str | int = "latest", site: str | None = None) -> R:
        """Return what it would take to cache a version at each site, or at one, without doing it."""
        params = {"dataset": dataset, "version": version, **({} if site is None else {"site": site})}
        return self.do(Call("GET", _path("cache", "plan"), params))

    def cache_why(self, entry: str) -> R:
        """Return why an entry is as it is, who holds it, and when it would go."""
        return self.do(Call("GET", _path("cache", "entries", entry, "why")))

    def scrub(self, entry: str) -> R:
        """Ask for every byte of a copy to be read again."""
        return self.do(Call("POST", _path("cache", "entries", entry, "scrub"), body={}))

    def scrub_site(self, site: str) -> R:
        """Ask for every byte at a site to be read again."""
        return self.do(Call("POST", _path("cache", "sites", site, "scrub"), body={}))

    def pin(self, entry: str, pin: str = "manual", reason: str = "") -> R:
        """Keep an entry whatever happens, until the pin of this name is removed."""
        return self.do(Call("PUT", _path("cache", "entries", entry, "pins", pin), body={"reason": reason}))

    def unpin(self, entry: str, pin: str = "manual") -> R:
        """Remove a pin."""
        return self.do(Call("DELETE", _path("cache", "entries", entry, "pins", pin)))

    # events, drift, labels

    def events(self, **params: Any) -> R:
        """Return the event log: `{position, event}`."""
        return self.do(Call("GET", _path("events"), params))

    def send_event(self, event: Mapping[str, Any]) -> R:
        """Send a CloudEvent, as external ETL does."""
        headers = {"content-type": "application/cloudevents+json"}
        return self.do(Call("POST", _path("events"), body=dict(event), headers=headers))

    def operations(self, **params: Any) -> R:
        """List what became of events from outside; `state`, `dataset` and `source` narrow it."""
        return self.do(Call("GET", _path("operations"), params))

    def operation(self, operation: str) -> R:
        """Return what became of an event that was sent."""
        return self.do(Call("GET", _path("operations", operation)))

    def drift(self, deployment: str) -> R:
        """Return a deployment's windows."""
        return self.do(Call("GET", _path("drift", "deployments", deployment)))

    def incidents(self, **params: Any) -> R:
        """List drift incidents."""
        return self.do(Call("GET", _path("drift", "incidents"), params))

    def incident(self, incident: str) -> R:
        """Return a drift incident."""
        return self.do(Call("GET", _path("drift", "incidents", incident)))

    def label_queues(self, **params: Any) -> R:
        """List label queues."""
        return self.do(Call("GET", _path("labels", "queues"), params))

    def label_items(self, queue: str, **params: Any) -> R:
        """List the samples of a queue."""
        return self.do(Call("GET", _path("labels", "queues", queue, "items"), params))

    def submit_labels(self, queue: str, answers: Sequence[Mapping[str, str]]) -> R:
        """Answer samples of a queue: `{prediction, label}` each."""
        return self.do(Call("POST", _path("labels", "queues", queue, "answers"), body={"answers": list(answers)}))

    # operations

    def queue(self, **params: Any) -> R:
        """Return the training queue."""
        return self.do(Call("GET", _path("queue"), params))

    def gpus(self) -> R:
        """Return nodes and devices."""
        return self.do(Call("GET", _path("gpus")))

    def waiting(self) -> R:
        """Return everything that waits, why, and what would unblock it."""
        return self.do(Call("GET", _path("waiting")))

    def lineage(self, node: str) -> R:
        """Return what a version, run, model or deployment came from, and what came of it."""
        return self.do(Call("GET", _path("lineage"), {"node": node}))

    def audit(self, **params: Any) -> R:
        """List who changed what."""
        return self.do(Call("GET", _path("audit"), params))

    def endpoints(self, **params: Any) -> R:
        """List what serving really serves."""
        return self.do(Call("GET", _path("endpoints"), params))

    def fsck(self) -> R:
        """Check the invariants of every service."""
        return self.do(Call("GET", _path("fsck")))

    def dead_letters(self, **params: Any) -> R:
        """List dead letters."""
        return self.do(Call("GET", _path("dlq"), params))

    def dead_letter(self, letter: str) -> R:
        """Return a dead letter with its body."""
        return self.do(Call("GET", _path("dlq", letter)))

    def replay(self, letter: str) -> R:
        """Hand a dead letter to the consumer that failed, once more."""
        return self.do(Call("POST", _path("dlq", letter, "replay"), body={}))

    def create_token(self, body: Mapping[str, Any]) -> R:
        """Create an API token; its text is in the answer, and nowhere else."""
        return self.do(Call("POST", _path("tokens"), body=dict(body)))

    def tokens(self, **params: Any) -> R:
        """List tokens."""
        return self.do(Call("GET", _path("tokens"), params))

    def revoke_token(self, token: str) -> R:
        """Revoke a token."""
        return self.do(Call("DELETE", _path("tokens", token)))
