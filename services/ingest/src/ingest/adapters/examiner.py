"""Looking at every landed file before anything is written: what it is, whether it may stay, and what is known of it.

In a project whose DICOM is de-identified (the default), DICOM files leave here without identity and named by digest; so
do all their neighbours, since the path of a file beside a patient's images may be the patient's name.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path

from blake3 import blake3

from ingest.adapters.dicom.admission import Admission
from ingest.adapters.dicom.deidentify import Policy
from ingest.adapters.dicom.detect import recognise
from ingest.adapters.dicom.pseudonyms import Pseudonyms
from ingest.adapters.dicom.reading import DicomFile, read
from ingest.adapters.images import dimensions
from ingest.adapters.sniff import HEAD_BYTES, container, ending, kind_of
from ingest.adapters.spool import Spool
from ingest.adapters.streams import LoopReader, opened
from ingest.adapters.tables import csv_facts, parquet_facts
from ingest.application.grouping import DICOM
from ingest.application.ports import Done, Draft, Examined, Landed, Landing, Read
from ingest.domain.names import format_ending, named
from ingest.errors import ContentRefused, DicomRefused, LandingChanged, NothingLanded
from millrace.records import metadata_text

AT_ONCE = 16
"""Files whose first bytes are read at once."""

SMALL = 8 * 1024 * 1024
"""DICOM files up to this size are read four at a time, larger ones one by one."""


@dataclass(frozen=True)
class DicomRules:
    """What a project wants done with DICOM."""

    deidentify: bool = True
    drop_documents: bool = False
    policy: Policy = field(default_factory=Policy)


@dataclass(frozen=True)
class Budget:
    """Largest DICOM file and spool in bytes; where the spool lies (None: the system's folder for temporary files)."""

    dicom: int
    spool: int
    folder: Path | None = None


class FileExaminer:
    """`Examiner` with pydicom and Arrow. `secret` is the installation's for pseudonyms. Needs `close()` at the end."""

    def __init__(self, rules: Mapping[str, DicomRules], budget: Budget, secret: str | None) -> None:
        self._rules, self._budget, self._secret = rules, budget, secret
        self._parser = ThreadPoolExecutor(1, thread_name_prefix="dicom")
        self._small, self._large = asyncio.Semaphore(4), asyncio.Lock()

    def openly(self, project: str) -> bool:
        """Return whether messages may quote the names of landed files."""
        return not self.rules(project).deidentify

    def rules(self, project: str) -> DicomRules:
        """Return a project's rules."""
        return self._rules.get(project, DicomRules())

    def close(self) -> None:
        """Let go of the threads."""
        self._parser.shutdown(wait=False, cancel_futures=True)

    @asynccontextmanager
    async def open(self, project: str, landing: Landing, done: Done) -> AsyncIterator[Examined]:
        """Examine a landing; what was made of it can be read until the context ends.

        Raises:
            DicomRefused, ContentRefused, LandingTooLarge, NothingLanded: what their names say.
        """
        with Spool(self._budget.spool, self._budget.folder) as spool:
            yield await self._examine(project, landing, spool, done)

    async def _examine(self, project: str, landing: Landing, spool: Spool, done: Done) -> Examined:
        look = _Look(self, self.rules(project), self._names(project), spool, landing.source)
        found: list[Draft | None] = []
        for batch in _batches(enumerate(landing.files, 1)):
            answers = await asyncio.gather(*(look.at(*item) for item in batch), return_exceptions=True)
            for answer in answers:
                if isinstance(answer, BaseException):
                    raise answer
                found.append(answer)
            done(len(found))
        drafts = [draft for draft in found if draft is not None]
        if not drafts:
            raise NothingLanded("nothing is left once documents and indexes are dropped")
        anonymous = look.deidentified > 0
        if anonymous:
            drafts = [draft if draft.media_type == DICOM else await _digested(draft) for draft in drafts]
        unique = {draft.path: draft for draft in drafts}
        return Examined(
            [unique[path] for path in sorted(unique)],
            anonymous=anonymous,
            dropped=len(found) - len(unique),
            check=landing.check,
        )

    def _names(self, project: str) -> Pseudonyms | None:
        return None if self._secret is None else Pseudonyms(self._secret, project)

    async def dicom(self, landed: Landed, names: Pseudonyms | None, policy: Policy) -> DicomFile:
        """Read one DICOM file whole, in the thread that is kept for it."""
        if landed.size > self._budget.dicom:
            raise DicomRefused(f"it is larger than {self._budget.dicom} bytes", hint="MILLRACE_INGEST_DICOM_BYTES")
        async with self._small if landed.size <= SMALL else self._large:
            data = await landed.read(0, landed.size)
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._parser, read, data, names, policy)


