"""The demo from start to end: stages in order, chaos where it was asked for, the table, the last line."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.markup import escape

from millrace.errors import MillraceError, NotFound
from millrace_stack.config import StackConfig
from millrace_stack.demo import chaos, ending
from millrace_stack.demo.facts import Facts
from millrace_stack.demo.memory import MemoryWatch
from millrace_stack.demo.platform import Address, Platform
from millrace_stack.demo.report import Story
from millrace_stack.demo.steps import DEPLOYMENT, Steps
from millrace_stack.demo.traffic import Endpoint
from millrace_stack.demo.waiting import StepFailed, until
from millrace_stack.stack import Stack, down, up
from millrace_stack.state import BEING_PREPARED, NOT_STARTED, ProcessState, StackState

CHAOS_PATIENCE = 2.0
KILL_SECONDS = 60.0
WATCH_SECONDS = 0.02


@dataclass(frozen=True)
class Options:
    """What was asked for on the command line."""

    keep: bool = False
    chaos_seed: int | None = None
    wipe: bool = False


def run(options: Options) -> int:
    """Run the demo; return 0 only if everything that it promises was reached."""
    story, facts = Story(), Facts(chaos_seed=options.chaos_seed)
    plan = None if options.chaos_seed is None else chaos.plan(options.chaos_seed)
    with _folders(options) as (home, work):
        if plan is not None:
            story.lines(f"Chaos, seed {plan.seed} (SEED={plan.seed} repeats it)", plan.lines())
        with story.stage("start", "1. Real servers, six services"), _on_failure(home):
            stack = up(home, _config(plan), see=_Narrator(story), seconds=300)
        watch = MemoryWatch(lambda: _pids(stack))
        try:
            breaker = _Breaker(stack, story, facts, plan)
            with breaker.watching():
                _loop(breaker, work, wipe=options.wipe)
            breaker.finish()
        finally:
            facts.peak_pss_mb = watch.stop()
        ending.conclude(stack, story, facts)
        shortfalls = facts.shortfalls()
        if not options.keep:
            down(home)
    for shortfall in shortfalls:
        story.say(f"[bold red]not reached[/bold red]: {shortfall}")
    facts.total_seconds = story.total
    facts.seconds = story.seconds
    story.result({"ok": not shortfalls, "not_reached": shortfalls, **facts.as_json()})
    return 1 if shortfalls else 0


def _loop(breaker: _Breaker, work: Path, *, wipe: bool) -> None:
    stack, story, facts = breaker.stack, breaker.story, breaker.facts
    platform = Platform(_address(stack))
    steps = Steps(platform, story, facts, work, patience=1.0 if breaker.plan is None else CHAOS_PATIENCE)
    with story.stage("commit", "2. Version 1 of the dataset `digits`"):
        steps.apply_policies()
        steps.commit_first_version()
    first = facts.rounds[0]
    with story.stage("first_model", "3. By policy: cached, trained, registered, deployed"):
        breaker.at("train")
        steps.follow_cache(first)
        steps.follow_training(first)
        steps.follow_deployment(first)
    if wipe:
        with story.stage("wipe", "The broker's whole store is deleted"):
            stack.wipe_broker()
            facts.wiped = True
            story.say("nats came back empty; outboxes and reconcilers bring the world back")
    endpoint = Endpoint(platform.address.serving, DEPLOYMENT, platform.token)
    try:
        _traffic(steps, endpoint, story, breaker)
    finally:
        endpoint.close()


def _traffic(steps: Steps, endpoint: Endpoint, story: Story, breaker: _Breaker) -> None:
    rounds = steps.facts.rounds
    with story.stage("clean", "4. Traffic from the world that the model knows"):
        breaker.at("traffic")
        steps.measure(endpoint, rounds[0])
        steps.send_clean_traffic(endpoint)
    with story.stage("drift", "5. The world changes: rotated by 30°, inverted, noisy"):
        breaker.at("shift")
        steps.change_the_world(endpoint)
    with story.stage("labels", "   People answer"):
        steps.answer_labels()
        steps.follow_second_version()
    with story.stage("second_model", "   By policy again: cached, trained, registered, deployed"):
        breaker.at("retrain")
        steps.follow_cache(rounds[1])
        steps.follow_training(rounds[1])
        steps.follow_deployment(rounds[1])
        steps.measure(endpoint, rounds[1])
    with story.stage("resolved", "   The new model meets the new world"):
        steps.settle(endpoint)


class _Breaker:
    """Kills at free moments, and counts what died."""

    def __init__(self, stack: Stack, story: Story, facts: Facts, plan: chaos.Plan | None) -> None:
        self.stack, self.story, self.facts, self.plan = stack, story, facts, plan

    def at(self, stage: str) -> None:
        """Kill what the plan names for this stage, one after another."""
        for name in () if self.plan is None else self.plan.free.get(stage, ()):
            before = until(f"{name} to live, and be killed", partial(self.stack.kill, name), seconds=KILL_SECONDS)
            self.story.say(f"[red]SIGKILL[/red] {name}")
            self.stack.wait_restarted(name, before)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Kill the broker when the plan's moment has come, while the body runs."""
        over = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(over,), name="broker-chaos")
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()

    def _watch(self, over: threading.Event) -> None:
        while self.plan is not None and not over.wait(WATCH_SECONDS):
            moment = self.plan.broker
            if moment.came(self.stack.layout.failpoints):
                with suppress(NotFound):  # it is on its way back from its other death
                    self.stack.kill("nats")
                    self.story.say(f"[red]SIGKILL[/red] nats, while {moment.service} holds at {moment.name}")
                    return

    def finish(self) -> None:
        """Count how often each process was started again; with a plan, everybody must have died as often as planned."""
        processes = self.stack.state.processes
        self.facts.kills = {name: one.restarts for name, one in processes.items() if one.restarts}
        if self.plan is None:
            return
        spared = [name for name, deaths in self.plan.deaths().items() if self.facts.kills.get(name, 0) < deaths]
        quiet = self.plan.unfired(self.stack.layout.failpoints)
        if spared or quiet:
            raise StepFailed(f"chaos did not happen: not killed as planned {spared}, failpoints never reached {quiet}")


