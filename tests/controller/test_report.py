"""What ``cd4ml report`` says of branches of a real project: real Git, real DVC, real runs."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from cd4ml.controller.project import open_project
from cd4ml.controller.reporting.report import Reported, report_on
from cd4ml.gateways.warm import SOCKET_VARIABLE
from cd4ml.promotion.posting import conclusion_of
from cd4ml.report.markdown import markdown_report
from cd4ml.spec.pipeline import PREDICTIONS
from tests.conftest import Shell
from tests.controller.compare_world import land, other, result_of_main
from tests.controller.controller_world import (
    BASELINE,
    OTHER_SEED,
    RECORDS,
    branch,
    cd4ml,
    commit,
    git,
    push,
    refs,
    remote,
    runs,
)
from tests.controller.report_world import (
    HOSTILE,
    QUOTED,
    components_of,
    made_up,
    make_up,
    populate,
    report,
    result_commit,
    tagged,
    untagged,
    with_alpha,
)

SCHEMA = Path(__file__).parents[2] / "docs" / "schemas" / "reports.schema.json"
World = tuple[Shell, dict[str, Any]]


@pytest.fixture(scope="module")
def world(template_project: Path, tmp_path_factory: pytest.TempPathFactory, few_flights: Path, warm: str) -> World:
    """A project with branches of every kind (see ``report_world.populate``), and the record of main's result."""
    folder = tmp_path_factory.mktemp("reported") / "team"
    shutil.copytree(template_project, folder, symlinks=True)
    shell = Shell(folder / "project", {"PYTHONPATH": str(few_flights), SOCKET_VARIABLE: warm})
    return shell, populate(shell)


@pytest.fixture
def shell(world: World) -> Shell:
    return world[0]


def reported(shell: Shell, branch: str, base: str = "") -> Reported:
    return report_on(open_project(shell.folder), branch, base)


# ── verdicts ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_result_is_held_against_main_on_the_whole_test_side_with_intervals(world: World) -> None:
    shell, main = world
    found = report(shell, "exp/alpha")
    assert found["verdict"] in ("better", "worse", "no real difference")
    assert (found["branch"], found["base"], found["judged"]) == ("exp/alpha", "main", "head")
    assert found["commit"] == git(remote(shell), "rev-parse", "exp/alpha")
    assert found["champion"]["id"] == main["id"]
    assert found["ruler"]["rows"] == found["ruler"]["declared"] == main["split"]["test"]["rows"]
    assert found["ruler"]["digest"] == main["split"]["test"]["digest"]
    rmse = next(one for one in found["metrics"] if one["metric"] == "rmse")
    assert rmse["champion"] == pytest.approx(main["metrics"]["test"]["rmse"])
    assert rmse["merge_base"] == rmse["champion"]
    assert rmse["corrected"]["low"] <= rmse["interval"]["low"] <= rmse["change"] <= rmse["interval"]["high"]
    assert {gate["name"] for gate in found["gates"]} >= {"rows", "rmse"}


def test_the_challengers_values_are_those_that_the_judge_of_its_run_recorded(shell: Shell) -> None:
    found = report(shell, "exp/alpha")
    shown = cd4ml(shell, "show", "exp/alpha", "--json").json["runs"][0]
    for one in found["metrics"]:
        assert one["challenger"] == pytest.approx(shown["metrics"]["test"][one["metric"]])


def test_only_the_keys_that_differ_are_told(shell: Shell) -> None:
    found = report(shell, "exp/alpha")
    assert {one["key"]: (one["champion"], one["challenger"]) for one in found["config"]} == {
        "model.parameters.alpha": (1.0, 100.0),
        "model.estimator.steps[regress].1.alpha": (1.0, 100.0),
    }
    assert (found["data"], found["moved"], found["code"], found["environment"]) == ([], [], [], [])


