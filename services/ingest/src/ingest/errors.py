"""What can go wrong here, in the words of the shared taxonomy."""

from __future__ import annotations

from millrace.errors import Conflict, Forbidden, Invalid, MillraceError, NotFound, TooLarge


class PlaceRefused(Forbidden):
    """The data lies where this project may not land data."""

    code = "landing-place-refused"


class NothingLanded(Invalid):
    """There is no file at the place that was named."""

    code = "nothing-landed"


class LandingTooLarge(TooLarge):
    """More files or bytes than one version may take in."""

    code = "landing-too-large"


class LandingIncomplete(Invalid):
    """The producer's own count says that files are missing."""

    code = "landing-incomplete"


class LandingChanged(MillraceError):
    """A landed object changed while it was read; reading it again may help."""

    code = "landing-changed"
    status = 409
    transient = True


class HeadMoved(Conflict):
    """Somebody else committed to the dataset meanwhile."""

    code = "head-moved"


class KeyReused(Conflict):
    """The catalog answered this event's commit before, with another content."""

    code = "idempotency-key-reused"


class JobNotFound(NotFound):
    """No such ingestion job in this project."""

    code = "job-not-found"


class IllegalMove(MillraceError):
    """The state machine has no such move: a bug here, never the caller's."""

    code = "illegal-move"


class SourceAway(MillraceError):
    """A host outside does not answer as it should; a few more attempts are made."""

    code = "source-away"
    status = 502
    transient = True


class ArchiveRefused(Invalid):
    """The archive is broken, encrypted, a bomb, or holds what no version may hold; nothing of it is taken."""

    code = "archive-refused"


class DicomRefused(Invalid):
    """A DICOM file that cannot be read safely, or cannot be freed of identities; nothing of the landing is taken."""

    code = "dicom-refused"


class ContentRefused(Invalid):
    """A file is not what it says, or may hide what is not looked into."""

    code = "content-refused"
