"""The filter language: text to value and back, and the words for what is wrong with a text."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cd4ml.errors import UsageError
from cd4ml.index.filter import (
    And,
    Between,
    Comparison,
    Duration,
    Field,
    Filter,
    IsNull,
    Like,
    Not,
    OneOf,
    Or,
    Text,
    begun,
    depth,
    retyped,
    write,
)
from cd4ml.index.paths import leaves, path_text, split_path
from cd4ml.index.query import MAX_CHARACTERS, MAX_NESTING, parse
from tests.index.filter_world import filters

RMSE = Field(("metrics", "rmse"))
MODEL = Field(("params", "model", "name"))
GOOD = Comparison(RMSE, "<", 12)
XGBOOST = Comparison(MODEL, "=", "xgboost")
BRANCH = Field(("branch",))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("metrics.rmse < 12 and params.model.name = 'xgboost'", And((GOOD, XGBOOST))),
        ("METRICS.rmse < 12", None),
        ('metrics.rmse<12 AND params.model.name="xgboost"', And((GOOD, XGBOOST))),
        ("metrics.rmse < 12 or metrics.rmse < 12 and params.model.name = 'xgboost'", Or((GOOD, And((GOOD, XGBOOST))))),
        ("(metrics.rmse < 12 or metrics.rmse < 12) aNd metrics.rmse < 12", And((Or((GOOD, GOOD)), GOOD))),
        ("not metrics.rmse < 12 and metrics.rmse < 12", And((Not(GOOD), GOOD))),
        ("not (metrics.rmse < 12 and metrics.rmse < 12)", Not(And((GOOD, GOOD)))),
        ("branch in ('main', 'exp/a')", OneOf(BRANCH, ("main", "exp/a"))),
        ("branch Not In ('main')", OneOf(BRANCH, ("main",), negated=True)),
        ("branch like 'exp/%'", Like(BRANCH, "exp/%")),
        ("branch not ilike 'exp/%'", Like(BRANCH, "exp/%", ignore_case=True, negated=True)),
        ("packages.numpy like '2.%'", Like(Field(("packages", "numpy")), "2.%")),
        ("conclusion is null", IsNull(Field(("conclusion",)))),
        ("conclusion IS NOT NULL", IsNull(Field(("conclusion",)), negated=True)),
        ("metrics.rmse between -1.5 and 2e1", Between(RMSE, -1.5, 20.0)),
        ("metrics.rmse not between 1 and 2", Between(RMSE, 1, 2, negated=True)),
        ("status = 'FINISHED'", Comparison(Field(("outcome",)), "=", "succeeded")),
        ("attributes.status in ('FAILED')", OneOf(Field(("outcome",)), ("failed",))),
        ("metrics.rmse == 12 ", Comparison(RMSE, "=", 12)),
        ("metrics.rmse <> 12", Comparison(RMSE, "!=", 12)),
        ("metrics.test.rmse >= .5", Comparison(Field(("metrics", "test", "rmse")), ">=", 0.5)),
        ("params.steps.0.1.alpha = 1", Comparison(Field(("params", "steps", "0", "1", "alpha")), "=", 1)),
        ('params."a b".`c.d` = true', Comparison(Field(("params", "a b", "c.d")), "=", True)),
        ("params.and.or = FALSE", Comparison(Field(("params", "and", "or")), "=", False)),
        ("params.x = 'it''s'", Comparison(Field(("params", "x")), "=", "it's")),
        ("age < 7d", Comparison(Field(("age",)), "<", Duration(7, "d"))),
        ("started >= 2026-11-03", Comparison(Field(("started",)), ">=", "2026-11-03")),
        ("'tree depth'", Text("tree depth")),
        ('MATCH "it""s"', Text('it"s')),
        ("not 'a' and match 'b'", And((Not(Text("a")), Text("b")))),
        ("tags = 'x'", Comparison(Field(("tags",)), "=", "x")),
        ("tag.x != 'y'", Comparison(Field(("tags", "x")), "!=", "y")),
        ("validation.success != true", Comparison(Field(("validation", "success")), "!=", True)),
        ("reason.kind in ('transient')", OneOf(Field(("failure", "kind")), ("transient",))),
        ("slices.a.b.rmse < 1", Comparison(Field(("slices", "a", "b", "rmse")), "<", 1)),
        ("params.x = 9223372036854775807", Comparison(Field(("params", "x")), "=", 9223372036854775807)),
        ("params.x = 9223372036854775808", Comparison(Field(("params", "x")), "=", 9223372036854775808.0)),
        ("params.x = -0.10e+2", Comparison(Field(("params", "x")), "=", -10.0)),
        ("params.größe = 'Straße'", Comparison(Field(("params", "größe")), "=", "Straße")),
        ("started < 2026-11-03T10:00:00Z", Comparison(Field(("started",)), "<", "2026-11-03T10:00:00Z")),
    ],
)
def test_what_people_write_is_read(text: str, value: Filter | None) -> None:
    if value is None:
        with pytest.raises(UsageError, match="did you mean metrics"):
            parse(text)
    else:
        assert parse(text) == value


@pytest.mark.parametrize("text", ["", "  ", "\n"])
def test_a_blank_filter_is_no_filter(text: str) -> None:
    assert parse(text) is None


@pytest.mark.parametrize(
    ("text", "caret", "words"),
    [
        ("metrics.rmse <", 14, "a value"),
        ("metrics.rmse", 12, "a comparison"),
        ("metrics.rmse < 12 or", 20, "a field"),
        ("(metrics.rmse < 12", 18, "')'"),
        ("12 < metrics.rmse", 0, "a field"),
        ("metrics.rmse ~ 12", 13, "a comparison"),
        ("params.model.name = xgboost", 20, "in quotes: 'xgboost'"),
        ("params.x = null", 11, "IS NULL"),
        ("id = 'x' id", 9, "AND or OR or the end"),
        ("metrcs.rmse < 3", 0, "did you mean metrics.rmse?"),
        ("id = 'x' and brnch = 'main'", 13, "did you mean branch?"),
        ("rmse < 3", 0, "metrics.NAME"),
        ("branch.x = 'a'", 0, "no field branch.x"),
        ("metrics < 3", 0, "needs a name"),
        ("metrics.rmse < 'a'", 15, "with a number"),
        ("metrics.rmse = true", 15, "with a number"),
        ("name = 5", 7, "text in quotes"),
        ("metrics.rmse like '1%'", 18, "LIKE is for text"),
        ("started like '2026%'", 13, "LIKE is for text"),
        ("metrics.rmse between 1 and 'a'", 27, "with a number"),
        ("metrics.rmse between 'a' and 1", 29, "with a number"),
        ("health = 'healthy'", 9, "did you mean 'Healthy'?"),
        ("lifecycle in ('opne')", 14, "did you mean 'open'?"),
        ("started > 'yesterday'", 10, "a date"),
        ("started > '2026-02-30'", 10, "a date"),
        ("age < 7", 6, "a duration"),
        ("age = 7d", 6, "<, <="),
        ("age in (7d)", 8, "<, <="),
        ("params.x < 7d", 11, "a number"),
        ("''", 0, "no word to look for"),
        ("match ' '", 6, "no word to look for"),
        ("match name", 6, "words in quotes"),
        ("tags < 'x'", 7, "tags is compared with =, !=, IN"),
        ("validation.failed between 'a' and 'b'", 34, "is compared with =, !=, IN"),
        ("validation.success = 'yes'", 21, "true or false"),
        ("validation.success < true", 21, "=, !=, IN or IS NULL"),
        ("packages.numpy > '2.4'", 17, "versions do not sort"),
        ("metrics.rmse < 3 && id = 'x'", 17, "expected AND or OR or the end here; '&' is written AND"),
        ("(metrics.rmse < 3 || id = 'x')", 18, "expected ')' or AND or OR here; '|' is written OR"),
        ("!metrics.rmse < 3", 0, "'!' is written NOT"),
        ("metrics.rmse < 3;", 16, "expected AND or OR or the end here"),
        ("metrics.rmse < 3 adn id = 'x'", 17, "did you mean AND?"),
        ("age < '7d'", 6, "without quotes"),
        ("environment.pyhton = '3'", 0, "did you mean environment.python?"),
        ("environment.lock = '3'", 0, "environment.python or environment.platform"),
        ("validation.faild = 'x'", 0, "did you mean validation.failed?"),
        ("data.digest = 'x'", 0, "write data.SOURCE.digest or data.SOURCE.rows"),
        ("slices.carrier.rmse < 1", 0, "write slices.COLUMN.VALUE.METRIC"),
        ("failure.kind = 'for good'", 15, "deterministic, transient"),
        ("data.flights.rows = 'many'", 20, "with a number"),
        ("sclices.a.b.c < 1", 0, "did you mean slices.a.b.c?"),
        ("params.x = 1e999", 11, "too large"),
        ("params.x = 'open", 11, "a value"),
        ("params.x = 'a\0b'", 11, "a value"),
    ],
)
def test_a_mistake_is_shown_where_it_is(text: str, caret: int, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    message, shown, mark = str(caught.value).split("\n")
    assert words in message
    assert shown == "  " + text.replace("\0", " ")
    assert mark == "  " + " " * caret + "^"


def test_the_mistake_in_a_long_filter_is_shown_with_what_is_around_it() -> None:
    text = "id = 'x' or " * 40 + "nme = 'y'" + " or id = 'x'" * 40
    with pytest.raises(UsageError) as caught:
        parse(text)
    _, shown, mark = str(caught.value).split("\n")
    assert len(shown) < 80
    assert shown[mark.index("^") :].startswith("nme")


@given(filters())
def test_a_written_filter_reads_back_as_itself(value: Filter) -> None:
    assert parse(write(value)) == value


@given(
    st.text(max_size=MAX_CHARACTERS + 10)
    | st.lists(
        st.sampled_from(["id", "=", "'x'", "and", "not", "(", ")", "in", "7d", "match", "tags", "data.a.b", ",", '"']),
        max_size=600,
    ).map(" ".join)
)
def test_any_text_is_a_filter_or_a_usage_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        parse(text)


@pytest.mark.parametrize("nested", ["not ", "id = 'x' and (id = 'x' or ("])
def test_nesting_and_length_have_limits(nested: str) -> None:
    opened = nested.count("(")

    def text(times: int) -> str:
        return nested * times + "id = 'x'" + ")" * opened * times

    levels = max(opened, 1)
    inside = parse(text((MAX_NESTING - 1) // levels))
    assert inside is not None
    assert depth(inside) <= MAX_NESTING
    with pytest.raises(UsageError, match="nested"):
        parse(text(MAX_NESTING // levels + 1))
    with pytest.raises(UsageError, match=str(MAX_CHARACTERS)):
        parse(text(1000))


def test_a_thousand_levels_are_refused_and_do_not_exhaust_the_stack() -> None:
    with pytest.raises(UsageError, match="nested"):
        parse("not " * 990 + "id = 'x'")


def test_brackets_around_brackets_are_not_nesting() -> None:
    assert parse("(" * 200 + "id = 'x'" + ")" * 200) == parse("id = 'x'")


def test_a_metric_is_of_the_validation_side_unless_a_side_is_said() -> None:
    assert RMSE.resolved == ("metrics", "validation", "rmse")
    assert Field(("metrics", "test", "rmse")).resolved == ("metrics", "test", "rmse")
    assert Field(("metrics", "test")).resolved == ("metrics", "validation", "test")


@given(st.lists(st.text(st.characters(exclude_characters="\0")), min_size=1, max_size=4).map(tuple))
def test_a_written_path_reads_back_as_itself(path: tuple[str, ...]) -> None:
    assert split_path(path_text(path)) == path


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a b", 'a."b', "a..b"])
def test_what_is_no_path_is_not_read_as_one(text: str) -> None:
    with pytest.raises(ValueError, match="not a path"):
        split_path(text)


def test_leaves_are_everything_that_is_there_and_not_null() -> None:
    value = {"a": [1, {"b": None}], "c d": "x", "e": {}}
    assert dict(leaves("params.g", value)) == {
        "params.g": None,
        "params.g.a": None,
        "params.g.a.0": 1,
        "params.g.a.1": None,
        'params.g."c d"': "x",
        "params.g.e": None,
    }


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("table.digest = '6803f6bd'", "table.digest LIKE '6803f6bd%'"),
        ("params.a = 'x' OR NOT name = 'y'", "params.a LIKE 'x%' OR NOT name = 'y'"),
        ("params.a = 'x_y' OR params.a = 7 OR lifecycle = 'open' OR name = ''", ""),
        ("name = 'x' AND table.digest = '68'", "name LIKE 'x%' AND table.digest LIKE '68%'"),
        ("name != 'x' OR name < 'x' OR params.a >= 'x'", ""),
    ],
)
def test_equal_texts_become_what_begins_so(text: str, other: str) -> None:
    filter_ = parse(text)
    assert filter_ is not None
    assert write(begun(filter_)) == write(parse(other or text) or filter_)


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("params.seed = '7'", "params.seed = 7"),
        ("params.seed = 7", "params.seed = '7'"),
        ("NOT params.a.b IN ('1.5', 'x') OR metrics.rmse < 2", "NOT params.a.b IN (1.5, 'x') OR metrics.rmse < 2"),
        ("branch = '7' AND tags.team = 'x'", "branch = '7' AND tags.team = 'x'"),
        ("params.seed = '7' AND params.x NOT IN ('1', 2)", "params.seed = 7 AND params.x NOT IN (1, '2')"),
        ("branch IN ('7', '8') OR packages.numpy NOT IN ('2')", ""),
        ("params.x = 'nan' OR params.y = true OR params.z = '1e999'", ""),
        (f"params.x = '{'9' * 400}'", ""),
        (f"params.x = '{2**70}'", f"params.x = {float(2**70)!r}"),
    ],
)
def test_texts_that_read_as_numbers_and_numbers_change_places(text: str, other: str) -> None:
    filter_ = parse(text)
    assert filter_ is not None
    assert write(retyped(filter_)) == write(parse(other or text) or filter_)
