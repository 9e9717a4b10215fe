"""The plots of a report: where people would rather look than read.

Each is a PNG with a text that says the same in words. A plot that has nothing to show, or whose numbers cannot be
shown, is left out; nothing that comes from a branch or its data can make one fail.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cd4ml.promotion.paired import Paired
from cd4ml.promotion.review import Review
from cd4ml.promotion.story import Point

MOST_PLOTS = 6


@dataclass(frozen=True)
class Plot:
    """``name`` is the file's without its ending, ``title`` what it is, ``alt`` what is to be seen, with numbers, both
    plain text.

    ``png`` is shown ``width`` pixels wide and has more of its own, for dense screens.
    """

    name: str
    title: str
    alt: str
    png: bytes
    width: int = 820


def draw(
    review: Review,
    paired: Paired | None,
    story: Sequence[Point],
    importance: Sequence[tuple[str, float, float]] = (),
    curves: Mapping[str, Sequence[Sequence[float]]] | None = None,
) -> tuple[Plot, ...]:
    """At most six plots, the telling ones first; the same values give the same bytes.

    ``story`` is the primary metric over the index's history; ``importance`` features with the mean and the standard
    deviation of the drop in score without them; ``curves`` by name rows of a step and one or two numbers (validation,
    or training and validation). No side effects but the import of matplotlib, which keeps a list of fonts in a
    temporary folder of the user's.
    """
    from cd4ml.report import plots_bars, plots_canvas, plots_classes, plots_regression, plots_story, plots_time

    made: list[Plot | None] = []
    with plots_canvas.drawing():
        made.append(_named(plots_bars.intervals(review), "metrics"))
        if paired is not None and len(paired.observed):
            regression = paired.task == "regression"
            told = plots_regression.predictions(paired) if regression else plots_classes.predictions(paired)
            made.append(_named(told, "predictions"))
            made.append(_named(plots_time.over_time(paired), "over-time"))
        made.append(_named(plots_story.history(story, review), "history"))
        made.append(_named(plots_bars.importance(importance), "importance"))
        made.append(_named(plots_bars.learning(curves or {}), "learning"))
    return tuple(plot for plot in made if plot is not None)[:MOST_PLOTS]


def _named(drawn: tuple[str, str, bytes] | None, name: str) -> Plot | None:
    """A plot of what a part has drawn: title, text, image."""
    return Plot(name, *drawn) if drawn else None
