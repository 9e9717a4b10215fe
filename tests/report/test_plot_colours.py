"""Colours of plots: a plot must be read on a white page and on a dark one, since it has no ground of its own."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from cd4ml.report.plots import draw
from cd4ml.report.plots_canvas import COLOURS, INK
from tests.report import plots_world as world

GROUNDS = ("#ffffff", "#0d1117")
"""Of a page, light and dark, as GitHub and GitLab have it."""


def luminance(colours: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Relative luminance of sRGB colours, float64 (n, 3) from 0 to 1, as WCAG 2.2 defines it."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    return np.asarray(linear @ np.array([0.2126, 0.7152, 0.0722]))


def contrast(colours: npt.NDArray[np.float64], ground: str) -> npt.NDArray[np.float64]:
    """The contrast ratio of each colour to the ground, as WCAG 2.2 defines it."""
    one, two = luminance(colours), luminance(rgb(ground))
    return (np.maximum(one, two) + 0.05) / (np.minimum(one, two) + 0.05)


def rgb(colour: str) -> npt.NDArray[np.float64]:
    return np.array([[int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]])


def test_the_formula_gives_the_ends_that_wcag_states() -> None:
    assert contrast(rgb("#000000"), "#ffffff")[0] == pytest.approx(21)
    assert contrast(rgb("#777777"), "#ffffff")[0] == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("ground", GROUNDS)
@pytest.mark.parametrize("colour", COLOURS)
def test_every_colour_has_a_contrast_of_three_to_both_grounds(colour: str, ground: str) -> None:
    assert contrast(rgb(colour), ground)[0] >= 3


@pytest.mark.parametrize("ground", GROUNDS)
def test_text_has_a_contrast_of_four(ground: str) -> None:
    assert contrast(rgb(INK), ground)[0] >= 4


def test_so_has_every_pixel_that_covers_the_ground() -> None:
    plots = (
        *draw(world.review_of(), world.regression(), world.story_of(), world.importance_of(), world.CURVES),
        *draw(world.review_of(()), world.binary(), ()),
        *draw(world.review_of(()), world.multiclass(), ()),
    )
    for plot in plots:
        pixels = world.image_of(plot.png).pixels.reshape(-1, 4)
        covering = np.unique(pixels[pixels[:, 3] == 255][:, :3], axis=0)
        assert len(covering), plot.name
        for ground in GROUNDS:
            assert contrast(covering / 255, ground).min() >= 3, (plot.name, ground)
