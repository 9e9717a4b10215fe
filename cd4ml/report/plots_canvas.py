"""What every plot of a report is drawn with: colours, type, panels in pixels, and a PNG with always the same bytes.

The ground is transparent, so that a plot lies on whatever page it is shown on. Each colour therefore has a contrast of
at least 3 to white and to the dark grey of forges alike, text one of 4; and whatever a colour tells, a shape tells too.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import logging
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cd4ml.report.visible import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

INK = "#737a83"
CHALLENGER = "#2c7be5"
CHAMPION = "#c9690b"
COLOURS = (INK, CHALLENGER, CHAMPION)
"""All that is used. Text is written in any of them, lines and dots are drawn in any of them."""

WIDTH = 820
"""Of a plot as it is shown, in pixels: about what a comment on a forge has."""

DENSITY = 2
"""Pixels of the PNG for a pixel as it is shown: screens have that many."""

TITLE, TEXT, SMALL = 14, 12, 11
"""Heights of type as it is shown, in pixels."""

HUGE = 1e100
"""A number beyond it is not drawn: differences of such numbers have no place in a float."""

_INCH = 100
_FONT = "DejaVu Sans"
_SAME = 1e-9
_STYLE: Mapping[str, Any] = {
    "font.family": [_FONT],
    "text.parse_math": False,
    "text.usetex": False,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.labelpad": 3.0,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": SMALL * 72 / _INCH,
    "ytick.labelsize": SMALL * 72 / _INCH,
    "axes.labelsize": SMALL * 72 / _INCH,
    "path.simplify_threshold": 0.5,
    "agg.path.chunksize": 0,
}


@dataclass
class Sheet:
    """One plot in the making: ``height`` pixels as it is shown, ``WIDTH`` wide."""

    height: int
    figure: Figure = field(init=False)

    def __post_init__(self) -> None:
        from matplotlib.figure import Figure

        self.figure = Figure(figsize=(WIDTH / _INCH, self.height / _INCH), dpi=_INCH)

    def panel(self, left: float, top: float, width: float, height: float) -> Axes:
        """Axes whose inner frame is at these pixels, counted from the upper left corner."""
        below = self.height - top - height
        return self.figure.add_axes((left / WIDTH, below / self.height, width / WIDTH, height / self.height))

    def write(self, left: float, top: float, text: str, *, size: float = TEXT, colour: str = INK, **how: Any) -> None:
        """Text whose upper left corner is at these pixels."""
        how = {"ha": "left", "va": "top", **how}
        place = (left / WIDTH, 1 - top / self.height)
        self.figure.text(*place, text, color=colour, fontsize=points(size), parse_math=False, **how)

    def title(self, text: str) -> None:
        """What is to be seen, at the top."""
        self.write(12, 8, text, size=TITLE, fontweight="bold")

    def key(self, top: float, challenger: str = "challenger", champion: str = "champion", left: float = 12) -> None:
        """Which mark is whose: two words with their marks before them."""
        from matplotlib.lines import Line2D

        for mark, name in (("challenger", challenger), ("champion", champion)):
            if not name:
                continue
            style = CHALLENGER_LINE if mark == "challenger" else CHAMPION_LINE
            x, y = ((left + 2) / WIDTH, (left + 26) / WIDTH), (1 - (top + 7) / self.height,) * 2
            line = Line2D(x, y, transform=self.figure.transFigure, **{**style, "markersize": 5})
            self.figure.add_artist(line)
            self.write(left + 34, top, name, size=SMALL, colour=str(style["color"]))
            left += 34 + 7.2 * len(name) + 26

    def png(self) -> bytes:
        """The bytes of the image: a function of what was drawn, with no name, date or version in it."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        FigureCanvasAgg(self.figure)
        stream = io.BytesIO()
        self.figure.savefig(
            stream,
            format="png",
            dpi=_INCH * DENSITY,
            transparent=True,
            metadata={"Software": None},
            pil_kwargs={"compress_level": 4},
        )
        return stream.getvalue()


CHALLENGER_LINE: Mapping[str, Any] = {"color": CHALLENGER, "linestyle": "-", "linewidth": 1.6, "marker": "o"}
CHAMPION_LINE: Mapping[str, Any] = {
    "color": CHAMPION,
    "linestyle": (0, (4, 2)),
    "linewidth": 1.6,
    "marker": "s",
    "markerfacecolor": "none",
}


def points(pixels: float) -> float:
    """A height of type in pixels as matplotlib counts it."""
    return pixels * 72 / _INCH


def say(axes: Axes, x: float, y: float, text: str, *, size: float = SMALL, colour: str = INK, **how: Any) -> None:
    """Text in a panel, at a place in its own coordinates; not cut off at its frame."""
    axes.text(x, y, text, fontsize=points(size), color=colour, parse_math=False, clip_on=False, **how)


def rule(axes: Axes, *, across: bool = True, along: bool = False) -> None:
    """Thin dotted lines at the ticks of one axis or of both."""
    for axis, wanted in ((axes.yaxis, across), (axes.xaxis, along)):
        if wanted:
            axis.grid(visible=True, color=INK, linestyle=(0, (1, 5)), linewidth=0.7)
    axes.set_axisbelow(True)


