"""Verdicts, incidents, selection, answers and pictures, as pure functions."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from drift_monitor.adapters import documents
from drift_monitor.adapters.png import PngPainter
from drift_monitor.application.tallying import Tallier
from drift_monitor.domain import incidents as stages
from drift_monitor.domain.baseline import baseline
from drift_monitor.domain.evaluation import Finding, Rules, decide, examine
from drift_monitor.domain.exemplars import Pools
from drift_monitor.domain.incidents import Incident, incident_id, observed, opened
from drift_monitor.domain.labels import ANSWERED, Item, LabelQueue, answer, landing_path
from drift_monitor.domain.pictures import is_picture, pixels
from drift_monitor.domain.selection import MARGIN, RANDOM, Candidate, select
from drift_monitor.errors import AnswerConflict, AnswerInvalid, SampleNotFound
from millrace.reference import CONFIDENCE

from . import builders
from .builders import ALERT, QUIET, SCANT, WARNING

# --- verdicts -------------------------------------------------------------------------------------------------------


def examined(level: float, *, rows: int = 100, seed: int = 0, **changes: object) -> tuple[Finding, ...]:
    rng = np.random.default_rng(seed)
    base = builders.a_baseline(rng)
    if changes:
        base = baseline(base.key, base.reference.model_copy(update=changes))
    made = builders.batch(builders.images(rng, rows, level=level))
    return examine(Tallier(made, base, painter=PngPainter())(list(range(rows)), Pools()), base)


def test_clean_rows_are_quiet_and_bright_rows_alert() -> None:
    clean = decide(examined(0.4), rows=100, alpha=1e-5, rules=Rules())
    bright = decide(examined(0.6), rows=100, alpha=1e-5, rules=Rules())
    assert (clean.outcome, bright.outcome) == ("quiet", "alert")
    assert bright.fired[0].effect > 0.5
    assert "brightness" in {finding.feature for finding in bright.fired}


def test_a_small_effect_never_alerts_however_sure() -> None:
    findings = (Finding("brightness", "ks", 0.05, 1e-30, 0.05, 1e-29),)
    assert decide(findings, rows=10**6, alpha=1e-5, rules=Rules(min_effect=0.1)).outcome == "quiet"


def test_a_warning_is_between_quiet_and_alert() -> None:
    findings = (Finding("brightness", "ks", 0.3, 1e-5, 0.3, 1e-3),)
    verdict = decide(findings, rows=100, alpha=1e-5, rules=Rules())
    assert verdict.outcome == "warning"
    assert verdict.quiet


def test_too_few_rows_say_nothing() -> None:
    assert decide(examined(0.9, rows=20), rows=20, alpha=1e-5, rules=Rules(min_rows=30)).outcome == "insufficient"


def test_rows_that_are_no_numbers_alert() -> None:
    rng = np.random.default_rng(1)
    base = builders.a_baseline(rng)
    inputs = builders.images(rng, 100)
    inputs[::2] = np.nan
    made = builders.batch(inputs)
    pane = Tallier(made, base, painter=PngPainter())(list(range(100)), Pools())
    verdict = decide(examine(pane, base), rows=100, alpha=1e-5, rules=Rules())
    assert verdict.alert
    assert pane.counts["brightness"][-1] == 50


def test_more_confidence_is_drift_only_against_held_out_answers() -> None:
    rng = np.random.default_rng(2)
    base = builders.a_baseline(rng)
    made = builders.batch(builders.images(rng, 100))
    pane = Tallier(made, base, painter=PngPainter())(list(range(100)), Pools())
    sure = np.zeros_like(pane.counts[CONFIDENCE])
    sure[-2] = 100
    pane.counts[CONFIDENCE] = sure
    crossed = base.reference.predictions.model_copy(update={"basis": "cross-fitted"})
    loose = baseline(base.key, base.reference.model_copy(update={"predictions": crossed}))
    assert CONFIDENCE in {one.feature for one in examine(pane, base) if one.adjusted < 1e-5}
    assert CONFIDENCE not in {one.feature for one in examine(pane, loose) if one.adjusted < 1e-5}
    pane.counts[CONFIDENCE] = sure[::-1].copy()
    assert CONFIDENCE in {one.feature for one in examine(pane, loose) if one.adjusted < 1e-5}


# --- incidents ------------------------------------------------------------------------------------------------------

CANDIDATE = Candidate("p", "d" * 64, 0.1, 0, RANDOM, 4)


def an_incident(**changes: Any) -> Incident:
    return replace(opened(builders.a_watch(), 3, 100, ALERT), **changes)


def after(incident: Incident, *windows: tuple[Any, int], quiet: int = 3) -> Incident:
    for number, (verdict, revision) in enumerate(windows, start=incident.last_window + 1):
        incident = observed(
            incident,
            window=number,
            deployment_revision=revision,
            verdict=verdict,
            candidates=(CANDIDATE,),
            quiet_windows=quiet,
        )
    return incident


def test_quiet_windows_in_a_row_resolve() -> None:
    assert after(an_incident(), (QUIET, 1), (QUIET, 1)).state == stages.OPEN
    assert after(an_incident(), (QUIET, 1), (WARNING, 1), (QUIET, 1)).state == stages.RESOLVED
    assert after(an_incident(), (QUIET, 1), (QUIET, 1), (ALERT, 1), (QUIET, 1), (QUIET, 1)).state == stages.OPEN
    assert after(an_incident(), (QUIET, 1), (SCANT, 1), (QUIET, 1)).state == stages.OPEN


def test_an_older_revision_is_history_once_a_newer_one_was_seen() -> None:
    incident = after(an_incident(), (QUIET, 1), (QUIET, 1), (QUIET, 2))
    assert (incident.quiet, incident.seen_revision) == (1, 2)
    incident = after(incident, (ALERT, 1), (QUIET, 2), (QUIET, 2))
    assert incident.state == stages.RESOLVED


def test_only_alerting_windows_of_the_own_revision_are_gathered() -> None:
    assert after(an_incident(), (ALERT, 1), (QUIET, 1), (ALERT, 1)).gathered_windows == 2
    assert after(an_incident(), (ALERT, 2)).gathered_windows == 0
    assert after(an_incident(labels=stages.ASKED), (ALERT, 1)).gathered_windows == 0


def test_an_incident_that_ends_before_it_asked_does_not_ask() -> None:
    ended = after(an_incident(), (QUIET, 1), (QUIET, 1), (QUIET, 1))
    assert ended.labels == stages.NOT_ASKED
    assert after(an_incident(labels=stages.ASKED), *[(QUIET, 1)] * 3).labels == stages.ASKED


def test_the_id_depends_on_the_window_alone() -> None:
    assert incident_id("default", "pets", 3) == incident_id("default", "pets", 3)
    assert len({incident_id(p, d, w) for p in ("a", "b") for d in ("c", "d") for w in range(5)}) == 20


def test_entities_survive_their_documents() -> None:
    incident = replace(an_incident(candidates=(CANDIDATE,)), cause=b"{}")
    document = {**documents.incident_document(incident), "_id": incident.id, "revision": incident.revision}
    assert documents.incident_entity(document) == incident
    queue = a_queue()
    document = {**documents.queue_document(queue), "_id": queue.id, "revision": queue.revision}
    assert documents.queue_entity(document) == queue
    watch = builders.a_watch(cause=b"x")
    assert documents.watch_entity(documents.watch_document(watch)) == watch


# --- selection ------------------------------------------------------------------------------------------------------

made_candidates = st.lists(
    st.builds(
        Candidate,
        prediction=st.integers(0, 200).map(str),
        digest=st.integers(0, 60).map(lambda number: f"{number:064d}"),
        margin=st.floats(0, 1),
        predicted=st.just(0),
        kind=st.sampled_from([RANDOM, MARGIN]),
        window=st.integers(3, 6),
    ),
    max_size=150,
)


@given(made_candidates, st.integers(2, 80), st.sets(st.integers(0, 60).map(lambda number: f"{number:064d}")))
def test_a_selection_is_distinct_bounded_and_keeps_out_what_is_known(
    candidates: list[Candidate], size: int, excluded: set[str]
) -> None:
    chosen = select(candidates, excluded=excluded, size=size, opened=3)
    items = chosen.items
    assert len(items) <= size
    assert len(chosen.random) <= size // 2
    assert len(chosen.margin) <= size // 2
    assert len({one.digest for one in items}) == len({one.prediction for one in items}) == len(items)
    assert not {one.digest for one in items} & excluded
    offered = {one.prediction for one in candidates if one.kind == RANDOM}
    assert {one.prediction for one in chosen.random} <= offered


def test_the_margin_half_holds_the_least_sure_and_the_first_window_comes_last() -> None:
    rows = [Candidate(f"m{n}", f"{n:064d}", n / 100, 0, MARGIN, 3 if n < 5 else 4) for n in range(40)]
    chosen = select(rows, excluded=set(), size=20, opened=3)
    assert [one.margin for one in chosen.margin] == [n / 100 for n in range(5, 15)]
    assert chosen.random == ()


# --- answers --------------------------------------------------------------------------------------------------------


def a_queue() -> LabelQueue:
    items = tuple(Item(f"p{n}", f"{n:064d}", RANDOM if n % 2 else MARGIN, 0.1, "cat", 4) for n in range(4))
    return LabelQueue(
        "queue-1", "default", "inc-1", "pets", 1, "pets", 1, "pets", "c" * 64, builders.CLASSES, items, "key"
    )


def test_answers_are_idempotent_and_complete_the_queue() -> None:
    queue = answer(a_queue(), {"p0": "cat", "p1": None}, "ada")
    assert (queue.answered, queue.state) == (2, "open")
    assert answer(queue, {"p0": "cat", "p1": None}, "bob") is queue
    queue = answer(queue, {"p1": None, "p2": "dog", "p3": "owl"}, "bob")
    assert (queue.complete, queue.state) == (True, ANSWERED)
    assert [item.answered_by for item in queue.items] == ["ada", "ada", "bob", "bob"]


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ({"p0": "unicorn"}, AnswerInvalid),
        ({"p9": "cat"}, SampleNotFound),
        ({"p1": "dog"}, AnswerConflict),
        ({"p1": None}, AnswerConflict),
        ({"p2": "dog", "p1": "dog"}, AnswerConflict),
    ],
)
def test_wrong_answers_are_refused_whole(answers: dict[str, str | None], error: type[Exception]) -> None:
    queue = answer(a_queue(), {"p1": "cat"}, "ada")
    with pytest.raises(error):
        answer(queue, answers, "bob")


def test_landing_paths_keep_the_random_half_apart() -> None:
    queue = answer(a_queue(), {f"p{n}": "dog" for n in range(4)}, "ada")
    assert landing_path(queue, queue.items[0]) == f"train/dog/{0:064d}.png"
    assert landing_path(queue, queue.items[1]) == f"reference/inc-1/dog/{1:064d}.png"


@pytest.mark.parametrize("label", ["..", "../x", "a/b", "", " x", "a\nb", "x" * 80, ".hidden", "-rf"])
def test_a_class_that_is_no_folder_name_does_not_land(label: str) -> None:
    with pytest.raises(AnswerInvalid):
        landing_path(a_queue(), replace(a_queue().items[0], label=label))


# --- pictures -------------------------------------------------------------------------------------------------------


@given(st.integers(1, 12), st.integers(1, 12), st.sampled_from([None, 1, 3]), st.randoms())
def test_pictures_come_back_exactly(height: int, width: int, channels: int | None, random) -> None:
    shape = (height, width) if channels is None else (height, width, channels)
    levels = np.array([random.randrange(256) for _ in range(int(np.prod(shape)))], np.uint8).reshape(shape)
    row = (levels / 255).astype(np.float32)
    assert is_picture(shape)
    again = np.asarray(Image.open(io.BytesIO(PngPainter().paint(pixels(row)))))
    assert np.array_equal(again, levels.reshape(again.shape))


@pytest.mark.parametrize("shape", [(), (5,), (2, 2, 2), (2, 2, 4), (0, 3), (9_999, 3), (1, 2, 3, 1)])
def test_other_shapes_are_no_pictures(shape: tuple[int, ...]) -> None:
    assert not is_picture(shape)


def test_values_outside_of_the_range_are_clipped() -> None:
    row = np.array([[np.nan, -1.0], [2.0, np.inf]], np.float32)
    assert pixels(row).tolist() == [[0, 0], [255, 255]]
