"""The users of nats-server: one nkey each, allow-lists only, in one account."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Protocol

ACCOUNT = "MILLRACE"


class Allowed(Protocol):
    """What a user may do; `millrace.bus.topology` says it for each of ours."""

    @property
    def publish(self) -> tuple[str, ...]:
        """Return the subjects it may publish on."""

    @property
    def subscribe(self) -> tuple[str, ...]:
        """Return the subjects it may subscribe to."""


def accounts(users: Mapping[str, Allowed], public_keys: Mapping[str, str]) -> str:
    """Return the configuration block of all users.

    Args:
        users: name → permissions.
        public_keys: name → public nkey. The server keeps no secret.
    """
    blocks = "\n".join(_user(name, public_keys[name], allowed) for name, allowed in sorted(users.items()))
    return f"accounts {{\n  {ACCOUNT} {{\n    jetstream: enabled\n    users = [\n{blocks}\n    ]\n  }}\n}}\n"


def _user(name: str, key: str, allowed: Allowed) -> str:
    publish, subscribe = json.dumps(list(allowed.publish)), json.dumps(list(allowed.subscribe))
    return (
        f"      # {name}\n"
        f"      {{ nkey: {json.dumps(key)}, permissions: {{\n"
        f"        publish: {{ allow: {publish} }}\n"
        f"        subscribe: {{ allow: {subscribe} }} }} }}"
    )
