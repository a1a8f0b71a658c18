"""The environment of a service's process: what it is told, what it may inherit, and never a secret."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from millrace_stack.addresses import Addresses
from millrace_stack.config import ServiceSpec, StackConfig
from millrace_stack.layout import Layout
from millrace_stack.servers import azurite

_INHERITED = re.compile(
    r"^(PATH|HOME|USER|LOGNAME|LANG|LC_\w+|TZ|TMPDIR|XDG_\w+|LD_LIBRARY_PATH|CUDA_\w+|NVIDIA_\w+|SSL_CERT_\w+"
    r"|MILLRACE_\w+|TF_\w+|PYTHONWARNINGS|PYTHONASYNCIODEBUG|COVERAGE_\w+)$"
)
_NOT_INHERITED = re.compile(r"^MILLRACE_(FAILPOINTS|STACK_|HOME$)|(TOKEN|SECRET|PASSWORD|KEY|SEED|PEPPER|URI)$")


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a service may inherit: where programs are, the locale, settings; no credentials."""
    return {
        name: value for name, value in environ.items() if _INHERITED.match(name) and not _NOT_INHERITED.search(name)
    }


@dataclass(frozen=True)
class ServiceEnvironment:
    """What services are told, from what is known of the stack."""

    layout: Layout
    config: StackConfig
    ports: Mapping[str, int]
    addresses: Addresses
    environ: Mapping[str, str]

    def of(self, spec: ServiceSpec) -> dict[str, str]:
        """Return the whole environment of a service. What the stack says wins over what is inherited."""
        variables = {"PATH": os.defpath, "PYTHONUNBUFFERED": "1", "MALLOC_ARENA_MAX": "2"} | inherited(self.environ)
        variables.setdefault("MILLRACE_LOG_LEVEL", self.config.log_level)
        variables |= self._shared() | self._own(spec) | self._special(spec.name)
        if points := self.config.failpoints.get(spec.name):
            variables["MILLRACE_FAILPOINTS"] = points
            variables["MILLRACE_FAILPOINTS_STATE"] = str(self.layout.failpoints(spec.name))
        return variables | spec.env

    def _shared(self) -> dict[str, str]:
        shared = {
            "MILLRACE_NATS_URL": self.addresses.nats,
            "MILLRACE_LAKE": self.config.lake,
        } | (self._azure() if self.config.lake == "azure" else self._s3())
        for spec in self.config.services:
            if spec.name in self.ports:
                shared[f"{spec.prefix}_URL"] = f"http://127.0.0.1:{self.ports[spec.name]}"
        return shared

    def _s3(self) -> dict[str, str]:
        told = {"MILLRACE_S3_ENDPOINT": self.addresses.s3, "MILLRACE_S3_BUCKET": self.config.bucket}
        if "s3" not in self.addresses.external:
            told["MILLRACE_S3_ACCESS_KEY_FILE"] = str(self.layout.s3_access_key)
            told["MILLRACE_S3_SECRET_KEY_FILE"] = str(self.layout.s3_secret_key)
        return told

    def _azure(self) -> dict[str, str]:
        told = {"MILLRACE_AZURE_ENDPOINT": self.addresses.azure, "MILLRACE_AZURE_CONTAINER": self.config.bucket}
        if "azurite" not in self.addresses.external:
            told["MILLRACE_AZURE_ACCOUNT"] = azurite.ACCOUNT
            told["MILLRACE_AZURE_KEY_FILE"] = str(self.layout.azure_key)
        return told

    def _own(self, spec: ServiceSpec) -> dict[str, str]:
        own: dict[str, str] = {}
        if spec.name in self.ports:
            own |= {"HOST": "127.0.0.1", "PORT": str(self.ports[spec.name])}
        if spec.database:
            own |= {"MONGO_URI_FILE": str(self.layout.mongo_uri(spec.name)), "MONGO_DATABASE": spec.database_name}
        if spec.token:
            own["TOKEN_FILE"] = str(self.layout.token(spec.name))
        if "nats" not in self.addresses.external and self.layout.seed(spec.name).is_file():
            own["NATS_SEED_FILE"] = str(self.layout.seed(spec.name))
        return {f"{spec.prefix}_{name}": value for name, value in own.items()}

    def _special(self, name: str) -> dict[str, str]:
        """Return what only one service is told."""
        if name == "catalog":
            files = {
                "BOOTSTRAP_FILE": self.layout.bootstrap,
                "PEPPER_FILE": self.layout.pepper,
                "MASTER_KEY_FILE": self.layout.master_key,
            }
            return {f"MILLRACE_CATALOG_{key}": str(path) for key, path in files.items()}
        if name == "cache-manager":
            path = str(self.layout.site(self.config.site))
            site = {"site": self.config.site, "path": path, "capacity_bytes": self.config.site_bytes}
            return {"MILLRACE_CACHE_MANAGER_SITES": json.dumps([site])}
        if name == "ingest":
            return {
                "MILLRACE_INGEST_PSEUDONYM_SECRET_FILE": str(self.layout.pseudonyms),
                "MILLRACE_INGEST_SPOOL_FOLDER": str(self.layout.work("ingest")),
            }
        if name == "trainer":
            return {"MILLRACE_TRAINER_WORK_FOLDER": str(self.layout.work("trainer"))}
        if name == "serving":
            return {
                "MILLRACE_SERVING_TRITON_HTTP": self.addresses.triton_http,
                "MILLRACE_SERVING_TRITON_GRPC": self.addresses.triton_grpc,
                "MILLRACE_SERVING_REPOSITORY": str(self.layout.repository),
                "MILLRACE_SERVING_SPOOL": str(self.layout.work("serving") / "spool"),
            }
        return {}
