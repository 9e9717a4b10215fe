"""The metrics in the form that a bootstrap takes, held against those that a run computes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cd4ml.promotion.resample import Blocks, differences
from cd4ml.promotion.statistics import Scored, statistic, sums_of, whole
from cd4ml.spec.experiment import Task
from cd4ml.spec.metrics import METRICS_BY_NAME, TASKS, metrics_of
from cd4ml.stages.scores import METRIC_FUNCTIONS, Answers, score
from tests.promotion.judging_world import CLASSES, Floats

NUMBERS = st.one_of(
    st.sampled_from([0.0, 1.0, -1.0, 2.0, 1e-12, -1e-12, 1e20, 5.5]),
    st.floats(-1e6, 1e6, allow_nan=False, width=32),
)
SHARES = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.floats(0, 1, width=32))


def of_run(answers: Scored) -> Answers:
    """The same answers as a run's stage takes them."""
    if answers.task == "regression":
        return Answers(answers.observed, answers.predicted)
    codes = [array.astype(np.int64) for array in (answers.observed, answers.predicted)]
    return Answers(codes[0], codes[1], tuple(range(answers.classes)), answers.probabilities)


@st.composite
def regressions(draw: st.DrawFn) -> Scored:
    rows = draw(st.integers(1, 30))
    arrays = [np.array(draw(st.lists(NUMBERS, min_size=rows, max_size=rows))) for _ in range(2)]
    return Scored("regression", 2, *arrays)


@st.composite
def classifications(draw: st.DrawFn, task: Task) -> Scored:
    rows, classes = draw(st.integers(1, 30)), 2 if task == "binary" else draw(st.integers(3, 4))
    codes = st.lists(st.integers(0, classes - 1), min_size=rows, max_size=rows)
    observed, predicted = (np.array(draw(codes), dtype=np.float64) for _ in range(2))
    parts = st.lists(st.lists(SHARES, min_size=classes, max_size=classes), min_size=rows, max_size=rows)
    weights = np.array(draw(parts)) + 1e-3
    return Scored(task, classes, observed, predicted, weights / weights.sum(axis=1, keepdims=True))


ANSWERS: dict[Task, st.SearchStrategy[Scored]] = {
    "regression": regressions(),
    "binary": classifications("binary"),
    "multiclass": classifications("multiclass"),
}


def assert_alike(name: str, found: float | None, known: float | None) -> None:
    if known is None or found is None:
        assert found is known, (name, found, known)
    else:
        assert found == pytest.approx(known, rel=1e-9, abs=1e-9), name


@pytest.mark.parametrize("task", TASKS)
def test_every_metric_is_what_a_run_computes_and_undefined_where_that_is(task: Task) -> None:
    @settings(max_examples=40, deadline=None)
    @given(ANSWERS[task])
    def holds(answers: Scored) -> None:
        for name in metrics_of(task):
            assert_alike(name, statistic(name, answers).value, score(name, of_run(answers)))

    holds()


def test_there_is_a_form_for_every_metric_that_a_run_computes() -> None:
    assert set(METRICS_BY_NAME) == set(METRIC_FUNCTIONS)
    for task in TASKS:
        answers = example(task, 40)
        assert all(statistic(name, answers).value is not None for name in metrics_of(task))


def example(task: Task, rows: int, seed: int = 3) -> Scored:
    random = np.random.default_rng(seed)
    if task == "regression":
        observed = random.gamma(3, 1, rows)
        return Scored(task, 2, observed, observed + random.normal(0, 0.2, rows))
    classes = len(CLASSES[task])
    observed = random.integers(classes, size=rows).astype(np.float64)
    weights = random.random((rows, classes))
    weights[np.arange(rows), observed.astype(int)] += 0.5
    shares = weights / weights.sum(axis=1, keepdims=True)
    return Scored(task, classes, observed, shares.argmax(axis=1).astype(np.float64), shares)


def weighed(name: str, answers: Scored, rows: np.ndarray[tuple[int], np.dtype[np.intp]]) -> float:
    """The metric of a resample by its weighted sums, beside which ``answers.of(rows)`` is the resample itself."""
    found = statistic(name, answers)
    assert found.of is not None
    drawn = [type(part)(getattr(part, field)[rows], *rest(part)) for part in found.parts for field in fields(part)]
    return float(found.of([sums_of(part)[None] for part in drawn])[0])


def fields(part: object) -> list[str]:
    return ["values"] if hasattr(part, "values") else ["codes"]


def rest(part: object) -> list[int]:
    return [part.count] if hasattr(part, "count") else []


SMOOTH = sorted(
    (task, name)
    for name, metric in METRICS_BY_NAME.items()
    for task in metric.tasks
    if name not in ("max_error", "medae", "roc_auc", "average_precision", "roc_auc_ovr")
)


@pytest.mark.parametrize(("task", "name"), SMOOTH)
def test_a_metric_of_sums_is_in_every_resample_what_a_run_would_compute_there(task: Task, name: str) -> None:
    answers, random = example(task, 60), np.random.default_rng(5)
    for _ in range(20):
        rows = random.integers(60, size=60)
        assert weighed(name, answers, rows) == pytest.approx(score(name, of_run(answers.of(rows))), rel=1e-9)


