"""Rendered files are read in pieces: with the very values that reading them as a whole gives."""

from __future__ import annotations

import math
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cd4ml.index.rendered import read_rendered
from cd4ml.spec.sources import ConfLoader, dump_yaml


class Whole(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # as C reads it, where that is there
    """Tabs and a few more things are another matter to the library's parser in Python."""


Whole.yaml_implicit_resolvers = ConfLoader.yaml_implicit_resolvers


def as_a_whole(text: str) -> Any:
    try:
        return yaml.load(text, Loader=Whole)  # noqa: S506  # a SafeLoader
    except (yaml.YAMLError, ValueError):
        return None


def same(one: Any, other: Any) -> bool:
    """Equal, and of the same types all the way down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        pairs = zip(one.items(), other.items(), strict=True)
        return len(one) == len(other) and all(same(a, c) and same(b, d) for (a, b), (c, d) in pairs)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other) or (isinstance(one, float) and math.isnan(one) and math.isnan(other))


LINES = st.sampled_from(
    [
        *("a: 1", "b:", "c: x", "'d': 2", '"e": 3', "on: 1", "1: x", "a.b: 1e-05", "b: &x 1", "c: *x", "b: R&D"),
        *("- 1", "- a: 1", "- - 2", "-", "# a comment", "", "...", "---", "%YAML 1.1", "a: |", "b: >-", "? a", ": 1"),
        *('a: "x', 'y"', "a: 'x", "y'", "c: [1,", "2]", "a: {b: 1}", "<<: {b: 2}", "<<: {}", "b: 1 # c", "text"),
        *("deps:", "outs:", "- path: a/b", "  hash: md5", f"  md5: {'1' * 32}", f"  md5: {'a' * 32}", "  size: 3"),
        *(f"  md5: {'1e' + '1' * 30}", f"  md5: 0b{'1' * 30}", "  size: 012", "!!str a: 1", "a:\t1", "a: x\u2028b: 2"),
    ]
)
INDENTED = st.builds(lambda spaces, line: " " * spaces + line, st.sampled_from([0, 0, 1, 2, 2, 4, 4, 6, 8, 10]), LINES)


@settings(max_examples=600)
@given(st.lists(INDENTED, max_size=12), st.booleans())
def test_any_text_is_read_as_it_is_as_a_whole(lines: list[str], ended: bool) -> None:
    text = "\n".join(lines) + "\n" * ended
    assert same(read_rendered(text.encode()), as_a_whole(text))


LISTED = "{indent}{name}:\n{indent}- path: {path}\n{indent}  hash: md5\n{indent}  md5: {md5}\n{indent}  size: {size}\n"


@given(
    st.sampled_from(["", "  ", "    "]),
    st.sampled_from(["deps", "outs"]),
    st.sampled_from(["artifacts/a.csv", "data/x.json", "a/b", "a", "true", "a/1", "a/b: c", "a/b #c", "1/2", "a/~"]),
    st.one_of(st.text("0123456789e", min_size=32, max_size=32), st.text("0123456789abcdef", min_size=32, max_size=32)),
    st.sampled_from(["0", "7", "123456", "012", "0x1", "1_000", "1e5", "'3'", "-1"]),
)
def test_lists_of_a_lock_are_read_as_they_are_as_a_whole(
    indent: str, name: str, path: str, md5: str, size: str
) -> None:
    text = LISTED.format(indent=indent, name=name, path=path, md5=md5, size=size)
    text = f"stages:\n  train:\n{text}" if indent == "    " else text
    assert same(read_rendered(text.encode()), as_a_whole(text))


PLAIN = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63), st.floats(allow_nan=False), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=4)),
    max_leaves=20,
)


@given(st.dictionaries(st.text(max_size=6), PLAIN, max_size=5))
def test_what_was_written_is_read_back(value: dict[str, Any]) -> None:
    assert same(read_rendered(dump_yaml(value).encode()), value)


@pytest.mark.parametrize("data", [None, b"\xff", b"a: [", b"x" * (5 << 20)])
def test_what_is_missing_too_large_or_no_yaml_is_nothing(data: bytes | None) -> None:
    assert read_rendered(data) is None
