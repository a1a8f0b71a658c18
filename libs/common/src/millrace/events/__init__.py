"""The contracts: one envelope, one file of payloads per aggregate, one registry."""

from millrace.events.cache import CacheEvicted, CacheFailed, CacheReady, CacheRepaired, CacheRequested
from millrace.events.datasets import DataLanded, DatasetCommitted, IngestCompleted, IngestFailed, IngestStarted, Lineage
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
