"""The monitor's own errors."""

from __future__ import annotations

from millrace.errors import Conflict, Invalid, NotFound, Unavailable


class WatchNotFound(NotFound):
    """No revision of this deployment is watched."""

    code = "watch-not-found"


class WatchMissing(Unavailable):
    """Predictions came of a revision that is not watched yet; its announcement is on the way."""

    code = "watch-missing"


class ModelVersionUnknown(NotFound):
    """The catalog has no such model version."""

    code = "model-version-unknown"


class ReferenceInvalid(Invalid):
    """The model's reference cannot be used."""

    code = "reference-invalid"


class IncidentNotFound(NotFound):
    """No such incident in this project."""

    code = "incident-not-found"


class QueueNotFound(NotFound):
    """No such label queue in this project."""

    code = "queue-not-found"


class SampleNotFound(NotFound):
    """The queue has no such item, or its picture is gone."""

    code = "sample-not-found"


class AnswerInvalid(Invalid):
    """The label is none of the model's classes."""

    code = "answer-invalid"


class AnswerConflict(Conflict):
    """The item has another answer already."""

    code = "answer-conflict"


class CheckpointConflict(Conflict):
    """The checkpoint changed since it was read, or has a newer owner."""

    code = "checkpoint-conflict"
