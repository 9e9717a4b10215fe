"""From frozen facts to a review: what decides the verdict, and that a branch has no say in what it is judged by."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from cd4ml.index.record import RunRecord
from cd4ml.promotion.assemble import Answered, Facts, Production, assemble
from cd4ml.promotion.expected import expectations_told
from cd4ml.promotion.inputs import Source
from cd4ml.promotion.paired import Paired
from cd4ml.promotion.review import ExpectationTold, Review
from cd4ml.spec.experiment import Spec
from cd4ml.spec.parse import parse
from cd4ml.spec.pipeline import DERIVED
from cd4ml.spec.sources import RENDERED_FROM
from tests.promotion.judging_world import paired

GOLDEN = Path(__file__).parents[1] / "golden" / "params.yaml"
ROWS = 400


def resolved() -> dict[str, Any]:
    """The scaffold's configuration, a copy."""
    content = yaml.safe_load(GOLDEN.read_text("utf-8"))
    return {key: value for key, value in content.items() if key not in (RENDERED_FROM, DERIVED)}


def policy() -> Spec:
    return parse(resolved())


def run(number: int, rmse: Any = 10.0, **changed: Any) -> RunRecord:
    """A succeeded run of the scaffold's configuration."""
    body: dict[str, Any] = {
        "id": f"r{number:020}",
        "fingerprint": f"{number:064x}",
        "components": dict.fromkeys(("spec", "code", "data", "pipeline", "env"), "0" * 64),
        "commit": f"{number:040x}",
        "branch": f"exp/{number}",
        "outcome": "succeeded",
        "reason": None,
        "params": resolved(),
        "metrics": {"validation": {"rmse": 9.0}, "test": {"rmse": rmse}},
        "split": {side: {"digest": "d" * 64, "rows": ROWS} for side in ("train", "validation", "test")},
        "table": {"digest": "t" * 64, "rows": 3 * ROWS},
        "data": {"flights": {"digest": "f" * 64, "rows": 3 * ROWS}},
        "model": {"digest": "m" * 64, "bytes": 1000 * number},
        "environment": {"python": "3.11.7", "packages": {"numpy": "2.4.6"}},
        "validation": {"suite": "flights", "success": True, "asked": 7, "returned": 7, "failed": []},
        "cost": {"seconds": {"train": 2.0 * number}},
        "finished": "2026-11-03T10:00:00Z",
    }
    return RunRecord({**body, **changed})


def answered(one: RunRecord, **changed: Any) -> Answered:
    return Answered(**{"kind": "ran", "run": one, "params": one.params, "data": one.body["data"], **changed})


def evidence(gain: float = 2.0, rows: int = ROWS) -> Paired:
    """The challenger's errors are smaller by ``gain`` of 10."""
    rng = np.random.default_rng(3)
    observed, noise = rng.normal(size=rows), rng.normal(size=rows)
    return paired(observed, observed + 10 * noise, observed + (10 - gain) * noise)


def facts(**changed: Any) -> Facts:
    told: dict[str, Any] = {
        "branch": "exp/2",
        "base": "main",
        "commit": "c" * 40,
        "base_commit": "b" * 40,
        "judged": "head",
        "policy": policy(),
        "challenger": answered(run(2)),
        "champion": answered(run(1)),
        "held_against": "main",
        "paired": evidence(),
        "moves": ("spec",),
        "trains": False,
    }
    return Facts(**{**told, **changed})


def review(**changed: Any) -> Review:
    return assemble(facts(**changed))


# ── the verdict ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_numbers_decide_where_nothing_stands_in_their_way() -> None:
    found = review()
    assert (found.verdict, found.held) == ("better", False)
    assert found.merge.promotes
    assert review(paired=evidence(-2.0)).verdict == "worse"
    assert review(paired=evidence(0.0)).verdict == "no real difference"


def test_a_conflict_comes_before_everything_that_the_numbers_say() -> None:
    found = review(conflicts=("conf/a.yaml", "conf/b.yaml"))
    assert found.verdict == "take main in"
    assert found.reason == "main and this branch both changed conf/a.yaml, conf/b.yaml: `cd4ml update exp/2`"
    assert found.metrics
    assert found.held
    assert not found.merge.promotes


