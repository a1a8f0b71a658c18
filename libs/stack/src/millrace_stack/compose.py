"""The first start of compose.yaml: secrets as files, volumes for the users that the servers run as, MongoDB's users.

    python -m millrace_stack.compose prepare           in `init`, once per start, before anything else
    python -m millrace_stack.compose mongo             in `mongo-init`, beside mongod: only from its own host may
                                                       somebody make the first user

Both may run any number of times: what exists stays.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from millrace.bus.topology import permissions
from millrace.clock import SystemClock
from millrace.errors import DeadlineExceeded, Invalid, MillraceError
from millrace_stack import secret_files
from millrace_stack.config import SERVICES
from millrace_stack.layout import Layout
from millrace_stack.natsconf import accounts
from millrace_stack.servers.mongo import MongoServer, MongoUser

SECRETS = Path("/secrets")
VOLUMES = Path("/volumes")
SERVICE_UID = 10_001
GRAFANA_UID = 472
MONGO_PORT = 27_017
MONGO_HOST = f"mongo:{MONGO_PORT}"
MONGO_SECONDS = 120.0

NATS_CONFIG = """\
# Written at each start by `millrace_stack.compose`; users are nkeys, and only what is listed is allowed.
listen: 0.0.0.0:4222
http: 127.0.0.1:8222
server_name: nats
max_payload: 1MB
jetstream {{ store_dir: /data, max_file_store: 10GB, sync_interval: always }}
{accounts}
"""


class ComposeLayout(Layout):
    """The same secrets as in the embedded stack, at the root of their volume."""

    @property
    def secrets(self) -> Path:
        """Return the volume itself."""
        return self.root


def prepare(root: Path = SECRETS, volumes: Path = VOLUMES) -> None:
    """Make what is missing of secrets and configuration, and hand the volumes to their users."""
    layout = ComposeLayout(root)
    users = permissions()
    services = [spec.name for spec in SERVICES if spec.token]
    databases = [spec.name for spec in SERVICES if spec.database]
    secret_files.create(layout, services=services, databases=databases, nats_users=users)
    for spec in SERVICES:
        if spec.database:
            password = _text(layout.mongo_password(spec.name))
            uri = f"mongodb://{spec.name}:{password}@{MONGO_HOST}/{spec.database_name}"
            secret_files.write(layout.mongo_uri(spec.name), f"{uri}?replicaSet=rs0&authSource={spec.database_name}")
    keys = {name: secret_files.public_key(_text(layout.seed(name))) for name in users}
    secret_files.write(root / "nats.conf", NATS_CONFIG.format(accounts=accounts(users, keys)))
    secret_files.write(root / "s3.json", _s3_identities(layout))
    grafana = volumes / "grafana-secret"
    secret_files.ensure(grafana / "password", lambda: secrets.token_urlsafe(24))
    _hand_over([root, *(path for path in volumes.iterdir() if path != grafana)], SERVICE_UID)
    _hand_over([grafana], GRAFANA_UID)


def _s3_identities(layout: Layout) -> str:
    credentials = {
        "accessKey": _text(layout.s3_access_key),
        "secretKey": _text(layout.s3_secret_key),
    }
    actions = ["Admin", "Read", "List", "Tagging", "Write"]
    return json.dumps({"identities": [{"name": "millrace", "credentials": [credentials], "actions": actions}]})


def _hand_over(roots: Iterable[Path], uid: int) -> None:
    """Give files to the user that reads them, where we may (in the container we are root, in tests we are not)."""
    if os.getuid() != 0:
        return
    for root in roots:
        for path in (root, *root.rglob("*")):
            os.chown(path, uid, uid, follow_symlinks=False)


def initiate(root: Path = SECRETS) -> None:
    """Make the replica set of one node and its users.

    Raises:
        DeadlineExceeded: mongod did not become primary in time.
    """
    layout = ComposeLayout(root)
    server = MongoServer(
        folder=root,
        port=MONGO_PORT,
        log=root / "unused.log",
        admin_password=_text(layout.mongo_password("admin")),
        users=tuple(
            MongoUser(spec.name, spec.database_name, _text(layout.mongo_password(spec.name)))
            for spec in SERVICES
            if spec.database
        ),
        advertised=MONGO_HOST,
    )
    clock, reason = SystemClock(), None
    end = clock.monotonic() + MONGO_SECONDS
    while clock.monotonic() < end:
        if (reason := server.why_not_ready()) is None:
            return
        time.sleep(0.5)
    raise DeadlineExceeded(f"mongod is not ready after {MONGO_SECONDS:g} s: {reason}")


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip()


def main(arguments: list[str]) -> int:
    """Run one of the two steps."""
    try:
        match arguments:
            case ["prepare"]:
                prepare()
            case ["mongo"]:
                initiate()
            case _:
                raise Invalid("usage: python -m millrace_stack.compose prepare | mongo")
    except MillraceError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
