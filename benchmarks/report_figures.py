"""How often a report is wrong, and how long its statistics take: the figures of ``docs/benchmarks.md``, "Report".

Run it from the root of a checkout, on one thread::

    OMP_NUM_THREADS=1 PYTHONPATH=. .venv/bin/python benchmarks/report_figures.py

Simulated, from fixed seeds:

* pairs of equal models whose errors have half in common: how often *better* or *worse* is said of one metric at a
  confidence of 95 %. 5 % is meant; with 1,000 pairs, 2.6 % of it is the width of chance itself;
* families of 200 equal challengers of one champion on one test side: in how many the gate on the primary metric lets
  even one through, and in how many somebody is called better, which is not corrected for;
* challengers that are 5 % worse on 10,000 rows: how many are called worse.

Timed: 50 metrics, 100,000 rows, 2,000 resamples (a task has about ten metrics, so each is computed several times over
and nothing is kept between), beside a bootstrap that draws rows and computes each metric of them with NumPy. That
one's time is measured on a few resamples and scaled; its standard errors are held against ours. Times are seconds of
the processor, which what else runs on the machine hardly changes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cd4ml.promotion.judgement import judge
from cd4ml.promotion.paired import Paired, Said
from cd4ml.spec.metrics import DIRECTIONS, TASKS, metrics_of
from tests.promotion.judging_world import (
    better_or_passed,
    equal_classifiers,
    equal_regressors,
    equally_precise,
    family,
    judged,
    planted_drop,
    policy,
)

Floats = npt.NDArray[np.float64]
EQUAL: tuple[tuple[str, int, tuple[str, ...], Callable[[int, int], Paired]], ...] = (
    ("normal errors", 1000, ("rmse", "mae", "medae", "r2", "smape"), equal_regressors),
    ("normal errors", 200, ("rmse", "mae", "medae", "r2", "smape"), equal_regressors),
    ("errors of t, 3 degrees of freedom", 1000, ("rmse", "mae", "medae"), lambda s, n: equal_regressors(s, n, True)),
    ("two classes, 30 % positive", 1000, metrics_of("binary"), equal_classifiers),
    ("two classes, 30 % positive", 200, metrics_of("binary"), equal_classifiers),
    ("two classes, 3 % positive", 1000, metrics_of("binary"), lambda s, n: equal_classifiers(s, n, 0.03)),
    ("8 predicted positive, 80 % right", 1000, ("precision",), lambda s, n: equally_precise(s, n, 8, 0.8)),
    ("30 predicted positive, 95 % right", 1000, ("precision",), lambda s, n: equally_precise(s, n, 30, 0.95)),
    ("30 predicted positive, 50 % right", 1000, ("precision",), lambda s, n: equally_precise(s, n, 30, 0.5)),
)


def say(line: str) -> None:
    print(line, flush=True)  # noqa: T201  # a script's output


def false_claims(pairs: int) -> None:
    """The share of pairs of equal models of which a metric is called better or worse."""
    say("| equal models | rows | metric | better or worse said | no interval |\n|---|---:|---|---:|---:|")
    for what, rows, metrics, made in EQUAL:
        claimed, silent = dict.fromkeys(metrics, 0), dict.fromkeys(metrics, 0)
        for seed in range(pairs):
            for one in judged(made(seed, rows), metrics[0], metrics).metrics:
                claimed[one.metric] += one.standing in ("better", "worse")
                silent[one.metric] += one.standing == "unknown"
        for name in metrics:
            say(f"| {what} | {rows:,} | {name} | {claimed[name] / pairs:.1%} | {silent[name] / pairs:.1%} |")


def families(count: int, members: int, rows: int) -> None:
    """The share of families in which a gate passes an equal challenger, and in which one is called better."""
    asked = policy(resamples=500)
    passed = better = 0
    for seed in range(count):
        each = [better_or_passed(pair, "rmse", asked) for pair in family(seed, rows, members)]
        better += any(one for one, _ in each)
        passed += any(through for _, through in each)
    say(
        f"families of {members} equal challengers, {rows:,} rows: a gate passed one in {passed / count:.1%} of {count},"
    )
    say(f"somebody was called better, uncorrected, in {better / count:.1%}")


def planted(count: int, rows: int) -> None:
    """The share of challengers that are 5 % worse and are called so."""
    for task in TASKS[:2]:
        named = 0
        for seed in range(count):
            pair, metric = planted_drop(seed, rows, task)
            named += judged(pair, metric).verdict == "worse"
        say(f"5 % worse on {rows:,} rows, {task}: called worse in {named / count:.1%} of {count}")


# ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Rows:
    """Of some rows what was observed and predicted, and the probability of the positive class, float64 (n,) each."""

    observed: Floats
    predicted: Floats
    share: Floats

    @property
    def error(self) -> Floats:
        return np.abs(self.observed - self.predicted)


Form = Callable[[Rows], float]


def _plain_forms(pair: Paired) -> dict[str, Form]:
    """Metrics as anyone would write them with NumPy."""
    if pair.task == "regression":
        return {
            "rmse": lambda rows: float(np.sqrt((rows.error**2).mean())),
            "mae": lambda rows: float(rows.error.mean()),
            "medae": lambda rows: float(np.median(rows.error)),
            "r2": lambda rows: float(1 - (rows.error**2).mean() / rows.observed.var()),
            "smape": lambda rows: float((2 * rows.error / (np.abs(rows.observed) + np.abs(rows.predicted))).mean()),
        }
    return {
        "accuracy": lambda rows: float((rows.observed == rows.predicted).mean()),
        "precision": lambda rows: float((rows.observed[rows.predicted == 1]).mean()),
        "recall": lambda rows: float((rows.predicted[rows.observed == 1]).mean()),
        "roc_auc": _plain_area,
        "log_loss": lambda rows: float(-np.log(np.where(rows.observed == 1, rows.share, 1 - rows.share)).mean()),
    }


def _plain_area(rows: Rows) -> float:
    ranks = np.empty(len(rows.share))
    ranks[np.argsort(rows.share, kind="stable")] = np.arange(1, len(rows.share) + 1)
    positive = rows.observed == 1
    count = positive.sum()
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * (~positive).sum()))


def timed(rows: int, resamples: int, metrics: int, rounds: int, plain_resamples: int) -> None:
    """Ours and the plain one on the same pair and metrics, with the largest distance of the two's interval ends."""
    for pair in (equal_regressors(0, rows), equal_classifiers(0, rows)):
        forms = _plain_forms(pair)
        names = [name for _ in range(metrics // len(forms)) for name in forms]
        ours = []
        for _ in range(rounds):
            began = time.process_time()
            found = judge(pair, policy(resamples=resamples), names[0], names, DIRECTIONS)
            ours.append(time.process_time() - began)
        each, drawn = _plain(pair, forms, plain_resamples)
        plain = each * resamples * metrics / len(forms)
        apart = max(
            abs(drawn[name].std(ddof=1) / ((one.interval.high - one.interval.low) / (2 * 1.96)) - 1)
            for name in forms
            if (one := found.of(name)) and one.interval
        )
        say(
            f"{pair.task}: {metrics} metrics, {rows:,} rows, {resamples:,} resamples: {np.median(ours):.2f} s; "
            f"plain {plain:,.0f} s (scaled from {plain_resamples}), {plain / np.median(ours):,.0f} ×; "
            f"standard errors at most {apart:.0%} apart",
        )


def _plain(pair: Paired, forms: dict[str, Form], resamples: int) -> tuple[float, dict[str, Floats]]:
    """Seconds for one resample of these metrics, and the differences drawn."""
    random, rows = np.random.default_rng(1), len(pair.observed)
    drawn = {name: np.empty(resamples) for name in forms}
    began = time.process_time()
    for place in range(resamples):
        chosen = random.integers(rows, size=rows)
        for name, form in forms.items():
            values = [form(_rows_of(pair, one, chosen)) for one in (pair.champion, pair.challenger)]
            drawn[name][place] = values[1] - values[0]
    return (time.process_time() - began) / resamples, drawn


def _rows_of(pair: Paired, one: Said, chosen: npt.NDArray[np.int64]) -> Rows:
    share = one.predicted if one.probabilities is None else one.probabilities[:, 1]
    return Rows(pair.observed[chosen], one.predicted[chosen], share[chosen])


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--families", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--plain-resamples", type=int, default=200)
    parser.add_argument("--only", choices=("claims", "families", "planted", "time"))
    options = parser.parse_args(arguments)
    if options.only in (None, "time"):
        timed(100_000, 2000, 50, options.rounds, options.plain_resamples)
    if options.only in (None, "planted"):
        planted(options.pairs // 5, 10_000)
    if options.only in (None, "claims"):
        false_claims(options.pairs)
    if options.only in (None, "families"):
        families(options.families, 200, 200)


if __name__ == "__main__":
    main()
