"""A pin: the committed digest of one data source, as a value and as the text of its file.

``digest`` is the canonical digest of the table's content and is what fingerprints speak of; ``raw`` names
the bytes that were archived, so that the table can be had again after its source has moved on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cd4ml.errors import ConfigError, Problem
from cd4ml.spec.checks import DECIMAL_MARKS, MAX_MISSING_WORD, MAX_MISSING_WORDS, missing_word
from cd4ml.spec.experiment import SourceSpec

PIN_SCHEMA = 1
COLUMN_TYPES = ("int64", "float64", "string", "bool", "timestamp")
FORMATS = ("csv", "parquet")
MAX_QUERY = 20_000
"""Characters of a query."""


@dataclass(frozen=True)
class Pin:
    """One source as it was fetched.

    ``digest`` is SHA-256 (64 hex digits) of the table's canonical form, ``rows`` its number of rows, ``columns`` its
    (name, type) pairs in order. ``raw_*`` describe the archived bytes: SHA-256 and MD5 in hex (the latter is the
    name that DVC's remote gives them), their number, and the file name that decides their compression.
    ``location`` is where they came from and ``fetched`` when, in ISO 8601. ``query`` is what was asked of a database
    (else ``""``): its answer is archived as Parquet. ``delimiter`` stands between the cells of a ``csv``, ``decimal``
    before the fraction of its numbers, and ``missing`` are further words, sorted, for a cell that holds nothing.
    """

    source: str
    digest: str
    rows: int
    columns: tuple[tuple[str, str], ...]
    raw_sha256: str
    raw_md5: str
    raw_bytes: int
    raw_name: str
    format: str
    location: str
    fetched: str
    query: str = ""
    delimiter: str = ","
    decimal: str = "."
    missing: tuple[str, ...] = ()

    @property
    def described(self) -> tuple[object, ...]:
        """What of it was configured."""
        return self.source, self.location, self.format, self.query, self.delimiter, self.decimal, self.missing

    def is_of(self, source: SourceSpec) -> bool:
        """Is this the pin of what ``source`` describes now, and not of what once had its name?"""
        asked = (source.name, source.location, archived_format(source), source.query)
        return self.described == (*asked, source.delimiter, source.decimal, source.missing)

    def dump(self) -> str:
        """The text of the pin's file: the same value gives the same text, with a final newline."""
        content = {
            "schema": PIN_SCHEMA,
            "source": self.source,
            "digest": self.digest,
            "rows": self.rows,
            "columns": [{"name": name, "type": kind} for name, kind in self.columns],
            "raw": {
                "sha256": self.raw_sha256,
                "md5": self.raw_md5,
                "bytes": self.raw_bytes,
                "name": self.raw_name,
                "format": self.format,
            },
            "location": self.location,
            "fetched": self.fetched,
            **({"query": self.query} if self.query else {}),
            **({"delimiter": self.delimiter} if self.delimiter != "," else {}),
            **({"decimal": self.decimal} if self.decimal != "." else {}),
            **({"missing": list(self.missing)} if self.missing else {}),
        }
        return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def archived_format(source: SourceSpec) -> str:
    """The format of a source's raw bytes: the answer of a database is archived as Parquet."""
    return "parquet" if source.format == "sql" else source.format


def pin_problems(pin: Pin, source: SourceSpec, file: str) -> list[Problem]:
    """What is wrong with taking ``pin``, of the path ``file``, for the pin of ``source``."""
    if pin.is_of(source):
        return []
    message = f"is the pin of another source than data.sources.{source.name} describes"
    return [Problem(file, "", message, f"run `cd4ml data update {source.name}`")]


def parse_pin(text: str, file: str) -> Pin:
    """The pin that ``text`` holds; ``file`` is its path, for messages.

    Raises ConfigError with every problem found: wrong JSON, missing, unknown or ill-typed fields.
    """
    try:
        content = json.loads(text, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise ConfigError([Problem(file, "", f"is not valid JSON: {error}", "run `cd4ml data update`")]) from error
    if not isinstance(content, dict):
        raise ConfigError([Problem(file, "", "must hold a JSON object", "run `cd4ml data update`")])
    if content.get("schema") != PIN_SCHEMA or isinstance(content["schema"], bool):
        raise ConfigError(
            [Problem(file, "schema", f"must be {PIN_SCHEMA}", "a newer cd4ml wrote it, or `cd4ml data update` must")]
        )
    checks = {**_TOP, **{key: check for key, check in _OPTIONAL.items() if key in content}}
    problems = [*_problems(content, checks, file, ""), *_column_problems(content.get("columns"), file)]
    raw = content.get("raw")
    if isinstance(raw, dict):
        problems += _problems(raw, _RAW, file, "raw.")
    if problems:
        raise ConfigError(problems)
    return Pin(
        source=content["source"],
        digest=content["digest"],
        rows=content["rows"],
        columns=tuple((column["name"], column["type"]) for column in content["columns"]),
        raw_sha256=content["raw"]["sha256"],
        raw_md5=content["raw"]["md5"],
        raw_bytes=content["raw"]["bytes"],
        raw_name=content["raw"]["name"],
        format=content["raw"]["format"],
        location=content["location"],
        fetched=content["fetched"],
        query=content.get("query", ""),
        delimiter=content.get("delimiter", ","),
        decimal=content.get("decimal", "."),
        missing=tuple(content.get("missing", ())),
    )


Check = tuple[Callable[[Any], bool], str]


def _hex(digits: int) -> Check:
    pattern = re.compile(rf"[0-9a-f]{{{digits}}}")
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None, f"{digits} hex digits"


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value) and value.isprintable()


def _query(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and len(value) <= MAX_QUERY


def _delimiter(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 1 and value not in '"\r\n'


def _decimal(value: Any) -> bool:
    return isinstance(value, str) and value in DECIMAL_MARKS


def _missing(value: Any) -> bool:
    if not isinstance(value, list) or not 0 < len(value) <= MAX_MISSING_WORDS:
        return False
    if not all(isinstance(word, str) and not missing_word(word) and _encodable(word) for word in value):
        return False
    return value == sorted(set(value))


def _encodable(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _file_name(value: Any) -> bool:
    """A plain name: the stages look only at its endings, and it must never become a path."""
    return _text(value) and not set(value) & {"/", "\\"} and value not in {".", ".."}


def _time(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


_TOP: Mapping[str, Check] = {
    "schema": (lambda value: value == PIN_SCHEMA, str(PIN_SCHEMA)),
    "source": (_text, "a name"),
    "digest": _hex(64),
    "rows": (_count, "a whole number above 0"),
    "columns": (lambda value: isinstance(value, list) and bool(value), "a list of columns"),
    "raw": (lambda value: isinstance(value, dict), "an object"),
    "location": (_text, "a text"),
    "fetched": (_time, "an ISO 8601 time with its zone"),
}
_OPTIONAL: Mapping[str, Check] = {
    "query": (_query, f"a text of at most {MAX_QUERY} characters"),
    "delimiter": (_delimiter, "one character"),
    "decimal": (_decimal, "'.' or ','"),
    "missing": (
        _missing,
        f"a sorted list of at most {MAX_MISSING_WORDS} different words of one line and {MAX_MISSING_WORD} characters",
    ),
}
_RAW: Mapping[str, Check] = {
    "sha256": _hex(64),
    "md5": _hex(32),
    "bytes": (_count, "a whole number above 0"),
    "name": (_file_name, "a file name"),
    "format": (lambda value: value in FORMATS, f"one of {', '.join(FORMATS)}"),
}
_COLUMN: Mapping[str, Check] = {
    "name": (lambda value: isinstance(value, str) and bool(value), "a text"),
    "type": (lambda value: value in COLUMN_TYPES, f"one of {', '.join(COLUMN_TYPES)}"),
}


def _problems(content: Mapping[str, Any], checks: Mapping[str, Check], file: str, prefix: str) -> list[Problem]:
    """What is missing, unknown or wrong among the fields of one object."""
    found = [Problem(file, f"{prefix}{key}", "is not known") for key in content if key not in checks]
    for key, (holds, wanted) in checks.items():
        if key not in content:
            found.append(Problem(file, f"{prefix}{key}", "is missing", "run `cd4ml data update`"))
        elif not holds(content[key]):
            found.append(Problem(file, f"{prefix}{key}", f"must be {wanted}"))
    return found


def _column_problems(columns: Any, file: str) -> list[Problem]:
    if not isinstance(columns, list):
        return []
    found: list[Problem] = []
    seen: set[str] = set()
    for index, column in enumerate(columns):
        place = f"columns[{index}]"
        if not isinstance(column, dict):
            found.append(Problem(file, place, "must be an object"))
            continue
        found += _problems(column, _COLUMN, file, f"{place}.")
        name = column.get("name")
        if isinstance(name, str) and name in seen:
            found.append(Problem(file, f"{place}.name", f"{name!r} is there twice"))
        elif isinstance(name, str):
            seen.add(name)
    return found


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a key is there twice")
    return content
