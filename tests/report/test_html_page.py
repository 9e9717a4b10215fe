"""The report as one page: it needs nothing else, and nothing that a review holds becomes a part of it."""

from __future__ import annotations

import base64
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cd4ml.report.html_page import html_report
from cd4ml.report.markup import seen
from cd4ml.report.plots import Plot
from tests.report import review_world as world
from tests.report.test_markup import Page, tags

PNG = b"\x89PNG\r\n\x1a\n"
PLOTS = (Plot("story", "rmse over time", "rmse of 9 runs", PNG),)


def page(html: str) -> Page:
    return Page(html)


@pytest.mark.parametrize("name", sorted(world.EVERY))
def test_the_page_loads_nothing_runs_nothing_and_forbids_both(name: str) -> None:
    shown = page(html_report(world.EVERY[name], PLOTS))
    policy = dict(next(attributes for tag, attributes in shown.elements if dict(attributes).get("http-equiv")))
    assert str(policy["content"]).startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")
    assert not {"script", "link", "iframe", "a", "form", "object", "base", "svg"} & set(tags(shown))
    for tag, attributes in shown.elements:
        for key, value in attributes:
            assert not key.startswith("on")
            assert key not in ("href", "style", "srcset", "background")
            assert key != "src" or (tag == "img" and str(value).startswith("data:image/png;base64,"))
    assert "url(" not in html_report(world.EVERY[name], ())


def test_plots_are_in_the_page_with_their_words() -> None:
    html = html_report(world.BETTER, PLOTS)
    assert f'src="data:image/png;base64,{base64.b64encode(PNG).decode()}" alt="rmse of 9 runs" width="820"' in html


def test_the_verdict_is_the_heading_and_every_section_is_there() -> None:
    html = html_report(world.BETTER, ())
    (heading,) = re.findall(r"<h1>(.*?)</h1>", html, re.DOTALL)
    told = " ".join(Page(heading).text.split())
    assert (
        told
        == "▲ Better: rmse 16.43 → 13.25, -19.4 % (-3.18, 95 % interval -3.62 … -2.77); the merge result was judged"
    )
    assert html.count("<details>") == html.count("</details>") == 11
    assert "prefers-color-scheme: dark" in html


def test_tables_name_their_columns_and_rows_for_those_who_hear_them() -> None:
    html = html_report(world.BETTER, ())
    shown = page(html)
    scopes = [dict(attributes).get("scope") for tag, attributes in shown.elements if tag == "th"]
    assert set(scopes) == {"col", "row"}
    assert dict(shown.elements[0][1])["lang"] == "en"


def test_nothing_is_cut() -> None:
    review = world.huge()
    html = html_report(replace(review, config=review.config[:300]), ())
    assert all(change.key in html for change in review.config[:300])


@pytest.mark.parametrize("text", world.HOSTILE)
def test_hostile_text_is_text_in_the_page(text: str) -> None:
    same_shape(text)


@settings(max_examples=20)
@given(st.text())
def test_any_text_is_text_in_the_page(text: str) -> None:
    same_shape(text)


def same_shape(text: str) -> None:
    """With any text the page has the elements and attributes that it has with a harmless one, and shows the text."""
    plots = (Plot("p", text, text, PNG),)
    benign, shown = page(html_report(world.hostile("x"), ())), page(html_report(world.hostile(text or "x"), ()))
    assert tags(page(html_report(world.hostile("x"), plots))).count("img") == 1
    kept = [(tag, attributes) for tag, attributes in shown.elements if tag not in ("ul", "li", "p")]
    assert kept == [(tag, attributes) for tag, attributes in benign.elements if tag not in ("ul", "li", "p")]
    assert not [one for one in shown.other if one != "doctype html"]
    assert seen(text or "x", 1 << 30) in shown.text
