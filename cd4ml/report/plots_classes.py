"""Of a classification: how well two models tell classes apart, and which they take for which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cd4ml.promotion.paired import Paired, Said
from cd4ml.report.plots_canvas import (
    CHALLENGER,
    CHALLENGER_LINE,
    CHAMPION,
    CHAMPION_LINE,
    INK,
    SMALL,
    TEXT,
    TITLE,
    WIDTH,
    Sheet,
    fitted,
    frame,
    rule,
    say,
    shown,
)

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes

    Numbers = npt.NDArray[np.float64]

_MOST_CLASSES = 8
_MOST_POINTS = 250


@dataclass(frozen=True)
class _Curves:
    """Of one model: its ROC curve and its precision by recall, and the areas below them."""

    false: Numbers
    true: Numbers
    recall: Numbers
    precision: Numbers
    area: float
    average_precision: float


@dataclass(frozen=True)
class _Confusion:
    """Counts by observed class (rows) and answer (columns) of the most frequent classes, the rest as the last."""

    names: tuple[str, ...]
    challenger: npt.NDArray[np.int64]
    champion: npt.NDArray[np.int64]


def predictions(paired: Paired) -> tuple[str, str, bytes] | None:
    """ROC, precision by recall and confusion of two classes; of more classes, or without probabilities, confusion."""
    confusion = _confused(paired)
    if confusion is None:
        return None
    pair = [_curves(paired.observed, said) for said in (paired.challenger, paired.champion)]
    if paired.task == "binary" and pair[0] is not None and pair[1] is not None:
        return _two_classes(paired, pair[0], pair[1], confusion)
    count = len(confusion.names)
    cell = 56
    sheet = Sheet(96 + cell * count + 30)
    sheet.title(f"Which classes are taken for which, {len(paired.observed):,} rows")
    sheet.key(34, "challenger", "champion")
    sheet.write(WIDTH - 12, 34, "share of the rows of an observed class", size=SMALL, ha="right")
    width = min(WIDTH - 170, 150 * count)
    axes = sheet.panel(150, 84, width, cell * count)
    _matrix(axes, confusion, width / count)
    return "Confusion of classes", _told(confusion, len(paired.observed)), sheet.png()


def _two_classes(paired: Paired, one: _Curves, two: _Curves, confusion: _Confusion) -> tuple[str, str, bytes]:
    rows = len(paired.observed)
    positive = fitted(paired.classes[1] if len(paired.classes) > 1 else "1", 200, TITLE)
    sheet = Sheet(356)
    sheet.title(f"Telling {positive} apart, {rows:,} rows that neither model learned from")
    sheet.key(34, "challenger", "champion")
    roc = sheet.panel(54, 104, 200, 200)
    recall = sheet.panel(320, 104, 200, 200)
    share = float(np.mean(paired.observed == 1))
    for axes, x, y, name in (
        (roc, "false positive rate", "true positive rate", "ROC"),
        (recall, "recall", "precision", "Precision by recall"),
    ):
        frame(axes, (-0.02, 1.02), (-0.02, 1.02), (4, 4))
        rule(axes)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        say(axes, -0.02, 1.14, name, size=TEXT, va="bottom", fontweight="bold")
    roc.plot([0, 1], [0, 1], color=INK, linewidth=1)
    recall.plot([0, 1], [share, share], color=INK, linewidth=1)
    say(roc, -0.02, 1.05, "area", va="bottom")
    say(recall, -0.02, 1.05, "average", va="bottom")
    for model, style, sign, place in ((two, CHAMPION_LINE, "□", 0.68), (one, CHALLENGER_LINE, "●", 0.30)):
        line = {**style, "markersize": 5, "markevery": 0.16}
        roc.plot(model.false, model.true, **line)
        recall.plot(model.recall, model.precision, **line)
        colour = str(style["color"])
        say(roc, place, 1.05, f"{sign} {model.area:.4f}", va="bottom", colour=colour)
        say(recall, place, 1.05, f"{sign} {model.average_precision:.4f}", va="bottom", colour=colour)
    matrix = sheet.panel(622, 104, 186, 200)
    _matrix(matrix, confusion, 93)
    alt = (
        f"ROC: area {one.area:.4f}, champion {two.area:.4f}. Precision by recall: average precision "
        f"{one.average_precision:.4f}, champion {two.average_precision:.4f}. {_told(confusion, rows)}"
    )
    return "ROC, precision and recall, confusion", alt, sheet.png()


def _curves(observed: Numbers, said: Said) -> _Curves | None:
    """Nothing without sound probabilities of both classes, or where one class is not observed."""
    if said.probabilities is None or said.probabilities.ndim != 2 or said.probabilities.shape[1] != 2:
        return None
    score, positive = said.probabilities[:, 1], observed == 1
    total = int(positive.sum())
    if not np.isfinite(score).all() or total in (0, len(observed)):
        return None
    order = np.argsort(-score, kind="stable")
    hits = np.cumsum(positive[order])
    ends = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))  # rows of equal score come together
    found, taken = hits[ends].astype(np.float64), ends + 1.0
    true = np.concatenate([[0.0], found / total])
    false = np.concatenate([[0.0], (taken - found) / (len(observed) - total)])
    precision = found / taken
    recall = found / total
    average = float(np.sum(np.diff(recall, prepend=0.0) * precision))
    area = float(np.sum(np.diff(false) * (true[1:] + true[:-1]) / 2))
    few, some = _thinned(false + true), _thinned(recall)
    return _Curves(false[few], true[few], recall[some], precision[some], area, average)


def _thinned(along: Numbers) -> npt.NDArray[np.int64]:
    """Places of some hundred points, evenly spread along a rising number, the first and the last among them."""
    if len(along) <= _MOST_POINTS:
        return np.arange(len(along), dtype=np.int64)
    wanted = np.linspace(along[0], along[-1], _MOST_POINTS)
    places = np.unique(np.searchsorted(along, wanted).clip(0, len(along) - 1))
    return np.unique(np.concatenate([[0], places, [len(along) - 1]])).astype(np.int64)


def _confused(paired: Paired) -> _Confusion | None:
    """Nothing where there is but one class, or none."""
    count = len(paired.classes)
    codes = [_codes(one, count) for one in (paired.observed, paired.challenger.predicted, paired.champion.predicted)]
    usable = np.logical_and.reduce([code >= 0 for code in codes])
    observed, challenger, champion = (code[usable] for code in codes)
    if count < 2 or len(observed) == 0:
        return None
    chosen = np.arange(count)
    if count > _MOST_CLASSES:
        frequency = np.bincount(observed, minlength=count)
        chosen = np.sort(np.argsort(-frequency, kind="stable")[: _MOST_CLASSES - 1])
    place = np.full(count, len(chosen), dtype=np.int64)  # what is not chosen is one class more
    place[chosen] = np.arange(len(chosen))
    size = len(chosen) + (count > len(chosen))
    first, second = (
        np.bincount(place[observed] * size + place[answer], minlength=size * size).reshape(size, size)
        for answer in (challenger, champion)
    )
    names = tuple(paired.classes[code] for code in chosen)
    return _Confusion((*names, f"{count - len(chosen)} others") if size > len(chosen) else names, first, second)


def _codes(values: Numbers, count: int) -> npt.NDArray[np.int64]:
    """Codes of classes; −1 for what is none."""
    with np.errstate(invalid="ignore"):
        sound = (values >= 0) & (values < count)
    return np.where(sound, np.where(sound, values, 0).astype(np.int64), -1)


def _matrix(axes: Axes, confusion: _Confusion, width: float) -> None:
    """A cell, ``width`` pixels wide, for each pair of classes; in it a bar for each model: the share of the row."""
    count = len(confusion.names)
    frame(axes, (0, count), (count, 0), (0, 0))
    for spine in axes.spines.values():
        spine.set_visible(True)
    for line in range(1, count):
        axes.axhline(line, color=INK, linewidth=0.6)
        axes.axvline(line, color=INK, linewidth=0.6)
    for place, name in enumerate(confusion.names):
        say(axes, place + 0.5, -0.04, fitted(name, width - 4, SMALL), ha="center", va="bottom")
        say(axes, -0.05, place + 0.5, fitted(name, 130 if count > 2 else 64, SMALL), ha="right", va="center")
    say(axes, count / 2, count + 0.06, "predicted (across), observed (down)", ha="center", va="top")
    for counts, top, colour, filled in (
        (confusion.challenger, 0.02, CHALLENGER, True),
        (confusion.champion, 0.48, CHAMPION, False),
    ):
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        for down, across in np.ndindex(count, count):
            share = float(shares[down, across])
            if not confusion.challenger[down, across] and not confusion.champion[down, across]:
                continue
            left, face = across + 0.06, colour if filled else "none"
            bar = {"left": left, "height": 0.11, "color": face, "edgecolor": colour, "linewidth": 1}
            if counts[down, across]:
                axes.barh(down + top + 0.36, 0.88 * share, **bar)
            weight = "bold" if down == across else "normal"
            say(axes, left, down + top + 0.29, _percent(share), va="bottom", colour=colour, fontweight=weight)


def _percent(share: float) -> str:
    if 0 < share < 0.0005:
        return "< 0.1 %"
    return f"{share:.1%}".replace("%", " %") if share else "0"


def _told(confusion: _Confusion, rows: int) -> str:
    """The share of right answers, and the mistake that the challenger makes most often."""
    right, before = (float(np.trace(counts)) / rows for counts in (confusion.challenger, confusion.champion))
    wrong = confusion.challenger - np.diag(np.diag(confusion.challenger))
    down, across = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
    count, other = int(wrong[down, across]), int(confusion.champion[down, across])
    text = f"Right answers: {right:.1%}, champion {before:.1%}."
    if count:
        seen, taken = (shown(confusion.names[place]) for place in (down, across))
        text += f" Most often {seen} is taken for {taken}: {count:,} times, champion {other:,}."
    return text