def test_a_branch_that_conflicts_is_told_to_take_main_in(shell: Shell) -> None:
    found = report(shell, "exp/conflict")
    assert found["verdict"] == "take main in"
    assert found["merge"]["conflicts"] == [BASELINE]
    assert found["reason"].endswith("`cd4ml update exp/conflict`")
    assert found["merge"]["promotes"] is False
    assert "held" in {gate["outcome"] for gate in found["gates"]}


def test_a_failed_run_says_the_stage_and_why(shell: Shell) -> None:
    found = report(shell, "exp/rejected", code=0)
    assert found["verdict"] == "failed"
    assert found["reason"].startswith("failed at validate because ")
    assert [gate["outcome"] for gate in found["gates"]] == ["held"]
    assert "wind_gust" in {one["column"] for one in found["expectations"]}


def test_a_configuration_that_is_refused_is_a_failure_that_names_the_file(shell: Shell) -> None:
    found = report(shell, "exp/refused")
    assert found["verdict"] == "failed"
    assert found["reason"].startswith("failed at configuration because ")
    assert "expectations" in found["reason"]
    assert found["challenger"] is None


def test_what_was_never_run_is_pending_and_says_the_command_and_what_it_asks_for(shell: Shell) -> None:
    found = report(shell, "exp/pending")
    assert found["verdict"] == "pending"
    assert "`cd4ml reconcile exp/pending`" in found["reason"]
    assert "model.parameters.alpha" in {one["key"] for one in found["config"]}
    assert found["merge"]["trains"] is True


def test_the_base_branch_without_anything_before_it_says_so(shell: Shell) -> None:
    found = report(shell, "main")
    assert found["verdict"] == "not comparable"
    assert "nothing was run before it on main" in found["reason"]
    assert found["challenger"]["branch"] == "main"
    assert found["champion"] is None


@pytest.mark.parametrize("how", ["merge", "squash", "fast-forward"])
def test_of_two_merges_that_one_reconcile_sees_the_second_is_held_against_the_first(team: Shell, how: str) -> None:
    body, merges = result_of_main(team), []
    made_up(team, "exp/unmerged", 9, body)
    for name, seed in (("exp/one", 7), ("exp/two", 8)):
        made_up(team, name, seed, body)
        cd4ml(team, "reconcile", name)
        taken_in(team, name, how)
        merges.append(git(team, "rev-parse", "HEAD"))
    git(team, "push", "--quiet", "origin", "main")
    cd4ml(team, "reconcile", "main")
    found = report(team, "main")
    assert f"held against what was before it: the result of {merges[0][:12]}" in " ".join(found["notes"])
    assert found["champion"]["id"] == next(run["id"] for run in runs(team, "branch = 'exp/one'"))


def taken_in(shell: Shell, name: str, how: str) -> None:
    """Merge a branch into the local base branch."""
    git(shell, "fetch", "--quiet")
    way = {"merge": ("--no-ff",), "squash": ("--squash",), "fast-forward": ("--ff-only",)}[how]
    git(shell, "merge", "--quiet", *way, f"origin/{name}")
    if how == "squash":
        git(shell, "commit", "--quiet", "--message", f"{name}, squashed")


# ── what else is told ────────────────────────────────────────────────────────────────────────────────────────────


def test_merging_what_was_run_trains_nothing_and_moves_the_configuration_alone(shell: Shell) -> None:
    merge = report(shell, "exp/alpha")["merge"]
    assert (merge["trains"], merge["moves"], merge["conflicts"]) == (False, ["spec"], [])


def test_a_branch_that_asks_for_what_others_ran_names_them_with_what_became_of_them(shell: Shell) -> None:
    found = report(shell, "exp/again")["relatives"]
    same = {one["branch"]: (one["lifecycle"], one["outcome"]) for one in found if one["kind"] == "same"}
    assert same == {"exp/alpha": ("open", "succeeded"), "exp/told": ("discarded", "succeeded")}


