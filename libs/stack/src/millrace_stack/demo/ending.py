"""The end of the demo: invariants checked, the table, the chain of events, addresses."""

from __future__ import annotations

import contextlib

import psutil

from millrace_stack.demo.facts import Facts
from millrace_stack.demo.platform import Address, Platform
from millrace_stack.demo.report import Story
from millrace_stack.demo.waiting import StepFailed, until
from millrace_stack.stack import Stack

FSCK_SECONDS = 60.0


def conclude(stack: Stack, story: Story, facts: Facts) -> None:
    """Check the invariants and tell what came out."""
    urls = stack.state.urls
    platform = Platform(Address(urls["gateway"], urls["serving"], stack.layout.owner_token))
    with story.stage("fsck", "6. The end"):
        facts.fsck = _fsck(platform)
        story.say(f"millrace fsck: {facts.fsck}")
    _table(story, facts)
    _chain(platform, story, facts)
    story.lines(
        "To look at (make demo KEEP=1 leaves it running)",
        [
            f"console  {urls['gateway']}/console",
            f"API      {urls['gateway']}/docs",
            f"token    {stack.layout.owner_token}",
        ],
    )


def _fsck(platform: Platform) -> str:
    def clean() -> str | None:
        report = platform.get("/v1/fsck")
        return None if report["violations"] else "clean"

    try:
        return until("fsck without violations", clean, seconds=FSCK_SECONDS)
    except StepFailed:
        found = platform.get("/v1/fsck")["violations"]
        return "; ".join(f"{item['invariant']} {item['where']}: {item['what']}" for item in found[:5])


def _table(story: Story, facts: Facts) -> None:
    first, second = facts.rounds
    rows = [
        ("dataset version", str(first.version), str(second.version)),
        ("files", str(first.files), str(second.files)),
        ("bytes", f"{first.bytes:,}", f"{second.bytes:,}"),
        ("cache", _cache(first.cache, first.fetched_bytes), _cache(second.cache, second.fetched_bytes)),
        ("device", first.device, second.device),
        ("lease epoch", str(first.lease_epoch), str(second.lease_epoch)),
        ("attempts", str(first.attempts), str(second.attempts)),
        ("epochs", str(first.epochs), str(second.epochs)),
        ("accuracy, clean holdout", f"{first.clean_accuracy:.4f}", f"{second.clean_accuracy:.4f}"),
        ("accuracy, shifted holdout", f"{first.shifted_accuracy:.4f}", f"{second.shifted_accuracy:.4f}"),
    ]
    story.table(rows, "What came out", ("", "model 1", "model 2"))
    loop = [
        ("clean windows without an alert", f"{facts.clean_windows - facts.clean_alerts} of {facts.clean_windows}", ""),
        ("shifted windows to detection", str(facts.windows_to_detection), ""),
        ("labels asked for", str(facts.labels), ""),
        ("windows until resolved", str(facts.resolved_after_windows), ""),
        ("peak memory of the stack (PSS)", f"{facts.peak_pss_mb:,.0f} MB", ""),
        *((f"seconds: {name}", f"{seconds:.1f}", "") for name, seconds in story.seconds.items()),
        ("seconds in all", f"{story.total:.1f}", ""),
    ]
    story.table(loop, "The loop", ("", "value", ""))
    if facts.kills:
        kills = [f"{name}: {count}" for name, count in sorted(facts.kills.items())]
        story.lines("Started again by the supervisor", kills)


def _cache(word: str, fetched: int) -> str:
    return f"{word} ({fetched:,} bytes fetched)"


def _chain(platform: Platform, story: Story, facts: Facts) -> None:
    events = platform.events(correlation=facts.correlation, order="oldest", limit=500)
    quiet = {"training.checkpointed"}
    lines = [f"{event['time'][11:23]}  {event['type']:<22} {event['subject']}" for event in events]
    shown = [line for line, event in zip(lines, events, strict=True) if event["type"] not in quiet]
    story.lines(f"The chain of events of one correlation id, {facts.correlation}", shown)
    wanted = {"dataset.committed", "cache.ready", "training.completed", "model.registered", "deployment.ready"}
    wanted |= {"drift.detected", "labels.requested", "labels.submitted", "data.landed", "drift.resolved"}
    missing = wanted - {event["type"] for event in events}
    if missing:
        raise StepFailed(f"the chain of events of {facts.correlation} lacks {sorted(missing)}")


def with_children(roots: list[int]) -> list[int]:
    """Return processes and all their descendants."""
    found = set(roots)
    for root in roots:
        with contextlib.suppress(psutil.Error):
            found.update(child.pid for child in psutil.Process(root).children(recursive=True))
    return sorted(found)
