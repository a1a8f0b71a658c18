"""Facts about datasets and the data that becomes them."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from millrace.events.envelope import EventData, GrownEventData
from millrace.events.names import Digest, ResourceName

Text = Annotated[str, StringConstraints(max_length=2_000)]

OBJECT_PLACE = r"(s3|az|gs)://[a-z0-9][a-z0-9.-]{1,62}/[A-Za-z0-9._/=+@ -]+"
WEB_PLACE = r"https?://[A-Za-z0-9.:\[\]-]{1,255}/[!-~]*"
LOCAL_PLACE = r"file:///[!-~]+"

WebUrl = Annotated[str, StringConstraints(max_length=2_048, pattern=f"^{WEB_PLACE}$")]

MAX_URLS = 1_000
"""URLs that one event may list; the event's own limit of 256 KiB may come first."""


class Lineage(BaseModel):
    """Where a version came from. Everything is optional, because hands make versions too."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    event: str | None = Field(default=None, max_length=128, description="the `data.landed` event that was ingested")
    source: str | None = Field(default=None, max_length=1_024, description="URI the data was read from")
    incident: str | None = Field(default=None, max_length=128, description="drift incident that asked for the labels")
    queue: str | None = Field(default=None, max_length=128, description="label queue that supplied the labels")
    parent: Digest | None = Field(default=None, description="the commit that was extended")
    run: str | None = Field(default=None, max_length=128, description="the run that produced the data")
    code: str | None = Field(default=None, max_length=256, description="code commit of the producer")


class DatasetCommitted(EventData):
    """A dataset version exists, whole and verified, and is the dataset's head."""

    TYPE: ClassVar[str] = "dataset.committed"

    dataset: ResourceName
    version: int = Field(ge=1)
    commit: Digest
    tree_root: Digest
    manifest: Digest
    parent: Digest | None = None
    files: int = Field(ge=0)
    bytes: int = Field(ge=0)
    message: Text = ""
    lineage: Lineage = Lineage()


class DatasetRemoved(EventData):
    """A dataset version, or a whole dataset where no version is named, is not to be had any more.

    Its bytes stay in the lake until garbage collection, so that the removal can be taken back for a while.
    """

    TYPE: ClassVar[str] = "dataset.removed"

    dataset: ResourceName
    version: int | None = Field(default=None, ge=1)
    commit: Digest | None = None
    reason: Text = ""


class DatasetRestored(EventData):
    """What was removed is to be had again."""

    TYPE: ClassVar[str] = "dataset.restored"

    dataset: ResourceName
    version: int | None = Field(default=None, ge=1)
    commit: Digest | None = None


class DataLanded(GrownEventData):
    """New data lies somewhere and wants to become a dataset version. Outside systems send this one."""

    TYPE: ClassVar[str] = "data.landed"
    LATER: ClassVar[tuple[str, ...]] = ("format", "urls")

    dataset: ResourceName
    uri: str = Field(
        max_length=1_024,
        pattern=f"^({OBJECT_PLACE}|{WEB_PLACE}|{LOCAL_PLACE})$",
        description="`s3://<bucket>/<prefix>` (or `az://`, `gs://`, as the lake is), a URL, or "
        "`file:///<mounted folder>`; files below it keep their relative paths. A URL is an archive, a list of URLs, or "
        "what all of `urls` begin with",
    )
    mode: Literal["replace", "append"] = Field(
        default="replace", description="`append` keeps the parent's files and adds or overwrites the landed ones"
    )
    message: Text = ""
    lineage: Lineage = Lineage()
    format: Literal["files", "archive"] | None = Field(
        default=None, description="`archive`: `uri` is one zip or tar, which is unpacked; `files` without it"
    )
    urls: tuple[WebUrl, ...] | None = Field(
        default=None, max_length=MAX_URLS, description="the files, where `uri` is the URL that they all begin with"
    )


class IngestStarted(EventData):
    """An ingestion job began to read landed data."""

    TYPE: ClassVar[str] = "ingest.started"

    job: str = Field(max_length=128)
    dataset: ResourceName
    uri: str = Field(max_length=1_024)


class IngestCompleted(EventData):
    """Landed data is a dataset version."""

    TYPE: ClassVar[str] = "ingest.completed"

    job: str = Field(max_length=128)
    dataset: ResourceName
    version: int = Field(ge=1)
    commit: Digest
    files: int = Field(ge=0)
    bytes: int = Field(ge=0)


class IngestFailed(EventData):
    """Landed data was refused whole, with a reason; nothing of it is visible."""

    TYPE: ClassVar[str] = "ingest.failed"

    job: str = Field(max_length=128)
    dataset: ResourceName
    reason: Text