@pytest.mark.parametrize("branch", ["main", "exp/alpha"])
def test_a_branch_is_not_told_of_its_own_run_that_it_was_run_already(shell: Shell, branch: str) -> None:
    assert "same" not in {one["kind"] for one in report(shell, branch)["relatives"]}


def test_a_run_that_differs_in_one_key_is_near_with_both_values(shell: Shell) -> None:
    near = [one for one in report(shell, "exp/pending")["relatives"] if one["kind"] == "near"]
    assert {one["branch"]: (one["key"], one["here"], one["there"]) for one in near} == {
        "exp/near": ("model.parameters.alpha", 7.0, 1000.0),
        "exp/alpha": ("model.parameters.alpha", 7.0, 100.0),
    }


def test_a_run_that_this_clone_alone_has_is_near_to_none_in_a_report(world: World) -> None:
    """Every clone reports the same of a branch."""
    shell, main = world
    hidden = {"params": with_alpha(main, 500.0), "components": other(main, "spec", "hidden")}
    run = land(shell, main, branch="exp/hidden", **hidden)["id"]
    landed = git(remote(shell), "rev-parse", RECORDS + run)
    git(remote(shell), "update-ref", "-d", RECORDS + run)
    git(shell, "update-ref", f"refs/cd4ml/draft/{run}", landed)
    try:
        assert [one["id"] for one in runs(shell, "branch = 'exp/hidden'")] == [run]
        told = {one["branch"] for one in report(shell, "exp/pending")["relatives"]}
    finally:
        git(shell, "update-ref", "-d", f"refs/cd4ml/draft/{run}")
    assert told == {"exp/near", "exp/alpha"}


def test_costs_are_told_of_both_and_can_be_searched(shell: Shell) -> None:
    cost = {one["name"]: one for one in report(shell, "exp/alpha")["cost"]}
    assert {name: one["unit"] for name, one in cost.items()} == {
        "training": "seconds",
        "peak memory": "bytes",
        "model": "bytes",
        "prediction": "seconds/row",
    }
    for one in cost.values():
        assert one["champion"] > 0
        assert one["challenger"] > 0
    assert cost["peak memory"]["challenger"] > 1 << 20
    asked = "cost.peak_bytes.train > 1000000 and cost.prediction_seconds_per_row < 1 and branch = 'exp/alpha'"
    assert [run["branch"] for run in cd4ml(shell, "search", asked, "--json").json["runs"]] == ["exp/alpha"]


def test_the_story_is_of_the_index_with_this_run_and_the_champion_marked(world: World) -> None:
    shell, _ = world
    found = reported(shell, "exp/alpha")
    assert {point.branch: point.outcome for point in found.story} == {
        "main": "champion",
        "exp/alpha": "this",
        "exp/near": "other",
    }
    assert [point.order for point in found.story] == sorted(point.order for point in found.story)
    assert found.paired is not None
    assert len(found.paired.observed) == found.paired.ruler.rows


def test_the_use_of_the_test_side_is_counted_in_the_order_of_the_index(shell: Shell) -> None:
    """Main's own result does not count: exp/alpha was the first to be scored, and exp/near the next."""
    assert report(shell, "exp/alpha")["ruler"]["uses"] == 1
    assert report(shell, "exp/near")["ruler"]["uses"] == 2


def test_a_split_of_its_own_does_not_keep_a_result_from_being_counted(team: Shell) -> None:
    """A challenger is scored on the champion's rows, whatever rows its branch declares as its test side."""
    body = result_of_main(team)
    for number in range(3):
        test = {**body["split"]["test"], "digest": f"{number}" * 64}
        made_up(team, f"exp/split{number}", 200 + number, body, split={**body["split"], "test": test})
        cd4ml(team, "reconcile", f"exp/split{number}")
    assert [report(team, f"exp/split{number}")["ruler"]["uses"] for number in range(3)] == [1, 2, 3]


