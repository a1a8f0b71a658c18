"""Where everything lies in the stack's directory. One place, so that the CLI, the demo and tests agree."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

DEFAULT_NAME = ".millrace"


@dataclass(frozen=True)
class Layout:
    """The paths of one stack; `root` is absolute."""

    root: Path

    @property
    def state(self) -> Path:
        """Return what runs: ports, process ids, readiness (JSON)."""
        return self.root / "state.json"

    @property
    def config(self) -> Path:
        """Return what was asked of `up` (JSON)."""
        return self.root / "config.json"

    @property
    def lock(self) -> Path:
        """Return the file that the supervisor keeps locked while it lives."""
        return self.root / "supervisor.lock"

    @property
    def logs(self) -> Path:
        """Return the folder of log files, one per process."""
        return self.root / "logs"

    @property
    def secrets(self) -> Path:
        """Return the folder of secret files (0700, files 0600)."""
        return self.root / "secrets"

    @property
    def owner_token(self) -> Path:
        """Return the file with the owner's API token, where the CLI finds it."""
        return self.secrets / "owner.token"

    @property
    def etl_token(self) -> Path:
        """Return the file with the API token of project `default`'s ETL."""
        return self.secrets / "etl-default.token"

    def token(self, service: str) -> Path:
        """Return the file with a service's own API token."""
        return self.secrets / "tokens" / f"{service}.token"

    def seed(self, user: str) -> Path:
        """Return the file with the nkey seed of a NATS user."""
        return self.secrets / "nats" / f"{user}.seed"

    def mongo_password(self, user: str) -> Path:
        """Return the file with the password of a MongoDB user."""
        return self.secrets / "mongo" / f"{user}.password"

    def mongo_uri(self, user: str) -> Path:
        """Return the file with the connection string of a MongoDB user; written at each start."""
        return self.secrets / "mongo" / f"{user}.uri"

    @property
    def mongo_key(self) -> Path:
        """Return mongod's key file."""
        return self.secrets / "mongo" / "key"

    @property
    def s3_access_key(self) -> Path:
        """Return the file with the S3 access key."""
        return self.secrets / "s3" / "access-key"

    @property
    def s3_secret_key(self) -> Path:
        """Return the file with the S3 secret key."""
        return self.secrets / "s3" / "secret-key"

    @property
    def azure_key(self) -> Path:
        """Return the file with the key of Azurite's storage account."""
        return self.secrets / "azure" / "account-key"

    @property
    def pepper(self) -> Path:
        """Return the file with the key of the catalog's token hashes."""
        return self.secrets / "catalog-pepper"

    @property
    def master_key(self) -> Path:
        """Return the file with the master keys of encrypted projects; who loses it loses their data."""
        return self.secrets / "catalog-master-key"

    @property
    def pseudonyms(self) -> Path:
        """Return the file with ingest's secret for pseudonyms; who loses it gives known patients new names."""
        return self.secrets / "pseudonyms"

    @property
    def bootstrap(self) -> Path:
        """Return the list of tokens that the catalog installs at its start (JSON; it names files, holds no secret)."""
        return self.secrets / "bootstrap.json"

    def site(self, name: str) -> Path:
        """Return the folder that stands for a site's NFS export."""
        return self.root / "sites" / name

    def work(self, name: str) -> Path:
        """Return the working folder of a process."""
        return self.root / "work" / name

    def data(self, server: str) -> Path:
        """Return the data folder of a server."""
        return self.root / "servers" / server

    @property
    def repository(self) -> Path:
        """Return Triton's model repository, which serving writes."""
        return self.work("serving") / "repository"

    def failpoints(self, service: str) -> Path:
        """Return where a service counts the hits of its failpoints."""
        return self.root / "failpoints" / service

    def log(self, name: str) -> Path:
        """Return the log file of a process."""
        return self.logs / f"{name}.log"


def locate(folder: Path | str | None = None, *, environ: Mapping[str, str] | None = None) -> Layout:
    """Return the stack's layout: the folder named, else `$MILLRACE_HOME`, else `.millrace` where we are."""
    environ = os.environ if environ is None else environ
    named = folder or environ.get("MILLRACE_HOME") or DEFAULT_NAME
    return Layout(Path(named).expanduser().absolute())
