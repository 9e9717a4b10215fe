"""Files whose columns are nearly something else: the proposal reads them otherwise, or says what is in the way.

No cell is changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cd4ml.cli.app import run
from cd4ml.controller.starting.own_data import OwnTable, read_own_table
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
    found = read(folder, frame, separator)
    return look(found.frame, Hints(target, **hints), found.reading)


def read(folder: Path, frame: pd.DataFrame, separator: str = ",") -> OwnTable:
    """A CSV file that holds the frame, as it is read for a proposal."""
    file = folder / "own.csv"
    frame.to_csv(file, index=False, sep=separator)
    return read_own_table(str(file), folder / "project", folder)


def with_commas(numbers: Sequence[Any]) -> list[str]:
    return [str(number).replace(".", ",") for number in numbers]


def seen(proposal: Proposal, name: str) -> Column:
    (found,) = [one for one in proposal.columns if one.name == name]
    return found


def amounts(seed: int = 2) -> list[float]:
    return [round(float(one), 1) for one in np.random.default_rng(seed).lognormal(8, 0.5, ROWS)]


def days() -> list[str]:
    return [day.strftime("%d.%m.%Y") for day in pd.date_range("2015-01-01", periods=ROWS, freq="D")]


# --- text that is nearly numbers ---------------------------------------------------------------------


def test_a_few_words_among_numbers_are_named_with_what_to_do_about_them(tmp_path: Path) -> None:
    found = seen(proposed(tmp_path, table(use=column(amounts(), *["over"] * 4))), "use")
    assert found.role == "left out"
    assert found.why == (
        "2,996 of 3,000 are numbers, not: 'over' (4); cd4ml changes no cell: list those that hold nothing under "
        "data.sources.own.missing, and make the rest numbers in the data; then `cd4ml data update`, and name it under "
        "features.numeric"
    )


def test_no_key_is_named_where_the_others_are_no_words(tmp_path: Path) -> None:
    assert "cd4ml changes no cell: in the data, make the others numbers or empty (missing); then" in (
        seen(proposed(tmp_path, table(use=column(amounts(), "12 kg"))), "use").why
    )


def test_no_key_is_named_for_parquet(tmp_path: Path) -> None:
    table(use=column(amounts(), "over")).to_parquet(tmp_path / "own.parquet")
    found = read_own_table(str(tmp_path / "own.parquet"), tmp_path / "project", tmp_path)
    assert "data.sources" not in seen(look(found.frame, Hints("y"), found.reading), "use").why


def test_one_word_among_ages_does_not_make_them_categories(tmp_path: Path) -> None:
    ages = [18 + row % 75 for row in range(ROWS)]
    found = seen(proposed(tmp_path, table(age=column(ages, "infant"))), "age")
    assert found.role == "left out"
    assert found.why.startswith("2,999 of 3,000 are numbers, not: 'infant' (1); ")


def test_few_numbers_with_a_word_stay_a_category_and_the_word_is_told(tmp_path: Path) -> None:
    proposal = proposed(tmp_path, table(deck=column([row % 3 for row in range(ROWS)], "crew")))
    assert seen(proposal, "deck").role == "categorical"
    (note,) = [note for note in proposal.notes if "'deck'" in note]
    assert note.startswith("column 'deck': is taken for a category: 2,999 of 3,000 are numbers, not: 'crew' (1); ")


@pytest.mark.parametrize(
    ("written", "separator", "why"),
    [
        pytest.param(with_commas(amounts()), ";", "x has points", id="another column needs the point"),
        pytest.param(with_commas(amounts()), ",", "the comma is the delimiter", id="the comma is the delimiter"),
    ],
)
def test_numbers_with_a_comma_that_no_key_can_read_are_to_be_mended(
    tmp_path: Path, written: list[str], separator: str, why: str
) -> None:
    found = seen(proposed(tmp_path, table(use=written), separator=separator), "use")
    assert found.role == "left out", why
    assert found.why.startswith("all 3,000 are numbers with a comma, such as '")
    assert "in the data, write a decimal point, and nothing between thousands; then" in found.why


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
    with pytest.raises(UsageError, match=r"--target: 'y': 2,999 of 3,000 are numbers, not: 'over' \(1\); mend these"):
        proposed(tmp_path, table(y=column([row % 90 for row in range(ROWS)], "over")))


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


# --- keys that are proposed --------------------------------------------------------------------------


def with_decimal_commas(**columns: Any) -> pd.DataFrame:
    frame = table()
    return frame.assign(x=with_commas(list(frame["x"])), y=with_commas(list(frame["y"])), **columns)


def test_a_decimal_comma_is_proposed_and_told_where_no_column_needs_a_point(tmp_path: Path) -> None:
    found = read(tmp_path, with_decimal_commas(deck=[row % 3 for row in range(ROWS)], day=days()), ";")
    assert (found.place.decimal, found.place.missing) == (",", ())
    assert found.frame["y"].tolist() == table()["y"].tolist()
    (said,) = found.reading.said
    assert said.startswith("numbers are read with a decimal comma, such as '")
    assert said.endswith("' of column 'x' (data.sources.own.decimal)")
    assert said in look(found.frame, Hints("y"), found.reading).notes


NOT_COMMAS: dict[str, dict[str, list[str]]] = {
    "a column with points": {"p": [str(amount) for amount in amounts(3)]},
    "nearly numbers with points": {"p": column(amounts(3), "over")},
    "numbers with points and marks": {"p": column(amounts(3), *["-"] * 900)},
    "commas between thousands": {"p": [f"{1000 * amount:,.1f}" for amount in amounts(3)]},
}


@pytest.mark.parametrize("case", NOT_COMMAS)
def test_no_decimal_comma_is_proposed_beside(tmp_path: Path, case: str) -> None:
    found = read(tmp_path, with_decimal_commas(**NOT_COMMAS[case]), ";")
    assert (found.place.decimal, found.reading.decimal_key) == (".", "")


def test_commas_that_may_all_part_thousands_are_left_to_the_person_with_the_key(tmp_path: Path) -> None:
    numbers = np.random.default_rng(6).integers(1000, 9999, ROWS)
    found = read(tmp_path, table().round().astype(int).assign(n=[f"{number:,}" for number in numbers]), ";")
    assert found.place.decimal == "."
    why = seen(look(found.frame, Hints("y"), found.reading), "n").why
    assert (
        "cd4ml changes no cell: say data.sources.own.decimal: ',' if the comma begins a fraction, or take it away in "
        "the data if it parts thousands; then"
    ) in why


def test_points_between_thousands_are_to_be_mended_also_where_the_comma_is_read(tmp_path: Path) -> None:
    money = [f"{number // 1000}.{number % 1000:03},50" for number in range(1000, 1000 + ROWS)]
    found = read(tmp_path, with_decimal_commas(money=money), ";")
    assert found.place.decimal == ","
    why = seen(look(found.frame, Hints("y"), found.reading), "money").why
    assert "numbers with marks between thousands" in why
    assert "in the data, write a decimal comma, and nothing between thousands; then" in why


def test_words_that_say_nothing_are_proposed_and_told_where_they_alone_are_in_the_way(tmp_path: Path) -> None:
    use = column(amounts(), *["k. A."] * 4, *["-"] * 2)
    found = read(tmp_path, table(use=use, day=column(days(), "?"), none=["-"] * ROWS))
    assert found.place.missing == ("-", "?", "k. A.")
    assert found.frame["use"].isna().sum() == 6
    told = look(found.frame, Hints("y"), found.reading)
    assert (seen(told, "use").role, seen(told, "day").role) == ("numeric", "time")
    assert told.notes[0] == (
        f"cells that hold '-' ({ROWS + 2:,}), 'k. A.' (4), '?' (1) are read as missing (data.sources.own.missing)"
    )


def test_words_that_say_nothing_may_be_many(tmp_path: Path) -> None:
    found = read(tmp_path, table(use=column(amounts(), *["-"] * 1400)))
    assert (found.place.missing, int(found.frame["use"].isna().sum())) == (("-",), 1400)


def test_both_keys_are_proposed_where_a_column_needs_both(tmp_path: Path) -> None:
    found = read(tmp_path, with_decimal_commas(use=column(with_commas(amounts()), "-")), ";")
    assert (found.place.decimal, found.place.missing) == (",", ("-",))
    assert found.frame["use"].tolist()[1:] == amounts()[1:]


NOT_NOTHING: dict[str, dict[str, list[str]]] = {
    "a column of text says it, too": {"use": column(amounts(), "-"), "w": ["-", "a", "b"] * (ROWS // 3)},
    "another word is in the way as well": {"use": column(amounts(), "-", "over")},
    "a finding": {"use": column(amounts(), "none")},
    "a mark of another kind": {"use": column(amounts(), "++")},
    "what a configuration cannot hold": {"use": column(amounts(), "???")},
    "a mark beside one number": {"w": ["-", "1", "1"] * (ROWS // 3)},
    "a few numbers among marks": {"w": ["-", "-", "1", "-", "-", "2"] * (ROWS // 6)},
    "a category": {"w": ["-", "a", "b"] * (ROWS // 3)},
}


@pytest.mark.parametrize("case", NOT_NOTHING)
def test_no_word_is_proposed_for(tmp_path: Path, case: str) -> None:
    found = read(tmp_path, table(**NOT_NOTHING[case]))
    assert (found.place.missing, found.reading.said) == ((), ())


def test_a_target_without_a_value_is_missing_and_counted(tmp_path: Path) -> None:
    proposal = proposed(tmp_path, table(y=column([row % 90 for row in range(ROWS)], "n/v")))
    assert (proposal.task, proposal.missing_target) == ("regression", 1)


# --- what a person reads -----------------------------------------------------------------------------


def test_init_tells_each_such_column_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = table(use=column(amounts(), *["over"] * 4), day=column(days(), "31.02.2024"))
    frame.to_csv(tmp_path / "own.csv", index=False)
    code = run(["init", str(tmp_path / "project"), "--data", str(tmp_path / "own.csv"), "--target", "y"])
    told = capsys.readouterr()
    assert code == 0, told.err
    lines = told.out.splitlines()
    assert [sum(line.startswith(f"left out     {name}: 2,99") for line in lines) for name in ("use", "day")] == [1, 1]
