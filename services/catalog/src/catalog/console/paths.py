"""Paths of the API and of the pages, made from names that people type: whatever these hold, they stay one segment."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import Form, Path, Query

from millrace.patterns import NAME_PATTERN

REF_PATTERN = r"^[0-9a-z]{1,64}$"
ENTRY_PATTERN = r"^[A-Za-z0-9._:~-]{1,256}$"

Name = Annotated[str, Path(pattern=NAME_PATTERN)]
Ref = Annotated[str, Path(pattern=REF_PATTERN)]
FilePath = Annotated[str, Path(max_length=4_096)]
Folder = Annotated[str, Query(alias="prefix", max_length=4_096)]
After = Annotated[str | None, Query(max_length=1_100)]
NameField = Annotated[str, Form(pattern=NAME_PATTERN)]
EntryField = Annotated[str, Form(pattern=ENTRY_PATTERN)]


def v1(*segments: str | int) -> str:
    """Return `/v1/…` of these segments."""
    return "/v1/" + "/".join(quote(str(segment), safe="") for segment in segments)


def version_path(name: str, ref: str | int, *more: str) -> str:
    """Return the API's path of a version, or of something in it."""
    return v1("datasets", name, "versions", ref, *more)
