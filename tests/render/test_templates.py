"""The template environment: strict, sandboxed, and unable to paste a value."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cd4ml.errors import ConfigError
from cd4ml.render.templates import as_actions, as_json, as_yaml, render_template


def render(text: str, **values: Any) -> str:
    return render_template("t.j2", {"t.j2": text}, values)


def test_text_around_expressions_is_kept_as_it_is() -> None:
    text = "a: {{ x }} ${{ github.ref }} [[ -f x ]] << END >>\n\n"
    assert render(text) == text


def test_values_are_written_by_a_dumper() -> None:
    assert render("a: <{ x | yaml }>\nb: <{ y | json }>\n", x="no", y=["\u00e9"]) == "a: 'no'\nb: [\"\\u00e9\"]\n"


REFUSED = {
    "a\n<{ x }>": "ends? the expression|end the expression in",
    "a\n<{ x ~ 'y' }>": "end the expression in",
    "a\n<{ 'constant' }>": "end the expression in",
    "a\n<{ (x | yaml) ~ x }>": "end the expression in",
    "a\n<{ nope | yaml }>": "undefined",
    "a\n<{ x.nope | yaml }>": "undefined|no attribute",
    "a\n<% if nope %>b<% endif %>": "undefined",
    "a\n<% for": "unexpected|end of",
    "a\n<{ x | safe }>": "No filter named",
    "a\n<{ x.__class__ | yaml }>": "unsafe|undefined",
    "a\n<{ x.__class__.__mro__ | yaml }>": "unsafe|undefined",
    "a\n<{ range(3) | yaml }>": "undefined",
    "a\n<{ lipsum() | yaml }>": "undefined",
    "a\n<{ y.append(1) | yaml }>": "unsafe|not safely",
    "a\n<{ 1 / 0 | yaml }>": "",
    "a\n<% include 'other.j2' %>": "no loader",
    "a\n<% import 'other.j2' as o %>": "no loader",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_not_strict_is_an_error_that_names_the_template_and_line(text: str) -> None:
    with pytest.raises(ConfigError, match=f"(?i){REFUSED[text]}") as caught:
        render(text, x="v", y=[1])
    (problem,) = caught.value.problems
    assert problem.file == "templates/t.j2"
    assert problem.key == "line 2"
    assert "\n" not in str(problem)


def test_a_missing_template_is_named() -> None:
    with pytest.raises(ConfigError, match=r"templates/t\.j2: is missing"):
        render_template("t.j2", {}, {})


_LEAF = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
_VALUE = st.recursive(_LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3))
_HOSTILE = st.text(alphabet="ab'\"\\\n\r\t\x85\u2028 :#-{}<>%$[],&*!|\x00\U0001f600\u202e")


@given(_VALUE | _HOSTILE)
def test_any_value_survives_a_template_in_every_place(value: Any) -> None:
    text = "a:\n  - <{ x | yaml }>\n  - {k: <{ x | yaml }>, l: [<{ x | yaml }>]}\nb: <{ x | yaml }> # c\n"
    rendered = render(text, x=value)
    assert len(rendered.splitlines()) == 4
    assert repr(yaml.safe_load(rendered)) == repr({"a": [value, {"k": value, "l": [value]}], "b": value})


@given(_HOSTILE)
def test_any_text_can_be_a_key(text: str) -> None:
    assert yaml.safe_load(render("a:\n  <{ x | yaml }>: 1\n", x=text)) == {"a": {text: 1}}


@given(_VALUE)
def test_json_is_one_ascii_line(value: Any) -> None:
    text = as_json(value)
    assert text.isascii()
    assert len(text.splitlines()) == 1
    assert repr(json.loads(text)) == repr(value)


@given(st.text(alphabet="${}'a \n"))
def test_where_actions_evaluates_expressions_text_stays_text(text: str) -> None:
    """What Actions makes of it, with its one kind of expression that we write, is the text again."""
    written = yaml.safe_load(str(as_actions(text)))
    assert written.replace("${{ '${{' }}", "\0").count("${{") == 0
    assert written.replace("${{ '${{' }}", "${{") == text


def test_a_template_cannot_see_python() -> None:
    for expression in ("cycler", "dict", "namespace", "joiner", "self", "config"):
        with pytest.raises(ConfigError):
            render(f"<{{ {expression}.__init__ | yaml }}>")


def test_plain_words_stay_plain() -> None:
    assert as_yaml("exp/**") == "exp/**"
    assert as_yaml("Mean residual over time (test)") == "Mean residual over time (test)"
    assert as_yaml("3.11") == "'3.11'"
