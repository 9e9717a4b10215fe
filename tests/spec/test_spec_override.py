"""What a new experiment changes in the files; that Hydra agrees is tested with Hydra, in tests/gateways."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cd4ml.errors import ConfigError
from cd4ml.spec.override import Operation, Override, name_problem, new_experiment, selected_experiment, unchanged
from cd4ml.spec.sources import check_conf_files, load_yaml

ROOT = Path(__file__).parents[2]
PROJECT = {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in (ROOT / "conf").rglob("*.yaml")}


def override(key: str, value: Any = None, operation: Operation = "change") -> Override:
    return Override(f"{key}={value}", operation, key, value)


def body_of(changed: dict[str, bytes], name: str) -> dict[str, Any]:
    return dict(load_yaml(changed[f"conf/experiment/{name}.yaml"].decode()))


def test_one_word_of_the_root_file_changes_and_its_comments_stay() -> None:
    changed = new_experiment(PROJECT, "deeper", (), "why")
    before, after = PROJECT["conf/config.yaml"].decode(), changed["conf/config.yaml"].decode()
    different = [pair for pair in zip(before.splitlines(), after.splitlines(), strict=True) if pair[0] != pair[1]]
    assert different == [
        (
            "  - experiment: baseline   # last, so that an experiment's values win over everything above",
            "  - experiment: deeper   # last, so that an experiment's values win over everything above",
        )
    ]


@pytest.mark.parametrize("name", ["no", "1e3", "010", "2013-09-01", "12", "a/b"])
def test_a_name_that_yaml_would_read_as_something_else_is_quoted(name: str) -> None:
    files = {**PROJECT, **new_experiment(PROJECT, name, (), "")}
    assert check_conf_files(files) == ()
    assert selected_experiment(files) == name
    assert load_yaml(files[f"conf/experiment/{name}.yaml"].decode())["name"] == name


def test_the_copy_is_global_readable_and_says_what_it_was_told() -> None:
    changed = new_experiment(
        PROJECT, "deeper", (override("model", "xgboost"), override("seed", 3)), 'say "why": x\n# y'
    )
    text = changed["conf/experiment/deeper.yaml"].decode()
    assert text.startswith("# @package _global_\n")
    assert body_of(changed, "deeper") == {
        "defaults": [{"override /model": "xgboost"}],
        "name": "deeper",
        "hypothesis": 'say "why": x\n# y',
        "seed": 3,
    }


def test_a_later_choice_replaces_the_earlier_one_and_drops_its_values() -> None:
    one = {**PROJECT, **new_experiment(PROJECT, "one", (override("model", "xgboost"), override("model.name", "x")), "")}
    assert body_of(one, "one")["model"] == {"name": "x"}
    two = body_of(new_experiment(one, "two", (override("model", "ridge"), override("split.column", "c")), ""), "two")
    assert two["defaults"] == [{"override /model": "ridge"}]
    assert "model" not in two
    assert two["split"] == {"column": "c"}


def test_values_of_other_groups_survive_another_choice() -> None:
    one = {**PROJECT, **new_experiment(PROJECT, "one", (override("split.column", "c"),), "")}
    assert body_of(new_experiment(one, "two", (override("model", "ridge"),), ""), "two")["split"] == {"column": "c"}


def test_a_value_that_only_the_copied_file_adds_can_be_taken_away() -> None:
    add = override("model.estimator.tol", 1, "add")
    one = {**PROJECT, **new_experiment(PROJECT, "one", (add,), "")}
    two = new_experiment(one, "two", (override("model.estimator.tol", operation="delete"),), "")
    assert "tol" not in str(body_of(two, "two"))


@pytest.mark.parametrize("key", ["model.estimator.alpha", "seed", "nothing"])
def test_a_value_of_another_file_cannot_be_taken_away(key: str) -> None:
    with pytest.raises(ConfigError, match="cannot take away"):
        new_experiment(PROJECT, "one", (override(key, operation="delete"),), "")


@pytest.mark.parametrize(
    "name",
    ["", "A", "a b", "../x", "a/../b", "/a", "a/", "-a", ".a", "a..b", "a\n", "é", "x" * 101, "a.yaml", "a.lock"],
)
def test_a_name_that_is_no_good_file_or_branch_is_refused(name: str) -> None:
    assert name_problem(name)
    with pytest.raises(ConfigError) as caught:
        new_experiment(PROJECT, name, (), "")
    assert (caught.value.problems[0].file, caught.value.problems[0].key) == ("NAME", "")


def test_a_name_that_is_taken_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        new_experiment(PROJECT, "baseline", (), "")
    assert caught.value.problems[0].file == "conf/experiment/baseline.yaml"


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (override("experiment", "x"), "cd4ml new"),
        (override("name", "x"), "cd4ml new"),
        (override("hypothesis", "x"), "cd4ml new"),
        (override("model", "nope"), "there are hist_gradient_boosting, ridge, xgboost"),
        (override("model", ["ridge", "xgboost"]), "one choice"),
        (override("model", operation="delete"), "one choice"),
        (override("model", "ridge", "add"), "one choice"),
        (override("no/group", "x"), "not a group"),
        (override("features.numeric.0", "x"), "item of a list"),
    ],
)
def test_what_an_experiment_file_cannot_say_is_refused(bad: Override, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        new_experiment(PROJECT, "one", (bad,), "")
    assert (caught.value.problems[0].file, caught.value.problems[0].key) == ("override", bad.key)


def test_a_part_of_what_was_set_as_a_whole_is_refused() -> None:
    """Merged into the group's file it would bring back what the whole value replaced."""
    whole, part = override("model.estimator", 0), override("model.estimator.new", 1, "add")
    with pytest.raises(ConfigError, match="as a whole"):
        new_experiment(PROJECT, "one", (whole, part), "")
    one = {**PROJECT, **new_experiment(PROJECT, "one", (whole,), "")}
    with pytest.raises(ConfigError, match="as a whole"):
        new_experiment(one, "two", (part,), "")


def test_a_hypothesis_that_hydra_would_interpolate_is_refused() -> None:
    with pytest.raises(ConfigError, match="hypothesis"):
        new_experiment(PROJECT, "one", (), "costs ${seed}")


def test_a_root_file_that_does_not_end_with_an_experiment_is_refused() -> None:
    for text in (b"a: 1\n", b"defaults: [_self_]\n", b"defaults:\n  - experiment: x\n  - _self_\n"):
        with pytest.raises(ConfigError, match="must end with"):
            new_experiment({"conf/config.yaml": text}, "one", (), "")
    with pytest.raises(ConfigError, match="has no file"):
        new_experiment({"conf/config.yaml": b"defaults:\n  - _self_\n  - experiment: x\n"}, "one", (), "")


def test_flow_style_and_quotes_in_the_root_file_are_kept() -> None:
    files = {"conf/config.yaml": b"defaults: [_self_, {experiment: 'x'}] # c\n", "conf/experiment/x.yaml": b""}
    assert new_experiment(files, "y", (), "")["conf/config.yaml"] == b"defaults: [_self_, {experiment: y}] # c\n"


def test_overrides_that_change_nothing_are_named_as_they_were_written() -> None:
    before = {"a": {"b": 1, "c": [1]}, "model": {"x": 1}, "f": True}
    after = {"a": {"b": 1, "c": [2]}, "model": {"x": 1}, "new": None, "f": 1}
    overrides = (override("a.b", 1), override("a.c", [2]), override("model", "m"), override("new"), override("f", 1))
    assert unchanged(before, after, overrides) == ("a.b=1", "model=m")
