"""The contracts: one envelope, one file of payloads per aggregate, one registry.

What stands here is imported when it is first asked for: a command that needs no more than the shape of a name should
not wait for fifty models to be built.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from millrace.events.cache import CacheEvicted, CacheFailed, CacheReady, CacheRepaired, CacheRequested, Selected
    from millrace.events.datasets import (
        DataLanded,
        DatasetCommitted,
        DatasetRemoved,
        DatasetRestored,
        IngestCompleted,
        IngestFailed,
        IngestStarted,
        Lineage,
    )
    from millrace.events.deployments import (
        DeploymentFailed,
        DeploymentReady,
        DeploymentRequested,
        DeploymentRetired,
        DeploymentRolledBack,
    )
    from millrace.events.drift import DriftDetected, DriftResolved, LabelsRequested, LabelsSubmitted, TestResult
    from millrace.events.envelope import AnyEvent, Event, EventData, canonical_json
    from millrace.events.models import ModelPromoted, ModelRegistered
    from millrace.events.registry import (
        EVENT_CLASSES,
        MAX_EVENT_BYTES,
        FutureVersion,
        MismatchedEvent,
        UnknownEventType,
        UnparsableEvent,
        build,
        data_class,
        decode,
        encode,
    )
    from millrace.events.training import (
        TrainingCancelled,
        TrainingCheckpointed,
        TrainingCompleted,
        TrainingFailed,
        TrainingPreempted,
        TrainingQueued,
        TrainingRequested,
        TrainingStarted,
    )

_HOLDERS = ("envelope", "datasets", "cache", "training", "models", "deployments", "drift", "registry")

__all__ = [
    "EVENT_CLASSES",
    "MAX_EVENT_BYTES",
    "AnyEvent",
    "CacheEvicted",
    "CacheFailed",
    "CacheReady",
    "CacheRepaired",
    "CacheRequested",
    "DataLanded",
    "DatasetCommitted",
    "DatasetRemoved",
    "DatasetRestored",
    "DeploymentFailed",
    "DeploymentReady",
    "DeploymentRequested",
    "DeploymentRetired",
    "DeploymentRolledBack",
    "DriftDetected",
    "DriftResolved",
    "Event",
    "EventData",
    "FutureVersion",
    "IngestCompleted",
    "IngestFailed",
    "IngestStarted",
    "LabelsRequested",
    "LabelsSubmitted",
    "Lineage",
    "MismatchedEvent",
    "ModelPromoted",
    "ModelRegistered",
    "Selected",
    "TestResult",
    "TrainingCancelled",
    "TrainingCheckpointed",
    "TrainingCompleted",
    "TrainingFailed",
    "TrainingPreempted",
    "TrainingQueued",
    "TrainingRequested",
    "TrainingStarted",
    "UnknownEventType",
    "UnparsableEvent",
    "build",
    "canonical_json",
    "data_class",
    "decode",
    "encode",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        for holder in _HOLDERS:
            module = import_module(f"{__name__}.{holder}")
            if hasattr(module, name):
                globals()[name] = found = getattr(module, name)
                return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
