"""Whatever numbers and names a branch or its data hold: a plot is drawn or left out, and never fails."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cd4ml.promotion.paired import Paired, Said
from cd4ml.promotion.review import Interval, MetricJudged, SliceJudged, Standing
from cd4ml.promotion.story import Point
from cd4ml.report import plots_canvas
from cd4ml.report.plots import Plot, draw
from cd4ml.spec.experiment import Direction, Task
from tests.report import plots_world as world

NUMBERS = st.one_of(
    st.sampled_from(
        [0.0, -0.0, 1.0, 1e-12, 1e20, -1e20, 1e300, -1e308, 5e-324, float("nan"), float("inf"), -float("inf")]
    ),
    st.floats(),
    st.floats(-10, 10),
)
NAMES = st.one_of(
    st.text(max_size=60),
    st.sampled_from(["$", "$x^2$", "\\frac{", "</details>", "\u202e", "\x1b[31m", "%s", "\ud800", "", "\n", "🛫" * 50]),
)
SLOW = settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow], deadline=None)


@pytest.fixture(autouse=True, scope="module")
def _coarse() -> Iterator[None]:
    """Fewer pixels: none of this depends on how many there are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots_canvas, "DENSITY", 1)
        yield


def sound(plots: tuple[Plot, ...]) -> None:
    """Each is an image, and what is said of it fits on one line."""
    for plot in plots:
        assert world.image_of(plot.png).pixels.shape[1] == plot.width
        assert plot.alt
        assert plot.alt.isprintable()
        assert plot.title.isprintable()
        assert len(plot.alt) < 700


def quietly(*inputs: object) -> tuple[Plot, ...]:
    """Draw, where a warning is an error: it would be printed into somebody's log."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return draw(*inputs)  # type: ignore[arg-type]  # whatever a test gives it


def array(values: list[float]) -> npt.NDArray[np.float64]:
    return np.array(values, dtype=np.float64)


@st.composite
def paired(draws: st.DrawFn) -> Paired:
    """Rows of any task whose every number can be anything."""
    rows = draws(st.integers(0, 12))
    task: Task = draws(st.sampled_from(("regression", "binary", "multiclass")))
    classes = () if task == "regression" else tuple(draws(st.lists(NAMES, min_size=0, max_size=12)))
    codes = st.one_of(NUMBERS, st.integers(0, max(1, len(classes))).map(float)) if classes else NUMBERS

    def column() -> npt.NDArray[np.float64]:
        return array(draws(st.lists(codes, min_size=rows, max_size=rows)))

    def said() -> Said:
        width = draws(st.sampled_from((0, 1, 2, 3)))
        flat = draws(st.lists(NUMBERS, min_size=rows * width, max_size=rows * width))
        return Said(column(), array(flat).reshape(rows, width) if width else None)

    times = array(draws(st.lists(NUMBERS, min_size=rows, max_size=rows))) if draws(st.booleans()) else None
    return Paired(task, classes, column(), said(), said(), world.ruler_of(rows), times=times)


@SLOW
@given(paired())
def test_any_rows_of_any_task(given_rows: Paired) -> None:
    sound(quietly(world.review_of(()), given_rows, ()))


@st.composite
def metrics(draws: st.DrawFn) -> MetricJudged:
    maybe = st.none() | NUMBERS
    interval = draws(st.none() | st.builds(Interval, NUMBERS, NUMBERS))
    direction: Direction | None = draws(st.sampled_from(("minimize", "maximize", None)))
    values = draws(maybe), draws(maybe), draws(maybe)
    standing: Standing = draws(st.sampled_from(("better", "worse", "no real difference", "unknown")))
    return MetricJudged(draws(NAMES), direction, *values, draws(maybe), interval, interval, standing)


@SLOW
@given(st.lists(metrics(), max_size=20), st.lists(st.tuples(NAMES, NAMES, NUMBERS, NUMBERS), max_size=4), NAMES)
def test_any_metrics_and_slices(
    judged: list[MetricJudged], slices: list[tuple[str, str, float, float]], primary: str
) -> None:
    worse = tuple(
        SliceJudged(
            column, value, 1, judged[0].metric if judged else "", one, two, two - one, Interval(one, two), "worse"
        )
        for column, value, one, two in slices
    )
    sound(quietly(replace(world.review_of(tuple(judged), primary), slices=worse), None, ()))


@SLOW
@given(
    st.lists(st.tuples(st.integers(-5, 2**70), NUMBERS, st.sampled_from(("this", "champion", "other"))), max_size=30)
)
def test_any_history(points: list[tuple[int, float, str]]) -> None:
    story = [Point(order, value, "exp/a", outcome) for order, value, outcome in points]  # type: ignore[arg-type]  # sampled from its words
    sound(quietly(world.review_of(()), None, story))


@SLOW
@given(st.lists(st.tuples(NAMES, NUMBERS, NUMBERS), max_size=30))
def test_any_importance(rows: list[tuple[str, float, float]]) -> None:
    sound(quietly(world.review_of(()), None, (), rows))


@SLOW
@given(st.dictionaries(NAMES, st.lists(st.lists(NUMBERS, max_size=4).map(tuple), max_size=20), max_size=4))
def test_any_curves(curves: dict[str, list[tuple[float, ...]]]) -> None:
    sound(quietly(world.review_of(()), None, (), (), curves))


@pytest.mark.parametrize("value", [0.0, 1.0, -1e20, 1e-12, 1e300])
@pytest.mark.parametrize("rows", [1, 2, 1000])
def test_rows_that_are_all_the_same(value: float, rows: int) -> None:
    same = np.full(rows, value)
    given_rows = Paired("regression", (), same, Said(same), Said(same), world.ruler_of(rows), times=np.full(rows, 1e9))
    sound(quietly(world.review_of(()), given_rows, ()))


def test_ten_thousand_classes() -> None:
    plots = quietly(world.review_of(()), world.multiclass(20_000, 10_000), ())
    assert [plot.name for plot in plots] == ["predictions"]


def test_numbers_that_cannot_be_drawn_leave_the_plot_out_and_the_others_in() -> None:
    rows = world.regression(50)
    broken = replace(rows, challenger=Said(np.full(50, np.nan)))
    names = [plot.name for plot in quietly(world.review_of(), broken, world.story_of(), world.importance_of())]
    assert names == ["metrics", "history", "importance"]
