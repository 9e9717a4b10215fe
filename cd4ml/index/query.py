"""The filter language of ``cd4ml search``: text to value.

To import a parser generator and have it build its tables would take longer than most searches take to answer, so the
parser is written out. It reads the language of this grammar, where AND binds tighter than OR, and NOT than both::

    filter:      conjunction (OR conjunction)*
    conjunction: negation (AND negation)*
    negation:    NOT negation | "(" filter ")" | test
    test:        FIELD OPERATOR value
               | FIELD [NOT] IN "(" value ("," value)* ")"
               | FIELD [NOT] (LIKE | ILIKE) TEXT
               | FIELD IS [NOT] NULL
               | FIELD [NOT] BETWEEN value AND value
               | [MATCH] TEXT
    value:       NUMBER | TEXT | DATE | DURATION | TRUE | FALSE

A keyword is one where the grammar has a place for it, and a name elsewhere: ``in = 3`` asks for a field ``in``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, cast

from cd4ml.errors import UsageError
from cd4ml.index.fields import canonical, canonical_word, nearest
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
        filter_ = _read(_Tokens(text))
    except _MistakeError as mistake:
        raise located("filter", text, mistake.position, str(mistake)) from None
    if depth(filter_) > MAX_NESTING:
        raise located("filter", text, 0, f"nested more than {MAX_NESTING} deep")
    return filter_


# ── words ──

_KEYWORDS = frozenset({"AND", "OR", "NOT", "IN", "LIKE", "ILIKE", "IS", "NULL", "BETWEEN", "MATCH", "TRUE", "FALSE"})
_PUNCTUATION = {"(": "LPAR", ")": "RPAR", ",": "COMMA"}
_END = "$END"

_BLANKS = re.compile(r"\s*")
_TOKEN = re.compile(
    r"""
    (?P<FIELD>    [^\W\d][\w-]* (?: \.(?: [\w-]+ | "(?:[^"\0]|"")*" | `[^`\0]*` ) )* )
  | (?P<DATE>     [0-9]{4}-[0-9]{2}-[0-9]{2}
                  (?: T[0-9]{2}:[0-9]{2} (?: :[0-9]{2} (?:\.[0-9]{1,6})? )? (?: Z|[+-][0-9]{2}:[0-9]{2} )? )?
                  (?![\w.:-]) )
  | (?P<DURATION> [0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)? [smhdw] (?![\w.]) )
  | (?P<NUMBER>   [+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)? (?![\w.]) )
  | (?P<OPERATOR> <=|>=|!=|<>|==|=|<|> )
  | (?P<TEXT>     '(?:[^'\0]|'')*' | "(?:[^"\0]|"")*" )
  | (?P<MARK>     [(),] )
    """,
    re.VERBOSE,
)

_ELSEWHERE = {"&": "AND", "|": "OR", "!": "NOT"}
"""What begins the signs of other languages for what is a word here."""

Kinds = frozenset[str]

_OPERAND: Kinds = frozenset({"FIELD", "LPAR", "MATCH", "NOT", "TEXT"})
_AFTER_FIELD: Kinds = frozenset({"BETWEEN", "ILIKE", "IN", "IS", "LIKE", "NOT", "OPERATOR"})
_AFTER_NOT: Kinds = frozenset({"BETWEEN", "ILIKE", "IN", "LIKE"})
_VALUE: Kinds = frozenset({"DATE", "DURATION", "FALSE", "NUMBER", "TEXT", "TRUE"})
_CLOSING: Kinds = frozenset({"RPAR", _END})
_AFTER_TEST: Kinds = _CLOSING | {"AND", "OR"}
_AFTER_VALUE: Kinds = _AFTER_TEST | {"COMMA"}


class _Token(NamedTuple):
    kind: str
    text: str
    start: int


class _Tokens:
    """The words of a text, one after the other."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def next(self, known: Kinds, meant: Kinds) -> _Token:
        """The next one, which is of one of the kinds that are ``known`` here, or the end. Raises _MistakeError.

        What is known follows from the word before; what is ``meant``, and told of, from all words before.
        """
        start = cast("re.Match[str]", _BLANKS.match(self._text, self._at)).end()
        if start == len(self._text):
            return _Token(_END, "", start)
        match = _TOKEN.match(self._text, start)
        if match is None:
            elsewhere = next((mark for mark in _ELSEWHERE if self._text.startswith(mark, start)), "")
            hint = f"; '{elsewhere}' is written {_ELSEWHERE[elsewhere]}" if elsewhere else ""
            raise _MistakeError(f"expected {_told(meant)} here{hint}", start)
        self._at = match.end()
        token = _Token(self._kind(match, known), match[0], start)
        return token if token.kind in known else _among(token, meant)

    def take(self, known: Kinds) -> _Token:
        """The next one, which is of one of these kinds, and not the end. Raises _MistakeError."""
        return self.take_of(known, known)

    def take_of(self, known: Kinds, meant: Kinds) -> _Token:
        """The next one, which is of one of the kinds that are meant. Raises _MistakeError."""
        return _among(self.next(known, meant), meant)

    def _kind(self, match: re.Match[str], known: Kinds) -> str:
        kind, word = str(match.lastgroup), match[0].upper()
        if kind == "MARK":
            return _PUNCTUATION[word]
        if kind != "FIELD" or word not in _KEYWORDS or self._text.startswith(".", match.end()):
            return kind
        return kind if kind in known and word not in known else word


