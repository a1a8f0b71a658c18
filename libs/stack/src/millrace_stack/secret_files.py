"""The stack's secrets: made at the first start, each in a file of mode 0600, never in an argument or a log."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path

import nkeys

from millrace.auth import tokens
from millrace.errors import Invalid
from millrace_stack.layout import Layout


def ensure(path: Path, make: Callable[[], str]) -> str:
    """Return the text of a secret file, made first where it is missing; whole or not at all, for its owner only."""
    private(path.parent)
    with contextlib.suppress(FileNotFoundError):
        return path.read_text(encoding="utf-8").strip()
    write(path, make())
    return path.read_text(encoding="utf-8").strip()


def write(path: Path, text: str) -> None:
    """Replace a file of mode 0600 at once, synced."""
    private(path.parent)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    file = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(file, "w", encoding="utf-8") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())
    aside.replace(path)


def private(folder: Path) -> None:
    """Make a folder that only its owner may enter."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if os.getuid() not in {folder.stat().st_uid, 0}:
        raise Invalid(f"{folder} belongs to another user", hint="name another folder with --dir")
    folder.chmod(0o700)


def new_seed() -> str:
    """Return the seed of a fresh nkey user."""
    return str(nkeys.encode_seed(secrets.token_bytes(32), nkeys.PREFIX_BYTE_USER).decode())


def public_key(seed: str) -> str:
    """Return the public key of a seed."""
    return str(nkeys.from_seed(bytearray(seed.encode())).public_key.decode())


def create(layout: Layout, *, services: Iterable[str], databases: Iterable[str], nats_users: Iterable[str]) -> None:
    """Make every secret that is missing; what exists stays. `services` get API tokens, `databases` passwords."""
    ensure(layout.owner_token, lambda: tokens.mint().text)
    ensure(layout.etl_token, lambda: tokens.mint().text)
    for service in services:
        ensure(layout.token(service), lambda: tokens.mint().text)
    for user in nats_users:
        ensure(layout.seed(user), new_seed)
    ensure(layout.mongo_key, lambda: base64.b64encode(secrets.token_bytes(96)).decode())
    for user in ("admin", *databases):
        ensure(layout.mongo_password(user), lambda: secrets.token_urlsafe(32))
    ensure(layout.s3_access_key, lambda: secrets.token_hex(10))
    ensure(layout.s3_secret_key, lambda: secrets.token_hex(20))
    ensure(layout.pepper, lambda: secrets.token_hex(32))
    ensure(layout.master_key, lambda: secrets.token_hex(32))
    ensure(layout.pseudonyms, lambda: secrets.token_hex(32))
    write(layout.bootstrap, json.dumps(bootstrap(layout, services), indent=1))


def bootstrap(layout: Layout, services: Iterable[str]) -> list[dict[str, object]]:
    """Return the catalog's first principals: the owner, an ETL of project `default`, and one per service."""
    people: list[dict[str, object]] = [
        {
            "token_file": str(layout.owner_token),
            "principal": "owner",
            "kind": "person",
            "roles": ["owner"],
            "project": "*",
        },
        {
            "token_file": str(layout.etl_token),
            "principal": "etl-default",
            "kind": "token",
            "roles": ["etl"],
            "project": "default",
        },
    ]
    return people + [
        {
            "token_file": str(layout.token(service)),
            "principal": service,
            "kind": "service",
            "roles": [f"service-{service}"],
            "project": "*",
        }
        for service in services
    ]
