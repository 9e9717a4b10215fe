"""The report as a forge shows it: the verdict first, the long parts folded, hostile text shown, never too long."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cd4ml.promotion.configuration import ConfigChange
from cd4ml.promotion.review import Interval, Merge, MetricJudged, Relative, Review, Verdict
from cd4ml.report.markdown import PlotLink, markdown_report
from cd4ml.report.review import one_line_verdict
from tests.golden_world import assert_golden
from tests.report import review_world as world
from tests.report.test_markup import LINKED, PARSER, Page, tags

PLOTS = (
    PlotLink("rmse over time", "rmse of 9 runs, this one the lowest", "https://forge.example/a/raw/c0ffee/story.png"),
    PlotLink("residuals", "residuals of both models", "https://forge.example/a/raw/c0ffee/residuals.png"),
)
WHOLE = "https://forge.example/acme/flights/blob/c0ffee/report.md"
OURS = {
    *("p", "code", "strong", "details", "summary", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "pre"),
    *("img", "a", "b"),
}


def first_line(review: Review) -> str:
    return markdown_report(review).split("\n")[0]


def page(text: str) -> Page:
    return Page(PARSER.render(text))


@pytest.mark.parametrize("name", ["better", "worse", "not_comparable", "take_main_in", "failed", "odd"])
def test_the_report_of_each_kind_is_golden(name: str) -> None:
    assert_golden(f"report/{name}.md", markdown_report(world.EVERY[name], plots=PLOTS, whole=WHOLE))


def test_the_report_of_hostile_names_is_golden() -> None:
    assert_golden("report/hostile.md", markdown_report(world.hostile("@octocat #1 | `x` <b> </details>\n/close")))


def test_the_report_of_what_is_far_too_large_is_golden() -> None:
    assert_golden("report/huge.md", markdown_report(world.huge(), whole=WHOLE, limit=12_000))


@pytest.mark.parametrize(
    ("name", "start", "end"),
    [
        (
            "better",
            "🟢 **Better**: `rmse` 16.43 → 13.25, -19.4 % (-3.18, 95 % interval -3.62 … -2.77)",
            "the merge result was judged",
        ),
        (
            "worse",
            "🔴 **Worse**: `rmse` 13.25 → 13.61, +2.7 % (+0.360, 95 % interval +0.180 … +0.550)",
            "the head was judged",
        ),
        ("no_difference", "⚪ **No real difference**: `rmse` 16.43 → 16.41", "the head was judged"),
        ("not_comparable", "🟡 **Not comparable**: 40 rows are left", "the merge result was judged"),
        ("take_main_in", "🔀 **Take main in first**: `cd4ml update exp/old`", "`conf/model/xgboost.yaml`"),
        ("failed", "⛔ **Failed** at validate because 1 of 14 expectations is not met", "the merge result was run"),
        ("pending", "⏳ **Pending**: nothing was run yet", ""),
        ("unverified", "⚠️ **Unverified**: `rmse` 16.43 → 13.25", "**a fork's code, not recorded**"),
    ],
)
def test_the_first_line_says_verdict_numbers_and_which_tree_was_judged(name: str, start: str, end: str) -> None:
    line = first_line(world.EVERY[name])
    assert line.startswith(start)
    assert line.endswith(end)


def test_gates_come_before_metrics_and_those_that_hold_it_back_stand_open_with_their_numbers() -> None:
    text = markdown_report(world.WORSE)
    opened = text.split("<details>")[0]
    assert "❌ **2 of 3 gates hold it back**. Merged all the same" in opened
    assert "- `slices`: 2 of 34: carrier HA, origin LGA (asked: no slice worse, beyond chance)" in opened
    assert opened.index("gates hold") < opened.index("| Metric |")
    assert "`rows`" not in opened
    assert "`rows`" in text


def test_slices_that_got_worse_and_expectations_that_failed_stand_open_though_the_whole_got_better() -> None:
    text = markdown_report(replace(world.BETTER, slices=world.SLICES))
    opened = text.split("<details>")[0]
    assert "**Worse on 2 of 34 slices**: `carrier` `HA` 21.40 → 27.95 (312 rows)" in opened
    assert "**1 of 14 expectations of the data not met** (warnings)" in opened


def test_everything_that_a_review_knows_is_told() -> None:
    review = replace(
        world.BETTER,
        slices=world.SLICES,
        relatives=(
            *world.BETTER.relatives,
            Relative("same", "r12", "exp/before", "discarded", "failed", "", None, "train: out of memory"),
        ),
        notes=("The champion was measured with an older split.",),
    )
    text = markdown_report(review, plots=PLOTS)
    for told in (
        "Delays are not linear in weather and hour.",
        "2,104 that the champion saw in training or validation",
        "used 7 times, this result included; the intervals that gates use are wider",
        "flights@v1.4.0",
        "better by 3.18; chance allows 2.45 to 3.94 better",
        '"xgboost.XGBRegressor"',
        "26,115 rows",
        "`weather` `wind_gust` changed: `int64` → `double`",
        "| `wind_gust` | 0.31, far | 79.0 % | 12.0 % |",
        "flights/ramp.py",
        "| `xgboost` | `3.1.0` | `3.2.0` |",
        "| training | 4.200 s | 31.70 s | × 7.548 |",
        "| prediction | 0.3100 µs a row | 4.400 µs a row |",
        "**Already run** as `r12` of `exp/before` (discarded): failed, train: out of memory",
        "`model.estimator.max_depth` `12`, here `6`",
        "The champion was measured with an older split.",
        "cd4ml reproduce rd1bb1df75933957fd1bb",
        f'<img src="{PLOTS[0].url}" alt="rmse of 9 runs, this one the lowest" width="820">',
        "`spec`, `code`, `data`",
    ):
        assert told in text, told


def test_what_is_long_is_folded_and_the_fold_says_how_much_it_is() -> None:
    text = markdown_report(world.BETTER)
    assert text.count("<details>") == text.count("</details>") == 11
    assert "<summary><b>Configuration</b>: 6 keys differ</summary>" in text
    assert "<summary><b>Data</b>: 1 source differs; the distribution of 2 columns moved, of 1 far</summary>" in text


def test_parameters_of_a_class_that_was_changed_for_another_come_behind_all_other_keys() -> None:
    text = markdown_report(world.BETTER)
    assert text.index("`seed`") < text.index("`model.estimator._target_`") < text.index("`model.estimator.alpha`")


@pytest.mark.parametrize("text", world.HOSTILE)
def test_hostile_text_adds_no_element_link_or_mention_wherever_it_stands(text: str) -> None:
    written = markdown_report(world.hostile(text), plots=(PlotLink(text, text, "no:address"),))
    shown = page(written)
    assert set(tags(shown)) <= OURS - {"img", "a"}
    assert all(not attributes or tag in ("th", "td", "code") for tag, attributes in shown.elements)
    assert not shown.other
    assert not LINKED.search(shown.open_text.replace("%", ""))
    assert shown.text.count("Worse: ") == 1
    assert written.count("\n<details>") == written.count("\n</details>") == tags(shown).count("details")
    assert not any(line.startswith(("/", "::", "##[")) for line in written.splitlines())


@pytest.mark.parametrize("verdict", ["take main in", "failed", "pending", "not comparable", "unverified"])
def test_hostile_text_in_the_first_line_of_any_verdict_is_text(verdict: Verdict) -> None:
    for text in world.HOSTILE:
        reason = f"failed at {text} because {text}" if verdict == "failed" else text
        merge = Merge((text, text) if verdict == "take main in" else ())
        hostile = replace(world.TAKE_MAIN_IN, branch=text, base=f"{text}~", primary=text, reason=reason, merge=merge)
        review = replace(hostile, verdict=verdict, metrics=(replace(world.METRICS[0], metric=text),))
        shown = page(first_line(review))
        assert set(tags(shown)) <= {"p", "strong", "code"}
        assert not LINKED.search(shown.open_text)
        assert not shown.other
        assert one_line_verdict(review).isprintable()


@settings(max_examples=20)
@given(st.text(max_size=60))
def test_no_text_adds_anything_to_the_elements_of_a_report(text: str) -> None:
    benign, shown = page(markdown_report(world.hostile("x"))), page(markdown_report(world.hostile(f"x{text}")))
    assert [tag for tag in tags(shown) if tag != "code"] == [tag for tag in tags(benign) if tag != "code"]


def test_numbers_that_are_missing_infinite_tiny_or_huge_are_readable() -> None:
    text = markdown_report(world.ODD)
    assert "| **`rmse`** ↓ | 1.000e-12 | 1.000e+20 | +1.000e+20 (+1.0e+34 %) | -inf … +inf | unknown |" in text
    assert "| `mae` ↓ | nan | 10.25 | – | – | unknown |" in text
    assert "| `r2` ↑ | – | inf | – | – | unknown |" in text


def test_a_primary_metric_that_was_measured_on_one_side_only_leaves_the_reason() -> None:
    review = replace(world.BETTER, metrics=(MetricJudged("rmse", "minimize", None, 13.25),))
    assert first_line(review) == (
        "🟢 **Better**: rmse on the test side is better, by more than chance explains; the merge result was judged"
    )


def test_a_metric_without_an_interval_is_told_without_one() -> None:
    review = replace(world.BETTER, metrics=(replace(world.METRICS[0], interval=None, relative=None),))
    assert "`rmse` 16.43 → 13.25 (-3.18); the merge" in first_line(review)


def test_another_confidence_is_named_where_its_interval_stands() -> None:
    review = replace(world.BETTER, confidence=0.9, metrics=(replace(world.METRICS[0], interval=Interval(-1, 1)),))
    text = markdown_report(review)
    assert "90 % interval -1.00 … +1.00" in text
    assert "| 90 % interval |" in text


@pytest.mark.parametrize("limit", [65_000, 8_000, 700, 300, 40, 0])
def test_a_report_is_never_longer_than_its_limit_and_is_still_whole_markdown(limit: int) -> None:
    text = markdown_report(world.huge(), plots=PLOTS, whole=WHOLE, limit=limit)
    assert len(text) <= limit
    shown = page(text)
    assert set(tags(shown)) <= OURS
    assert text.count("<details>") == text.count("</details>")
    if limit >= 300:
        assert "Shortened to fit" in text


def test_of_what_is_cut_the_number_is_told_and_the_whole_is_linked() -> None:
    text = markdown_report(world.huge(), whole=WHOLE)
    assert "<summary><b>Configuration</b>: 10,000 keys differ</summary>" in text
    assert "… and 9,950 more" in text
    assert f'Shortened to fit: <a href="{WHOLE}">the whole report</a>' in text
    assert len(text) > 30_000


def test_the_last_sections_lose_their_rows_before_the_first() -> None:
    text = markdown_report(world.huge(), limit=12_000)
    assert "<summary><b>Gates</b>: 0 of 200 passed</summary>" in text
    assert "- **Environment**: 2,000 packages differ" in text


def test_what_fits_is_not_cut() -> None:
    names = tuple(f"key_{number}" for number in range(150))
    changes = tuple(replace(world.CONFIG[-1], key=name) for name in names)
    text = markdown_report(replace(world.BETTER, config=changes), whole=WHOLE)
    assert all(f"`{name}`" in text for name in names)
    assert "Shortened" not in text
    assert f'<a href="{WHOLE}">The whole report</a>' in text


def test_a_change_of_the_ruler_itself_stands_open() -> None:
    keys = ("split.test_from", "evaluation.primary")
    moved = replace(world.BETTER, config=tuple(ConfigChange(key, "changed", 1, 2) for key in keys))
    text = markdown_report(moved).partition("<details>")[0]
    assert "Merging changes which rows are the test side" in text
    assert "Merging changes which metric ranks" in text


def test_where_no_gate_was_asked_nothing_is_said_of_promotion() -> None:
    assert "promote" not in markdown_report(replace(world.BETTER, gates=())).partition("<details>")[0]