def _among(token: _Token, known: Kinds) -> _Token:
    """The token. Raises _MistakeError unless it is of one of the kinds."""
    if token.kind not in known:
        raise _unexpected(token, known)
    return token


# ── sentences ──


@dataclass
class _Level:
    """What stands between two brackets: alternatives, each of which joins operands."""

    alternatives: list[list[Filter]] = field(default_factory=lambda: [[]])
    negations: int = 0
    """NOTs that the next operand has before it."""

    def add(self, operand: Filter) -> None:
        for _ in range(self.negations):
            operand = Not(operand)
        self.negations = 0
        self.alternatives[-1].append(operand)

    def closed(self) -> Filter:
        joined: list[Filter] = [And(tuple(some)) if len(some) > 1 else some[0] for some in self.alternatives]
        return Or(tuple(joined)) if len(joined) > 1 else joined[0]


def _read(tokens: _Tokens) -> Filter:
    # Levels are kept in a list and not by recursion, so that no input can exhaust the stack.
    levels = [_Level()]
    while True:
        token = tokens.take(_OPERAND)
        if token.kind == "NOT":
            levels[-1].negations += 1
            continue
        if token.kind == "LPAR":
            levels.append(_Level())
            continue
        operand, following = _read_test(tokens, token, _after(levels))
        while True:
            levels[-1].add(operand)
            if following.kind in _CLOSING:
                _among(following, _after(levels) & _CLOSING)
            if _among(following, _after(levels)).kind != "RPAR":
                break
            operand = levels.pop().closed()
            following = tokens.next(_AFTER_TEST, _after(levels))
        if following.kind == _END:
            return levels[0].closed()
        if following.kind == "OR":
            levels[-1].alternatives.append([])


def _after(levels: Sequence[_Level]) -> Kinds:
    return _AFTER_TEST - {"RPAR" if len(levels) == 1 else _END}


