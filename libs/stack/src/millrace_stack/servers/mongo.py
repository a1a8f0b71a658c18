"""mongod as a replica set of one node, so that transactions and change streams work as in production."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from millrace_stack import binaries, libcurl
from millrace_stack.process import Command
from millrace_stack.servers import accepts, private_folder

TRANSACTION_SECONDS = 5
REPLICA_SET = "rs0"
ADMIN = "millrace-stack"
_UNAUTHORIZED = 13
_ALREADY_INITIALIZED = 23
_AUTHENTICATION_FAILED = 18
_USER_EXISTS = 51_003


@dataclass(frozen=True)
class MongoUser:
    """A user that may use one database and nothing else."""

    name: str
    database: str
    password: str = field(repr=False)


@dataclass
class MongoServer:
    """A single mongod. Without a `key_file` it asks nobody who they are: for tests.

    With one, `admin_password` belongs to the stack's own user, and `users` are made on first start.
    """

    folder: Path
    port: int
    log: Path
    key_file: Path | None = None
    admin_password: str | None = field(default=None, repr=False)
    users: tuple[MongoUser, ...] = ()
    cache_gb: float = 0.25
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    advertised: str | None = None
    """Host and port under which other members and clients reach it, where that is not this machine's loopback."""
    name: str = "mongo"
    _prepared: bool = False

    @property
    def uri(self) -> str:
        """Return the address for clients, without credentials."""
        return f"mongodb://127.0.0.1:{self.port}/?directConnection=true"

    def uri_of(self, user: MongoUser) -> str:
        """Return the address with which a user reaches its own database; it holds the password."""
        return (
            f"mongodb://{user.name}:{user.password}@127.0.0.1:{self.port}/{user.database}"
            f"?directConnection=true&authSource={user.database}"
        )

    def command(self) -> Command:
        """Return how to run the server."""
        data = private_folder(self.folder / "data")
        program = binaries.resolve(binaries.MONGO, environ=self.environ)
        env = {"PATH": os.defpath, "HOME": str(self.folder), "LANG": "C.UTF-8"}
        if (path := libcurl.library_path(program, self.folder / "lib")) is not None:
            env["LD_LIBRARY_PATH"] = path
        self._prepared = False
        argv = [str(program), "--dbpath", str(data), "--port", str(self.port), "--bind_ip", "127.0.0.1"]
        argv += ["--replSet", REPLICA_SET, "--oplogSize", "64", "--wiredTigerCacheSizeGB", str(self.cache_gb)]
        argv += ["--setParameter", "diagnosticDataCollectionEnabled=false", "--nounixsocket", "--quiet"]
        # A client killed inside a transaction leaves it open; what it wrote stays locked until the server ends it.
        argv += ["--setParameter", f"transactionLifetimeLimitSeconds={TRANSACTION_SECONDS}"]
        if self.key_file is not None:
            argv += ["--keyFile", str(self.key_file)]
        return Command(self.name, tuple(argv), cwd=self.folder, log=self.log, env=env)

    def why_not_ready(self) -> str | None:
        """Return None once the node is primary; the first time it is asked to be one, and its users are made."""
        if not accepts(self.port):
            return "it does not listen yet"
        if self._prepared:
            return None
        try:
            with self._client() as client:
                hello = client.admin.command("hello")
                if not hello.get("isWritablePrimary"):
                    return self._become_primary(hello)
            self._make_users()
            self._prepared = True
        except PyMongoError as error:
            return f"{type(error).__name__}: {str(error)[:200]}"
        return None

    def _client(self, *, admin: bool = False) -> MongoClient[dict[str, Any]]:
        credentials: dict[str, Any] = {}
        if admin and self.admin_password is not None:
            credentials = {"username": ADMIN, "password": self.admin_password, "authSource": "admin"}
        return MongoClient(self.uri, serverSelectionTimeoutMS=2_000, timeoutMS=4_000, **credentials)

    def _become_primary(self, hello: dict[str, Any]) -> str:
        if not hello.get("isreplicaset"):
            return "the election is not over yet"
        wanted = {"_id": 0, "host": self.advertised or f"127.0.0.1:{self.port}"}
        try:
            with self._client() as client:
                client.admin.command("replSetInitiate", {"_id": REPLICA_SET, "members": [wanted]})
        except OperationFailure as error:
            if error.code not in {_UNAUTHORIZED, _ALREADY_INITIALIZED}:
                raise
        else:
            return "the replica set was just initiated"
        with self._client(admin=True) as client:  # the port changed since the set was made: name the node anew
            config = client.admin.command("replSetGetConfig")["config"]
            config["members"][0] |= wanted
            config["version"] += 1
            client.admin.command("replSetReconfig", config, force=True)
        return "the replica set was told its new port"

    def _make_users(self) -> None:
        if self.admin_password is None:
            return
        try:
            self._make_user_as_admin()
        except OperationFailure as error:
            if error.code not in {_UNAUTHORIZED, _AUTHENTICATION_FAILED}:
                raise
            with self._client() as client:  # localhost may make the first user, and only that
                client.admin.command("createUser", ADMIN, pwd=self.admin_password, roles=["root"])
            self._make_user_as_admin()

    def _make_user_as_admin(self) -> None:
        with self._client(admin=True) as client:
            for user in self.users:
                roles = [{"role": role, "db": user.database} for role in ("readWrite", "dbAdmin")]
                try:
                    client[user.database].command("createUser", user.name, pwd=user.password, roles=roles)
                except OperationFailure as error:
                    if error.code != _USER_EXISTS:
                        raise
