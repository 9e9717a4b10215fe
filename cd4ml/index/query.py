"""The filter language of ``cd4ml search``: text to value.

Importing this module imports the parser library; verbs that do not search leave it alone.
"""

from __future__ import annotations

import math
from functools import cache
from importlib import resources
from typing import Any, cast

from lark import Lark, Token, Transformer
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from cd4ml.errors import UsageError
from cd4ml.index.fields import canonical, canonical_word
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
    Operator,
    Or,
    Test,
    Text,
    Value,
    check_test,
    depth,
)
from cd4ml.index.paths import split_path
from cd4ml.index.place import located

MAX_CHARACTERS = 4000
MAX_NESTING = 50

_INT64 = 1 << 63
_SPELLINGS = {"==": "=", "<>": "!="}


class _MistakeError(UsageError):
    """A mistake at a place of the text; becomes a UsageError that shows the place."""

    def __init__(self, message: str, position: int) -> None:
        self.position = position
        super().__init__(message)


def parse(text: str) -> Filter | None:
    """The filter that the text asks for; nothing when the text is blank.

    Raises UsageError that says what is wrong and, on two further lines, shows where.
    """
    if not text.strip():
        return None
    if len(text) > MAX_CHARACTERS:
        raise UsageError(f"the filter has {len(text)} characters; at most {MAX_CHARACTERS} are read")
    try:
        # The tree is built while the text is read, bottom up, so that no input can exhaust the stack.
        filter_ = cast("Filter", _parser().parse(text))
    except _MistakeError as mistake:
        raise located("filter", text, mistake.position, str(mistake)) from None
    except UnexpectedInput as error:
        raise located("filter", text, _position(error, text), _explain(error)) from None
    if depth(filter_) > MAX_NESTING:
        raise located("filter", text, 0, f"nested more than {MAX_NESTING} deep")
    return filter_


@cache
def _parser() -> Lark:
    grammar = resources.files("cd4ml.index").joinpath("filter.lark").read_text(encoding="utf-8")
    return Lark(grammar, parser="lalr", transformer=_Build())


class _Build(Transformer[Token, Filter]):
    """One method for each rule of the grammar; ``items`` are what the rule matched, in order."""

    def disjunction(self, items: list[Any]) -> Filter:
        return Or(tuple(item for item in items if not isinstance(item, Token)))

    def conjunction(self, items: list[Any]) -> Filter:
        return And(tuple(item for item in items if not isinstance(item, Token)))

    def negation(self, items: list[Any]) -> Filter:
        return Not(items[1])

    def group(self, items: list[Any]) -> Filter:
        return cast("Filter", items[0])

    def comparison(self, items: list[Any]) -> Filter:
        field, spelled = _field(items[0]), str(items[1])
        operator = cast("Operator", _SPELLINGS.get(spelled, spelled))
        return _checked(Comparison(field, operator, _value_of(field, items[2])), items)

    def one_of(self, items: list[Any]) -> Filter:
        field = _field(items[0])
        values = tuple(_value_of(field, token) for token in items[1:] if token.type not in ("NOT", "IN"))
        return _checked(OneOf(field, values, _negated(items)), items)

    def like(self, items: list[Any]) -> Filter:
        ignore_case = any(token.type == "ILIKE" for token in items)
        return _checked(Like(_field(items[0]), str(_value(items[-1])), ignore_case, _negated(items)), items)

    def is_null(self, items: list[Any]) -> Filter:
        return _checked(IsNull(_field(items[0]), _negated(items)), items)

    def between(self, items: list[Any]) -> Filter:
        low, high = (_value(token) for token in (items[-3], items[-1]))
        return _checked(Between(_field(items[0]), low, high, _negated(items)), items)

    def text(self, items: list[Any]) -> Filter:
        return _checked(Text(str(_value(items[-1]))), items)


def _negated(items: list[Token]) -> bool:
    return any(token.type == "NOT" for token in items)


def _field(token: Token) -> Field:
    return Field(canonical(split_path(str(token))))


def _value_of(field: Field, token: Token) -> Value:
    """What a field is asked to be, its word in our own spelling."""
    return cast("Value", canonical_word(field.path, _value(token)))


def _value(token: Token) -> Value:
    text = str(token)
    if token.type == "TEXT":
        return text[1:-1].replace(text[0] * 2, text[0])
    if token.type in ("TRUE", "FALSE"):
        return token.type == "TRUE"
    if token.type == "DURATION":
        return Duration(_number(token, text[:-1]), text[-1])
    if token.type == "NUMBER":
        return _number(token, text)
    return text


def _number(token: Token, text: str) -> int | float:
    if text.lstrip("+-").isdigit() and len(text) < 20 and -_INT64 <= int(text) < _INT64:
        return int(text)
    number = float(text)
    if math.isinf(number):
        raise _MistakeError(f"{text} is too large a number", token.start_pos or 0)
    return number


def _checked(test: Test, items: list[Token]) -> Filter:
    try:
        _ = isinstance(test, Text) or test.field.holds
    except UsageError as error:
        raise _MistakeError(str(error), items[0].start_pos or 0) from None
    try:
        check_test(test)
    except UsageError as error:
        raise _MistakeError(str(error), items[-1].start_pos or 0) from None
    return test


_WORDS = {
    "FIELD": "a field such as metrics.rmse",
    "OPERATOR": "a comparison (=, !=, <, <=, >, >=, IN, LIKE, ILIKE, BETWEEN, IS NULL)",
    "LPAR": "'('",
    "RPAR": "')'",
    "COMMA": "','",
    "TEXT": "words in quotes",
    "NULL": "NULL",
    "AND": "AND",
    "OR": "OR",
    "$END": "the end",
}


def _position(error: UnexpectedInput, text: str) -> int:
    at_end = isinstance(error, UnexpectedToken) and error.token.type == "$END"
    return len(text) if at_end or error.pos_in_stream is None else error.pos_in_stream


def _explain(error: UnexpectedInput) -> str:
    expected = _expected(error)
    if isinstance(error, UnexpectedToken):
        if error.token.type == "FIELD" and "NUMBER" in _names(error):
            return f"expected a value here; text is written in quotes: '{error.token}'"
        if error.token.type == "NULL" and "NUMBER" in _names(error):
            return "nothing equals NULL; write IS NULL or IS NOT NULL"
    return f"expected {expected} here"


def _names(error: UnexpectedInput) -> frozenset[str]:
    if isinstance(error, UnexpectedToken):
        return frozenset(error.accepts or error.expected)
    return frozenset(error.allowed or ()) if isinstance(error, UnexpectedCharacters) else frozenset()


def _expected(error: UnexpectedInput) -> str:
    names = _names(error)
    if "NUMBER" in names:
        return "a value (a number, text in quotes, true, false, a date, a duration such as 7d)"
    words = [word for name, word in _WORDS.items() if name in names]
    return " or ".join(words) if words else "something else"
