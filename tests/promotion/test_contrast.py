"""Several runs side by side: every metric, and of all else what is not the same everywhere."""

from __future__ import annotations

import json

import pytest

from cd4ml.promotion.inputs import Source
from cd4ml.promotion.table import MISSING, Cell, Contrast, ContrastRow, contrast
from tests.promotion.test_compare import PARAMS, run


def rows(found: Contrast, section: str) -> dict[str, ContrastRow]:
    return {row.name: row for row in found.rows if row.section == section}


def test_metrics_are_judged_against_the_first_run_by_their_direction() -> None:
    found = contrast([run(), run({"rmse": 9.0, "r2": 0.5}), run({"rmse": 10.0})])
    metrics = rows(found, "metrics")
    assert list(metrics) == ["validation rmse", "validation r2", "test rmse", "test r2"]
    assert metrics["test rmse"].cells == (Cell(10.0), Cell(9.0, judgement="better"), Cell(10.0, judgement="equal"))
    assert metrics["test r2"].cells == (Cell(0.6), Cell(0.5, judgement="worse"), MISSING)
    assert (metrics["test rmse"].direction, metrics["test r2"].direction) == ("minimize", "maximize")


def test_only_what_is_not_the_same_everywhere_is_listed() -> None:
    other = {**PARAMS, "seed": 2, "model": {"estimator": {"_target_": "sklearn.linear_model.Ridge", "alpha": None}}}
    found = contrast([run(), run(params=other), run(params={**PARAMS, "seed": 2})])
    assert {name: row.cells for name, row in rows(found, "config").items()} == {
        "model.estimator.alpha": (Cell(1.0), Cell(None), Cell(1.0)),
        "seed": (Cell(1), Cell(2), Cell(2)),
    }
    assert {row.section for row in found.rows} == {"metrics", "config"}


def test_an_added_null_is_told_from_a_missing_key() -> None:
    found = contrast([run(params={}), run(params={"a": None}), run(params={})])
    assert rows(found, "config")["a"].cells == (MISSING, Cell(None), MISSING)


def test_data_columns_packages_files_and_test_rows_have_sections_of_their_own() -> None:
    elsewhere = run(data={"flights": {"digest": "e" * 64, "rows": 90}}, split={"test": {"digest": "u" * 64, "rows": 9}})
    sources = [
        Source({"six": "1"}, {"flights": (("year", "int64"),)}, {"own/a.py": "1"}),
        Source({"six": "2"}, {"flights": (("year", "float64"),)}, {"own/a.py": "2"}),
    ]
    found = contrast([run(), elsewhere], 0.0, sources)
    assert rows(found, "data")["flights"].cells[1] == Cell({"digest": "e" * 64, "rows": 90})
    assert rows(found, "columns")["flights.year"].cells == (Cell("int64"), Cell("float64"))
    assert rows(found, "environment")["six"].cells == (Cell("1"), Cell("2"))
    assert rows(found, "code")["own/a.py"].cells == (Cell("1"), Cell("2"))
    assert rows(found, "test rows")["test"].cells == (Cell("t" * 64), Cell("u" * 64))
    assert found.comparisons[0].verdict == "not comparable"


@pytest.mark.parametrize("number", [2, 5])
def test_the_first_is_compared_with_each_other_and_the_table_is_plain_json(number: int) -> None:
    others = [run({"rmse": 10.0 - one}, id=f"r{one:020}") for one in range(1, number)]
    found = contrast([run(), *others])
    assert found.runs == (run().id, *(one.id for one in others))
    assert [one.challenger for one in found.comparisons] == [one.id for one in others]
    assert {one.champion for one in found.comparisons} == {run().id}
    told = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert all(len(row["cells"]) == number for row in told["rows"])