@pytest.mark.parametrize(
    ("challenger", "verdict", "reason"),
    [
        (Answered("pending", "never run"), "pending", "never run"),
        (
            Answered("refused", "conf/x.yaml: k: is unknown"),
            "failed",
            "failed at configuration because conf/x.yaml: k: is unknown",
        ),
        (
            Answered("failed", "", run(2, outcome="failed", reason={"stage": "train", "message": "no\nroom"})),
            "failed",
            "failed at train because no room",
        ),
        (Answered("failed", "", None), "failed", "failed at an unnamed stage because no message"),
        (Answered("erased", "erased on 2026-11-03 by Bo: x"), "failed", "it was erased on 2026-11-03 by Bo: x"),
        (Answered("erased", "erased on 2026-11-03 by Bo: x", run(2)), "failed", "it was erased on 2026-11-03 by Bo: x"),
    ],
)
def test_what_did_not_succeed_says_why_and_one_gate_holds(challenger: Answered, verdict: str, reason: str) -> None:
    found = review(challenger=challenger, paired=None)
    assert (found.verdict, found.reason) == (verdict, reason)
    assert [(gate.name, gate.outcome) for gate in found.gates] == [("result", "held")]


def test_of_a_refused_configuration_nobody_says_which_data_it_would_have_read() -> None:
    assert review(challenger=Answered("pending", "never run"), paired=None).data
    assert review(challenger=Answered("refused", "conf/x.yaml: k: is unknown"), paired=None).data == ()


@pytest.mark.parametrize(
    ("champion", "told"),
    [
        (None, "nothing was run before it on main"),
        (Answered("pending", "never run: `cd4ml reconcile main`"), "main has no result: never run"),
        (Answered("refused", "conf/: no"), "the configuration of main is refused: conf/: no"),
        (Answered("failed", "", run(1, reason={"stage": "s", "message": "m"})), "main failed at s because m"),
        (Answered("erased", "erased on 2026-11-03 by Bo: x", run(1)), "the result of main was erased on 2026-11-03"),
    ],
)
def test_a_champion_without_a_result_is_not_comparable_and_says_why(champion: Answered | None, told: str) -> None:
    found = review(champion=champion, paired=None)
    assert found.verdict == "not comparable"
    assert found.reason.startswith(told)
    assert [(one.metric, one.champion, one.challenger) for one in found.metrics] == [("rmse", None, 10.0)]
    assert {gate.outcome for gate in found.gates} == {"held"}


def changed(group: str, **values: Any) -> RunRecord:
    params = resolved()
    params[group] = {**params[group], **values}
    return run(2, params=params)


@pytest.mark.parametrize(
    ("challenger", "reason"),
    [
        (changed("evaluation", task="binary"), "evaluation.task differs: regression, here binary"),
        (changed("evaluation", positive="yes"), "evaluation.positive differs: none, here yes"),
        (changed("data", target="distance"), "data.target differs: arr_delay, here distance"),
    ],
)
def test_what_is_measured_otherwise_is_not_comparable_whatever_the_evidence(challenger: RunRecord, reason: str) -> None:
    found = review(challenger=answered(challenger))
    assert (found.verdict, found.reason, found.metrics) == ("not comparable", reason, ())
    assert found.held


def test_without_evidence_values_are_told_only_of_one_test_side_and_nothing_has_an_interval() -> None:
    found = review(paired=None, unpaired="the artefacts were let go")
    assert (found.verdict, found.reason) == ("not comparable", "the artefacts were let go")
    assert [(one.champion, one.challenger, one.interval, one.standing) for one in found.metrics] == [
        (10.0, 10.0, None, "unknown")
    ]
    elsewhere = run(2, split={"test": {"digest": "e" * 64, "rows": 3}})
    assert review(paired=None, challenger=answered(elsewhere)).metrics == ()


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf, "10", True, None])
def test_a_recorded_value_that_is_no_finite_number_is_missing(odd: Any) -> None:
    found = review(paired=None, challenger=answered(run(2, odd)))
    (rmse,) = found.metrics
    assert (rmse.challenger, rmse.change, rmse.relative) == (None, None, None)
    json.dumps(found.as_json(), allow_nan=False)


@pytest.mark.parametrize(("before", "after"), [(1e-12, 2e-12), (1e20, -1e20), (0.0, 1.0), (1e308, -1e308)])
def test_values_of_any_size_give_finite_changes_or_none(before: float, after: float) -> None:
    found = review(paired=None, champion=answered(run(1, before)), challenger=answered(run(2, after)))
    json.dumps(found.as_json(), allow_nan=False)
    (rmse,) = found.metrics
    assert (rmse.champion, rmse.challenger) == (before, after)


def test_one_test_row_is_too_few_to_compare() -> None:
    found = review(paired=evidence(rows=1))
    assert found.verdict == "not comparable"
    assert found.ruler is not None
    assert found.ruler.rows == 1
    assert found.held


def test_gates_are_not_looked_at_against_another_base() -> None:
    found = review(gated=False)
    assert (found.gates, found.held, found.merge.promotes) == ((), True, False)


def test_a_branch_that_moves_nothing_promotes_nothing() -> None:
    assert review(moves=()).merge.promotes is False