def frame(axes: Axes, x: tuple[float, float], y: tuple[float, float], ticks: tuple[int, int] = (5, 5)) -> None:
    """The limits of a panel, and about so many ticks on each axis (0: none)."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlim(*x)
    axes.set_ylim(*y)
    for axis, limits, count in ((axes.xaxis, x, ticks[0]), (axes.yaxis, y, ticks[1])):
        low, high = sorted(limits)
        places = MaxNLocator(count, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high) if count else ()
        inside = [float(place) for place in places if low <= place <= high]
        mark(axis, inside, numbers(inside))
    axes.tick_params(length=3)


def mark(axis: Axis, places: Sequence[float], labels: Sequence[str]) -> None:
    """Ticks at these places of an axis, with these words."""
    from matplotlib.ticker import FixedFormatter, FixedLocator

    axis.set_major_locator(FixedLocator(places))
    axis.set_major_formatter(FixedFormatter(labels))


def numbers(values: Sequence[float]) -> list[str]:
    """The ticks of one axis, all with as many decimals as tell them apart; far from 1, with an exponent."""
    largest = max(map(abs, values), default=0.0)
    if not largest:
        return ["0"] * len(values)
    near = 1e-4 <= largest < 1e7
    for digits in range(7):
        texts = [f"{value + 0.0:,.{digits}f}" if near else f"{value + 0.0:.{digits}e}" for value in values]
        if all(
            abs(float(text.replace(",", "")) - value) < 1e-6 * largest
            for text, value in zip(texts, values, strict=True)
        ):
            break
    return ["0" if not value else text.replace("-", "−") for text, value in zip(texts, values, strict=True)]


def span(values: Sequence[float], margin: float = 0.05) -> tuple[float, float]:
    """Limits for an axis with all these finite numbers on it, and some room at both ends."""
    low, high = min(values), max(values)
    room = (high - low) * margin
    if high - low <= _SAME * max(abs(low), abs(high)) or high - low < 1.0 / HUGE:  # the same, for all that can be seen
        room = 0.1 * abs(low) if abs(low) > 1.0 / HUGE else 1.0
    return low - room, high + room


def shown(text: object, most: int = 28) -> str:
    """Text from outside on one line, cut to ``most`` characters; what has no glyph in a plot is escaped."""
    return _cut(text, most, lambda _: 1.0)


def fitted(text: object, pixels: float, size: float = TEXT) -> str:
    """The same, cut to what ``pixels`` of width hold in type of that size."""
    advances = _advances()
    return _cut(text, pixels / size, lambda character: _BOLD * advances[ord(character)])


def _cut(text: object, room: float, width: Callable[[str], float]) -> str:
    known, end = _advances(), width("…")
    kept: list[str] = []
    used, fits = 0.0, 0  # how many parts would leave room for the dots
    for character in visible(text):
        part = character if ord(character) in known else f"\\u{ord(character):04x}"
        used += sum(map(width, part))
        if used > room:
            return "".join(kept[:fits]) + "…"
        kept.append(part)
        fits = len(kept) if used + end <= room else fits
    return "".join(kept)


def _advances() -> Mapping[int, float]:
    """By character, how wide its glyph is, as a share of the size of type; those that have none are missing."""
    if not _KNOWN:
        from matplotlib.font_manager import FontProperties, findfont, get_font

        font = get_font(findfont(FontProperties(family=[_FONT])))
        font.set_size(_UNITS, 72)
        _KNOWN.update({code: font.load_char(code).linearHoriAdvance / 65536 / _UNITS for code in font.get_charmap()})
    return _KNOWN


_BOLD = 1.13
"""How much wider bold type is; all is measured as if it were."""

_UNITS = 64.0
_KNOWN: dict[int, float] = {}


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """Inside, plots look as above, whatever a ``matplotlibrc`` of a user or a folder says; afterwards as before."""
    matplotlib = _matplotlib()
    with matplotlib.rc_context():
        kept = {name: value for name, value in matplotlib.rcParamsDefault.items() if not name.startswith("backend")}
        matplotlib.rcParams.update({**kept, **_STYLE})
        yield


def _matplotlib() -> Any:
    """Import matplotlib without a word, and with a list of fonts that it keeps in no one's home."""
    if "matplotlib.font_manager" in sys.modules:
        import matplotlib

        return matplotlib
    logger = logging.getLogger("matplotlib")
    muted, before = logger.disabled, os.environ.get("MPLCONFIGDIR")
    logger.disabled = True
    try:
        if before is None:
            os.environ["MPLCONFIGDIR"] = str(private_folder())
        import matplotlib
        import matplotlib.backends.backend_agg
        import matplotlib.font_manager
    finally:
        logger.disabled = muted
        if before is None:
            os.environ.pop("MPLCONFIGDIR", None)
    return matplotlib


def private_folder() -> Path:
    """A folder of this user's alone, among the temporary ones and found again, that matplotlib may write to.

    Where somebody else has made one of that name, a new one is made.
    """
    path = Path(tempfile.gettempdir()) / f"cd4ml-matplotlib-{os.getuid()}"
    with contextlib.suppress(OSError):
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077:
            return path
    fresh = tempfile.mkdtemp(prefix="cd4ml-matplotlib-")
    atexit.register(shutil.rmtree, fresh, ignore_errors=True)
    return Path(fresh)
