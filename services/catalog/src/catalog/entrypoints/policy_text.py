"""Policies as YAML or JSON text: the safe, small part of YAML, in which `on` is a word and there are no aliases."""

from __future__ import annotations

import re
from typing import Any

import yaml
from pydantic import ValidationError

from catalog.application.policies.documents import PolicyDocument
from millrace.errors import Invalid

MAX_BYTES = 64 * 1024
MAX_PROBLEMS = 10


class _Loader(yaml.SafeLoader):
    """YAML 1.1 without its surprises: only `true` and `false` are booleans, dates stay text, no aliases, no repeats."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise Invalid("aliases are not allowed in a policy")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(names) != len(set(names)) or len(names) != len(node.value):
            raise Invalid("a policy names a field twice, or by something that is no word")
        return super().construct_mapping(node, deep=deep)


_SURPRISING = {"tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:bool"}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _SURPRISING]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), list("tf"))


def read_policy(body: bytes) -> PolicyDocument:
    """Return the policy in a YAML document (JSON is YAML).

    Raises:
        Invalid: it is no YAML, or no policy that can work; the problems are listed.
    """
    if len(body) > MAX_BYTES:
        raise Invalid(f"a policy has at most {MAX_BYTES} bytes")
    try:
        document = yaml.load(body.decode("utf-8"), Loader=_Loader)  # noqa: S506 - _Loader is a SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise Invalid(f"not a YAML document: {str(error)[:200]}") from None
    try:
        return PolicyDocument.model_validate(document)
    except ValidationError as error:
        problems = [
            {"where": ".".join(map(str, item["loc"])), "what": item["msg"]}
            for item in error.errors(include_url=False, include_input=False, include_context=False)[:MAX_PROBLEMS]
        ]
        first = problems[0]
        raise Invalid(f"{first['where'] or 'policy'}: {first['what']}", errors=problems) from None