def test_a_branch_that_takes_rows_of_the_test_side_for_training_is_not_comparable(team: Shell) -> None:
    later = "# @package _global_\nname: pick\nhypothesis: h\nsplit: {test_from: '2013-12-25T00:00:00Z'}\n"
    branch(team, "exp/pick", {BASELINE: later})
    cd4ml(team, "reconcile", "exp/pick")
    found = report(team, "exp/pick")
    ruler = found["ruler"]
    assert found["verdict"] == "not comparable"
    assert ruler["rows"] < ruler["min_rows"] < ruler["declared"]
    assert f"{ruler['seen_by_challenger']:,} the challenger saw in training or validation" in found["reason"]
    assert {gate["outcome"] for gate in found["gates"]} == {"held"}


def test_how_to_reproduce_it_is_one_line_for_a_shell(shell: Shell) -> None:
    found = report(shell, "exp/alpha")
    assert found["reproduce"] == f"cd4ml reproduce {found['challenger']['id']}"


# ── what is in production ────────────────────────────────────────────────────────────────────────────────────────


def test_before_the_first_release_it_is_said_that_main_stands_for_it(shell: Shell) -> None:
    found = report(shell, "exp/alpha")
    assert found["production"] is None
    assert any("nothing was released yet" in note for note in found["notes"])


def test_what_a_tag_put_into_production_is_told_with_its_version_and_values(world: World) -> None:
    shell, main = world
    held = result_commit(shell, main["id"])
    tagged(shell, "flights@v1.2.3", held)
    tagged(shell, "flights#production#4", held)
    try:
        found = report(shell, "exp/alpha")
    finally:
        untagged(shell, "flights@v1.2.3", "flights#production#4")
    assert found["production"]["id"] == main["id"]
    assert (found["production"]["release"], found["production"]["environment"]) == ("flights@v1.2.3", "production")
    assert next(one for one in found["metrics"] if one["metric"] == "rmse")["production"] is not None


def test_of_several_names_in_production_it_is_told_which_one_is_meant(world: World) -> None:
    shell, main = world
    held = result_commit(shell, main["id"])
    names = ("flights#production#4", "delays#production#1")
    for name in names:
        tagged(shell, name, held)
    try:
        found = report(shell, "exp/alpha")
    finally:
        untagged(shell, *names)
    assert (
        "several names are in production (delays, flights): flights#production#4 is the one told of" in found["notes"]
    )


def test_release_tags_that_only_a_clone_has_or_that_were_moved_or_are_plain_are_told(world: World) -> None:
    shell, main = world
    held = result_commit(shell, main["id"])
    tagged(shell, "flights@v1.2.3", held)
    tagged(shell, "flights#production#4", held, annotated=False)
    try:
        git(shell, "tag", "--annotate", "--message=x", "flights@v1.2.3", held)
        assert cd4ml(shell, "report", "exp/alpha").err == ""
        git(shell, "tag", "--annotate", "--message=x", "--force", "flights@v1.2.3", "main")
        git(shell, "tag", "--annotate", "--message=x", "flights#production#3", held)
        notes, told = report(shell, "exp/alpha")["notes"], cd4ml(shell, "report", "exp/alpha").err
    finally:
        untagged(shell, "flights@v1.2.3", "flights#production#4")
        git(shell, "tag", "--delete", "flights@v1.2.3", "flights#production#3")
    plain = "flights#production#4 is no annotated tag, and is not counted"
    assert [note for note in notes if note.startswith("flights")] == [plain], "a report is the same from every clone"
    assert [line.removeprefix("cd4ml: ") for line in told.splitlines()] == [
        "flights#production#3 is a release tag of this clone that origin lacks: it was deleted there, or never pushed",
        "flights@v1.2.3 is a release tag that is on another commit in this clone than on origin, where it counts",
    ]


