"""Files whose columns are nearly something else: the proposal says which cells are in the way, and changes none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cd4ml.cli.app import run
from cd4ml.controller.starting.own_data import read_own_table
from cd4ml.controller.starting.proposal import Hints, Proposal, look
from cd4ml.controller.starting.proposed_columns import Column
from cd4ml.errors import UsageError

ROWS = 3000


def column(numbers: Sequence[Any], *others: str) -> list[str]:
    """Numbers as a CSV file has them, the first of them replaced by other cells."""
    texts = [str(number) for number in numbers]
    return [*others, *texts[len(others) :]]


def table(**columns: Any) -> pd.DataFrame:
    numbers = np.random.default_rng(1)
    x = numbers.normal(size=ROWS)
    return pd.DataFrame({"x": x, "y": x + numbers.normal(size=ROWS), **columns})


def proposed(folder: Path, frame: pd.DataFrame, target: str = "y", separator: str = ",", **hints: str) -> Proposal:
    """What is proposed for a CSV file that holds the frame."""
    file = folder / "own.csv"
    frame.to_csv(file, index=False, sep=separator)
    return look(read_own_table(str(file), folder / "project", folder).frame, Hints(target, **hints))


def seen(proposal: Proposal, name: str) -> Column:
    (found,) = [one for one in proposal.columns if one.name == name]
    return found


def amounts(seed: int = 2) -> list[float]:
    return [round(float(one), 1) for one in np.random.default_rng(seed).lognormal(8, 0.5, ROWS)]


def days() -> list[str]:
    return [day.strftime("%d.%m.%Y") for day in pd.date_range("2015-01-01", periods=ROWS, freq="D")]


# --- text that is nearly numbers ---------------------------------------------------------------------


def test_a_few_words_among_numbers_are_named_with_what_to_do_about_them(tmp_path: Path) -> None:
    found = seen(proposed(tmp_path, table(use=column(amounts(), *["k. A."] * 4))), "use")
    assert found.role == "left out"
    assert found.why == (
        "2,996 of 3,000 are numbers, not: 'k. A.' (4); cd4ml changes no cell: in the data, make the others numbers or "
        "empty (missing); then `cd4ml data update`, and name it under features.numeric"
    )


def test_one_word_among_ages_does_not_make_them_categories(tmp_path: Path) -> None:
    ages = [18 + row % 75 for row in range(ROWS)]
    found = seen(proposed(tmp_path, table(age=column(ages, "unbekannt"))), "age")
    assert found.role == "left out"
    assert found.why.startswith("2,999 of 3,000 are numbers, not: 'unbekannt' (1); ")


def test_few_numbers_with_a_word_stay_a_category_and_the_word_is_told(tmp_path: Path) -> None:
    proposal = proposed(tmp_path, table(deck=column([row % 3 for row in range(ROWS)], "crew")))
    assert seen(proposal, "deck").role == "categorical"
    (note,) = [note for note in proposal.notes if "'deck'" in note]
    assert note.startswith("column 'deck': is taken for a category: 2,999 of 3,000 are numbers, not: 'crew' (1); ")


def test_numbers_with_a_decimal_comma_are_told(tmp_path: Path) -> None:
    written = [str(amount).replace(".", ",") for amount in amounts()]
    found = seen(proposed(tmp_path, table(use=written), separator=";"), "use")
    assert found.role == "left out"
    assert found.why.startswith("all 3,000 are numbers with a comma, such as '")
    assert "write a decimal point, and nothing between thousands; then" in found.why


def test_at_most_three_cells_are_shown_short_and_visible(tmp_path: Path) -> None:
    odd = ["\u202eabc\x1b[31m", "w" * 500, "no", "none", "nil"]
    why = seen(proposed(tmp_path, table(use=column(amounts(), *odd))), "use").why
    shown = why.split("not: ")[1].split("; ")[0]
    assert shown.endswith(", and 2 more")
    assert shown.isprintable()
    assert len(shown) < 200


def test_codes_of_two_kinds_are_not_taken_for_dirty_numbers(tmp_path: Path) -> None:
    codes = [f"V{row}" if row % 12 == 0 else str(row) for row in range(ROWS)]
    assert "are numbers" not in seen(proposed(tmp_path, table(code_of=codes)), "code_of").why


def test_a_target_of_numbers_with_a_word_is_refused_with_the_word(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--target: 'y': 2,999 of 3,000 are numbers, not: 'n/v' \(1\); mend these"):
        proposed(tmp_path, table(y=column([row % 90 for row in range(ROWS)], "n/v")))


# --- text that is nearly times -----------------------------------------------------------------------


def test_a_day_that_is_none_among_days_is_named_and_so_is_what_it_does_to_the_split(tmp_path: Path) -> None:
    proposal = proposed(tmp_path, table(day=column(days(), "31.02.2024")))
    assert seen(proposal, "day").why.startswith("2,999 of 3,000 are times (%d.%m.%Y), not: '31.02.2024' (1); ")
    told = "the split is not by time, since column 'day' is left out: some of its cells are no times"
    assert (proposal.split.method, told in proposal.notes) == ("random", True)


def test_a_time_that_was_named_is_refused_with_the_cell_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--time: 'day': 2,999 of 3,000 are times .*'31\.02\.2024' \(1\)"):
        proposed(tmp_path, table(day=column(days(), "31.02.2024")), time="day")


# --- classes -----------------------------------------------------------------------------------------


def test_a_class_that_is_spelt_in_two_ways_is_told(tmp_path: Path) -> None:
    proposal = proposed(tmp_path, table(y=column(["ja", "nein", "nein"] * 1000, "Ja ")))
    told = "target 'y': 'ja' (999), 'Ja ' (1): different values, though they differ in blanks or capitals only"
    assert told in proposal.notes


def test_classes_that_are_rare_are_named(tmp_path: Path) -> None:
    proposal = proposed(tmp_path, table(y=column(["ja", "nein", "nein"] * 1000, "Ja ")))
    assert "1 of 3 classes has fewer than 5 rows, too few to be learnt: 'Ja ' (1)" in proposal.notes


# --- whole numbers that name rows --------------------------------------------------------------------


def test_whole_numbers_that_all_differ_name_rows_whatever_their_column_is_called(tmp_path: Path) -> None:
    numbers = np.random.default_rng(3).choice(np.arange(100_000, 110_000), ROWS, replace=False)
    found = seen(proposed(tmp_path, table(Vertragsnummer=numbers)), "Vertragsnummer")
    assert found.role == "left out"
    assert found.why.startswith("whole numbers that differ in all 3,000 rows: by its values it names rows (an amount?")


def test_amounts_that_differ_since_they_are_large_stay_numbers(tmp_path: Path) -> None:
    people = np.unique(np.random.default_rng(4).lognormal(11, 2, 400).astype(np.int64))
    frame = table().head(len(people)).assign(inhabitants=np.random.default_rng(5).permutation(people))
    assert seen(proposed(tmp_path, frame), "inhabitants").role == "numeric"


# --- what a person reads -----------------------------------------------------------------------------


def test_init_tells_each_such_column_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = table(use=column(amounts(), *["k. A."] * 4), day=column(days(), "31.02.2024"))
    frame.to_csv(tmp_path / "own.csv", index=False)
    code = run(["init", str(tmp_path / "project"), "--data", str(tmp_path / "own.csv"), "--target", "y"])
    told = capsys.readouterr()
    assert code == 0, told.err
    lines = told.out.splitlines()
    assert [sum(line.startswith(f"left out     {name}: 2,99") for line in lines) for name in ("use", "day")] == [1, 1]