@dataclass
class _Look:
    """One landing's examination."""

    examiner: FileExaminer
    rules: DicomRules
    names: Pseudonyms | None
    spool: Spool
    source: str
    deidentified: int = 0

    async def at(self, number: int, landed: Landed) -> Draft | None:
        try:
            head = await landed.read(0, min(landed.size, HEAD_BYTES)) if landed.size else b""
            if recognise(head):
                return await self._dicom(landed)
            self._refuse_hidden(head, landed)
            return await self._plain(landed, head)
        except (DicomRefused, ContentRefused) as error:
            where = named("file", number, landed.path, openly=not self.rules.deidentify)
            raise type(error)(f"{where}: {error.message}", hint=error.hint) from None

    def _refuse_hidden(self, head: bytes, landed: Landed) -> None:
        if self.rules.deidentify and (hidden := container(head, landed.path)) is not None:
            raise ContentRefused(f"it is a {hidden}, which is not looked into", hint="announce it as an archive")

    async def _dicom(self, landed: Landed) -> Draft | None:
        if not self.rules.deidentify:
            found = await self.examiner.dicom(landed, None, self.rules.policy)
            return _draft(landed, found.type, DICOM, metadata_text(found.facts), f"{self.source}{landed.path}")
        if self.names is None:
            raise DicomRefused(
                "no secret for pseudonyms is configured, so DICOM cannot be de-identified",
                hint="set MILLRACE_INGEST_PSEUDONYM_SECRET_FILE",
            )
        found = await self.examiner.dicom(landed, self.names, self.rules.policy)
        if found.admission is Admission.DOCUMENT and not self.rules.drop_documents:
            raise DicomRefused("it is a report, a document or no image: text that cannot be freed of identities")
        self.deidentified += 1
        if found.admission is not Admission.TAKE:
            return None
        span = await asyncio.to_thread(self.spool.append, found.data)
        reader = partial(self.spool.read_async, span)
        return Draft(found.path, span.size, reader, 0, found.type, DICOM, metadata_text(found.facts), "")

    async def _plain(self, landed: Landed, head: bytes) -> Draft:
        if self.rules.deidentify:
            landed = replace(landed, read=_still_plain(landed))
        kind = kind_of(head, landed.path)
        metadata, type_ = "{}", kind.type
        if type_ == "Image":
            metadata = metadata_text(dimensions(head, kind.media_type))
        elif type_ == "Table":
            summary = await self._table(landed, kind.media_type)
            metadata, type_ = (summary, "Table") if summary is not None else ("{}", "Text")
        return _draft(landed, type_, kind.media_type, metadata, f"{self.source}{landed.path}")

    async def _table(self, landed: Landed, media_type: str) -> str | None:
        reader = LoopReader(landed.read)
        try:
            with opened(landed.size, reader) as file:
                if media_type == "application/vnd.apache.parquet":
                    return await asyncio.to_thread(parquet_facts, file)
                delimiter = "\t" if ending(landed.path) == ".tsv" else ","
                return await asyncio.to_thread(csv_facts, file, delimiter=delimiter)
        except (OSError, ContentRefused):
            if reader.failure is not None:
                raise reader.failure from None
            raise


def _still_plain(landed: Landed) -> Read:
    """Return a reader that gives no bytes of a file which was swapped for DICOM or an archive since it was examined."""

    async def read(offset: int, length: int) -> bytes:
        data = await landed.read(offset, length)
        if offset == 0 and (recognise(data[:HEAD_BYTES]) or container(data[:HEAD_BYTES], landed.path) is not None):
            raise LandingChanged("a landed file changed while it was read", hint="land data, then announce it")
        return data

    return read


def _draft(landed: Landed, kind: str, media_type: str, metadata: str, source: str) -> Draft:
    shown = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in source)[:1_024]
    return Draft(landed.path, landed.size, landed.read, landed.mtime_ns, kind, media_type, metadata, shown)


async def _digested(draft: Draft) -> Draft:
    """Return a file named by its digest: `files/<digest>` and a plain ending."""
    whole = blake3()
    for offset in range(0, draft.size, SMALL):
        whole.update(await draft.read(offset, min(SMALL, draft.size - offset)))
    path = f"files/{whole.hexdigest()}{format_ending(draft.path)}"
    return replace(draft, path=path, source="", mtime_ns=0)


def _batches(items: Iterable[tuple[int, Landed]]) -> Iterator[list[tuple[int, Landed]]]:
    rest = iter(items)
    while batch := list(islice(rest, AT_ONCE)):
        yield batch