def test_a_tag_on_a_run_that_failed_puts_nothing_into_production(world: World) -> None:
    shell, _ = world
    (failed,) = runs(shell, "branch = 'exp/rejected' and outcome = 'failed'")
    tagged(shell, "flights#production#8", failed["result_commit"])
    try:
        found = report(shell, "exp/alpha")
    finally:
        untagged(shell, "flights#production#8")
    assert found["production"] is None
    assert any("flights#production#8" in note and "not counted" in note for note in found["notes"])


def test_a_tag_on_anything_but_a_result_of_the_index_is_not_believed(world: World) -> None:
    shell, main = world
    forged = commit(shell, "main", {".cd4ml/record.json": json.dumps({"id": main["id"]})})
    push(shell, "refs/heads/elsewhere", forged)
    tagged(shell, "flights#production#9", "elsewhere")
    tagged(shell, "flights#prod#1", result_commit(shell, main["id"]), annotated=False)
    before = refs(shell)
    try:
        found = report(shell, "exp/alpha")
    finally:
        untagged(shell, "flights#production#9", "flights#prod#1")
        git(remote(shell), "update-ref", "-d", "refs/heads/elsewhere")
    assert found["production"] is None
    assert any("flights#production#9" in note and "not counted" in note for note in found["notes"])
    assert {name for name in refs(shell) if name.startswith("refs/tags/")} == {
        name for name in before if name.startswith("refs/tags/")
    }


# ── another base, and branches of any name ───────────────────────────────────────────────────────────────────────


def test_another_base_is_held_against_and_no_gate_is_looked_at(world: World) -> None:
    shell, main = world
    found = report(shell, "exp/again", "--base", "exp/alpha")
    assert found["verdict"] == "no real difference"
    assert found["champion"]["branch"] == "exp/alpha"
    assert found["gates"] == []
    assert any("gates were not looked at" in note for note in found["notes"])
    assert main["id"] != found["champion"]["id"]


def test_a_branch_that_no_pattern_names_is_reported_on_too(shell: Shell) -> None:
    push(shell, "refs/heads/fix/typo", git(shell, "rev-parse", "main"))
    try:
        found = report(shell, "fix/typo")
    finally:
        git(remote(shell), "update-ref", "-d", "refs/heads/fix/typo")
    assert found["verdict"] == "no real difference"
    assert any("exactly what main asks for" in note for note in found["notes"])
    assert found["merge"]["promotes"] is False


def test_what_merging_would_change_of_mains_policy_is_told_and_needs_somebody_to_look(shell: Shell) -> None:
    promotion, ci, config = (
        git(shell, "show", f"main:conf/{path}") for path in ("promotion/default.yaml", "ci/github.yaml", "config.yaml")
    )
    files: dict[str, str | bytes | None] = {
        "conf/promotion/default.yaml": re.sub(r"min_rows: \d+", "min_rows: 2", promotion),
        "conf/ci/github.yaml": re.sub(r"fork_label: \S+", "fork_label: run", ci),
        "conf/config.yaml": config.replace("[sklearn, xgboost]", "[sklearn, xgboost, os]"),
        "templates/dvc.yaml.j2": "{# another #}",
        ".github/workflows/more.yml": "on: push",
        ".dvc/config": "[core]\n    remote = elsewhere\n",
        "README.md": "no policy",
        ".gitlab/more.yml": "{}",
        ".gitlab-ci.yml": "{}",
        "CODEOWNERS": "* @nobody",
        ".github/CODEOWNERS": "* @nobody",
    }
    branch(shell, "fix/policy", files)
    try:
        review = reported(shell, "fix/policy").review
        found = report(shell, "fix/policy")
    finally:
        git(remote(shell), "update-ref", "-d", "refs/heads/fix/policy")
    assert [one.key for one in review.merge.policy] == ["allowed_packages", "ci.fork_label", "promotion.min_rows"]
    assert [one["challenger"] for one in found["merge"]["policy"]][1:] == ["run", 2]
    assert set(review.merge.policy_files) == set(files) - {one for one in files if one.startswith(("conf/", "README"))}
    assert conclusion_of(review) == "action_required"
    assert "Merging changes what no gate judges" in markdown_report(review)


