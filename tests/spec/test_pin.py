"""Pins: what is dumped is parsed back, and everything wrong with a file is told at once."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cd4ml.errors import ConfigError
from cd4ml.spec.experiment import SourceSpec
from cd4ml.spec.pin import COLUMN_TYPES, Pin, archived_format, parse_pin, pin_problems

FILE = "data/flights.lock.json"
PIN = Pin(
    source="flights",
    digest="a" * 64,
    rows=3,
    columns=(("year", "int64"), ("carrier", "string")),
    raw_sha256="b" * 64,
    raw_md5="c" * 32,
    raw_bytes=120,
    raw_name="flights.csv.zip",
    format="csv",
    location="package://somewhere/flights.csv.zip",
    fetched="2026-11-01T12:00:00Z",
)

words = st.text(st.characters(categories=("L", "N"), include_characters="_-. "), min_size=1).filter(
    lambda word: word not in {".", ".."}
)
hexes = {digits: st.text("0123456789abcdef", min_size=digits, max_size=digits) for digits in (32, 64)}
printable = st.characters(exclude_categories=("C", "Z")) | st.just(" ")  # as str.isprintable has it
pins = st.builds(
    Pin,
    source=words,
    digest=hexes[64],
    rows=st.integers(1, 10**12),
    columns=st.lists(
        st.tuples(st.text(printable, min_size=1), st.sampled_from(COLUMN_TYPES)),
        min_size=1,
        unique_by=lambda column: column[0],
    ).map(tuple),
    raw_sha256=hexes[64],
    raw_md5=hexes[32],
    raw_bytes=st.integers(1, 10**15),
    raw_name=words,
    format=st.sampled_from(["csv", "parquet"]),
    location=words,
    fetched=st.datetimes(timezones=st.timezones())
    .map(lambda moment: moment.isoformat())
    .filter(lambda text: len(text) < 40),
    query=st.just("") | st.text(min_size=1).filter(lambda text: bool(text.strip())),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    decimal=st.sampled_from([".", ","]),
    missing=st.lists(
        st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]), min_size=1, max_size=100),
        max_size=50,
        unique=True,
    ).map(lambda words: tuple(sorted(words))),
)


def problems(content: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_pin(content if isinstance(content, str) else json.dumps(content), FILE)
    assert all(problem.file == FILE for problem in caught.value.problems)
    return [problem.key for problem in caught.value.problems]


@given(pins)
def test_a_pin_survives_its_file(pin: Pin) -> None:
    assert parse_pin(pin.dump(), FILE) == pin


def test_the_text_of_a_pin_is_stable_sorted_and_ends_with_a_newline() -> None:
    text = PIN.dump()
    assert text == PIN.dump()
    assert text == json.dumps(json.loads(text), indent=2, sort_keys=True) + "\n"


def test_a_pin_says_nothing_of_what_was_left_at_its_default() -> None:
    """Pins that older versions wrote stay as they are, byte by byte."""
    assert not {"query", "delimiter", "decimal", "missing"} & set(json.loads(PIN.dump()))
    asked = replace(PIN, query="SELECT 1\nFROM t", delimiter=";", decimal=",", missing=("-", "k. A."))
    assert {key: json.loads(asked.dump())[key] for key in ("query", "delimiter", "decimal", "missing")} == {
        "query": "SELECT 1\nFROM t",
        "delimiter": ";",
        "decimal": ",",
        "missing": ["-", "k. A."],
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "trains"},
        {"location": "elsewhere.csv"},
        {"format": "parquet"},
        {"delimiter": ";"},
        {"decimal": ","},
        {"missing": ("-",)},
        {"format": "sql", "query": "SELECT 1"},
    ],
)
def test_a_pin_of_what_is_described_otherwise_is_told_from_its_source_s(changes: dict[str, Any]) -> None:
    source = SourceSpec(PIN.source, PIN.location, PIN.format)
    assert PIN.is_of(source)
    assert pin_problems(PIN, source, FILE) == []
    other = replace(source, **changes)
    assert not PIN.is_of(other)
    (problem,) = pin_problems(PIN, other, FILE)
    message = f"{FILE}: is the pin of another source than data.sources.{other.name} describes"
    assert str(problem) == f"{message} (run `cd4ml data update {other.name}`)"


def test_the_answer_of_a_database_is_pinned_as_parquet_with_its_query() -> None:
    source = SourceSpec("flights", "sqlite:///x.db", "sql", "SELECT 1")
    assert archived_format(source) == "parquet"
    pin = replace(PIN, location="sqlite:///x.db", format="parquet", query="SELECT 1")
    assert pin.is_of(source)
    assert not pin.is_of(replace(source, query="SELECT 2"))


def test_every_problem_is_reported_at_once() -> None:
    content = json.loads(PIN.dump())
    content["rows"] = 0
    content["digest"] = "A" * 64
    content["raw"]["md5"] = "c" * 31
    content["columns"][1]["type"] = "varchar"
    del content["location"]
    content["extra"] = 1
    assert sorted(problems(content)) == ["columns[1].type", "digest", "extra", "location", "raw.md5", "rows"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rows", True),
        ("rows", "3"),
        ("rows", 3.0),
        ("source", ""),
        ("columns", []),
        ("columns", {}),
        ("columns", [1]),
        ("raw", []),
        ("fetched", "yesterday"),
        ("fetched", "2026-11-01T12:00:00"),
        ("location", "a\nb"),
        ("query", ""),
        ("query", "x" * 20_001),
        ("query", 1),
        ("delimiter", ""),
        ("delimiter", "ab"),
        ("delimiter", '"'),
        ("decimal", ";"),
        ("decimal", ""),
        ("decimal", None),
        ("missing", "-"),
        ("missing", []),
        ("missing", [""]),
        ("missing", [1]),
        ("missing", ["a\nb"]),
        ("missing", ["\ud800"]),
        ("missing", ["b", "a"]),
        ("missing", ["a", "a"]),
        ("missing", ["x" * 101]),
        ("missing", [f"{number:02}" for number in range(51)]),
    ],
)
def test_a_field_of_the_wrong_type_is_named(key: str, value: Any) -> None:
    assert [name.partition("[")[0] for name in problems({**json.loads(PIN.dump()), key: value})] == [key]


@pytest.mark.parametrize("name", ["../../etc/passwd", "a\\b", "..", "a\x00b", 3])
def test_a_raw_name_can_never_become_a_path(name: Any) -> None:
    content = json.loads(PIN.dump())
    content["raw"]["name"] = name
    assert problems(content) == ["raw.name"]


def test_a_column_named_twice_is_refused() -> None:
    content = json.loads(PIN.dump())
    content["columns"][1]["name"] = "year"
    assert problems(content) == ["columns[1].name"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"schema": 1, "schema": 1}', "[" * 100_000, '{"schema": true}']
)
def test_text_that_is_no_pin_is_one_problem(text: str) -> None:
    assert len(problems(text)) == 1


def test_a_schema_of_a_later_version_is_refused_before_its_fields_are_judged() -> None:
    assert problems({"schema": 2, "whatever": []}) == ["schema"]