# ── metrics ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_metrics_of_either_are_told_the_champions_first() -> None:
    old = run(1, metrics={"test": {"mae": 1.0, "rmse": 2.0, "gone": 3.0}})
    new = run(2, metrics={"test": {"rmse": 2.0, "new": 4.0}})
    assert [one.metric for one in review(champion=answered(old), challenger=answered(new)).metrics] == [
        *("rmse", "mae", "gone", "new")
    ]


def test_an_own_metric_counts_only_where_no_row_was_dropped_and_its_code_is_the_same() -> None:
    params = resolved()
    params["evaluation"]["own"] = {"cost": {"function": "own.cost", "direction": "minimize"}}
    old, new = (run(n, metrics={"test": {"rmse": 1.0, "cost": float(n)}}, params=params) for n in (1, 2))

    def values(**changed: Any) -> tuple[float | None, float | None]:
        found = review(champion=answered(old), challenger=answered(new), **changed)
        cost = next(one for one in found.metrics if one.metric == "cost")
        return cost.champion, cost.challenger

    assert values() == (1.0, 2.0)
    whole = evidence()
    assert values(paired=replace(whole, ruler=replace(whole.ruler, declared=ROWS + 1))) == (1.0, None)
    new = RunRecord({**new.body, "judge": {"commit": "a" * 40, "code": "other"}})
    assert values() == (1.0, None)


def test_the_direction_of_an_own_metric_is_the_base_branchs() -> None:
    params = resolved()
    params["evaluation"]["own"] = {"cost": {"function": "own.cost", "direction": "maximize"}}
    new = run(2, metrics={"test": {"rmse": 1.0, "cost": 2.0}}, params=params)
    cost = next(one for one in review(challenger=answered(new)).metrics if one.metric == "cost")
    assert (cost.direction, cost.standing) == (None, "unknown")


def test_five_hundred_metrics_are_all_told() -> None:
    many = {"rmse": 1.0, **{f"m{number}": float(number) for number in range(499)}}
    assert len(review(challenger=answered(run(2, metrics={"test": many}))).metrics) == 500


def test_values_of_the_merge_base_and_of_production_are_of_the_same_test_side_or_nothing() -> None:
    elsewhere = run(7, 3.0, split={"test": {"digest": "e" * 64, "rows": 3}})
    found = review(merge_base=run(5, 8.0), production=Production(elsewhere, "m@v1.0.0", "production"))
    rmse = found.of_primary
    assert rmse is not None
    assert (rmse.merge_base, rmse.production) == (8.0, None)
    assert found.production is not None
    assert (found.production.id, found.production.release, found.production.environment) == (
        elsewhere.id,
        "m@v1.0.0",
        "production",
    )


# ── cost, inputs, expectations ───────────────────────────────────────────────────────────────────────────────────


def test_costs_are_numbers_or_nothing_whatever_a_record_says() -> None:
    odd = {"seconds": {"train": -1.0}, "peak_bytes": {"train": "lots", "predict": 5}, "prediction_seconds_per_row": []}
    cost = {one.name: (one.champion, one.challenger) for one in review(challenger=answered(run(2, cost=odd))).cost}
    assert cost == {
        "training": (2.0, None),
        "peak memory": (None, 5.0),
        "model": (1000.0, 2000.0),
        "prediction": (None, None),
    }


def test_a_model_that_dvc_handed_back_costs_what_making_it_took() -> None:
    measured = {"seconds": {"train": 7.0, "predict": 9.0}, "prediction_seconds_per_row": 0.5}
    again = answered(run(2, cost={"seconds": {"predict": 1.0}}))
    found = {one.name: one.challenger for one in review(challenger=again, measured=measured).cost}
    assert (found["training"], found["prediction"]) == (7.0, 0.5)


def test_the_most_memory_of_any_stage_is_the_peak() -> None:
    cost = {"seconds": {"train": 1.0}, "peak_bytes": {"ingest": 10, "train": 30, "predict": 20}}
    found = {one.name: one.challenger for one in review(challenger=answered(run(2, cost=cost))).cost}
    assert found["peak memory"] == 30


def test_only_the_keys_that_differ_are_told_of_ten_thousand() -> None:
    params = resolved()
    params["model"]["parameters"] = {f"k{number}": number for number in range(10_000)}
    found = review(challenger=answered(run(2, params=params)))
    assert len(found.config) == 10_000
    assert found.config[0].key.startswith("model.parameters.")


def test_what_is_asked_for_is_told_before_anything_was_run() -> None:
    params = {**resolved(), "seed": 7}
    found = review(
        challenger=Answered("pending", "never run", None, params, {"flights": {"digest": "0", "rows": 1}}), paired=None
    )
    assert [(one.key, one.challenger) for one in found.config] == [("seed", 7)]
    assert [one.source for one in found.data] == ["flights"]