def test_another_lock_file_is_told_where_no_fingerprint_sees_that_it_is_another(shell: Shell) -> None:
    branch(shell, "fix/lock", {"requirements.lock": git(shell, "show", "main:requirements.lock") + "\n# another\n"})
    try:
        merge = reported(shell, "fix/lock").review.merge
    finally:
        git(remote(shell), "update-ref", "-d", "refs/heads/fix/lock")
    assert (merge.trains, merge.policy_files) == (False, ("requirements.lock",))


def test_of_a_branch_that_conflicts_its_own_changes_of_policy_are_told_and_not_mains(shell: Shell) -> None:
    old = git(remote(shell), "rev-parse", "main")
    ours = {BASELINE: "# @package _global_\nname: mine\n", ".dvc/config": "[core]\n    remote = elsewhere\n"}
    branch(shell, "fix/both", ours)
    theirs = {BASELINE: "# @package _global_\nname: moved\n", "CODEOWNERS": "* @somebody"}
    push(shell, "refs/heads/main", commit(shell, old, theirs))
    try:
        merge = reported(shell, "fix/both").review.merge
    finally:
        git(remote(shell), "update-ref", "refs/heads/main", old)
        git(remote(shell), "update-ref", "-d", "refs/heads/fix/both")
    assert (merge.conflicts, merge.policy_files) == ((BASELINE,), (".dvc/config",))


def test_a_configuration_that_cannot_be_composed_is_reported_as_a_failure(shell: Shell) -> None:
    branch(shell, "fix/broken", {BASELINE: "{"})
    try:
        found = report(shell, "fix/broken")
    finally:
        git(remote(shell), "update-ref", "-d", "refs/heads/fix/broken")
    assert found["verdict"] == "failed"
    assert BASELINE in found["reason"]


def test_a_branch_that_changes_no_policy_has_none_to_tell(shell: Shell) -> None:
    merge = reported(shell, "exp/alpha").review.merge
    assert (merge.policy, merge.policy_files) == ((), ())


def test_a_branch_that_is_gone_is_reported_on_by_its_last_commit(shell: Shell) -> None:
    found = report(shell, "told")
    assert found["branch"] == "exp/told"
    assert any("not on the remote" in note for note in found["notes"])
    assert found["challenger"] is not None


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["exp/alpha", "exp/conflict", "exp/rejected", "exp/refused", "exp/pending", "main"])
def test_the_json_of_a_report_has_the_published_shape(shell: Shell, name: str) -> None:
    schema = json.loads(SCHEMA.read_text("utf-8"))
    Draft202012Validator.check_schema(schema)
    done = cd4ml(shell, "report", name, "--json")
    Draft202012Validator(schema).validate(done.json)
    assert done.json["version"] == 1


def test_without_a_name_the_branch_that_is_checked_out_is_meant(shell: Shell) -> None:
    assert report(shell)["branch"] == "main"


def test_the_ending_of_a_file_says_the_format(shell: Shell, tmp_path: Path) -> None:
    for ending, start in ((".md", "**"), (".html", "<!doctype html>"), (".json", "{")):
        target = tmp_path / f"alpha{ending}"
        done = cd4ml(shell, "report", "exp/alpha", "-o", str(target), "--no-plots")
        assert str(target) in done.out
        assert target.read_text("utf-8").lower().lstrip().startswith(start) or ending == ".md"
    assert json.loads((tmp_path / "alpha.json").read_text("utf-8"))["reports"][0]["branch"] == "exp/alpha"


def test_the_terminal_shows_the_verdict_first(shell: Shell) -> None:
    done = cd4ml(shell, "report", "exp/conflict")
    assert "take main in" in done.out.splitlines()[0].lower()


