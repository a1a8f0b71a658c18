"""The options of the Spark data source, checked. They arrive as text, and Spark shows them in plans and pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from millrace.datasets.keys import check_project
from millrace.errors import Invalid
from millrace_sdk.discovery import Access

MIB = 1024 * 1024
KNOWN = ("dataset", "version", "path", "table", "project", "url", "token_file", "task_bytes", "pushdown", "message")


@dataclass(frozen=True)
class Options:
    """What was asked.

    `dataset` (`NAME`, `NAME@VERSION` or `NAME@COMMIT`), `version` (instead of `@…`), `path` (a pattern of files, also
    the argument of `load`), `table` (a pattern of tables; when writing, the folder of the parts), `project`, `url`,
    `token_file`, `task_bytes` (about so many bytes are read by one task; whole packs), `pushdown` (`true`: filters
    on path, size and blake3 are applied before anything is fetched; needs
    `spark.sql.python.filterPushdown.enabled`), `message` (of the version that is written).
    """

    dataset: str
    version: str
    project: str
    access: Access
    path: str | None = None
    table: str | None = None
    task_bytes: int = 128 * MIB
    pushdown: bool = False
    message: str = ""

    @classmethod
    def of(cls, given: Mapping[str, str], *, writing: bool = False) -> Options:
        """Return the options that Spark passed on.

        Raises:
            Invalid: unknown or missing ones, or values that cannot be.
        """
        told = {name.lower(): value for name, value in given.items()}
        if any("token" in name and name != "token_file" for name in told):
            raise Invalid("a token is no option, for Spark shows options", hint="token_file, or MILLRACE_TOKEN_FILE")
        if strange := sorted(set(told) - set(KNOWN)):
            raise Invalid(f"the format millrace has no option {strange[0]!r}", hint=", ".join(KNOWN))
        name, _, version = told.get("dataset", "").partition("@")
        if not name or "/" in name:
            raise Invalid("the option dataset names the dataset", hint='.option("dataset", "digits@3")')
        if version and "version" in told:
            raise Invalid("the version is named twice", hint="dataset=NAME@VERSION, or version=VERSION")
        if writing and (version or "version" in told):
            raise Invalid("a version never changes: write to the dataset", hint=f'.option("dataset", "{name}")')
        return cls(
            dataset=name,
            version=version or told.get("version", "latest"),
            project=check_project(told.get("project", "default")),
            access=Access(told.get("url"), None, told.get("token_file")),
            path=told.get("path"),
            table=told.get("table"),
            task_bytes=_positive("task_bytes", told.get("task_bytes", str(cls.task_bytes))),
            pushdown=_truth("pushdown", told.get("pushdown", "false")),
            message=told.get("message", ""),
        )


def _positive(name: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 15 and int(text) > 0):
        raise Invalid(f"the option {name} is a number of bytes, not {text[:20]!r}")
    return int(text)


def _truth(name: str, text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise Invalid(f"the option {name} is true or false, not {text[:20]!r}")
    return text.lower() == "true"
