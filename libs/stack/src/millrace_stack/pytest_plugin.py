"""Fixtures that start the real servers: one set per test session (per worker under xdist), gone when it ends.

`MILLRACE_STACK_<SERVER>_ADDRESS` names a server that already runs; then none is started.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pymongo import MongoClient

from millrace.testing.gcs_door import gcs_door
from millrace_stack import azurite_env, triton_env
from millrace_stack.ports import free_ports
from millrace_stack.servers import running
from millrace_stack.servers.azurite import ACCOUNT, AzuriteServer, new_key
from millrace_stack.servers.gcs import GcsServer
from millrace_stack.servers.mongo import MongoServer
from millrace_stack.servers.nats import NatsServer
from millrace_stack.servers.seaweed import PORTS as S3_PORTS
from millrace_stack.servers.seaweed import REGION, SeaweedServer, make_bucket, remove_bucket
from millrace_stack.servers.triton import TritonServer


@dataclass(frozen=True)
class Nats:
    """A nats-server that asks nobody who they are."""

    url: str


@dataclass(frozen=True)
class Mongo:
    """A replica set of one node that asks nobody who they are."""

    uri: str


@dataclass(frozen=True)
class S3:
    """An S3 endpoint and its keys."""

    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    region: str = REGION


@dataclass(frozen=True)
class Azure:
    """Azure's blob service as Azurite plays it: a storage account's address, name and key."""

    endpoint: str
    account: str
    key: str = field(repr=False)


@dataclass(frozen=True)
class Gcs:
    """Google Cloud Storage as fake-gcs-server plays it: its address, and a made-up service account's key (JSON)."""

    endpoint: str
    key: str = field(repr=False)


@dataclass(frozen=True)
class Triton:
    """A tritonserver with explicit model control: host:port of HTTP and gRPC, and the folder of its models."""

    http: str
    grpc: str
    repository: Path


@pytest.fixture(scope="session")
def servers_folder() -> Iterator[Path]:
    """A folder for the servers' data, removed at the end of the session (pytest would keep the last three)."""
    folder = Path(tempfile.mkdtemp(prefix="millrace-test-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def nats_server(servers_folder: Path) -> Iterator[Nats]:
    """A nats-server with JetStream, `sync_interval: always`, without users."""
    if address := os.environ.get("MILLRACE_STACK_NATS_ADDRESS"):
        yield Nats(address)
        return
    server = NatsServer(servers_folder / "nats", free_ports(1)[0], servers_folder / "nats.log")
    with running(server):
        yield Nats(server.url)


@pytest.fixture(scope="session")
def mongo_server(servers_folder: Path) -> Iterator[Mongo]:
    """A mongod as a single-node replica set, without users."""
    if address := os.environ.get("MILLRACE_STACK_MONGO_ADDRESS"):
        yield Mongo(address)
        return
    server = MongoServer(servers_folder / "mongo", free_ports(1)[0], servers_folder / "mongo.log")
    with running(server):
        yield Mongo(server.uri)


@pytest.fixture(scope="session")
def s3_server(servers_folder: Path) -> Iterator[S3]:
    """A SeaweedFS with one pair of keys and no bucket."""
    keys = (secrets.token_hex(10), secrets.token_hex(20))
    if address := os.environ.get("MILLRACE_STACK_S3_ADDRESS"):
        found = (os.environ.get("AWS_ACCESS_KEY_ID", ""), os.environ.get("AWS_SECRET_ACCESS_KEY", ""))
        yield S3(address, *found)
        return
    server = SeaweedServer(
        servers_folder / "s3", tuple(free_ports(2 * len(S3_PORTS))), servers_folder / "s3.log", *keys
    )
    with running(server):
        yield S3(server.endpoint, *keys)


@pytest.fixture(scope="session")
def azure_server(servers_folder: Path) -> Iterator[Azure]:
    """An Azurite with one account and no container. It is installed if missing."""
    if (reason := azurite_env.why_not()) is not None:
        pytest.skip(reason)
    built = azurite_env.ensure(servers_folder)
    server = AzuriteServer(
        servers_folder / "azurite", free_ports(1)[0], servers_folder / "azurite.log", new_key(), lambda: built
    )
    with running(server):
        yield Azure(server.endpoint, ACCOUNT, server.key)


@pytest.fixture(scope="session")
def gcs_server(servers_folder: Path) -> Iterator[Gcs]:
    """A fake-gcs-server without a bucket, behind the door that adds what it lacks of the XML interface."""
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    account = {"type": "service_account", "project_id": "p", "private_key_id": "1", "private_key": pem}
    account |= {"client_email": "lake@p.iam.gserviceaccount.com", "client_id": "1"}
    server = GcsServer(servers_folder / "gcs", free_ports(1)[0], servers_folder / "gcs.log")
    with running(server), gcs_door(server.endpoint, key.public_key()) as address:
        # no token is fetched: there is nobody on this machine who would give one
        yield Gcs(address, json.dumps({**account, "disable_oauth": True}))


@pytest.fixture(scope="session")
def triton_server(servers_folder: Path) -> Iterator[Triton]:
    """A tritonserver with an empty repository; models are loaded over gRPC. Its environment is built if missing."""
    environment = triton_env.ensure(servers_folder)
    http, grpc, metrics = free_ports(3)
    repository = servers_folder / "triton-repository"
    folder, log = servers_folder / "triton", servers_folder / "triton.log"
    server = TritonServer(folder, (http, grpc, metrics), log, environment, repository)
    with running(server):
        yield Triton(server.http, server.grpc, repository)
    server.clear()


@pytest.fixture
def mongo_database_name(mongo_server: Mongo) -> Iterator[str]:
    """A fresh name of a database, dropped afterwards."""
    name = f"test-{secrets.token_hex(8)}"
    yield name
    with MongoClient[dict[str, object]](mongo_server.uri) as client:
        client.drop_database(name)


@pytest.fixture
def s3_bucket(s3_server: S3) -> Iterator[str]:
    """The name of a fresh, empty bucket, removed afterwards: a server sets volumes apart for each that it keeps."""
    name = f"test-{secrets.token_hex(8)}"
    keys = (s3_server.endpoint, s3_server.access_key, s3_server.secret_key)
    make_bucket(name, *keys, region=s3_server.region)
    yield name
    remove_bucket(name, *keys, region=s3_server.region)
