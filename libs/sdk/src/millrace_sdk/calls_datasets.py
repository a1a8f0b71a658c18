"""The routes of datasets and their versions as methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from millrace_sdk.call import Call, Caller, R, path_of


def _version_path(name: str, ref: str | int | None) -> str:
    return path_of("datasets", name) if ref is None else path_of("datasets", name, "versions", ref)


class DatasetCalls(Caller[R]):
    """Datasets, versions, their bytes, and letting them go."""

    def create_dataset(self, name: str, description: str = "") -> R:
        """Create a dataset; one that exists is fine."""
        return self.do(Call("PUT", path_of("datasets", name), body={"description": description}))

    def datasets(self, **params: Any) -> R:
        """List datasets."""
        return self.do(Call("GET", path_of("datasets"), params))

    def dataset(self, name: str) -> R:
        """Return a dataset with its head."""
        return self.do(Call("GET", path_of("datasets", name)))

    def versions(self, name: str, **params: Any) -> R:
        """List a dataset's versions."""
        return self.do(Call("GET", path_of("datasets", name, "versions"), params))

    def version(self, name: str, ref: str | int = "latest") -> R:
        """Return a version by number, commit, unique prefix of a commit, or `latest`."""
        return self.do(Call("GET", path_of("datasets", name, "versions", ref)))

    def checks(self, name: str) -> R:
        """Return what every version of a dataset must hold."""
        return self.do(Call("GET", path_of("datasets", name, "checks")))

    def set_checks(self, name: str, document: Mapping[str, Any]) -> R:
        """Demand these checks of every version to come."""
        return self.do(Call("PUT", path_of("datasets", name, "checks"), body=dict(document)))

    def try_checks(self, name: str, ref: str | int = "latest", document: Mapping[str, Any] | None = None) -> R:
        """Say what a version fails of these checks, or of the dataset's own."""
        return self.do(Call("POST", path_of("datasets", name, "versions", ref, "checks"), body=document))

    def remove_dataset(self, name: str, ref: str | int | None = None, *, reason: str = "", force: bool = False) -> R:
        """Remove a version, or without one the whole dataset."""
        params = {"reason": reason or None, "force": "true" if force else None}
        return self.do(Call("DELETE", _version_path(name, ref), params))

    def restore_dataset(self, name: str, ref: str | int | None = None) -> R:
        """Bring a removed version or dataset back, while its bytes are kept."""
        return self.do(Call("POST", f"{_version_path(name, ref)}/restore"))

    def rebuild_dataset(self, name: str) -> R:
        """Make manifests and commit objects that the lake lost again."""
        return self.do(Call("POST", path_of("datasets", name, "rebuild")))

    def garbage(self) -> R:
        """Return what no version needs, and how far the last collection is."""
        return self.do(Call("GET", path_of("gc")))

    def collect_garbage(self) -> R:
        """Let what no version needs go."""
        return self.do(Call("POST", path_of("gc")))

    def stop_garbage(self) -> R:
        """Stop the collection."""
        return self.do(Call("DELETE", path_of("gc")))

    def uploads(self, name: str, objects: Sequence[Mapping[str, Any]], *, sealed: str | None = None) -> R:
        """Return presigned PUT URLs, and the headers to send, for the objects that the lake does not have yet.

        `sealed` is the id of the project's key, with which an encrypted project's objects must be sealed.
        """
        body = {"objects": list(objects), **({"sealed": sealed} if sealed else {})}
        return self.do(Call("POST", path_of("datasets", name, "uploads"), body=body))

    def encryption(self) -> R:
        """Say whether the project's datasets are sealed in the lake, and whether that is settled."""
        return self.do(Call("GET", path_of("encryption")))

    def encrypt(self) -> R:
        """Encrypt the project, which has no dataset yet. It cannot be undone."""
        return self.do(Call("PUT", path_of("encryption")))

    def encryption_key(self) -> R:
        """Return the project's key; whoever has it reads the project's datasets wherever they lie."""
        return self.do(Call("GET", path_of("encryption", "key")))

    def downloads(self, name: str, ref: str | int, objects: Sequence[Mapping[str, Any]]) -> R:
        """Return presigned GET URLs for objects of a version."""
        body = {"objects": list(objects)}
        return self.do(Call("POST", path_of("datasets", name, "versions", ref, "downloads"), body=body))

    def commit(self, name: str, body: Mapping[str, Any], *, key: str | None = None) -> R:
        """Commit a version whose objects are all in the lake."""
        return self.do(Call("POST", path_of("datasets", name, "commits"), body=dict(body), key=key))

    def records(self, name: str, ref: str | int = "latest", **params: Any) -> R:
        """Return a page of a version's typed records; `type`, `path`, `after` and `limit` narrow it."""
        return self.do(Call("GET", path_of("datasets", name, "versions", ref, "records"), params))

    def record_summary(self, name: str, ref: str | int = "latest") -> R:
        """Count a version's records by type."""
        return self.do(Call("GET", path_of("datasets", name, "versions", ref, "records", "summary")))

    def tree(self, name: str, ref: str | int = "latest", **params: Any) -> R:
        """Return a page of what lies right below a folder (`prefix`) of a version."""
        return self.do(Call("GET", path_of("datasets", name, "versions", ref, "tree"), params))

    def changes(self, name: str, old: str | int, new: str | int = "latest", **params: Any) -> R:
        """Return what one version changed of another: counts, and a page of paths."""
        return self.do(Call("GET", path_of("datasets", name, "diff"), {**params, "from": old, "to": new}))

    def ingest_jobs(self, **params: Any) -> R:
        """List ingestion jobs, newest first; `dataset` and `state` narrow it."""
        return self.do(Call("GET", path_of("ingest", "jobs"), params))

    def ingest_job(self, job: str) -> R:
        """Return an ingestion job."""
        return self.do(Call("GET", path_of("ingest", "jobs", job)))