class _Narrator:
    """Tells once what became ready."""

    def __init__(self, story: Story) -> None:
        self._story = story
        self._told: set[str] = set()
        self._waiting: dict[str, str] = {}

    def __call__(self, state: StackState) -> None:
        for name, process in state.processes.items():
            if process.ready and name not in self._told:
                self._told.add(name)
                self._story.say(f"{name} is ready{f' on port {process.port}' if process.port else ''}")
            elif (reason := _why_not(process)) is not None and self._waiting.get(name) != reason:
                self._waiting[name] = reason
                self._story.say(f"[dim]{name} waits: {escape(reason)}[/dim]")


def _why_not(process: ProcessState) -> str | None:
    """Return what a service says that it waits for, or why a server does not run; None if there is nothing to tell."""
    if process.ready:
        return None
    if process.kind == "service":
        return "; ".join(process.reasons.values())[:120] or None
    does_not_run = process.pid is None and process.reason not in (None, NOT_STARTED, BEING_PREPARED)
    return " | ".join((process.reason or "").splitlines())[:400] if does_not_run else None


def _config(plan: chaos.Plan | None) -> StackConfig:
    return StackConfig(ports="auto", failpoints={} if plan is None else plan.failpoints)


def _address(stack: Stack) -> Address:
    urls = stack.state.urls
    return Address(urls["gateway"], urls["serving"], stack.layout.owner_token)


def _pids(stack: Stack) -> list[int]:
    try:
        state = stack.state
    except MillraceError:
        return []
    roots = [state.pid, *(one.pid for one in state.processes.values() if one.pid)]
    return ending.with_children(roots)


@contextmanager
def _folders(options: Options) -> Iterator[tuple[Path, Path]]:
    home = Path(".millrace-demo").absolute()
    down(home)
    shutil.rmtree(home, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="millrace-demo-") as work:
        try:
            yield home, Path(work)
        except BaseException:
            if not options.keep:
                down(home)
            raise


@contextmanager
def _on_failure(home: Path) -> Iterator[None]:
    try:
        yield
    except MillraceError as error:
        raise StepFailed(f"the stack did not come up: {error.message} (logs: {home}/logs)") from error