def test_a_gate_that_holds_is_an_exit_code_only_where_one_is_asked_for(shell: Shell) -> None:
    cd4ml(shell, "report", "exp/conflict", code=0)
    cd4ml(shell, "report", "exp/conflict", "--exit-code", code=1)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["exp/alfa"], "did you mean exp/alpha?"),
        (["exp/alpha", "--base", "nowhere"], "no branch, tag or commit"),
        (["exp/alpha", "--base", "--output=x"], "no branch, tag or commit"),
        (["exp/alpha", "--format", "markdwn"], "did you mean markdown?"),
        (["exp/alpha", "-o", "report.pdf"], "does not say the format"),
        (["exp/alpha", "--format", "terminal", "-o", "x.md"], "is for the terminal"),
        (["cd4ml/index"], "no branch of that name"),
    ],
)
def test_what_makes_no_sense_is_one_line_that_helps(shell: Shell, arguments: list[str], told: str) -> None:
    done = cd4ml(shell, "report", *arguments, code=2)
    assert told in done.err
    assert len(done.lines) == 1


def test_a_report_moves_nothing_of_the_remote_or_the_work_tree(shell: Shell) -> None:
    before = refs(remote(shell)), git(shell, "status", "--porcelain"), git(shell, "rev-parse", "HEAD")
    cd4ml(shell, "report", "exp/alpha")
    assert (refs(remote(shell)), git(shell, "status", "--porcelain"), git(shell, "rev-parse", "HEAD")) == before


# ── bad input ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def odd(template_project: Path, tmp_path_factory: pytest.TempPathFactory, few_flights: Path, warm: str) -> World:
    """A project with runs that are made up and odd (see ``report_world.make_up``), and their records by branch."""
    folder = tmp_path_factory.mktemp("odd") / "team"
    shutil.copytree(template_project, folder, symlinks=True)
    shell = Shell(folder / "project", {"PYTHONPATH": str(few_flights), SOCKET_VARIABLE: warm})
    return shell, make_up(shell)


def test_metrics_that_are_missing_on_one_side_are_told_and_pass_no_gate(odd: World) -> None:
    found = {one["metric"]: one for one in report(odd[0], "exp/odd")["metrics"]}
    assert (found["own"]["champion"], found["own"]["interval"], found["own"]["standing"]) == (None, None, "unknown")
    assert found["rmse"]["champion"] == found["rmse"]["challenger"]


def test_a_run_without_its_predictions_is_not_comparable_and_says_which(odd: World) -> None:
    found = report(odd[0], "exp/lost")
    assert found["verdict"] == "not comparable"
    assert PREDICTIONS in found["reason"]
    assert all(gate["outcome"] == "held" for gate in found["gates"])
    rmse = next(one for one in found["metrics"] if one["metric"] == "rmse")
    assert (rmse["change"], rmse["interval"], rmse["standing"]) == (0, None, "unknown")


def test_artefacts_that_were_let_go_are_said_so(odd: World) -> None:
    shell, made = odd
    freed = made["exp/freed"]["id"]
    by = "were let go on 2026-11-03 by Ada <ada@example.org>"
    found = report(shell, "exp/freed")
    assert found["reason"] == f"the artefacts of {freed} {by}: older than a year"
    assert f"its artefacts {by}: cd4ml reproduce {freed} --store makes them again" in found["notes"]


def test_another_target_is_not_comparable(odd: World) -> None:
    found = report(odd[0], "exp/target")
    assert found["verdict"] == "not comparable"
    assert found["reason"] == "data.target differs: arr_delay, here dep_delay"


def test_ten_thousand_changed_keys_and_hostile_text_are_told_as_they_are(odd: World) -> None:
    found = report(odd[0], "exp/many")
    assert len(found["config"]) > 10_000
    assert HOSTILE in {one["challenger"] for one in found["config"]}
    for form in ("markdown", "html", "terminal"):
        assert cd4ml(odd[0], "report", "exp/many", "--format", form, "--no-plots").out


