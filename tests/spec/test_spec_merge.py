"""The three-way merge of configurations."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cd4ml.spec.merge import ABSENT, BothChanged, differences, get, leaves, same, settled, three_way

SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.floats(-2, 2), st.sampled_from(["a", "b"]))
VALUES = st.recursive(
    st.one_of(SCALARS, st.lists(SCALARS, max_size=2)),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["x", "y", "z", "_target_"]), inner, max_size=3)
    ),
    max_leaves=6,
)
CONFIGS = st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), VALUES, max_size=4)


@given(CONFIGS, CONFIGS)
def test_what_only_one_side_changed_is_what_that_side_has(base: dict[str, Any], changed: dict[str, Any]) -> None:
    for merged in (three_way(base, changed, base), three_way(base, base, changed), three_way(base, changed, changed)):
        assert same(merged.value, changed)
        assert merged.both_changed == ()


@given(CONFIGS, CONFIGS, CONFIGS)
def test_without_a_value_that_both_changed_the_sides_can_be_exchanged(
    base: dict[str, Any], ours: dict[str, Any], theirs: dict[str, Any]
) -> None:
    one, other = three_way(base, ours, theirs), three_way(base, theirs, ours)
    if not one.both_changed and not other.both_changed:
        assert same(one.value, other.value)


@given(CONFIGS, CONFIGS, CONFIGS)
def test_every_value_that_ours_changed_is_kept(
    base: dict[str, Any], ours: dict[str, Any], theirs: dict[str, Any]
) -> None:
    merged = three_way(base, ours, theirs)
    for path, value in leaves(ours):
        if path and value != {} and not (isinstance(value, list) or same(get(base, path), value)):
            assert same(get(merged.value, path), value), path
    for one in merged.both_changed:
        path = tuple(one.key.split("."))
        assert same(get(ours, path), one.ours)
        assert same(get(theirs, path), one.theirs)
        assert not same(one.base, one.theirs)
        assert not same(one.ours, one.theirs)


@given(CONFIGS, CONFIGS, CONFIGS)
def test_every_value_that_theirs_changed_is_taken_or_listed(
    base: dict[str, Any], ours: dict[str, Any], theirs: dict[str, Any]
) -> None:
    merged = three_way(base, ours, theirs)
    listed = {one.key for one in merged.both_changed}
    for path, value in leaves(theirs):
        if path and value != {} and not (isinstance(value, list) or same(get(base, path), value)):
            above = {".".join(path[:cut]) for cut in range(1, len(path) + 1)}
            assert same(get(merged.value, path), value) or above & listed, path


@given(CONFIGS, CONFIGS)
def test_setting_the_differences_gives_what_is_wanted(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    missing = differences(found, wanted)
    assert bool(missing) != (dict(leaves(found)).keys() == dict(leaves(wanted)).keys() and same(found, wanted))
    for path, value in missing.items():
        assert same(get(wanted, path), value)


def test_a_value_that_both_changed_stays_ours_and_is_listed_with_all_three() -> None:
    merged = three_way({"a": {"x": 1, "y": 1}}, {"a": {"x": 2, "y": 1}}, {"a": {"x": 3, "y": 5}})
    assert merged.value == {"a": {"x": 2, "y": 5}}
    assert merged.both_changed == (BothChanged("a.x", 1, 2, 3),)


def test_parameters_of_two_classes_do_not_mix() -> None:
    base = {"model": {"_target_": "sklearn.Ridge", "alpha": 1}}
    ours = {"model": {"_target_": "xgboost.X", "depth": 3}}
    theirs = {"model": {"_target_": "sklearn.Ridge", "alpha": 2, "solver": "svd"}}
    merged = three_way(base, ours, theirs)
    assert merged.value == ours
    assert merged.both_changed == (
        BothChanged("model.alpha", 1, ABSENT, 2),
        BothChanged("model.solver", ABSENT, ABSENT, "svd"),
    )
    assert merged.both_changed[1].as_json() == {"key": "model.solver", "theirs": "svd"}


def test_a_mapping_that_is_whole_is_one_value() -> None:
    base, ours, theirs = {"g": {"x": 1, "y": 1}}, {"g": {"x": 2, "y": 1}}, {"g": {"x": 1, "y": 2}}
    assert three_way(base, ours, theirs).value == {"g": {"x": 2, "y": 2}}
    merged = three_way(base, ours, theirs, {("g",)})
    assert merged.value == ours
    assert merged.both_changed == (BothChanged("g.y", 1, 1, 2),)


def test_one_and_one_point_nought_are_two_values_as_they_are_to_the_fingerprint() -> None:
    assert three_way({"a": 1}, {"a": 1.0}, {"a": 2}).both_changed == (BothChanged("a", 1, 1.0, 2),)


def test_a_list_of_mappings_is_merged_item_by_item_where_its_length_stayed() -> None:
    base = {"steps": [["scale", {"mean": True}], ["fit", {"alpha": 1}]]}
    ours = {"steps": [["scale", {"mean": True}], ["fit", {"alpha": 2}]]}
    theirs = {"steps": [["scale", {"mean": False}], ["fit", {"alpha": 3}]]}
    merged = three_way(base, ours, theirs)
    assert merged.value == {"steps": [["scale", {"mean": False}], ["fit", {"alpha": 2}]]}
    assert merged.both_changed == (BothChanged("steps.1.1.alpha", 1, 2, 3),)
    longer = {"steps": [["scale", {"mean": False}]]}
    assert three_way(base, ours, longer).value == ours


def test_a_list_is_one_value_and_a_key_taken_away_stays_away() -> None:
    merged = three_way({"a": [1, 2], "b": 1, "c": 1}, {"a": [1, 3], "c": 1}, {"a": [0, 2], "b": 1})
    assert merged.value == {"a": [1, 3]}
    assert [one.key for one in merged.both_changed] == ["a"]


def test_a_value_that_resolves_as_before_is_settled_as_it_was_written_before() -> None:
    base, was = (
        {"list": [1], "model": {"uses": "${list}", "depth": 3}},
        {"list": [1], "model": {"uses": [1], "depth": 3}},
    )
    written, now = {"list": [1], "model": {"uses": [1], "depth": 4}}, {"list": [1], "model": {"uses": [1], "depth": 4}}
    assert settled(base, written, was, now) == {"list": [1], "model": {"uses": "${list}", "depth": 4}}


def test_a_value_that_resolves_otherwise_is_settled_as_it_is_written_now() -> None:
    base, was = {"seed": 1, "alpha": 1}, {"seed": 1, "alpha": 1}
    written, now = {"seed": 2, "alpha": "${seed}"}, {"seed": 2, "alpha": 2}
    assert settled(base, written, was, now) == written


@given(CONFIGS, CONFIGS)
def test_a_configuration_without_references_is_settled_already(base: dict[str, Any], changed: dict[str, Any]) -> None:
    assert same(settled(base, changed, base, changed), changed)
