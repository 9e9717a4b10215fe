"""Plots of a report: what is in them, what is said of them, and that the same values give the same bytes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cd4ml.promotion.review import Review
from cd4ml.promotion.story import Point
from cd4ml.report import plots_canvas, plots_classes, plots_regression, plots_time
from cd4ml.report.plots import MOST_PLOTS, Plot, draw
from cd4ml.report.plots_canvas import CHALLENGER, CHALLENGER_LINE, CHAMPION, CHAMPION_LINE, Sheet, numbers, shown, span
from cd4ml.spec.experiment import Direction
from tests.report import plots_world as world

ROOT = Path(__file__).resolve().parent.parent.parent
LONG = "a_column_with_a_name_that_never_wants_to_come_to_its_end_" * 4


@pytest.fixture(scope="module")
def regression() -> tuple[Plot, ...]:
    """All six plots of a regression."""
    return draw(world.review_of(), world.regression(), world.story_of(), world.importance_of(), world.CURVES)


@pytest.fixture(scope="module")
def binary() -> tuple[Plot, ...]:
    return draw(world.review_of(), world.binary(), ())


@pytest.fixture
def sheets(monkeypatch: pytest.MonkeyPatch) -> list[Sheet]:
    """Every sheet that is drawn in the test, as it was when it was finished."""
    found: list[Sheet] = []
    png = Sheet.png

    def kept(sheet: Sheet) -> bytes:
        found.append(sheet)
        return png(sheet)

    monkeypatch.setattr(Sheet, "png", kept)
    return found


def texts(sheet: Sheet) -> Iterator[tuple[str, float, bool, tuple[float, float, float, float]]]:
    """Of everything written: the text, its height in pixels as shown, whether it is taken for mathematics, its box."""
    from matplotlib.text import Text

    sheet.figure.draw_without_rendering()  # places are worked out anew for the pixels as shown
    renderer = sheet.figure.canvas.get_renderer()  # type: ignore[attr-defined]  # of Agg
    for text in sheet.figure.findobj(Text):
        assert isinstance(text, Text)
        if text.get_visible() and text.get_text().strip():
            box = text.get_window_extent(renderer)
            size = float(text.get_fontsize()) * 100 / 72
            yield text.get_text(), size, text.get_parse_math(), (box.x0, box.y0, box.x1, box.y1)


def name_of(plots: tuple[Plot, ...], name: str) -> Plot:
    return next(plot for plot in plots if plot.name == name)


def has(plot: Plot, colour: str) -> bool:
    """Is there a pixel of exactly this colour?"""
    wanted = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    pixels = world.image_of(plot.png).pixels
    return bool(((pixels[..., :3] == wanted).all(axis=-1) & (pixels[..., 3] == 255)).any())


# ── which there are ──


def test_a_regression_has_metrics_predictions_errors_over_time_history_importance_and_learning_curve(
    regression: tuple[Plot, ...],
) -> None:
    names = [plot.name for plot in regression]
    assert names == ["metrics", "predictions", "over-time", "history", "importance", "learning"]
    assert len(names) <= MOST_PLOTS


def test_nothing_is_drawn_of_nothing() -> None:
    assert draw(Review("exp/a", "main", "", "", "head", "pending", ""), None, ()) == ()


def test_two_classes_with_probabilities_have_roc_and_precision_by_recall(binary: tuple[Plot, ...]) -> None:
    assert name_of(binary, "predictions").alt.startswith("ROC: area 0.")


def test_two_classes_without_probabilities_have_the_confusion_alone() -> None:
    paired = world.binary(500)
    bare = replace(
        paired,
        champion=replace(paired.champion, probabilities=None),
        challenger=replace(paired.challenger, probabilities=None),
    )
    assert name_of(draw(world.review_of(), bare, ()), "predictions").alt.startswith("Right answers:")


def test_rows_without_times_have_no_plot_over_time() -> None:
    names = [plot.name for plot in draw(world.review_of(), world.multiclass(300), ())]
    assert names == ["metrics", "predictions"]


# ── the same bytes ──


def test_the_same_values_give_the_same_bytes(regression: tuple[Plot, ...]) -> None:
    again = draw(world.review_of(), world.regression(), world.story_of(), world.importance_of(), world.CURVES)
    assert again == regression


def test_an_image_holds_pixels_and_their_density_and_nothing_else(regression: tuple[Plot, ...]) -> None:
    for plot in regression:
        assert {name for name, _ in world.image_of(plot.png).chunks} == {"IHDR", "pHYs", "IDAT", "IEND"}


_FRESH = """
import hashlib, sys
from tests.report import plots_world as world
from cd4ml.report.plots import draw
plots = draw(world.review_of(), world.binary(400), world.story_of())
print(hashlib.sha256(b"".join(plot.png for plot in plots)).hexdigest(), "matplotlib.pyplot" in sys.modules)
"""


def test_another_process_gives_them_too_whatever_settings_lie_around_and_leaves_the_home_alone(tmp_path: Path) -> None:
    home, here, temporary = (tmp_path / name for name in ("home", "here", "temporary"))
    for folder in (home, here, temporary):
        folder.mkdir()
    hostile = "text.usetex: True\naxes.facecolor: red\nlines.linewidth: 9\nno.such.key: 1\nfont.size: 40\n"
    (here / "matplotlibrc").write_text(hostile, "utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MPL", "XDG", "MATPLOT"))}
    environment |= {"HOME": str(home), "TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", _FRESH], cwd=here, env=environment, capture_output=True, check=True)
    plots = draw(world.review_of(), world.binary(400), world.story_of())
    expected = hashlib.sha256(b"".join(plot.png for plot in plots)).hexdigest()
    assert done.stdout.decode().split() == [expected, "False"]
    assert done.stderr == b""
    assert list(home.iterdir()) == []
    assert [path.name for path in temporary.iterdir()] == [f"cd4ml-matplotlib-{os.getuid()}"]


def test_settings_of_matplotlib_are_afterwards_what_they_were() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    draw(world.review_of(), None, ())
    assert dict(matplotlib.rcParams) == before


def test_a_folder_that_somebody_else_made_is_not_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    taken = tmp_path / f"cd4ml-matplotlib-{os.getuid()}"
    (tmp_path / "elsewhere").mkdir()
    taken.symlink_to(tmp_path / "elsewhere")
    found = plots_canvas.private_folder()
    assert found not in (taken, tmp_path / "elsewhere")
    assert found.stat().st_mode & 0o077 == 0


def test_the_folder_for_fonts_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert plots_canvas.private_folder() == plots_canvas.private_folder()


# ── how they look ──


def test_the_ground_is_transparent(regression: tuple[Plot, ...], binary: tuple[Plot, ...]) -> None:
    for plot in (*regression, *binary):
        alpha = world.image_of(plot.png).pixels[..., 3]
        assert alpha[[0, 0, -1, -1], [0, -1, 0, -1]].tolist() == [0, 0, 0, 0]
        assert (alpha == 0).mean() > 0.75


def test_an_image_has_twice_the_pixels_that_it_is_shown_with(regression: tuple[Plot, ...]) -> None:
    for plot in regression:
        assert world.image_of(plot.png).pixels.shape[1] == 2 * plot.width


def test_both_models_are_in_every_plot_that_compares_them(
    regression: tuple[Plot, ...], binary: tuple[Plot, ...]
) -> None:
    comparing = [name_of(regression, name) for name in ("predictions", "over-time", "history")]
    for plot in (*comparing, name_of(binary, "predictions")):
        assert has(plot, CHALLENGER), plot.name
        assert has(plot, CHAMPION), plot.name


def test_the_models_can_be_told_apart_without_colour() -> None:
    for what in ("linestyle", "marker"):
        assert CHALLENGER_LINE[what] != CHAMPION_LINE[what]


@pytest.mark.parametrize("task", ["regression", "binary", "multiclass", "many classes"])
def test_all_text_is_large_enough_lies_on_the_sheet_and_is_no_mathematics(task: str, sheets: list[Sheet]) -> None:
    paired = {
        "regression": world.regression(400, days=3),
        "binary": replace(world.binary(400), classes=("$\\frac{x}{y}$", LONG)),
        "multiclass": replace(world.multiclass(400, 3), classes=(LONG, "b" * 90, "c")),
        "many classes": world.multiclass(3000, 40),
    }[task]
    importance = [(LONG + str(place), 3.0 - place, 0.1) for place in range(4)]
    review = replace(world.review_of(), slices=(replace(world.review_of().slices[0], column=LONG, value=LONG),))
    draw(review, paired, world.story_of(), importance, {LONG: ((0.0, 1.0), (1.0, 2.0))})
    assert sheets
    for sheet in sheets:
        width, height = plots_canvas.WIDTH, sheet.height
        for text, size, is_math, (left, low, right, high) in texts(sheet):
            assert size >= 9, text
            assert not is_math, text
            assert (left >= -1, low >= -1, right <= width + 1, high <= height + 1) == (True,) * 4, text


def test_no_two_texts_lie_on_each_other(sheets: list[Sheet]) -> None:
    draw(world.review_of(), world.regression(), world.story_of(), world.importance_of(), world.CURVES)
    draw(world.review_of(), world.binary(), ())
    draw(world.review_of(), world.multiclass(3000, 40), ())
    for sheet in sheets:
        boxes = [(text, box) for text, _, _, box in texts(sheet)]
        for place, (text, one) in enumerate(boxes):
            for other, two in boxes[place + 1 :]:
                width = min(one[2], two[2]) - max(one[0], two[0])
                height = min(one[3], two[3]) - max(one[1], two[1])
                assert min(width, height) <= 2, (text, other)


# ── what is said ──


@pytest.mark.parametrize(("direction", "words"), [("minimize", "lower is better"), ("maximize", "higher is better")])
def test_the_history_says_which_way_is_better(direction: Direction, words: str, sheets: list[Sheet]) -> None:
    review = world.review_of((world.metric("score", direction, 1.0, 2.0, 0.1),), "score")
    plot = name_of(draw(review, None, world.story_of()), "history")
    assert words in plot.alt
    assert any(words in text for text, *_ in texts(sheets[-1]))


def test_the_history_says_how_many_results_are_better_than_this_run() -> None:
    values = [("other", 3.0), ("champion", 1.0), ("other", 1.5), ("this", 2.0)]
    story = [Point(place, value, "exp/a", outcome) for place, (outcome, value) in enumerate(values)]  # type: ignore[arg-type]  # words of its own
    alt = name_of(draw(world.review_of(), None, story), "history").alt
    assert "this run 2.000, champion 1.000" in alt
    assert "2 of them better than this run" in alt


def test_a_result_far_beyond_the_others_is_drawn_at_the_edge_and_counted(sheets: list[Sheet]) -> None:
    story = [Point(place, 1.0 + 0.01 * place, "exp/a", "other") for place in range(20)]
    draw(world.review_of(), None, [*story, Point(20, 1e20, "exp/b", "other")])
    assert any("beyond the axis: 1" in text for text, *_ in texts(sheets[-1]))


def test_the_text_of_metrics_names_the_primary_one_and_counts_the_rest(regression: tuple[Plot, ...]) -> None:
    alt = name_of(regression, "metrics").alt
    assert alt.startswith("mae went from 9.410 to 8.870, better; with 95 % confidence between 3.6 % better and 7.9 %")
    assert "of 4 other metrics 1 better, 1 worse, 2 no real difference; 2 slices got worse" in alt


def test_of_five_hundred_metrics_a_dozen_is_drawn_and_the_rest_counted(sheets: list[Sheet]) -> None:
    metrics = tuple(world.metric(f"own_{place}", "maximize", 1.0, 1.1, 0.2) for place in range(500))
    draw(replace(world.review_of(metrics, "own_7"), slices=()), None, ())
    written = [text for text, *_ in texts(sheets[0])]
    assert sum(text.startswith("own_") for text in written) == 12
    assert any("488 more not shown" in text for text in written)
    assert "own_7" in written


def test_the_areas_below_the_curves_are_those_of_scikit_learn() -> None:
    from sklearn.metrics import average_precision_score, roc_auc_score

    paired = world.binary(3000)
    assert paired.challenger.probabilities is not None
    rounded = np.round(paired.challenger.probabilities, 2)  # many rows of equal score
    found = plots_classes._curves(paired.observed, replace(paired.challenger, probabilities=rounded))
    assert found is not None
    assert found.area == pytest.approx(roc_auc_score(paired.observed, rounded[:, 1]), abs=1e-12)
    assert found.average_precision == pytest.approx(average_precision_score(paired.observed, rounded[:, 1]), abs=1e-12)


@given(st.integers(2, 30), st.integers(0, 3))
def test_the_confusion_of_any_number_of_classes_counts_each_row_once(classes: int, seed: int) -> None:
    paired = world.multiclass(200, classes, seed)
    found = plots_classes._confused(paired)
    assert found is not None
    assert len(found.names) <= 8
    for counts in (found.challenger, found.champion):
        assert counts.shape == (len(found.names),) * 2
        assert counts.sum() == 200


def test_the_cells_of_the_left_panel_hold_every_row_inside_once() -> None:
    random = np.random.default_rng(5)
    x, y = random.uniform(0, 10, 5000), random.uniform(0, 10, 5000)
    left, low, counts = plots_regression._cells(x, y, 0.0, 10.0)
    assert counts.sum() == 5000
    assert (np.abs(left - 5) <= 5.2).all()
    assert (np.abs(low - 5) <= 5).all()


@pytest.mark.parametrize(
    ("days", "is_daily", "groups"), [(5, True, 5), (40, True, 40), (400, False, 40), (0.5, False, 40)]
)
def test_rows_are_grouped_by_day_where_there_are_a_few(days: float, is_daily: bool, groups: int) -> None:
    paired = world.regression(4000, days=days)
    assert paired.times is not None
    found, daily = plots_time._grouped(paired.times)
    assert (daily, len(found)) == (is_daily, groups)
    assert sorted(np.concatenate(found)) == list(range(4000))


def test_who_is_nearer_to_the_truth_in_how_much_of_the_time_is_told() -> None:
    paired = world.regression(4000)
    worse = replace(paired, champion=replace(paired.champion, predicted=paired.challenger.predicted + 50))
    alt = name_of(draw(world.review_of(), worse, ()), "over-time").alt
    assert "mean absolute error: smaller than the champion's in 40 of 40 groups" in alt


# ── text from outside ──


def test_dollar_signs_are_shown(sheets: list[Sheet]) -> None:
    draw(world.review_of(()), None, (), [("$x^2$", 1.0, 0.1), ("\\frac{$", 0.5, 0.1)])
    assert {"$x^2$", "\\frac{$"} <= {text for text, *_ in texts(sheets[0])}


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a\nb", "a\\x0ab"),
        ("\u202eevil", "\\u202eevil"),
        ("\x1b[31m", "\\x1b[31m"),
        ("größe", "größe"),
        ("実験", "\\u5b9f\\u9a13"),
        ("x" * 40, "x" * 27 + "…"),
        ("x" * 28, "x" * 28),
        ("", ""),
    ],
)
def test_text_from_outside_is_on_one_line_cut_and_without_a_glyph_that_is_missing(text: str, written: str) -> None:
    with plots_canvas.drawing():
        assert shown(text) == written


@given(st.text())
def test_no_text_is_written_longer_than_it_may_be(text: str) -> None:
    with plots_canvas.drawing():
        written = shown(text, 12)
    assert len(written) <= 12
    assert written.isprintable()


# ── axes ──


@given(st.lists(st.floats(-1e99, 1e99), min_size=1, max_size=5))
def test_an_axis_holds_all_its_numbers_and_is_never_a_point(values: list[float]) -> None:
    low, high = span(values)
    assert low < high
    assert low <= min(values) <= max(values) <= high


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([0, 0.5, 1], ["0", "0.5", "1.0"]),
        ([10, 12.5, 15], ["10.0", "12.5", "15.0"]),
        ([-2, 0, 2], ["−2", "0", "2"]),
        ([0, 1000, 2000], ["0", "1,000", "2,000"]),
        ([0, 1e20, 2e20], ["0", "1e+20", "2e+20"]),
        ([0, 1e-12], ["0", "1e−12"]),
        ([0.0], ["0"]),
        ([], []),
    ],
)
def test_ticks_have_as_many_decimals_as_tell_them_apart(values: list[float], labels: list[str]) -> None:
    assert numbers(values) == labels