def test_a_branch_with_a_name_made_for_a_shell_is_quoted_in_every_command(odd: World) -> None:
    shell, _ = odd
    found = report(shell, QUOTED)
    assert found["branch"] == QUOTED
    assert f"`cd4ml reconcile {shlex.quote(QUOTED)}`" in found["reason"]
    assert not (shell.folder / "x").exists()


def test_a_record_whose_cost_is_odd_is_told_without_what_it_does_not_say(odd: World) -> None:
    cost = {one["name"]: one["challenger"] for one in report(odd[0], "exp/cost")["cost"]}
    assert (cost["training"], cost["peak memory"], cost["prediction"]) == (1.0, None, None)


def test_a_champion_that_never_ran_is_not_comparable_and_no_gate_passes(team: Shell) -> None:
    body = result_of_main(team)
    push(team, "refs/heads/main", commit(team, "main", {BASELINE: OTHER_SEED.format(seed=5)}))
    team.run("git", "pull", "--quiet")
    made_up(team, "exp/late", 6, body)
    found = report(team, "exp/late", "--exit-code", code=1)
    assert found["verdict"] == "not comparable"
    assert found["reason"].startswith("main has no result: ")
    assert "`cd4ml reconcile main`" in found["reason"]
    assert {gate["outcome"] for gate in found["gates"]} == {"held"}
    before = report(team, "main")
    assert (before["verdict"], before["champion"]["id"]) == ("pending", body["id"])


def test_after_a_fast_forward_the_base_branch_is_held_against_what_it_was_and_not_against_the_branchs_steps(
    team: Shell,
) -> None:
    body = result_of_main(team)
    step = made_up(team, "exp/steps", 21, body)
    last = commit(team, step["commit"], {BASELINE: OTHER_SEED.format(seed=22)})
    push(team, "refs/heads/exp/steps", last)
    asked = {"params": {**body["params"], "seed": 22}, "components": components_of(team, "exp/steps")}
    land(team, {**body, "commit": last, **asked}, branch="exp/steps")
    push(team, "refs/heads/main", last)
    found = report(team, "main")
    assert (found["challenger"]["commit"], found["champion"]["id"]) == (last, body["id"])


# ── a branch that is no experiment, and a run that nobody else has ───────────────────────────────────────────────


def test_what_is_said_to_start_a_run_is_not_said_of_a_branch_that_is_no_experiment(team: Shell) -> None:
    branch(team, "hotfix/alpha", {BASELINE: OTHER_SEED.format(seed=5)})
    found = report(team, "hotfix/alpha")
    assert found["verdict"] == "pending"
    why = "is no experiment: on main, experiments.branches asks for a name like exp/*"
    assert found["reason"].endswith(f"never run: hotfix/alpha {why}")
    for verb in ("reconcile", "plan", "status"):
        assert cd4ml(team, verb, "hotfix/alpha", code=2).lines == [f"cd4ml: hotfix/alpha: {why}"]


def test_a_run_that_this_clone_alone_has_is_told_as_that(team: Shell) -> None:
    git(team, "switch", "--quiet", "--create", "hotfix/alpha")
    (team.folder / BASELINE).write_text(OTHER_SEED.format(seed=5), "utf-8")
    git(team, "commit", "--quiet", "--all", "--message", "A seed")
    git(team, "push", "--quiet", "origin", "hotfix/alpha")
    cd4ml(team, "run")
    found = report(team, "hotfix/alpha")
    alone = f"{found['challenger']['id']} is in this clone alone so far: whoever reconciles without it runs it again"
    assert alone in found["notes"]
    git(team, "push", "--quiet", "origin", "HEAD:main", "HEAD:exp/alpha")
    cd4ml(team, "reconcile", "exp/alpha")
    assert alone not in report(team, "hotfix/alpha")["notes"]
