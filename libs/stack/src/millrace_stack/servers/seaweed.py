"""SeaweedFS in one process, for its S3 interface."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from minio import Minio
from minio.deleteobjects import DeleteObject
from minio.error import MinioException
from urllib3 import PoolManager, Retry, Timeout
from urllib3.exceptions import HTTPError

from millrace_stack import binaries, http_probe
from millrace_stack.process import Command
from millrace_stack.servers import private_folder

REGION = "us-east-1"
PORTS = ("s3", "master", "volume", "filer", "admin")
"""Each of these opens a second port for gRPC; `SeaweedServer` wants two ports for each name."""


@dataclass
class SeaweedServer:
    """`weed mini` on the loopback interface, every port set, nothing reported home.

    `memory` is where its garbage collector begins to work harder. Below what a few packs in flight need, it halves
    the speed of uploads: 85 MB/s at 256 MiB and 190 MB/s without a limit, on two cores.
    """

    folder: Path
    ports: tuple[int, ...]
    log: Path
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    buckets: tuple[str, ...] = ()
    region: str = REGION
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    memory: str | None = "768MiB"
    name: str = "s3"
    _prepared: bool = False

    @property
    def endpoint(self) -> str:
        """Return the S3 endpoint's URL."""
        return f"http://127.0.0.1:{self.ports[0]}"

    def command(self) -> Command:
        """Return how to run the server; its keys travel by environment, where only this user can read them."""
        data = private_folder(self.folder / "data")
        program = binaries.resolve(binaries.SEAWEED, environ=self.environ)
        argv = [str(program), "-logtostderr=true", "mini", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
        for index, name in enumerate(PORTS):
            argv += [f"-{name}.port={self.ports[2 * index]}", f"-{name}.port.grpc={self.ports[2 * index + 1]}"]
        argv += ["-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.iam=false"]
        argv += ["-master.telemetry=false", "-volume.id=volume-0", f"-filer.localSocket={self._socket()}"]
        argv += ["-s3.autoCreateBucket=false", "-filer.maxMB=16"]
        env = {"PATH": os.defpath, "HOME": str(self.folder)}
        env |= {} if self.memory is None else {"GOMEMLIMIT": self.memory}
        env |= {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key}
        return Command(self.name, tuple(argv), cwd=self.folder, log=self.log, env=env)

    def _socket(self) -> Path:
        """Return a path for the filer's Unix socket that is short enough for the kernel (108 bytes)."""
        inside = self.folder / "filer.sock"
        return inside if len(os.fsencode(inside)) < 100 else Path(f"/tmp/millrace-filer-{self.ports[0]}.sock")  # noqa: S108

    def why_not_ready(self) -> str | None:
        """Return None once the wanted buckets exist, or could be made."""
        try:
            http_probe.get(self.ports[0], "/status", seconds=1.0)
        except OSError as error:
            return f"no answer: {error.strerror or error}"
        if self._prepared:
            return None
        try:
            with client(self.endpoint, self.access_key, self.secret_key, region=self.region) as s3:
                s3.list_buckets()
            for bucket in self.buckets:
                make_bucket(bucket, self.endpoint, self.access_key, self.secret_key, region=self.region)
        except (MinioException, HTTPError, ValueError) as error:
            return f"{type(error).__name__}: {str(error)[:200]}"
        self._prepared = True
        return None


def make_bucket(bucket: str, endpoint: str, access_key: str, secret_key: str, *, region: str = REGION) -> None:
    """Make a bucket on any S3 endpoint, unless it exists."""
    with client(endpoint, access_key, secret_key, region=region) as s3:
        if not s3.bucket_exists(bucket):
            s3.make_bucket(bucket, location=region)


def remove_bucket(bucket: str, endpoint: str, access_key: str, secret_key: str, *, region: str = REGION) -> None:
    """Remove a bucket with all it holds. SeaweedFS frees the volumes that it set apart for the bucket."""
    with client(endpoint, access_key, secret_key, region=region) as s3:
        found = s3.list_objects(bucket, recursive=True)
        errors = list(s3.remove_objects(bucket, (DeleteObject(item.object_name) for item in found)))
        if errors:
            raise ValueError(f"{len(errors)} objects of {bucket} stay, the first for: {errors[0].message}")
        s3.remove_bucket(bucket)


@contextlib.contextmanager
def client(endpoint: str, access_key: str, secret_key: str, *, region: str) -> Iterator[Minio]:
    """Yield a client that waits 3 s at most and never tries twice."""
    pool = PoolManager(timeout=Timeout(3.0), retries=Retry(0))
    scheme, _, host = endpoint.rstrip("/").rpartition("://")
    try:
        yield Minio(host, access_key, secret_key, secure=scheme == "https", region=region, http_client=pool)
    finally:
        pool.clear()