def _read_test(tokens: _Tokens, first: _Token, after: Kinds) -> tuple[Filter, _Token]:
    """The test that begins with this token, and the token after it: what is meant there is ``after``."""
    if first.kind != "FIELD":
        words = tokens.take(frozenset({"TEXT"})) if first.kind == "MATCH" else first
        following = tokens.next(_AFTER_TEST, after)
        return _checked(Text(str(_value(words))), first, words), following
    verb, negated = tokens.take(_AFTER_FIELD), False
    if verb.kind == "NOT":
        verb, negated = tokens.take(_AFTER_NOT), True
    if verb.kind == "OPERATOR":
        value, following = tokens.take(_VALUE), _after_value(tokens, after)
        asked = _field(first)
        operator = cast("Operator", _SPELLINGS.get(verb.text, verb.text))
        return _checked(Comparison(asked, operator, _value_of(asked, value)), first, value), following
    if verb.kind == "IN":
        values = _read_list(tokens)
        following = tokens.next(_AFTER_TEST, after)
        asked = _field(first)
        one_of = OneOf(asked, tuple(_value_of(asked, value) for value in values), negated)
        return _checked(one_of, first, values[-1]), following
    if verb.kind == "IS":
        last = tokens.take(frozenset({"NOT", "NULL"}))
        negated = last.kind == "NOT"
        last = tokens.take(frozenset({"NULL"})) if negated else last
        following = tokens.next(_AFTER_TEST, after)
        return _checked(IsNull(_field(first), negated), first, last), following
    if verb.kind == "BETWEEN":
        low = tokens.take(_VALUE)
        tokens.take_of(_AFTER_VALUE, frozenset({"AND"}))
        high, following = tokens.take(_VALUE), _after_value(tokens, after)
        bounds = _value(low), _value(high)
        return _checked(Between(_field(first), *bounds, negated), first, high), following
    pattern, following = tokens.take(frozenset({"TEXT"})), tokens.next(_AFTER_TEST, after)
    like = Like(_field(first), str(_value(pattern)), verb.kind == "ILIKE", negated)
    return _checked(like, first, pattern), following


def _after_value(tokens: _Tokens, after: Kinds) -> _Token:
    """The token after a value that ends a test."""
    following = tokens.next(_AFTER_VALUE, after)
    return following if following.kind != "COMMA" else _among(following, after)


def _read_list(tokens: _Tokens) -> Sequence[_Token]:
    """Values in brackets."""
    tokens.take(frozenset({"LPAR"}))
    values = [tokens.take(_VALUE)]
    while tokens.take_of(_AFTER_VALUE, frozenset({"COMMA", "RPAR"})).kind == "COMMA":
        values.append(tokens.take(_VALUE))
    return values


# ── their meaning ──


def _field(token: _Token) -> Field:
    return Field(canonical(split_path(token.text)))


def _value_of(asked: Field, token: _Token) -> Value:
    """What a field is asked to be, its word in our own spelling."""
    return cast("Value", canonical_word(asked.path, _value(token)))


def _value(token: _Token) -> Value:
    kind, text, _ = token
    if kind == "TEXT":
        return text[1:-1].replace(text[0] * 2, text[0])
    if kind in ("TRUE", "FALSE"):
        return kind == "TRUE"
    if kind == "DURATION":
        return Duration(_number(token, text[:-1]), text[-1])
    if kind == "NUMBER":
        return _number(token, text)
    return text


def _number(token: _Token, text: str) -> int | float:
    if text.lstrip("+-").isdigit() and len(text) < 20 and -_INT64 <= int(text) < _INT64:
        return int(text)
    number = float(text)
    if math.isinf(number):
        raise _MistakeError(f"{text} is too large a number", token.start)
    return number


def _checked(test: Test, first: _Token, last: _Token) -> Filter:
    """The test. Raises _MistakeError at the first token for its field, at the last for what it is compared with."""
    try:
        _ = isinstance(test, Text) or test.field.holds
    except UsageError as error:
        raise _MistakeError(str(error), first.start) from None
    try:
        check_test(test)
    except UsageError as error:
        raise _MistakeError(str(error), last.start) from None
    return test


# ── mistakes ──

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
    _END: "the end",
}


def _unexpected(token: _Token, known: Kinds) -> _MistakeError:
    message = f"expected {_told(known)} here"
    if token.kind == "FIELD" and "NUMBER" in known:
        message = f"expected a value here; text is written in quotes: '{token.text}'"
    elif token.kind == "NULL" and "NUMBER" in known:
        message = "nothing equals NULL; write IS NULL or IS NOT NULL"
    elif token.kind == "FIELD" and (near := nearest(token.text, _KEYWORDS & known)):
        message = f"{message}; did you mean {near}?"
    return _MistakeError(message, token.start)


def _told(known: Kinds) -> str:
    if "NUMBER" in known:
        return "a value (a number, text in quotes, true, false, a date, a duration such as 7d)"
    return " or ".join(word for kind, word in _WORDS.items() if kind in known) or "something else"
