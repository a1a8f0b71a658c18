"""Checks of datasets in words: what each rule demands, as a person would say it."""

from __future__ import annotations

from typing import Any

from catalog.console.format import number, size


def said(check: dict[str, Any]) -> list[str]:
    """Return what a check demands, a sentence each."""
    for rule, words in _RULES.items():
        if rule in check:
            return words(check[rule])
    return []


def _range(rule: dict[str, Any], shown: Any = number) -> str:
    low, high = rule.get("min"), rule.get("max")
    if low is None:
        return f"at most {shown(high)}" if high is not None else "any number of"
    if high is None:
        return f"at least {shown(low)}"
    return f"exactly {shown(low)}" if low == high else f"between {shown(low)} and {shown(high)}"


def _counted(rule: dict[str, Any], noun: str) -> str:
    """Return a range of counts with what is counted, in the number that goes with the last amount."""
    last = rule.get("max") if rule.get("max") is not None else rule.get("min")
    return f"{_range(rule)} {noun if last == 1 else f'{noun}s'}"


def _matching(rule: dict[str, Any]) -> str:
    return f" that match {_listed(rule['match'])}" if rule.get("match") else ""


def _listed(items: list[Any]) -> str:
    return ", ".join(str(item) for item in items)


def _files(rule: dict[str, Any]) -> list[str]:
    return [f"{_counted(rule, 'file')}{_matching(rule)}"]


def _bytes(rule: dict[str, Any]) -> list[str]:
    return [f"{_range(rule, size)} in the files{_matching(rule)}"]


def _paths(rule: dict[str, Any]) -> list[str]:
    parts = (
        ("allow", "every path matches one of"),
        ("forbid", "no path matches"),
        ("require", "there is a path for each of"),
    )
    return [f"{words} {_listed(rule[key])}" for key, words in parts if rule.get(key)]


def _disjoint(rule: dict[str, Any]) -> list[str]:
    group = f"value of {rule['field']}" if rule.get("field") else "group"
    return [f"no {group} is in two splits, as {rule['path']} finds them in paths"]


def _table(rule: dict[str, Any]) -> list[str]:
    rows = [f"{rule['file']} has {_counted(rule['rows'], 'row')}"] if rule.get("rows") else []
    columns = [f"{rule['file']}, column {name}: {_column(column)}" for name, column in rule.get("columns", {}).items()]
    return [*rows, *columns, *([f"{rule['file']} has no other columns"] if rule.get("only") else [])] or [
        f"{rule['file']} is a table"
    ]


def _column(column: dict[str, Any]) -> str:
    parts = [str(column["type"])] if column.get("type") else []
    if column.get("min") is not None or column.get("max") is not None:
        parts.append(_range(column))
    if column.get("values") is not None:
        parts.append(f"one of {_listed(column['values'])}")
    if column.get("unique"):
        parts.append("no value twice")
    if (nulls := column.get("nulls")) is not None:
        parts.append("no empty cell" if nulls == 0 else f"at most {nulls:.3g} of the cells empty")
    return ", ".join(parts) or "it is there"


def _records(rule: dict[str, Any]) -> list[str]:
    fields = [f"{rule['type']}: {name} is {_range(bounds)}" for name, bounds in rule.get("fields", {}).items()]
    bounded = rule.get("min") is not None or rule.get("max") is not None
    return [*([f"{_counted(rule, 'record')} of type {rule['type']}"] if bounded or not fields else []), *fields]


def _python(rule: dict[str, Any]) -> list[str]:
    return [f"the program {rule['file']} passes where the version is made (BLAKE3 {str(rule.get('blake3'))[:12]})"]


_RULES = {
    "files": _files,
    "bytes": _bytes,
    "paths": _paths,
    "disjoint": _disjoint,
    "table": _table,
    "records": _records,
    "python": _python,
}
