"""What is proposed for a table, and that it is always a configuration which cd4ml takes."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cd4ml.controller.desired.scaffold import scaffold
from cd4ml.controller.starting.proposal import Hints, Proposal, look
from cd4ml.controller.starting.proposed_conf import Place, check_name, conf_files
from cd4ml.controller.starting.proposed_split import time_bounds
from cd4ml.errors import UsageError
from cd4ml.gateways.hydra import compose
from cd4ml.spec.experiment import Spec, ValidationSpec
from cd4ml.spec.parse import parse
from cd4ml.stages.expectations import check_expectations

ROWS = 60
PLACE = Place("table", "data/table.csv", "csv")
SCAFFOLD = scaffold()


def frame(rows: int = ROWS, /, **columns: Any) -> pd.DataFrame:
    """A canonical frame with a numeric ``x`` and a target ``y`` that follows it, and more columns."""
    numbers = np.random.default_rng(1)
    x = numbers.normal(size=rows)
    return pd.DataFrame({"x": x, "y": x + numbers.normal(size=rows), **columns})


def proposed(table: pd.DataFrame, target: str = "y", **hints: str) -> Proposal:
    return look(table, Hints(target, **hints))


def spec_of(proposal: Proposal, place: Place = PLACE) -> Spec:
    """The spec that the proposed files compose to."""
    composed = compose(conf_files(proposal, place, SCAFFOLD, "requirements.lock"))
    return parse(composed.resolved, composed.origin)


def role(proposal: Proposal, name: str) -> tuple[str, str]:
    (column,) = [column for column in proposal.columns if column.name == name]
    return column.role, column.why


def words(count: int, rows: int = ROWS, prefix: str = "w") -> list[str]:
    return [f"{prefix}{row % count}" for row in range(rows)]


# --- the task ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "task"),
    [
        (np.linspace(0, 1, ROWS) ** 2, "regression"),
        (np.arange(ROWS) * 3, "regression"),
        (np.arange(ROWS) % 2, "binary"),
        (np.arange(ROWS) % 2 == 0, "binary"),
        (words(2), "binary"),
        (words(3), "multiclass"),
        (np.arange(ROWS) % 4, "multiclass"),
        (np.arange(ROWS) % 20, "regression"),  # three rows a value are no classes
    ],
)
def test_the_task_follows_from_what_the_target_holds(target: Any, task: str) -> None:
    assert proposed(frame(y=target)).task == task


def test_the_task_that_was_asked_for_is_taken() -> None:
    assert proposed(frame(y=np.arange(ROWS) % 4), task="regression").task == "regression"
    assert proposed(frame(y=np.arange(ROWS) % 20), task="multiclass").task == "multiclass"


@pytest.mark.parametrize(
    ("target", "positive"),
    [("yes no", ""), ("Yes No", ""), ("good bad", "good"), ("N Y", ""), ("positive negative", ""), ("no stay", "")],
)
def test_the_positive_class_is_the_yes_or_the_rare_one(target: str, positive: str) -> None:
    """``""`` is the later of the two in sorted order."""
    often, rarely = target.split() if "good" not in target else ("bad", "good")
    table = frame(y=[often if row % 3 else rarely for row in range(ROWS)])
    later = max(often, rarely)
    meant = proposed(table).positive or later
    assert meant == {"yes no": "yes", "Yes No": "Yes", "good bad": "good", "N Y": "Y"}.get(
        target, "positive" if "positive" in target else "stay"
    )
    assert spec_of(proposed(table)).evaluation.positive in ("", meant)
    assert positive in ("", meant)


# --- the columns ------------------------------------------------------------------------------------


def test_each_kind_of_column_finds_its_role() -> None:
    numbers = np.random.default_rng(2)
    days = pd.date_range("2024-01-01", periods=ROWS, freq="D")
    table = frame(
        area=numbers.integers(20, 200, ROWS),
        colour=words(4),
        zip_code=np.arange(ROWS) % 5,
        valid=numbers.integers(0, 9, ROWS),
        heated=numbers.integers(0, 2, ROWS).astype(bool),
        sold=[day.strftime("%Y-%m-%d") for day in days],
        built=[day.strftime("%d.%m.%Y") for day in days],
        remarks=[f"a fine house of {row} rooms by the lake" for row in range(ROWS)],
        customerId=numbers.permutation(ROWS) * 7,
        rownames=np.arange(ROWS) + 1,
        key=[f"k{row}" for row in range(ROWS)],
        same=["a"] * ROWS,
        empty=np.full(ROWS, np.nan),
    )
    proposal = proposed(table)
    roles = {column.name: column.role for column in proposal.columns}
    wanted: dict[str, list[str]] = {
        "target": ["y"],
        "numeric": ["x", "area", "valid"],
        "categorical": ["colour", "zip_code", "heated"],
        "time": ["sold", "built"],
        "text": ["remarks"],
        "left out": ["customerId", "rownames", "key", "same", "empty"],
    }
    assert {what: [name for name, found in roles.items() if found == what] for what in wanted} == wanted
    assert {column.name: column.why for column in proposal.with_role("left out")} == {
        "customerId": "it numbers the rows",
        "rownames": "it numbers the rows",
        "key": "it differs in every row: it names rows and says nothing of others",
        "same": "it is the same in every row",
        "empty": "it holds nothing",
    }
    spec = spec_of(proposal)
    assert dict(spec.data.time_formats) == {"built": "%d.%m.%Y"}
    assert spec.data.time_columns == ("sold", "built")
    assert spec.features.text == ("remarks",)


def test_phrases_of_too_many_kinds_for_categories_are_prose_and_names_of_too_many_are_left_out() -> None:
    rows = 900
    phrases, names = [f"oil paint on canvas {row % 300}" for row in range(rows)], words(300, rows)
    proposal = proposed(frame(rows, medium=phrases, artist=names))
    assert role(proposal, "medium")[0] == "text"
    assert role(proposal, "artist") == ("left out", "300 different values: more than 200 categories")


def test_what_gives_the_target_away_is_left_out_and_said() -> None:
    table = frame()
    table = table.assign(copy=table["y"], scaled=table["y"] * 3 - 1, opposite=-table["y"])
    proposal = proposed(table)
    assert {column.name for column in proposal.with_role("left out")} == {"copy", "scaled", "opposite"}
    assert "exact copy" in role(proposal, "copy")[1]
    assert len([note for note in proposal.notes if "is left out" in note]) == 3


def test_a_code_for_each_class_is_a_leak() -> None:
    table = frame(y=words(3), code=np.arange(ROWS) % 3, other=np.arange(ROWS) % 4)
    assert role(proposed(table), "code")[0] == "left out"
    assert role(proposed(table), "other")[0] == "numeric"


def test_a_day_that_fits_both_orders_is_said_to_be_uncertain() -> None:
    table = frame(when=[f"{1 + row % 12:02}/{1 + row % 11:02}/2024" for row in range(ROWS)])
    assert "see that it is the right one" in role(proposed(table), "when")[1]


def test_infinite_numbers_are_no_feature() -> None:
    assert role(proposed(frame(z=np.where(np.arange(ROWS) == 3, np.inf, 1.0))), "z") == (
        "left out",
        "it holds infinite values",
    )


def test_names_that_conf_cannot_hold_are_left_out_and_told() -> None:
    table = frame()
    for name in ("${features.numeric}", "???", "a\nb"):
        table[name] = words(7)
    proposal = proposed(table)
    assert {column.name for column in proposal.with_role("left out")} == {"${features.numeric}", "???", "a\nb"}
    assert spec_of(proposal).features.numeric == ("x",)


# --- the split --------------------------------------------------------------------------------------


def days(rows: int = ROWS, freq: str = "D") -> list[str]:
    return [day.isoformat() for day in pd.date_range("2020-01-01", periods=rows, freq=freq)]


def test_one_column_of_times_that_tells_when_rows_happened_splits_by_time_without_months_unseen() -> None:
    proposal = proposed(frame(sold_on=days()))
    spec = spec_of(proposal)
    assert spec.split.method == "time"
    assert (spec.split.validation_from, spec.split.test_from) == ("2020-02-12T00:00:00Z", "2020-02-21T00:00:00Z")
    assert proposal.split.rows == {"train": 42, "validation": 9, "test": 9}
    assert dict(spec.features.calendar) == {"sold_on": ("dayofweek",)}


def test_a_row_that_is_there_twice_hides_neither_what_numbers_the_rows_nor_their_order() -> None:
    table = frame(200, moment=days(200), kunde=np.arange(200) + 7)
    twice = pd.concat([table, table.iloc[[17]]], ignore_index=True)
    one, other = proposed(table), proposed(twice)
    assert (other.split.method, role(other, "kunde")) == (one.split.method, role(one, "kunde"))
    assert (one.split.method, role(one, "kunde")) == ("time", ("left out", "it numbers the rows"))
    assert [note for note in other.notes if note not in one.notes] == [
        "1 row is there already, equal in every column: each counts, on the same side as its like"
    ]
    assert sum(other.split.rows.values()) == 201


def test_where_many_rows_are_alike_a_column_of_amounts_is_not_taken_for_one_that_numbers_them() -> None:
    few = pd.DataFrame({"rooms": np.arange(1, 41), "y": np.linspace(0, 1, 40) ** 2})
    assert role(proposed(pd.concat([few] * 3, ignore_index=True)), "rooms")[0] == "numeric"


@pytest.mark.parametrize(
    ("numbers", "written", "bounds"),
    [
        ([2000 + row // 3 for row in range(ROWS)], "%Y", ("2014-01-01T00:00:00Z", "2017-01-01T00:00:00Z")),
        ([20240101 + row // 2 for row in range(ROWS)], "%Y%m%d", ("2024-01-22T00:00:00Z", "2024-01-26T00:00:00Z")),
    ],
)
def test_whole_numbers_that_are_named_as_times_split_by_time(
    numbers: list[int], written: str, bounds: tuple[str, str]
) -> None:
    from cd4ml.stages.ingest import ingest_table

    table = frame(when=numbers)
    assert role(proposed(table), "when")[0] == "numeric"
    spec = spec_of(proposed(table, time="when"))
    assert dict(spec.data.time_formats) == {"when": written}
    assert (spec.split.validation_from, spec.split.test_from) == bounds
    read, _ = ingest_table(spec.data, {"table": table}, "regression")
    assert read["when"].dt.year.tolist() == [int(str(number)[:4]) for number in numbers]


def test_times_over_years_are_cut_at_months() -> None:
    split = spec_of(proposed(frame(300, sold_on=days(300, "4D")))).split
    assert split.validation_from.endswith("-01T00:00:00Z")
    assert split.test_from.endswith("-01T00:00:00Z")


@pytest.mark.parametrize("columns", [{"birth_date": days()}, {"sold_date": days(), "paid_date": days()}, {}])
def test_no_split_by_time_where_no_column_or_several_could_say_when(columns: dict[str, Any]) -> None:
    assert proposed(frame().assign(**columns)).split.method == "random"


def test_a_time_that_leaves_classes_unlearnt_is_taken_only_when_named() -> None:
    table = frame(y=["a"] * 30 + ["b"] * 12 + ["c"] * 18, sold_on=days())
    assert proposed(table).split.method == "stratified"
    named = proposed(table, time="sold_on")
    assert named.split.method == "time"
    assert any("cannot be learnt" in note for note in named.notes)


def test_a_named_group_splits_and_is_no_feature() -> None:
    proposal = proposed(frame(shop=words(12)), group="shop")
    assert (proposal.split.method, proposal.split.keys["column"]) == ("group", "shop")
    assert role(proposal, "shop")[0] == "left out"


def test_classes_are_stratified_and_too_rare_ones_told() -> None:
    assert proposed(frame(y=words(3))).split.method == "stratified"
    proposal = proposed(frame(y=[*words(2, ROWS - 2), "rare", "rare"]))
    assert proposal.split.method == "random"
    assert any("too few to be learnt" in note for note in proposal.notes)


moments = st.lists(
    st.datetimes(min_value=pd.Timestamp("1990-01-01"), max_value=pd.Timestamp("2030-01-01")), min_size=3, max_size=60
)


@given(moments)
def test_no_side_of_a_split_by_time_is_empty(values: list[Any]) -> None:
    times = pd.Series(pd.to_datetime(values, utc=True)).astype("datetime64[ns, UTC]")
    if times.nunique() < 3:
        return
    validation_from, test_from = time_bounds(times)
    assert validation_from < test_from
    assert (times < validation_from).any()
    assert ((times >= validation_from) & (times < test_from)).any()
    assert (times >= test_from).any()


# --- the suite --------------------------------------------------------------------------------------


def test_every_derived_expectation_holds_of_the_data_it_is_derived_from_and_says_what_it_saw() -> None:
    from cd4ml.stages.validate import validate_table

    numbers = np.random.default_rng(3)
    table = frame(
        y=words(3),
        area=np.where(numbers.random(ROWS) < 0.3, np.nan, numbers.normal(50, 9, ROWS)),
        tiny=numbers.normal(0, 1e-12, ROWS),
        huge=numbers.normal(0, 1e12, ROWS),
        colour=pd.Series(words(4)).where(numbers.random(ROWS) < 0.5),
        region=np.arange(ROWS) % 5,
    )
    proposal = proposed(table)
    suite = spec_of(proposal).validation
    results = validate_table(table, suite)
    assert [one for one in results["expectations"] if not one["success"]] == []
    text = conf_files(proposal, PLACE, SCAFFOLD, "")["conf/validation/table.yaml"].decode()
    assert len(re.findall(r"^  - type: expect_\w+   # derived: saw \S", text, re.MULTILINE)) == len(suite.expectations)


def test_data_that_broke_is_rejected_by_the_derived_suite() -> None:
    from cd4ml.stages.validate import validate_table

    table = frame(price=np.random.default_rng(4).normal(100, 5, ROWS))
    suite = spec_of(proposed(table)).validation
    assert validate_table(table, suite)["success"]
    for broken in (table.assign(price=table["price"] * 1000), table.assign(y=table["y"] * 1000), table.head(20)):
        assert not validate_table(broken, suite)["success"]


# --- always a configuration -------------------------------------------------------------------------

ODD = [
    *("on", "1", "null", "~", "a.b", "a b", "${x}", "${features.numeric}", "it's", '"q"', "é", "- x", "#", "a: b"),
    *("{}", "[1]", "true", "1e3", "=", "<<", "!x", "&a", "*a", "%", "@", "`", "hydra", "defaults", "searchpath", "???"),
    *("012", "1:20", "\\", "a\nb", "_target_", "x_month", "__row__", "AKIAIOSFODNN7EXAMPLE", "\ud800"),
]
NAMES = st.one_of(st.sampled_from(ODD), st.text(min_size=1, max_size=8))
N = 24


def column(kind: str, seed: int) -> list[Any]:
    numbers = np.random.default_rng(seed)
    gaps = numbers.random(N) < (0.3 if seed % 2 else 0)
    made: dict[str, list[Any]] = {
        "float": list(numbers.normal(scale=10.0 ** (seed % 7), size=N)),
        "int": list(numbers.integers(0, 1 + seed % 9, N)),
        "large": [int(value) for value in numbers.integers(-(2**62), 2**62, N)],
        "bool": list(numbers.integers(0, 2, N).astype(bool)),
        "word": [f"w{value} ${{x}}" if seed % 5 == 0 else f"w{value}" for value in numbers.integers(0, 3, N)],
        "name": [f"n{value}" for value in range(N)],
        "prose": [f"some {value} words of prose" for value in range(N)],
        "day": days(N, f"{1 + seed % 90}D"),
        "german": [pd.Timestamp(day).strftime("%d.%m.%Y") for day in days(N, "9D")],
        "nothing": [None] * N,
        "same": ["s"] * N,
    }
    values = made[kind]
    return [None if gap and kind not in ("large", "day") else value for gap, value in zip(gaps, values, strict=True)]


KINDS = ["float", "int", "large", "bool", "word", "name", "prose", "day", "german", "nothing", "same"]


def canonical(columns: dict[str, list[Any]]) -> pd.DataFrame:
    """As a source would be read: through Parquet."""
    import pyarrow as pa

    from cd4ml.stages.table import to_frame

    def array(values: list[Any]) -> Any:
        found = pa.array(values)
        return pa.nulls(len(values), pa.float64()) if pa.types.is_null(found.type) else found

    return to_frame(pa.table({name: array(values) for name, values in columns.items()}), "table")


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(NAMES, st.sampled_from(KINDS), st.integers(0, 99)), min_size=1, max_size=6, unique_by=lambda c: c[0]
    ),
    st.sampled_from(["float", "int", "bool", "word"]),
    st.integers(0, 9),
)
@example([("x", "day", 0), ("x_month", "float", 0), ("x_dayofweek", "float", 0)], "word", 1)
@example([("on", "german", 1), ("${x}", "prose", 1), ("null", "prose", 2), ("1", "word", 0)], "float", 3)
def test_whatever_the_table_the_proposal_is_a_configuration_that_names_only_its_columns(
    columns: list[tuple[str, str, int]], target: str, seed: int
) -> None:
    made = {name: column(kind, number) for name, kind, number in columns if name != "y"}
    try:
        table = canonical({**made, "y": column(target, seed)})
        proposal = proposed(table)
    except (UsageError, UnicodeEncodeError):
        return
    spec = spec_of(proposal, Place("on", "data/a b.csv", "csv", ";"))
    assert spec.data.target == "y"
    named = {*spec.features.numeric, *spec.features.categorical, *spec.features.text, *spec.features.calendar}
    assert named <= set(made)
    assert named == {one.name for one in proposal.columns if one.is_feature}
    assert check_expectations(ValidationSpec("s", spec.validation.expectations)) == ()


def test_every_proposed_model_is_built_of_parameters_that_its_classes_take() -> None:
    from cd4ml.stages.estimators import build_estimator

    prose = [f"some {value} words of prose" for value in range(ROWS)]
    for table in (frame(), frame(y=words(2)), frame(y=words(3), remarks=prose)):
        proposal = proposed(table)
        files = conf_files(proposal, PLACE, SCAFFOLD, "")
        models = [path for path in files if path.startswith("conf/model/")]
        assert len(models) == 3
        for path in models:
            choice = path.removeprefix("conf/model/").removesuffix(".yaml")
            resolved = compose(files, (f"model={choice}",)).resolved
            assert build_estimator(resolved["model"]["estimator"], ("sklearn", "xgboost"), 1) is not None


def test_every_key_of_a_generated_file_stands_below_a_comment() -> None:
    files = conf_files(proposed(frame(colour=words(3), sold_on=days())), PLACE, SCAFFOLD, "")
    for path, data in files.items():
        text = data.decode()
        assert text.startswith("#"), path
        yaml.safe_load(text)


# --- what gives nothing to train on -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "hints", "told"),
    [
        (frame(), {"target": "Y"}, "no column 'Y'"),
        (frame(price=words(3)), {"target": "prize"}, "did you mean price"),
        (frame(y=np.full(ROWS, np.nan)), {}, "no value in any row"),
        (frame(y=np.ones(ROWS)), {}, "the same in every row"),
        (frame(y=np.where(np.arange(ROWS) == 1, np.inf, np.arange(ROWS))), {}, "infinite"),
        (frame(1), {}, "has 1 rows"),
        (frame()[["y"]].assign(k="s"), {}, "no column beside the target can serve"),
        (frame(y=[f"n{row}" for row in range(ROWS)]), {}, "no classes"),
        (frame(y=pd.date_range("2024-01-01", periods=ROWS, tz="UTC")), {}, "holds times"),
        (frame(), {"task": "binary"}, "with fractions"),
        (frame(y=np.arange(ROWS) % 3), {"task": "binary"}, "3 different values, not two"),
        (frame(y=np.arange(ROWS) % 2), {"task": "multiclass"}, "say --task binary"),
        (frame(y=words(3)), {"task": "regression"}, "holds text, not numbers"),
        (frame(), {"time": "x"}, "--time: 'x' does not hold times"),
        (frame(), {"group": "z"}, "--group: the data has no column 'z'"),
        (frame(shop=words(2)), {"group": "shop"}, "three sides need three groups"),
        (frame(shop=words(5), day=days()), {"group": "shop", "time": "day"}, "a split is by one of them"),
        (frame().assign(**{"${y}": np.arange(ROWS)}), {"target": "${y}"}, "rename it"),
    ],
)
def test_what_cannot_be_trained_on_is_told_in_one_line(table: pd.DataFrame, hints: dict[str, str], told: str) -> None:
    with pytest.raises(UsageError, match=re.escape(told)) as caught:
        look(table, Hints(**{"target": "y", **hints}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "a b", "-x", "hydra", "a/b", "ü", "x" * 101])
def test_names_that_no_choice_can_have_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="--name"):
        check_name(name)


@pytest.mark.parametrize(("rows", "least"), [(400, 57), (1000, 100)])
def test_a_small_test_side_is_told_and_gates_ask_for_no_more_rows_than_it_has(rows: int, least: int) -> None:
    rng = np.random.default_rng(5)
    found = proposed(frame(rows, a=rng.normal(size=rows), y=rng.normal(size=rows)))
    assert spec_of(found).promotion.min_rows == least
    assert any("large differences alone" in note for note in found.notes) == (rows == 400)
