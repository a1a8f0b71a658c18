"""What the demo found out: filled step by step, shown and checked at the end."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Round:
    """One pass through the loop: a dataset version, the run on it, and the model that came of it."""

    version: int = 0
    commit: str = ""
    files: int = 0
    bytes: int = 0
    fetched_bytes: int = 0
    cache: str = ""
    run: str = ""
    device: str = ""
    lease_epoch: int = 0
    attempts: int = 0
    epochs: int = 0
    model_version: int = 0
    revision: int = 0
    clean_accuracy: float = 0.0
    shifted_accuracy: float = 0.0


@dataclass
class Facts:
    """Everything that the last line says."""

    rounds: list[Round] = field(default_factory=list)
    clean_windows: int = 0
    clean_alerts: int = 0
    windows_to_detection: int = 0
    labels: int = 0
    incident: str = ""
    queue: str = ""
    resolved_after_windows: int = 0
    correlation: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    total_seconds: float = 0.0
    peak_pss_mb: float = 0.0
    chaos_seed: int | None = None
    kills: dict[str, int] = field(default_factory=dict)
    wiped: bool = False
    fsck: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the facts as JSON types."""
        return asdict(self)

    def shortfalls(self) -> list[str]:
        """Return what the demo promises and did not reach."""
        first, second = self.rounds
        promises = {
            "clean holdout of model 1 is at least 0.97": first.clean_accuracy >= 0.97,
            "clean holdout of model 2 is at least 0.96": second.clean_accuracy >= 0.96,
            "shifted holdout of model 2 is at least 0.75": second.shifted_accuracy >= 0.75,
            "model 2 is at least 50 points above model 1 on shifted scans": (
                second.shifted_accuracy - first.shifted_accuracy >= 0.5
            ),
            "at least 10 clean windows passed without an alert": self.clean_windows >= 10 and self.clean_alerts == 0,
            "drift was detected within 2 shifted windows": 1 <= self.windows_to_detection <= 2,
            "at most 150 labels were asked for": 1 <= self.labels <= 150,
            "fsck found nothing": self.fsck == "clean",
        }
        return [promise for promise, kept in promises.items() if not kept]
