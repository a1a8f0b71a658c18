"""Keys of users: the server knows the public half, the service keeps the seed in a file of mode 0600."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import nkeys

from millrace.errors import Invalid


def create_user_seed() -> str:
    """Return the seed of a fresh user key (`SU…`): a secret."""
    return str(nkeys.encode_seed(secrets.token_bytes(32), nkeys.PREFIX_BYTE_USER).decode())


def public_key(seed: str) -> str:
    """Return the public key (`U…`) of a seed.

    Raises:
        Invalid: not a seed.
    """
    try:
        pair = nkeys.from_seed(bytearray(seed.strip().encode()))
    except (nkeys.NkeysError, ValueError) as error:
        raise Invalid(f"not an nkey seed: {type(error).__name__}") from None
    public: str = pair.public_key.decode()
    pair.wipe()
    return public


def write_seed(path: Path, seed: str) -> None:
    """Write a seed to a new file that only its owner may read.

    Raises:
        FileExistsError: there is a file already.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(seed + "\n")
