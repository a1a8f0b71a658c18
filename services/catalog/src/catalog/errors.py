"""What the catalog refuses, by name."""

from __future__ import annotations

from millrace.errors import Conflict, Corrupt, Invalid, NotFound


class DatasetNotFound(NotFound):
    """No such dataset in this project."""

    code = "dataset-not-found"


class VersionNotFound(NotFound):
    """No such version of the dataset."""

    code = "version-not-found"


class VersionRemoved(NotFound):
    """The version was removed; its number stays taken."""

    code = "version-removed"
    title = "Removed"
    status = 410


class StillTheHead(Conflict):
    """The head of a dataset cannot be removed without the dataset."""

    code = "still-the-head"


class VersionInUse(Conflict):
    """Runs, models or other versions rest on the version."""

    code = "version-in-use"


class NameTaken(Conflict):
    """What was removed cannot come back: its name is used again, or its bytes may be gone."""

    code = "name-taken"


class CollectionBusy(Conflict):
    """The garbage collection has gone too far for what was asked."""

    code = "collection-busy"


class ChecksChanged(Conflict):
    """The checks that were passed are not the dataset's any more."""

    code = "checks-changed"


class AlreadyInClear(Conflict):
    """Datasets of the project are not sealed, and would stay so."""

    code = "already-in-clear"


class NotSealedSo(Conflict):
    """The client seals not at all, or with another key than the project's."""

    code = "not-sealed-so"


class KeyLocked(Conflict):
    """The master key that a project's key needs is not there: nothing that waiting mends."""

    code = "key-locked"


class AmbiguousVersion(Invalid):
    """The commit prefix fits more than one version."""

    code = "ambiguous-version"


class ContentMismatch(Invalid):
    """The manifest does not say what the commit request says."""

    code = "content-mismatch"


class ObjectMissing(Invalid):
    """Something that the request names is not in the object store."""

    code = "object-missing"


class ObjectLost(Corrupt):
    """The lake has lost something that a committed version needs: that is nothing its reader could mend."""

    code = "object-lost"
    title = "Lost in the lake"


class RecordsMismatch(Invalid):
    """The table of records is malformed, or not about the files of the version."""

    code = "records-mismatch"


class HeadMoved(Conflict):
    """The dataset's head is not the parent that the writer built upon."""

    code = "head-moved"


class RunNotFound(NotFound):
    """No such run in this project."""

    code = "run-not-found"


class ModelNotFound(NotFound):
    """No such model, or no such version of it."""

    code = "model-not-found"


class PolicyNotFound(NotFound):
    """No such policy in this project."""

    code = "policy-not-found"


class DeploymentNotFound(NotFound):
    """No such deployment in this project."""

    code = "deployment-not-found"


class OperationNotFound(NotFound):
    """No such operation in this project."""

    code = "operation-not-found"


class TokenNotFound(NotFound):
    """No such token."""

    code = "token-not-found"


class DeadLetterNotFound(NotFound):
    """No such dead letter."""

    code = "dead-letter-not-found"


class FileNotInVersion(NotFound):
    """The version has no file of that path."""

    code = "file-not-in-version"


class FolderNotInVersion(NotFound):
    """The version has nothing below that path."""

    code = "folder-not-in-version"


class LandingIncomplete(Conflict):
    """Something else lies there than the sender counted."""

    code = "landing-incomplete"


class CannotBeShown(Invalid):
    """No picture can be made of the file: of another kind, broken, or too much work."""

    code = "cannot-be-shown"
    title = "It cannot be shown"
    status = 422


class RangeNotSatisfiable(Invalid):
    """The range that was asked for begins beyond the end of the file."""

    code = "range-not-satisfiable"
    title = "Range not satisfiable"
    status = 416
