"""Every metric: what it is, which way is better, and that where it is not defined there is no number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cd4ml.errors import StageFailed
from cd4ml.spec.experiment import EvaluationSpec, OwnMetricSpec
from cd4ml.spec.metrics import METRICS_BY_NAME, metrics_of
from cd4ml.stages.scores import METRIC_FUNCTIONS, Answers, own_score, score, scores_of, scores_where_defined

numbers = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))
pairs = st.lists(st.tuples(numbers, numbers), min_size=2, max_size=40)


def test_every_metric_that_can_be_asked_for_is_computed() -> None:
    assert set(METRIC_FUNCTIONS) == set(METRICS_BY_NAME)


@settings(max_examples=40)
@given(pairs)
def test_errors_of_numbers_are_what_their_formulas_say(found: list[tuple[float, float]]) -> None:
    observed, predicted = np.array(found).T
    apart = observed - predicted
    answers = Answers(observed, predicted)
    spread = ((observed - observed.mean()) ** 2).sum()
    expected: dict[str, float | None] = {
        "rmse": float(np.sqrt((apart**2).mean())),
        "mae": float(abs(apart).mean()),
        "medae": float(np.median(abs(apart))),
        "max_error": float(abs(apart).max()),
    }
    if (abs(observed) > 1e-3).all():
        expected["mape"] = float((abs(apart) / abs(observed)).mean())
    elif (observed == 0).any():
        expected["mape"] = None
    if np.ptp(observed) > 1e-2:
        expected["r2"] = float(1 - (apart**2).sum() / spread)
        expected["explained_variance"] = float(1 - apart.var() / observed.var())
    if min(observed.min(), predicted.min()) > -0.9:
        expected["rmsle"] = float(np.sqrt(((np.log1p(observed) - np.log1p(predicted)) ** 2).mean()))
    elif min(observed.min(), predicted.min()) <= -1:
        expected["rmsle"] = None
    for name, value in expected.items():
        assert score(name, answers) == (None if value is None else pytest.approx(value, rel=1e-6, abs=1e-9)), name


@settings(max_examples=40)
@given(pairs)
def test_smape_is_symmetric_and_between_0_and_2(found: list[tuple[float, float]]) -> None:
    observed, predicted = np.array(found).T
    value = score("smape", Answers(observed, predicted))
    assert value is not None
    assert 0 <= value <= 2
    assert value == pytest.approx(score("smape", Answers(predicted, observed)))
    assert score("smape", Answers(observed, observed)) == 0
    sizes = abs(observed) + abs(predicted)
    terms = [2 * abs(o - p) / s if s else 0.0 for o, p, s in zip(observed, predicted, sizes, strict=True)]
    assert value == pytest.approx(np.mean(terms))


@st.composite
def answered(draw: st.DrawFn, classes: int) -> Answers:
    """Classes observed and predicted, with probabilities whose largest is the prediction."""
    rows = draw(st.integers(2, 30))
    code = st.integers(0, classes - 1)
    observed = np.array(draw(st.lists(code, min_size=rows, max_size=rows)), np.int64)
    weights = draw(
        st.lists(st.lists(st.integers(1, 50), min_size=classes, max_size=classes), min_size=rows, max_size=rows)
    )
    shares = np.array(weights, np.float64)
    shares /= shares.sum(axis=1, keepdims=True)
    return Answers(observed, shares.argmax(axis=1), tuple("abcdef"[:classes]), shares)


def counts(answers: Answers, code: int) -> tuple[int, int, int]:
    """True positives, false positives and false negatives of a class."""
    said, true = answers.predicted == code, answers.observed == code
    return int((said & true).sum()), int((said & ~true).sum()), int((~said & true).sum())


def ratio(above: float, below: float) -> float | None:
    return above / below if below else None


@settings(max_examples=40)
@given(answered(2))
def test_binary_metrics_are_what_their_formulas_say(answers: Answers) -> None:
    tp, fp, fn = counts(answers, 1)
    tn = len(answers.observed) - tp - fp - fn
    positive, share = answers.observed == 1, answers.shares[:, 1]
    one = positive.all() or not positive.any()
    higher = (share[positive][:, None] > share[~positive]) + 0.5 * (share[positive][:, None] == share[~positive])
    denominator = float(tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    expected: dict[str, float | None] = {
        "accuracy": (tp + tn) / len(positive),
        "precision": ratio(tp, tp + fp),
        "recall": ratio(tp, tp + fn),
        "f1": ratio(2 * tp, 2 * tp + fp + fn),
        "balanced_accuracy": None if one else (tp / (tp + fn) + tn / (tn + fp)) / 2,
        "mcc": None if one else (tp * tn - fp * fn) / np.sqrt(denominator) if denominator else 0.0,
        "brier": float(((share - positive) ** 2).mean()),
        "log_loss": float(-np.log(np.where(positive, share, 1 - share)).mean()),
        "roc_auc": None if one else float(higher.mean()),
    }
    for name, value in expected.items():
        assert score(name, answers) == (None if value is None else pytest.approx(value)), name
    average_precision = score("average_precision", answers)
    assert (average_precision is None) == one


@settings(max_examples=40)
@given(answered(3))
def test_multiclass_metrics_are_what_their_formulas_say(answers: Answers) -> None:
    observed = set(answers.observed.tolist())
    there = sorted(observed | set(answers.predicted.tolist()))
    by_class = {code: counts(answers, code) for code in there}
    precisions = {code: ratio(tp, tp + fp) or 0.0 for code, (tp, fp, fn) in by_class.items()}
    recalls = {code: ratio(tp, tp + fn) or 0.0 for code, (tp, fp, fn) in by_class.items()}
    f1 = {code: ratio(2 * tp, 2 * tp + fp + fn) or 0.0 for code, (tp, fp, fn) in by_class.items()}
    one = len(observed) == 1
    outcome = np.eye(3)[answers.observed]
    expected: dict[str, float | None] = {
        "precision_macro": None if one else float(np.mean(list(precisions.values()))),
        "recall_macro": None if one else float(np.mean(list(recalls.values()))),
        "f1_macro": None if one else float(np.mean(list(f1.values()))),
        "f1_weighted": None if one else float(np.mean([f1[code] for code in answers.observed])),
        "balanced_accuracy": None if one else float(np.mean([recalls[code] for code in observed])),
        "brier": float(((answers.shares - outcome) ** 2).sum(axis=1).mean()),
        "log_loss": float(-np.log(answers.shares[np.arange(len(outcome)), answers.observed]).mean()),
    }
    for name, value in expected.items():
        assert score(name, answers) == (None if value is None else pytest.approx(value)), name
    over_rest = score("roc_auc_ovr", answers)
    assert (over_rest is None) == (len(observed) < 3)


PERFECT = {"minimize": 0.0, "maximize": 1.0}


@settings(max_examples=40)
@given(st.lists(st.integers(1, 1000), min_size=5, max_size=30, unique=True), st.randoms(use_true_random=False))
def test_a_perfect_prediction_is_best_and_another_is_never_better(values: list[int], random: Any) -> None:
    observed = np.array(values, np.float64)
    predicted = np.array([value + random.choice([-0.5, 0.0, 0.5]) for value in values])
    for name in metrics_of("regression"):
        best, other = score(name, Answers(observed, observed)), score(name, Answers(observed, predicted))
        assert best == PERFECT[METRICS_BY_NAME[name].direction]
        assert other is not None
        assert other >= best if METRICS_BY_NAME[name].direction == "minimize" else other <= best


@pytest.mark.parametrize(("task", "classes"), [("binary", 2), ("multiclass", 3)])
def test_perfect_classes_are_best_and_wrong_ones_are_worse(task: Any, classes: int) -> None:
    observed = np.arange(30) % classes
    sure = np.eye(classes)[observed]
    perfect = Answers(observed, observed, tuple("abc"[:classes]), sure)
    wrong = (observed + (np.arange(30) % 5 == 0)) % classes
    other = Answers(observed, wrong, perfect.classes, 0.9 * np.eye(classes)[wrong] + 0.1 / classes)
    for name in metrics_of(task):
        direction = METRICS_BY_NAME[name].direction
        best, less = score(name, perfect), score(name, other)
        assert best == pytest.approx(PERFECT[direction], abs=1e-9), name
        assert less is not None
        assert best is not None
        assert less > best if direction == "minimize" else less < best


UNDEFINED: list[tuple[str, Answers]] = [
    ("r2", Answers(np.full(3, 2.0), np.arange(3.0))),
    ("explained_variance", Answers(np.full(3, 2.0), np.arange(3.0))),
    ("mape", Answers(np.array([0.0, 1.0]), np.array([1.0, 1.0]))),
    ("rmsle", Answers(np.array([1.0, 2.0]), np.array([-1.0, 1.0]))),
    ("rmse", Answers(np.array([1.0, np.nan]), np.array([1.0, 1.0]))),
    ("rmse", Answers(np.array([1e200, 1.0]), np.array([-1e200, 1.0]))),
    ("precision", Answers(np.array([0, 1]), np.array([0, 0]), ("a", "b"))),
    ("recall", Answers(np.array([0, 0]), np.array([0, 1]), ("a", "b"))),
    ("f1", Answers(np.array([0, 0]), np.array([0, 0]), ("a", "b"))),
    ("mcc", Answers(np.array([1, 1]), np.array([0, 1]), ("a", "b"))),
    ("roc_auc", Answers(np.array([1, 1]), np.array([0, 1]), ("a", "b"), np.full((2, 2), 0.5))),
    ("average_precision", Answers(np.array([0, 0]), np.array([0, 1]), ("a", "b"), np.full((2, 2), 0.5))),
    ("roc_auc_ovr", Answers(np.array([0, 1]), np.array([0, 1]), ("a", "b", "c"), np.full((2, 3), 1 / 3))),
    ("f1_macro", Answers(np.array([1, 1]), np.array([0, 1]), ("a", "b", "c"))),
]


@pytest.mark.parametrize(("name", "answers"), UNDEFINED, ids=[name for name, _ in UNDEFINED])
def test_a_metric_that_is_not_defined_is_an_error_by_name_and_side_and_nothing_in_a_slice(
    name: str, answers: Answers
) -> None:
    evaluation = EvaluationSpec("regression", (name,), name)
    with pytest.raises(StageFailed, match=f"metric '{name}' has no finite value on the test side"):
        scores_of(evaluation, {}, answers, "test")
    assert scores_where_defined(evaluation, {}, answers) == {name: None}


def test_an_unknown_metric_is_an_error() -> None:
    with pytest.raises(StageFailed, match="'rsme' is not known"):
        scores_of(EvaluationSpec("regression", ("rsme",), "rsme"), {}, Answers(np.ones(2), np.ones(2)), "test")


# --- the project's own ---------------------------------------------------------------------------------

COST = OwnMetricSpec("cost", "shop.metrics.cost", "minimize", "prediction")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (float("nan"), "no finite number"),
        (np.inf, "no finite number"),
        (None, "NoneType, not a number"),
        ("4", "str, not a number"),
        (True, "bool, not a number"),
        (np.ones(1), "ndarray, not a number"),
    ],
)
def test_an_own_metric_gives_one_finite_number(value: Any, message: str) -> None:
    with pytest.raises(StageFailed, match=rf"evaluation\.own\.cost: gives {message}"):
        own_score(COST, lambda observed, predicted: value, Answers(np.ones(2), np.ones(2)))


def test_what_an_own_metric_raises_is_told_without_its_words() -> None:
    def cost(observed: Any, predicted: Any) -> float:
        raise RuntimeError("patient 4711")

    with pytest.raises(StageFailed, match=r"evaluation\.own\.cost: RuntimeError in cost") as caught:
        own_score(COST, cost, Answers(np.ones(2), np.ones(2)))
    assert "4711" not in str(caught.value)


def test_an_own_metric_gets_labels_or_probabilities_and_can_change_nothing_of_ours() -> None:
    seen: list[Any] = []

    def watch(observed: Any, predicted: Any) -> float:
        seen.append((observed.tolist(), predicted.tolist()))
        observed[:] = observed[0]
        predicted[:] = predicted[0]
        return np.float64(1.5)

    shares = np.array([[0.75, 0.25], [0.5, 0.5]])
    binary = Answers(np.array([0, 1]), np.array([1, 1]), ("no", "yes"), shares)
    assert own_score(COST, watch, binary) == 1.5
    own_score(OwnMetricSpec("cost", "", "minimize", "probability"), watch, binary)
    regression = Answers(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    own_score(COST, watch, regression)
    assert seen == [(["no", "yes"], ["yes", "yes"]), (["no", "yes"], [0.25, 0.5]), ([1.0, 2.0], [3.0, 4.0])]
    assert regression.observed.tolist() == [1.0, 2.0]
    assert shares.tolist() == [[0.75, 0.25], [0.5, 0.5]]
    thrice = Answers(np.array([0, 2]), np.array([1, 1]), ("a", "b", "c"), np.full((2, 3), 1 / 3))
    own_score(OwnMetricSpec("cost", "", "minimize", "probability"), watch, thrice)
    assert np.shape(seen[-1][1]) == (2, 3)


def test_an_own_metric_that_fails_on_a_slice_is_nothing_there() -> None:
    evaluation = EvaluationSpec("regression", ("cost",), "cost", own=(COST,))
    functions = {"cost": lambda observed, predicted: 1 / 0}
    assert scores_where_defined(evaluation, functions, Answers(np.ones(2), np.ones(2))) == {"cost": None}
    with pytest.raises(StageFailed, match="on the test side"):
        scores_of(evaluation, functions, Answers(np.ones(2), np.ones(2)), "test")
