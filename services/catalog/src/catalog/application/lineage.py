"""Where a thing came from, and what came of it."""

from __future__ import annotations

from typing import Any, Literal

from catalog.application.ports import Documents
from catalog.domain.records import Edge
from millrace.errors import Invalid

MAX_EDGES = 1_000
MAX_NODE = 300
Direction = Literal["upstream", "downstream", "both"]


async def lineage(project: str, node: str, *, direction: Direction, depth: int, documents: Documents) -> dict[str, Any]:
    """Return the edges within `depth` steps of a node such as `model:digits@1`.

    Raises:
        Invalid: the node has no kind.
    """
    kind, _, name = node.partition(":")
    if not kind or not name or len(node) > MAX_NODE:
        raise Invalid("a node is `<kind>:<name>`, for example `dataset:digits@1`, `run:<id>`, `model:digits@1`")
    up: list[Edge] = []
    down: list[Edge] = []
    if direction != "downstream":
        up = await _walk(project, node, ("target", "source"), depth=depth, documents=documents)
    if direction != "upstream":
        down = await _walk(project, node, ("source", "target"), depth=depth, documents=documents)
    return {"node": node, "upstream": [_view(it) for it in up], "downstream": [_view(it) for it in down]}


def _view(item: Edge) -> dict[str, str]:
    return {"source": item.source, "relation": item.relation, "target": item.target}


async def _walk(project: str, node: str, ends: tuple[str, str], *, depth: int, documents: Documents) -> list[Edge]:
    here, there = ends
    found: dict[str, Edge] = {}
    frontier, seen = (node,), {node}
    for _ in range(depth):
        edges = await documents.edges.find({"project": project, here: frontier}, limit=MAX_EDGES)
        found.update({it.id: it for it in edges})
        frontier = tuple({getattr(it, there) for it in edges} - seen)
        seen.update(frontier)
        if not frontier or len(found) >= MAX_EDGES:
            break
    return list(found.values())
