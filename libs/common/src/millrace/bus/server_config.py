"""The server's list of users, rendered from the topology: allow-lists only, one nkey per user."""

from __future__ import annotations

import json
from collections.abc import Mapping

from millrace.bus.topology import Permissions
from millrace.errors import Invalid


def authorization(public_keys: Mapping[str, str], permissions: Mapping[str, Permissions]) -> str:
    """Return the `authorization { … }` block of a nats-server configuration.

    `public_keys` maps a user's name to its public nkey; users without a key are left out.

    Raises:
        Invalid: a key for a user that has no permissions: it would be allowed everything.
    """
    unknown = sorted(set(public_keys) - set(permissions))
    if unknown:
        raise Invalid(f"no permissions are known for {', '.join(unknown)}")
    users = [_user(key, permissions[name]) for name, key in sorted(public_keys.items())]
    return "authorization {\n  users = [\n" + ",\n".join(users) + "\n  ]\n}\n"


def _user(key: str, allowed: Permissions) -> str:
    publish = json.dumps({"allow": list(allowed.publish)})
    subscribe = json.dumps({"allow": list(allowed.subscribe)})
    return f"    {{ nkey: {json.dumps(key)}, permissions: {{ publish: {publish}, subscribe: {subscribe} }} }}"