def test_files_are_told_only_where_both_commits_can_be_read() -> None:
    here = Source(files={"own/a.py": "1"})
    there = Source(files={"own/a.py": "2"})
    both = review(
        champion=answered(run(1), source=here), challenger=answered(run(2), source=there), lines={"own/a.py": (3, 1)}
    )
    assert [(one.path, one.added, one.removed) for one in both.code] == [("own/a.py", 3, 1)]
    assert review(champion=answered(run(1), source=here)).code == ()


def unmet(challenger: RunRecord, champion: RunRecord | None = None) -> set[tuple[str, str, str]]:
    told, _ = expectations_told(policy(), champion, challenger)
    return {(one.type, one.column, one.severity) for one in told}


def validated(failed: list[dict[str, Any]], expectations: list[dict[str, Any]] | None = None, **more: Any) -> RunRecord:
    params = resolved()
    if expectations is not None:
        params["validation"]["expectations"] = expectations
    outcome = {"suite": "s", "success": not failed, "asked": 7, "returned": 7, "failed": failed}
    return run(2, params=params, validation=outcome, **more)


def test_what_a_run_did_not_meet_is_told_with_its_severity() -> None:
    failed = [{"type": "expect_x", "column": "temp", "severity": "warning"}]
    assert unmet(validated(failed)) == {("expect_x", "temp", "warning")}
    assert unmet(validated([])) == set()


def test_an_expectation_that_the_branch_took_out_counts_as_not_met() -> None:
    ours = resolved()["validation"]["expectations"]
    assert len(unmet(validated([], ours[1:], table={"digest": "other", "rows": 1}), run(1))) == 1
    assert unmet(validated([], ours[1:]), run(1)) == set()  # the champion met it on the very same table


def test_an_expectation_that_the_branch_made_lighter_keeps_its_weight() -> None:
    ours = resolved()["validation"]["expectations"]
    critical = next(one for one in ours if one.get("severity", "critical") == "critical" and "column" in one["kwargs"])
    lighter = [{**one, "severity": "warning"} if one is critical else one for one in ours]
    column = critical["kwargs"]["column"]
    failed = [{"type": critical["type"], "column": column, "severity": "warning"}]
    assert (critical["type"], column, "critical") in unmet(validated(failed, lighter))


def test_a_result_whose_record_tells_of_no_validation_met_none_of_the_base_branchs_expectations() -> None:
    ours = resolved()["validation"]["expectations"]
    for champion in (None, run(1, table={"digest": "other", "rows": 1}), run(1, validation=None)):
        told, asked = expectations_told(policy(), champion, run(2, validation=None))
        assert (len(told), asked) == (len({(one["type"], one["kwargs"].get("column")) for one in ours}), 0)
    assert review(champion=answered(run(1, validation=None)), challenger=answered(run(2, validation=None))).held
    assert expectations_told(policy(), run(1), run(2, validation=None)) == ((), 0)  # met there, on the same table


def test_a_run_that_failed_before_it_was_validated_tells_no_expectations() -> None:
    assert expectations_told(policy(), None, run(2, validation=None, outcome="failed")) == ((), 0)
    assert expectations_told(policy(), None, None) == ((), 0)


def test_a_critical_expectation_that_is_not_met_holds_the_gates() -> None:
    ours = resolved()["validation"]["expectations"]
    found = review(challenger=answered(validated([], ours[1:], table={"digest": "other", "rows": 1})))
    assert isinstance(found.expectations[0], ExpectationTold)
    assert found.held


# ── text ─────────────────────────────────────────────────────────────────────────────────────────────────────────

HOSTILE = "exp/$(rm -rf ~)`'\"<!-- x -->"


def test_commands_are_quoted_for_a_shell_and_reasons_are_one_line() -> None:
    found = review(branch=HOSTILE, conflicts=("a\nb\x1b[2J",))
    assert "\n" not in found.reason
    assert "\x1b" not in found.reason
    assert found.branch == HOSTILE
    assert found.reproduce == f"cd4ml reproduce {run(2).id}"


def test_a_review_is_plain_json_with_every_field() -> None:
    found = review().as_json()
    assert found["schema"] == 1
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_equal_facts_give_equal_reviews() -> None:
    assert assemble(facts()) == assemble(facts())


def test_an_expectation_that_the_champion_did_not_meet_either_is_told_where_it_is_left_out() -> None:
    left_out, *others = resolved()["validation"]["expectations"]
    column = str(left_out["kwargs"].get("column", ""))
    champion = validated([{"type": left_out["type"], "column": column, "severity": "warning"}])
    assert unmet(validated([], others), champion) == {(left_out["type"], column, "critical")}
