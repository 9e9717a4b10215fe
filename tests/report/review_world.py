"""Reviews to render: of each verdict one, one in which every text is hostile, one that is far too large."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

from cd4ml.promotion.configuration import ConfigChange
from cd4ml.promotion.inputs import ColumnChange, DataChange, FileChange, PackageChange
from cd4ml.promotion.review import (
    ColumnMoved,
    CostRow,
    ExpectationTold,
    Gate,
    Interval,
    Merge,
    MetricJudged,
    Relative,
    Review,
    Ruler,
    RunTold,
    SliceJudged,
)

HOSTILE = (
    "@octocat",
    "@acme/owners please",
    "#123",
    "GH-12",
    "acme/flights#7",
    "a5c3785ed8d6a35868bc169f07e40e889087fd2e",
    "deadbeef",
    "https://evil.example/?a=b&c=d",
    "www.evil.example",
    "someone@evil.example",
    "`code` ``more`` ```",
    "a|b \\| c \\\\| d",
    "line\n/close\n/approve",
    "\r\n# heading\r\n\r\n- item",
    "\u202egnp.exe \u200bhidden",
    "</details></summary></table></code></pre>",
    "<!-- cd4ml:report:other -->",
    "--> <script>alert(1)</script> <!--",
    "![pixel](https://evil.example/p.png)",
    '<img src="https://evil.example/p.png" onerror=alert(1)>',
    "[link](https://evil.example)",
    "[ref]: https://evil.example",
    "::set-output name=a::b",
    "::add-mask::1",
    "##[add-mask]1",
    "${{ github.token }}",
    "{{ review.branch }} {% raw %}",
    ":tada: :+1:",
    "$math$ $$more$$ $`inline`$",
    "~~gone~~ **loud** __loud__ *thin* _thin_",
    "[^1]",
    "[^1]: note",
    "&amp; &lt;b&gt; &#64;octocat &nbsp;",
    "!12 &3 %milestone ~label $snippet /close *iteration:1 [vulnerability:1]",
    "/approve",
    "{+ added +} {- gone -} [[_TOC_]] [TOC]",
    "#0969da",
    "    indented",
    "> quoted",
    "1. one",
    "---",
    "===",
    "| a | b |",
    " ",
    "",
    "\\",
    "`",
    "עברית 1 → 2",
    "\ud800",
    "\x1b[31mred",
    "e\u0301 日本 ß",
    "a" * 200,
)
"""Texts that would be markup, a link, a mention, a command or invisible if they were not shown as text."""

_DIGITS = "0123456789abcdef"


def digits(seed: int, length: int = 40) -> str:
    """Hex digits that look like a digest."""
    return "".join(_DIGITS[(seed * 7 + place * place * 3 + place) % 16] for place in range(length))


def run(seed: int, branch: str, model: str, **changed: str) -> RunTold:
    """A run in short."""
    told = RunTold(
        f"r{digits(seed, 20)}", digits(seed + 1, 64), digits(seed + 2), branch, "2026-11-02T09:30:00Z", model
    )
    return replace(told, **changed)


RULER = Ruler(
    digits(3, 64), declared=54_612, rows=52_380, min_rows=1000, seen_by_champion=2_104, not_predicted=128, uses=7
)

METRICS = (
    MetricJudged(
        "rmse",
        "minimize",
        16.43,
        13.25,
        -3.18,
        -0.1936,
        Interval(-3.62, -2.77),
        Interval(-3.94, -2.45),
        "better",
        16.51,
        16.43,
    ),
    MetricJudged(
        "mae",
        "minimize",
        12.21,
        10.25,
        -1.96,
        -0.1605,
        Interval(-2.13, -1.80),
        Interval(-2.27, -1.67),
        "better",
        12.24,
        12.21,
    ),
    MetricJudged(
        "r2",
        "maximize",
        0.8273,
        0.8875,
        0.0602,
        0.0728,
        Interval(0.0489, 0.0713),
        Interval(0.0401, 0.0798),
        "better",
        0.8261,
        0.8273,
    ),
    MetricJudged("minutes_lost", "minimize", 1840.0, 1838.5, -1.5, -0.0008, None, None, "unknown"),
)

GATES = (
    Gate("rows", "at least 1,000 test rows that both were scored on", "52,380", "passed"),
    Gate(
        "rmse",
        "better, beyond chance, and by at least 0.5",
        "better by 3.18; chance allows 2.45 to 3.94 better, corrected for 7 uses of this test side",
        "passed",
    ),
    Gate("mae", "worse by at most 0.2", "better by 1.96", "passed"),
    Gate("training", "at most 600 seconds", "31.7 seconds", "passed"),
)

SLICES = (
    SliceJudged("carrier", "HA", 312, "rmse", 21.40, 27.95, 6.55, Interval(2.31, 10.8), "worse"),
    SliceJudged("origin", "LGA", 16_204, "rmse", 12.10, 12.62, 0.52, Interval(0.11, 0.94), "worse"),
)

CONFIG = (
    ConfigChange("model.estimator._target_", "changed", "sklearn.linear_model.Ridge", "xgboost.XGBRegressor"),
    ConfigChange("model.estimator.alpha", "removed", 1.0, None),
    ConfigChange("model.estimator.max_depth", "added", None, 6),
    ConfigChange("model.estimator.n_estimators", "added", None, 400),
    ConfigChange("features.numeric", "changed", ["dep_delay", "distance"], ["dep_delay", "distance", "wind_gust"]),
    ConfigChange("seed", "changed", 20130101, 3),
)

CHALLENGER = run(11, "exp/boosting", digits(4, 64))
CHAMPION = run(12, "main", digits(5, 64))

BETTER = Review(
    branch="exp/boosting",
    base="main",
    commit=digits(21),
    base_commit=digits(22),
    judged="merge",
    verdict="better",
    reason="rmse on the test side is better, by more than chance explains",
    name="boosting",
    hypothesis="Delays are not linear in weather and hour.",
    author="Ada",
    challenger=CHALLENGER,
    champion=CHAMPION,
    merge_base=run(13, "main", digits(5, 64), finished="2026-10-28T17:05:00Z"),
    production=run(12, "main", digits(5, 64), release="flights@v1.4.0", environment="production"),
    primary="rmse",
    ruler=RULER,
    metrics=METRICS,
    gates=GATES,
    slices_looked_at=34,
    config=CONFIG,
    data=(
        DataChange(
            "weather",
            "changed",
            digits(31, 64),
            digits(32, 64),
            26_115,
            26_130,
            (
                ColumnChange("wind_gust", "changed", "int64", "double"),
                ColumnChange("pressure", "added", None, "double"),
            ),
        ),
    ),
    moved=(ColumnMoved("wind_gust", 0.31, 0.79, 0.12), ColumnMoved("visib", 0.14, 0.0, 0.002)),
    code=(FileChange("flights/ramp.py", "added", 18, 0), FileChange("flights/__init__.py", "changed", 2, 1)),
    environment=(PackageChange("xgboost", "changed", "3.1.0", "3.2.0"),),
    expectations=(ExpectationTold("expect_column_values_to_not_be_null", "wind_gust", "warning"),),
    expectations_asked=14,
    merge=Merge(promotes=True, trains=False, moves=("spec", "code", "data")),
    cost=(
        CostRow("training", "seconds", 4.2, 31.7),
        CostRow("peak memory", "bytes", 412e6, 655e6),
        CostRow("model", "bytes", 18_400.0, 1_263_000.0),
        CostRow("prediction", "seconds/row", 3.1e-7, 4.4e-6),
    ),
    relatives=(
        Relative(
            "near",
            f"r{digits(41, 20)}",
            "exp/boosting-deep",
            "discarded",
            "succeeded",
            "2026-10-30T11:00:00Z",
            13.41,
            key="model.estimator.max_depth",
            here=6,
            there=12,
        ),
    ),
    reproduce=f"cd4ml reproduce r{digits(11, 20)}",
)

WORSE = replace(
    BETTER,
    branch="exp/flat",
    judged="head",
    verdict="worse",
    reason="rmse on the test side is worse, by more than chance explains",
    hypothesis="Fewer trees are enough.",
    metrics=(
        MetricJudged(
            "rmse",
            "minimize",
            13.25,
            13.61,
            0.36,
            0.0272,
            Interval(0.18, 0.55),
            Interval(0.11, 0.62),
            "worse",
        ),
        MetricJudged(
            "mae",
            "minimize",
            10.25,
            10.11,
            -0.14,
            -0.0137,
            Interval(-0.31, 0.02),
            Interval(-0.37, 0.08),
            "no real difference",
        ),
    ),
    gates=(
        GATES[0],
        Gate(
            "rmse",
            "better, beyond chance",
            "worse by 0.36; chance allows 0.11 to 0.62 worse, corrected for 7 uses of this test side",
            "held",
        ),
        Gate("slices", "no slice worse, beyond chance", "2 of 34: carrier HA, origin LGA", "held"),
    ),
    slices=SLICES,
    data=(),
    moved=(),
    code=(),
    environment=(),
    expectations=(),
    merge=Merge(promotes=False, trains=False, moves=("spec",)),
    production=None,
    merge_base=None,
)

NO_DIFFERENCE = replace(
    WORSE,
    branch="exp/seed",
    verdict="no real difference",
    reason="the change of rmse is within what chance explains",
    metrics=(replace(METRICS[0], challenger=16.41, change=-0.02, relative=-0.0012, interval=Interval(-0.2, 0.16)),),
    slices=(),
)

NOT_COMPARABLE = replace(
    BETTER,
    branch="exp/later",
    verdict="not comparable",
    reason="40 rows are left that neither model saw, fewer than 1,000",
    ruler=replace(RULER, rows=40, seen_by_champion=40_100, seen_by_challenger=14_344),
    metrics=(MetricJudged("rmse", "minimize", None, None),),
    gates=(replace(GATES[0], measured="40", outcome="held"),),
    merge=Merge(promotes=False, trains=False, moves=("data",)),
)

TAKE_MAIN_IN = Review(
    branch="exp/old",
    base="main",
    commit=digits(51),
    base_commit=digits(22),
    judged="head",
    verdict="take main in",
    reason="conf/experiment/old.yaml and conf/model/xgboost.yaml conflict with main",
    name="old",
    hypothesis="An older idea.",
    champion=CHAMPION,
    primary="rmse",
    merge=Merge(conflicts=("conf/experiment/old.yaml", "conf/model/xgboost.yaml")),
)

FAILED = replace(
    TAKE_MAIN_IN,
    branch="exp/gusts",
    judged="merge",
    verdict="failed",
    reason="failed at validate because 1 of 14 expectations is not met",
    name="gusts",
    hypothesis="Gusts explain late arrivals.",
    challenger=run(14, "exp/gusts", ""),
    expectations=(ExpectationTold("expect_column_values_to_not_be_null", "wind_gust", "critical"),),
    expectations_asked=14,
    merge=Merge(moves=("spec",)),
    config=CONFIG[:1],
    reproduce=f"cd4ml reproduce r{digits(14, 20)}",
)

PENDING = replace(TAKE_MAIN_IN, branch="exp/new", verdict="pending", reason="nothing was run yet", merge=Merge())

UNVERIFIED = replace(
    BETTER,
    branch="patch-1",
    verdict="unverified",
    judged="head",
    reason="the code of a fork was run without rights, and nothing of it was recorded",
    gates=(),
    relatives=(),
)

ODD = replace(
    BETTER,
    metrics=(
        MetricJudged("rmse", "minimize", 1e-12, 1e20, 1e20, 1e32, Interval(-math.inf, math.inf)),
        MetricJudged("mae", "minimize", math.nan, 10.25),
        MetricJudged("r2", "maximize", None, math.inf),
        MetricJudged(
            "auc", None, 0.0, 0.0, 0.0, math.nan, Interval(0.0, 0.0), Interval(0.0, 0.0), "no real difference"
        ),
    ),
    cost=(CostRow("model", "bytes", None, 1e20), CostRow("training", "seconds", math.nan, 1e-12)),
    ruler=Ruler(digits(3, 64), declared=1, rows=1, min_rows=0),
)


def hostile(text: str) -> Review:
    """A review with ``text`` wherever text from outside can stand."""
    told = RunTold(text, text, text, text, text, text, text, text)
    judged = replace(METRICS[0], metric=text)
    return Review(
        branch=text,
        base=f"{text}~",
        commit=text,
        base_commit=text,
        judged="merge",
        verdict="worse",
        reason=text,
        name=text,
        hypothesis=text,
        author=text,
        challenger=told,
        champion=told,
        merge_base=told,
        production=told,
        primary=text,
        ruler=replace(RULER, digest=text, matched_by=(text,)),
        metrics=(judged, judged),
        gates=(Gate(text, text, text, "held"), Gate(text, text, text, "passed")),
        slices=(SliceJudged(text, text, 3, text, 1.0, 2.0, 1.0, Interval(0.5, 1.5), "worse"),) * 2,
        slices_looked_at=9,
        config=(
            ConfigChange(text, "changed", text, {text: [text]}),
            ConfigChange(f"{text}._target_", "changed", text, text),
            ConfigChange(text, "added", None, text),
            ConfigChange(text, "removed", text, None),
        ),
        data=(DataChange(text, "changed", text, text, 1, None, (ColumnChange(text, "changed", text, text),)),),
        moved=(ColumnMoved(text, 0.4, 0.1, 0.2),),
        code=(FileChange(text, "changed", 1, 2), FileChange(text, "added")),
        environment=(PackageChange(text, "changed", text, text),),
        expectations=(ExpectationTold(text, text, "critical"),),
        expectations_asked=2,
        merge=Merge((text, text), False, True, (text,), (ConfigChange(text, "changed", text, [text]),), (text,)),
        cost=(CostRow(text, "seconds", 1.0, 2.0), CostRow(text, text, 1.0, 2.0)),
        relatives=(
            Relative("same", text, text, text, "failed", text, None, text),
            Relative("near", text, text, text, "succeeded", text, 1.0, "", text, text, {text: text}),
        ),
        reproduce=f"cd4ml reproduce {text}",
        notes=(text, text),
    )


@cache
def huge() -> Review:
    """500 metrics and 10,000 changed keys, with names of 200 characters."""
    names = [f"{number:05}_{'long_name_' * 20}"[:200] for number in range(10_000)]
    metrics = tuple(replace(METRICS[0], metric=name) for name in names[:500])
    return replace(
        BETTER,
        primary=names[0],
        metrics=metrics,
        gates=tuple(replace(GATES[0], name=name, outcome="held") for name in names[:200]),
        slices=tuple(replace(SLICES[0], value=name) for name in names[:500]),
        config=tuple(ConfigChange(name, "changed", number, name) for number, name in enumerate(names)),
        moved=tuple(ColumnMoved(name, 0.4, 0.0, 0.1) for name in names[:2000]),
        code=tuple(FileChange(name, "changed", 1, 1) for name in names[:2000]),
        environment=tuple(PackageChange(name, "changed", "1", "2") for name in names[:2000]),
        expectations=tuple(ExpectationTold("expect", name, "warning") for name in names[:2000]),
        relatives=tuple(replace(BETTER.relatives[0], key=name) for name in names[:500]),
        notes=tuple(names[:50]),
        branch=names[0],
        reason=names[0] * 10,
        hypothesis="word " * 20_000,
    )


EVERY = {
    "better": BETTER,
    "worse": WORSE,
    "no_difference": NO_DIFFERENCE,
    "not_comparable": NOT_COMPARABLE,
    "take_main_in": TAKE_MAIN_IN,
    "failed": FAILED,
    "pending": PENDING,
    "unverified": UNVERIFIED,
    "odd": ODD,
}
"""One of each kind, by a short name."""
