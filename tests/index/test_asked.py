"""The order and the columns of a search, names that no run has, and mistakes in any of it shown in their place."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cd4ml.errors import UsageError
from cd4ml.index.asked import Term, described, fields_of, parse_columns, parse_order, unheld
from cd4ml.index.fields import FIELDS, GROUPS, LISTS, SYNONYMS
from cd4ml.index.filter import Comparison, Duration, Field, Like
from cd4ml.index.place import WINDOW, located, width
from cd4ml.index.query import parse

HELD = ("metrics", "metrics.validation", "metrics.validation.rmse", "metrics.test.rmse", "params.model.name")


def test_an_order_is_any_number_of_fields_each_with_its_direction() -> None:
    rmse, started = Field(("metrics", "rmse")), Field(("started",))
    assert parse_order("metrics.rmse") == (Term(rmse),)
    assert parse_order(" metrics.rmse DESC,started asc , name") == (
        Term(rmse, descending=True),
        Term(started),
        Term(Field(("name",))),
    )
    assert parse_order('params."a, b" desc, attributes.start_time') == (
        Term(Field(("params", "a, b")), descending=True),
        Term(started),
    )


def test_columns_are_fields_or_what_holds_fields_each_once() -> None:
    assert parse_columns("branch, metrics.rmse,params.model , metrics,branch") == (
        ("branch",),
        ("metrics", "rmse"),
        ("params", "model"),
        ("metrics",),
    )
    assert parse_columns("data.flights,slices.carrier,tags,tags.team,validation.failed,environment.packages.numpy") == (
        ("data", "flights"),
        ("slices", "carrier"),
        ("tags",),
        ("tags", "team"),
        ("validation", "failed"),
        ("packages", "numpy"),
    )


@pytest.mark.parametrize(
    ("what", "text", "caret", "words"),
    [
        ("order", "metrics.rmse down", 13, "expected asc, desc"),
        ("order", "metrics.rmse desc desc", 18, "expected ','"),
        ("order", "started, fnished", 9, "did you mean finished?"),
        ("order", "age", 0, "order by finished"),
        ("order", "tags", 0, "have no order"),
        ("order", "metrics", 0, "needs a name"),
        ("order", "name; drop", 4, "',' or the end"),
        ("order", "", 0, "a field such as"),
        ("order", "name,", 5, "a field such as"),
        ("columns", "branch,,name", 7, "a field such as"),
        ("columns", "branch, brnch", 8, "did you mean branch?"),
        ("columns", "branch name", 7, "expected ','"),
        ("columns", "branch, data.flights.rws", 8, "did you mean data.flights.rows?"),
        ("columns", "slices.a.b.c.d.e", 0, "slices.COLUMN.VALUE.METRIC"),
        ("columns", "age", 0, "show finished"),
        ("columns", "metrics.", 7, "expected ','"),
    ],
)
def test_a_mistake_in_order_or_columns_is_shown_where_it_is(what: str, text: str, caret: int, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        (parse_order if what == "order" else parse_columns)(text)
    message, shown, mark = str(caught.value).split("\n")
    assert message.startswith(f"{what}, character {caret + 1}: ")
    assert words in message
    assert shown == f"  {text}"
    assert mark == "  " + " " * caret + "^"


@given(st.text(max_size=4100) | st.lists(st.sampled_from(["id", ",", "desc", '"', "`", ".", "metrics.a"])).map("".join))
def test_any_text_is_an_order_or_a_usage_error_and_so_with_columns(text: str) -> None:
    for read in (parse_order, parse_columns):
        with contextlib.suppress(UsageError):
            read(text)


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("name = 'äöü' and nme = 'x'", 17),
        ("name = '日本語' and nme = 'x'", 20),
        ("name = 'e\u0301' and nme = 'x'", 15),
        ("name\t=\t'a'\tand\tnme = 'x'", 15),
        ("name = 'a\u200bb' and nme = 'x'", 17),
        ("name = 'ㅤ' and nme = 'x'", 15),
    ],
)
def test_the_caret_is_under_the_place_whatever_takes_how_many_columns(text: str, column: int) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    message, shown, mark = str(caught.value).split("\n")
    assert f"character {text.index('nme') + 1}:" in message
    assert mark.index("^") == width(shown[: shown.index("nme")]) == column + 2
    assert shown.isprintable()


def test_of_several_lines_the_one_with_the_mistake_is_shown() -> None:
    with pytest.raises(UsageError) as caught:
        parse("name = 'a'\nand nme = 'b'\nor id = 'c'")
    assert str(caught.value) == (
        "filter, line 2, character 5: there is no field nme; did you mean name?\n  and nme = 'b'\n      ^"
    )


@given(st.text(alphabet="a日 e\u0301\t", min_size=1, max_size=400), st.data())
def test_a_window_holds_the_place_and_fits_a_terminal(text: str, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(text)))
    _, shown, mark = str(located("filter", text, position, "no")).split("\n")
    assert width(shown) <= WINDOW + 2
    assert width(mark) <= WINDOW + 3
    line = text.replace("\t", " ")
    cut = next(place for place in range(len(shown) + 1) if width(shown[:place]) == width(mark) - 1)
    marks = next(back for back in range(position + 1) if back == position or width(line[position - back - 1]) > 0)
    assert shown[cut : cut + 5].strip() in line[max(0, position - marks - 2) : position + 7] or position == len(text)


def test_a_quoted_name_cannot_put_a_line_of_its_own_into_a_message() -> None:
    with pytest.raises(UsageError) as caught:
        parse('branch."x\nall is well" = 1')
    assert len(str(caught.value).split("\n")) == 3


def test_the_fields_of_a_filter_are_those_that_it_compares() -> None:
    text = (
        "'words' and (params.x = 1 or not metrics.a in (1, 2)) and params.y is null and name like 'a' and params.x < 2"
    )
    assert fields_of(parse(text)) == (("params", "x"), ("metrics", "a"), ("name",))
    assert fields_of(None) == ()


def test_a_name_that_no_run_has_is_said_with_the_nearest_that_one_has() -> None:
    assert unheld([("metrics", "rmsee")], HELD) == ("no run holds metrics.rmsee; did you mean metrics.rmse?",)
    assert unheld([("params", "modle", "name")], HELD) == (
        "no run holds params.modle.name; did you mean params.model.name?",
    )
    assert unheld([("metrics", "test", "rmsee")], HELD) == (
        "no run holds metrics.test.rmsee; did you mean metrics.test.rmse?",
    )
    assert unheld([("metrics", "rmse")], ()) == (), "an empty index knows no name, and every one is right"
    assert unheld([("slices", "a", "b", "c")], HELD) == ("no run holds slices.a.b.c",)
    known = [("metrics", "rmse"), ("metrics", "test", "rmse"), ("metrics", "test"), ("metrics",), ("branch",)]
    assert unheld([*known, ("tags",), ("validation", "failed"), ("params", "model")], HELD) == ()


def test_a_group_that_is_compared_is_said_to_be_one_with_what_it_holds() -> None:
    """Nothing is equal to it, and who sees nothing found would not know why."""
    (told,) = unheld([], HELD, [("params", "model")])
    assert told.startswith("params.model is a group of keys, and no value: params.model.")
    assert unheld([], HELD, [("metrics", "rmse"), ("params", "model", "name")]) == ()


def test_every_field_is_described_and_what_runs_have_of_it() -> None:
    fields = {one["name"]: one for one in described(HELD)}
    assert set(FIELDS) <= set(fields)
    assert {".".join(path) for path in LISTS} <= set(fields)
    assert {name.partition(".")[0] for name in fields} >= set(GROUPS)
    assert fields["metrics.NAME"]["held"] == [
        "metrics.test.rmse",
        "metrics.validation",
        "metrics.validation.rmse",
    ]
    assert fields["metrics.NAME"]["synonyms"] == ["metric.X"]
    assert fields["started"]["synonyms"] == ["start_time"]
    assert fields["validation.success"]["type"] == "truth"
    assert fields["failure.kind"]["words"] == ["deterministic", "transient"]
    assert "<" not in fields["packages.NAME"]["operators"]
    assert all(one["meaning"] and one["operators"] for one in fields.values())


@pytest.mark.parametrize(("other", "means"), sorted(SYNONYMS.items()))
def test_every_synonym_is_read_as_what_it_means(other: str, means: str) -> None:
    name = "kind" if means == "failure.X" else "name"
    assert parse(f"{other.replace('X', name)} is null") == parse(f"{means.replace('X', name)} is null")


def test_a_filter_of_mlflow_is_read_as_what_it_means_here() -> None:
    assert parse("attributes.status = 'FINISHED'") == Comparison(Field(("outcome",)), "=", "succeeded")
    assert parse("status IN ('FAILED')") == parse("outcome in ('failed')")
    assert parse('parameters.`a b` = 1 and tags."team" LIKE "x%"') == parse(
        "params.\"a b\" = 1 and tags.team like 'x%'"
    )
    assert parse("tag.team like 'x%'") == Like(Field(("tags", "team")), "x%")
    assert parse("age < 7d") == Comparison(Field(("age",)), "<", Duration(7, "d"))
