"""The steps of the demo. Each does what a person or an application would do, and waits for what must follow."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from millrace_stack.demo import digits
from millrace_stack.demo.facts import Facts, Round
from millrace_stack.demo.platform import Platform
from millrace_stack.demo.report import Story
from millrace_stack.demo.traffic import Endpoint, Sent
from millrace_stack.demo.waiting import StepFailed, until

DATASET = MODEL = DEPLOYMENT = "digits"
SITE = "nfs-a"
CLEAN_WINDOWS = 12
MAX_SHIFTED_WINDOWS = 8
MAX_QUIET_WINDOWS = 10
MAX_EXTRA, EXTRA_ROWS, TOP_UP_SECONDS = 10, 20, 6.0
SEED = 7
POLICIES = Path(__file__).with_name("policies")
PATIENCE = 120.0

Item = dict[str, Any]


class Steps:
    """The demo's actions on a running platform. `patience` stretches every deadline (chaos needs more)."""

    def __init__(self, platform: Platform, story: Story, facts: Facts, folder: Path, *, patience: float = 1.0) -> None:
        self.platform = platform
        self.story = story
        self.facts = facts
        self.folder = folder
        self.split = digits.split()
        self.sent: dict[str, Sent] = {}
        self._patience = patience * PATIENCE
        self._last_clean = -1

    # --- version 1 ----------------------------------------------------------------------------------------------------

    def apply_policies(self) -> None:
        """Say what shall follow from what: nobody calls the next step."""
        for path in sorted(POLICIES.glob("*.yaml")):
            self.platform.cli("policies", "apply", path.stem, str(path))
            self.story.say(f"policy [bold]{path.stem}[/bold]")

    def commit_first_version(self) -> None:
        """Write the scans out as files and commit them, as a person would, with `millrace data`."""
        folder = self.folder / DATASET
        digits.write(self.split.train, folder / "train")
        digits.write(self.split.holdout, folder / "holdout")
        self.platform.cli("data", "init", DATASET, cwd=folder)
        self.platform.cli("data", "sync", "-m", "first scans", cwd=folder)
        self.facts.rounds.append(self._version(1))

    def _version(self, number: int) -> Round:
        found = self._wait(
            f"dataset.committed for {DATASET}@{number}",
            lambda: self.platform.event("dataset.committed", lambda data: data["version"] == number),
        )
        data = found["data"]
        if number == 1:
            self.facts.correlation = found["correlationid"]
        size = f"{data['files']} files, {data['bytes'] / 1000:.0f} kB"
        self.story.say(f"dataset.committed: [bold]{DATASET}@{number}[/bold], {size}, commit {data['commit'][:12]}")
        return Round(version=number, commit=data["commit"], files=data["files"], bytes=data["bytes"])

    # --- cache, train, deploy: by policy ------------------------------------------------------------------------------

    def follow_cache(self, now: Round) -> None:
        """Watch cache-manager bring the version to the site."""
        data = self._wait(
            f"cache.ready for {DATASET}@{now.version}",
            lambda: self.platform.event("cache.ready", lambda data: data["commit"] == now.commit),
        )["data"]
        now.fetched_bytes = data["fetched_bytes"]
        now.cache = "miss" if data["fetched_bytes"] else "hit"
        fetched = f"{data['fetched_bytes'] / 1000:.0f} kB from the lake in {data['seconds']:.2f} s"
        self.story.say(f"cache.ready: {data['files']} files at site {SITE}, {fetched}")

    def follow_training(self, now: Round) -> None:
        """Watch the run claim a device and learn, epoch by epoch."""
        started = self._wait(
            f"training.started on {DATASET}@{now.version}",
            lambda: self.platform.event("training.started", lambda data: data["commit"] == now.commit),
        )["data"]
        now.run = started["run"]
        self.story.say(f"training.started: run {now.run[-12:]} on {started['device']}, lease epoch {started['fence']}")
        run = self._wait(f"the end of run {now.run}", lambda: self._ended(now))
        if run["state"] != "completed":
            raise StepFailed(f"run {now.run} is {run['state']}: {run.get('reason')}")
        now.device, now.lease_epoch, now.attempts = run["device"], run["fence"], run["attempt"]
        now.model_version = run["model_version"]
        self.story.say(
            f"training.completed: attempt {now.attempts}, [bold]{MODEL}@{now.model_version}[/bold] registered"
        )

    def _ended(self, now: Round) -> Item | None:
        for point in self.platform.items(f"/v1/runs/{now.run}/metrics", limit=10_000):
            if point["key"] == "val_accuracy" and point["step"] > now.epochs:
                now.epochs = point["step"]
                self.story.say(f"  epoch {now.epochs:2d}: val_accuracy {point['value']:.4f}")
        run: Item = self.platform.get(f"/v1/runs/{now.run}")
        return run if run["state"] in {"completed", "failed", "cancelled"} else None

    def follow_deployment(self, now: Round) -> None:
        """Watch serving load the version, ask it the golden question, and shift the traffic."""
        data = self._wait(
            f"deployment.ready for {MODEL}@{now.model_version}",
            lambda: self.platform.event("deployment.ready", lambda data: data["version"] == now.model_version),
        )["data"]
        now.revision = data["revision"]
        golden = f"golden answer off by {data['golden_error']:.1e}"
        self.story.say(f"deployment.ready: {data['backend_model']} answers for {DEPLOYMENT}, {golden}")

    def measure(self, endpoint: Endpoint, now: Round) -> None:
        """Ask the endpoint for the held-out scans, clean and shifted, in requests that the monitor does not see."""
        now.clean_accuracy = round(endpoint.accuracy(self.split.holdout), 4)
        now.shifted_accuracy = round(endpoint.accuracy(digits.shifted(self.split.holdout, SEED)), 4)
        shown = f"clean {now.clean_accuracy:.4f}, shifted {now.shifted_accuracy:.4f}"
        self.story.say(f"{MODEL}@{now.model_version} on the holdout: [bold]{shown}[/bold]")

    # --- traffic ------------------------------------------------------------------------------------------------------

    def send_clean_traffic(self, endpoint: Endpoint) -> None:
        """Send windows of the scans that the model has not seen, from the world it knows."""
        watch: Item = {}
        for number in range(CLEAN_WINDOWS):
            watch = self._send_window(endpoint, self.split.traffic, number, "clean", closed=number + 1)
        self.facts.clean_windows = len(watch["windows"])
        self._last_clean = max(window["number"] for window in watch["windows"])
        self.facts.clean_alerts = sum(bool(window["alert"]) for window in watch["windows"])
        self.story.say(f"{self.facts.clean_windows} clean windows of 100, {self.facts.clean_alerts} alerts")

    def change_the_world(self, endpoint: Endpoint) -> None:
        """Send the same scans as a changed world delivers them, until the monitor notices."""
        for number in range(MAX_SHIFTED_WINDOWS):
            part = digits.shifted(self.split.traffic, SEED + number)
            self._send_window(endpoint, part, number, "shifted", closed=self.facts.clean_windows + number + 1)
            if not self.facts.incident:
                self._look_for_drift()
            if self.facts.incident and (queue := self._queue()) is not None:
                self._remember(queue)
                return
        if not self.facts.incident:
            raise StepFailed(f"drift.detected: not within {MAX_SHIFTED_WINDOWS} shifted windows")
        self._remember(self._wait("labels.requested", self._queue))

    def _look_for_drift(self) -> None:
        found = self.platform.event("drift.detected", lambda data: data["deployment"] == DEPLOYMENT)
        if found is None:
            return
        windows = found["data"]["window"] - self._last_clean
        self.facts.incident, self.facts.windows_to_detection = found["data"]["incident"], windows
        moved = ", ".join(test["feature"] for test in found["data"]["tests"][:3])
        self.story.say(f"[bold]drift.detected[/bold] after {windows} shifted window(s): {moved}")

    def _queue(self) -> Item | None:
        found = self.platform.event("labels.requested", lambda data: data["incident"] == self.facts.incident)
        return found["data"] if found else None

    def _remember(self, queue: Item) -> None:
        self.facts.queue, self.facts.labels = queue["queue"], queue["count"]
        chosen = f"{queue['random']} at random, {queue['margin']} by smallest margin"
        self.story.say(f"labels.requested: {queue['count']} samples ({chosen})")

    def _send_window(self, endpoint: Endpoint, part: digits.Part, number: int, phase: str, *, closed: int) -> Item:
        """Send 100 rows and wait until the monitor has closed `closed` windows of the newest revision.

        Rows that a killed process held in memory are lost by design (and counted); a few more make up for them.
        """
        sent = endpoint.window(part, number=number, phase=phase, seed=SEED)
        self.sent |= {one.prediction: one for one in sent}
        right = sum(one.truth == one.answer for one in sent)
        self.story.say(f"  {phase} window {number + 1:2d}: 100 predictions, {right} right")
        for extra in range(MAX_EXTRA):
            try:
                return self._wait(f"window {closed} closed", lambda: self._closed(closed), seconds=TOP_UP_SECONDS)
            except StepFailed:
                more = endpoint.window(part, number=number, phase=f"{phase}-extra{extra}", seed=SEED, rows=EXTRA_ROWS)
                self.sent |= {one.prediction: one for one in more}
        return self._wait(f"window {closed} closed", lambda: self._closed(closed))

    def _closed(self, count: int) -> Item | None:
        watch: Item = self.platform.get(f"/v1/drift/deployments/{DEPLOYMENT}")
        current = watch["revision"] == self.facts.rounds[-1].revision
        return watch if current and len(watch["windows"]) >= count else None

    # --- labels, version 2 --------------------------------------------------------------------------------------------

    def answer_labels(self) -> None:
        """Answer every item of the queue with the truth, as a person would, with `millrace labels submit`."""
        items = self.platform.items(f"/v1/labels/queues/{self.facts.queue}/items", limit=1_000)
        unknown = [item["prediction"] for item in items if item["prediction"] not in self.sent]
        if unknown or len(items) != self.facts.labels:
            raise StepFailed(f"the queue holds {len(items)} of {self.facts.labels} items, {len(unknown)} never sent")
        answers = [
            {"prediction": item["prediction"], "label": str(self.sent[item["prediction"]].truth)} for item in items
        ]
        path = self.folder / "answers.json"
        path.write_text(json.dumps({"answers": answers}), encoding="utf-8")
        self.platform.cli("labels", "submit", self.facts.queue, str(path))
        self.story.say(f"labels.submitted: {len(answers)} answers")

    def follow_second_version(self) -> None:
        """Watch the labels become version 2, with its lineage."""
        now = self._version(2)
        lineage = self.platform.get(f"/v1/datasets/{DATASET}/versions/2")["lineage"]
        wanted = {"incident": self.facts.incident, "queue": self.facts.queue, "parent": self.facts.rounds[0].commit}
        if any(lineage.get(name) != value for name, value in wanted.items()):
            raise StepFailed(f"version 2 has the lineage {lineage}, not {wanted}")
        self.story.say(
            f"lineage: incident {self.facts.incident[-12:]}, queue {self.facts.queue[-12:]}, parent version 1"
        )
        self.facts.rounds.append(now)

    def settle(self, endpoint: Endpoint) -> None:
        """Send shifted windows to the new model until the monitor calls the incident resolved."""
        for number in range(MAX_QUIET_WINDOWS):
            part = digits.shifted(self.split.traffic, SEED + 100 + number)
            self._send_window(endpoint, part, number, "settled", closed=number + 1)
            if self._resolved() is not None:
                self.facts.resolved_after_windows = number + 1
                self.story.say(f"[bold]drift.resolved[/bold] after {number + 1} windows")
                return
        self._wait("drift.resolved", self._resolved, seconds=5)

    def _resolved(self) -> Item | None:
        return self.platform.event("drift.resolved", lambda data: data["incident"] == self.facts.incident)

    def _wait(self, what: str, look: Callable[[], Item | None], *, seconds: float | None = None) -> Item:
        return until(what, look, seconds=seconds or self._patience, now=self.platform.waiting)