@pytest.mark.parametrize(
    ("task", "name", "apart"),
    [
        ("binary", "roc_auc", 0.003),
        ("binary", "average_precision", 0.006),
        ("multiclass", "roc_auc_ovr", 0.003),
        ("regression", "medae", 0.003),
    ],
)
def test_a_metric_of_ranks_follows_that_of_the_resample(task: Task, name: str, apart: float) -> None:
    answers, random = example(task, 1000), np.random.default_rng(5)
    both = []
    for _ in range(200):
        rows = random.integers(1000, size=1000)
        both.append((weighed(name, answers, rows), score(name, of_run(answers.of(rows)))))
    ours, direct = np.array(both, dtype=np.float64).T
    assert np.abs(ours - direct).max() < apart
    assert ours.std() == pytest.approx(direct.std(), rel=0.06)
    assert np.corrcoef(ours, direct)[0, 1] > 0.98


def test_a_roc_area_s_standard_error_is_delong_s() -> None:
    answers = example("binary", 400)
    positive = answers.observed == 1
    shares = answers.probabilities
    assert shares is not None
    score_of = shares[:, 1]
    wins = (score_of[positive][:, None] > score_of[~positive]) * 1.0
    known = math.sqrt(
        wins.mean(axis=1).var(ddof=1) / positive.sum() + wins.mean(axis=0).var(ddof=1) / (~positive).sum()
    )
    random = np.random.default_rng(1)
    areas = [weighed("roc_auc", answers, random.integers(400, size=400)) for _ in range(3000)]
    assert np.std(areas) == pytest.approx(known, rel=0.05)


def test_the_derivative_of_average_precision_is_that_of_a_small_step() -> None:
    import sklearn.metrics as sklearn

    answers = example("binary", 50)
    shares = answers.probabilities
    assert shares is not None
    rounded = np.round(shares[:, 1], 1)  # with ties
    tied = Scored("binary", 2, answers.observed, answers.predicted, np.column_stack([1 - rounded, rounded]))
    influence = getattr(statistic("average_precision", tied).parts[1], "values")  # noqa: B009  # a part of amounts
    for row in range(50):
        weights = np.ones(50)
        weights[row] += 1e-6
        ahead = sklearn.average_precision_score(tied.observed, rounded, sample_weight=weights)
        behind = sklearn.average_precision_score(tied.observed, rounded, sample_weight=2 - weights)
        assert influence[row] == pytest.approx((ahead - behind) / 2e-6, abs=1e-6)


def test_a_resample_in_which_a_metric_is_not_defined_has_no_number() -> None:
    for task, name, rows in (
        ("regression", "r2", [4, 4, 4]),
        ("binary", "roc_auc", None),
        ("binary", "recall", None),
        ("binary", "balanced_accuracy", None),
        ("binary", "average_precision", None),
    ):
        answers = example(task, 30)  # type: ignore[arg-type]  # a literal
        alike = np.flatnonzero(answers.observed == 0) if rows is None else np.array(rows)
        with np.errstate(all="ignore"):
            assert math.isnan(weighed(name, answers, alike)), name


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("task", TASKS)
def test_answers_that_are_no_finite_numbers_have_no_metric(task: Task, bad: float) -> None:
    answers = example(task, 40)
    answers.predicted[3] = bad
    assert {statistic(name, answers).value for name in metrics_of(task)} == {None}


def test_what_is_no_code_of_a_class_has_no_metric() -> None:
    for bad in (2.0, -1.0, 0.5):
        answers = example("binary", 40)
        answers.predicted[3] = bad
        assert statistic("accuracy", answers).value is None


def test_probabilities_that_are_none_leave_the_metrics_of_labels() -> None:
    for bad in (None, np.full((40, 2), np.nan), np.full((40, 2), 1.5), np.full((40, 3), 0.1)):
        one = example("binary", 40)
        answers = Scored(one.task, one.classes, one.observed, one.predicted, bad)
        assert statistic("log_loss", answers).value is None
        assert statistic("roc_auc", answers).value is None
        assert statistic("accuracy", answers).value is not None


def test_numbers_too_large_to_square_have_no_squared_error() -> None:
    observed = np.array([1e200, 1.0, 2.0])
    answers = Scored("regression", 2, observed, np.array([-1e200, 1.0, 2.0]))
    assert statistic("rmse", answers).value is None
    assert statistic("mae", answers).value == pytest.approx(2e200 / 3)


def test_no_rows_have_no_metric() -> None:
    none: Floats = np.empty(0)
    assert statistic("rmse", Scored("regression", 2, none, none)).value is None


def test_a_metric_of_another_task_or_of_no_known_name_has_no_value() -> None:
    assert statistic("accuracy", example("regression", 10)).value is None
    assert statistic("rmse", example("binary", 10)).value is None
    assert statistic("made_up", example("binary", 10)).value is None


def test_the_largest_error_has_a_value_and_cannot_be_resampled() -> None:
    found = statistic("max_error", example("regression", 10))
    assert found.value is not None
    assert found.of is None
    assert whole(found) == found.value
    assert differences([(found, found)], Blocks(np.arange(10), 10), 200, 1) == [None]


def test_a_median_with_many_ties_jumps_as_the_median_does() -> None:
    errors = np.repeat([0.0, 1.0], [51, 49])
    answers = Scored("regression", 2, np.zeros(100), errors)
    assert weighed("medae", answers, np.arange(100)) == 0.0
    assert weighed("medae", answers, np.arange(20, 100)) == 1.0
