"""What tags claim, by their names alone: which one is in production, and which claims are taken back."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from cd4ml.promotion.release_tags import (
    MOST_CANDIDATES,
    candidates,
    differing,
    names_in_production,
    taken_out,
    uncounted,
)


def likeliest(*tags: tuple[str, str]) -> tuple[str, str, str] | None:
    found = candidates(dict(tags))
    return (found[0].commit, found[0].release, found[0].environment) if found else None


def test_what_was_put_into_production_last_comes_before_a_newer_version() -> None:
    tags = (("m@v1.0.0", "a"), ("m@v2.0.0", "b"), ("m#production#1", "b"), ("m#production#2", "a"))
    assert likeliest(*tags) == ("a", "m@v1.0.0", "production")


def test_numbers_and_versions_are_compared_as_numbers() -> None:
    assert likeliest(("m#prod#9", "a"), ("m#prod#10", "b")) == ("b", "", "prod")
    assert likeliest(("m@v1.9.0", "a"), ("m@v1.10.0", "b")) == ("b", "m@v1.10.0", "")
    assert likeliest(("m@v1.0.0-rc.1", "a"), ("m@v1.0.0", "b")) == ("b", "m@v1.0.0", "")


def test_production_comes_before_prod_and_any_other_environment_last() -> None:
    assert likeliest(("m#prod#9", "a"), ("m#production#1", "b")) == ("b", "", "production")
    assert likeliest(("m#staging#9", "a"), ("m@v0.0.1", "b")) == ("b", "m@v0.0.1", "")
    assert likeliest(("m#staging#9", "a")) == ("a", "", "staging")


def test_an_environment_that_was_emptied_holds_nothing_until_it_is_filled_again() -> None:
    emptied = (("m#production#1", "a"), ("m#production!#2", "a"))
    assert likeliest(*emptied) is None
    assert likeliest(*emptied, ("m#production#3", "b")) == ("b", "", "production")


def test_a_version_that_was_taken_back_does_not_count() -> None:
    assert likeliest(("m@v2.0.0", "b"), ("m@v2.0.0!#3", "b"), ("m@v1.0.0", "a")) == ("a", "m@v1.0.0", "")


def test_names_that_are_no_release_tags_are_nothing() -> None:
    odd = (
        "v1.0.0",
        "m@1.0.0",
        "m@v1.0",
        "m#",
        "#prod#1",
        "m@v1.0.0#",
        "m@v99999999999999.0.0",
        "m@v1.0.0\n",
        "a b@v1.0.0",
    )
    assert candidates(dict.fromkeys(odd, "a")) == ()


@dataclass(frozen=True)
class Tagged:
    commit: str
    annotated: bool = True


def test_tags_that_are_the_same_on_both_sides_or_no_release_tags_raise_no_doubt() -> None:
    there = {"m@v1.0.0": Tagged("a"), "v1": Tagged("a", False), "nightly": Tagged("b")}
    assert differing(there, {"m@v1.0.0": Tagged("a"), "v1": Tagged("b"), "mine": Tagged("b", False)}, "origin") == ()
    assert uncounted(there) == ()


def test_of_many_tags_that_a_clone_alone_has_one_is_named_and_the_others_counted() -> None:
    (told,) = differing({}, {f"m#prod#{number}": Tagged("a") for number in range(3)}, "up")
    assert told.startswith("m#prod#0 (and 2 more) is a release tag of this clone that up lacks")


@given(names=st.lists(st.text(alphabet="am@v#!.0129-production", max_size=25), max_size=40))
def test_any_names_give_a_bounded_list_of_commits_that_were_tagged(names: list[str]) -> None:
    tags = {name: f"commit of {name}" for name in names}
    found = candidates(tags)
    assert len(found) <= MOST_CANDIDATES
    assert {one.commit for one in found} <= set(tags.values())


def test_of_an_environment_that_was_emptied_twice_the_last_time_counts_in_whatever_order() -> None:
    tags = (("m#production!#4", "a"), ("m#production#3", "b"), ("m#production!#2", "a"))
    assert likeliest(*tags) is None
    assert likeliest(*reversed(tags)) is None


def test_prereleases_are_in_the_order_of_semantic_versioning() -> None:
    """The example of its rule 11, and a release candidate with two digits."""
    ordered = ("alpha", "alpha.1", "alpha.beta", "beta", "beta.2", "beta.11", "rc.1", "rc.2", "rc.10")
    tags = [(f"m@v1.0.0-{pre}", pre) for pre in ordered] + [("m@v1.0.0", "final")]
    for upto in range(1, len(tags) + 1):
        tag, commit = tags[upto - 1]
        assert likeliest(*tags[:upto]) == likeliest(*reversed(tags[:upto])) == (commit, tag, "")


def test_where_production_was_emptied_nothing_is_in_it_and_nothing_takes_its_place() -> None:
    """Neither a version nor what another environment has, until something is put there again."""
    tags = [("m@v1.0.0", "a"), ("m#production#1", "a"), ("m#production!#2", "a"), ("m#staging#3", "b")]
    assert likeliest(*tags) is None
    assert taken_out(dict(tags)) == {"m": "m#production!#2"}
    assert likeliest(*tags, ("m#production#4", "b")) == ("b", "", "production")
    assert taken_out(dict([*tags, ("m#production#4", "b")])) == {}
    assert taken_out({"m@v1.0.0": "a", "m#staging!#1": "a"}) == {}


def test_a_name_that_was_taken_out_of_production_takes_no_other_with_it() -> None:
    tags = (("fraud#production#1", "a"), ("fraud#production!#2", "a"), ("fraud@v9.0.0", "a"), ("churn@v1.0.0", "b"))
    assert likeliest(*tags) == ("b", "churn@v1.0.0", "")


def test_of_which_names_something_is_in_production_is_told() -> None:
    tags = {"m#production#1": "a", "n#prod#1": "b", "o#staging#1": "c", "p#production#1": "d", "p#production!#2": "d"}
    assert names_in_production(tags) == ("m", "n")
