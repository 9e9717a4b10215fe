"""Checks of one text of the configuration: each gives a message, or nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from cd4ml.spec.secrets import redacted
from cd4ml.spec.sources import MAX_INTEGER

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}(/[A-Za-z0-9][A-Za-z0-9._-]{0,99})*")
_PACKAGE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_NOT_CODE = (
    "conf",
    "data",
    "artifacts",
    "templates",
    "params.yaml",
    "dvc.yaml",
    "dvc.lock",
    ".dvc",
    ".cd4ml",
    ".github",
)
_URL = re.compile(r"[a-z][a-z0-9+.-]*://")
_DATABASE_OPTIONS = frozenset({"charset", "connect_timeout", "sslmode"})
_DIALECT = re.compile(r"[a-z][a-z0-9_]*(\+[a-z][a-z0-9_]*)?")
_NOT_ONE_LINE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
DECIMAL_MARKS = (".", ",")

MAX_MISSING_WORDS = 50
"""More words than this for a cell that holds nothing are values."""

MAX_MISSING_WORD = 100
"""Characters of one of them."""

_LOCAL_SCHEMES = ("file", "local", "memory", "data", "reference", "github", "git", "zip", "tar")

Check = Callable[[str], str | None]


def hypothesis(text: str) -> str | None:
    return longer(text, 4000)


def longer(text: str, most: int) -> str | None:
    return f"is longer than {most} characters" if len(text) > most else None


def one_line_text(text: str) -> str | None:
    """Text as records hold it on one line: names of columns, paths."""
    return "must be one line without control characters" if _NOT_ONE_LINE.search(text) else longer(text, 500)


def not_empty(text: str) -> str | None:
    return one_line_text(text) if text.strip() else "must not be empty"


def short(text: str) -> str | None:
    return not_empty(text) or longer(text, 200)


def short_label(text: str) -> str | None:
    return label(text) or longer(text, 200)


def matching(pattern: re.Pattern[str], what: str) -> Check:
    return lambda text: None if pattern.fullmatch(text) else f"must be {what}, not {shown(text)}"


package = matching(_PACKAGE, "the name of a Python package")
label = matching(_LABEL, "a name of letters, digits, . _ - and /")


def one_of(allowed: tuple[str, ...]) -> Check:
    def check(text: str) -> str | None:
        if text in allowed:
            return None
        near = nearest(text, allowed)
        return f"{shown(text)} is none of {', '.join(allowed)}" + (f"; {near}" if near else "")

    return check


def inside(text: str) -> str | None:
    """A path inside the repository, with ``/``."""
    parts = text.split("/")
    if not text.strip() or "\\" in text or one_line_text(text):
        return f"must be a path inside the repository, with /, not {shown(text)}"
    if text.startswith(("/", "~", "-", ":")) or re.match(r"[A-Za-z]:", text) or ".." in parts or ".git" in parts:
        return f"must be a path inside the repository: relative, without .. and .git, not {shown(text)}"
    return None


def code_path(text: str) -> str | None:
    """A path of the project's own code: none where cd4ml keeps what it reads and writes."""
    if message := inside(text):
        return message
    parts = text.rstrip("/").split("/")
    if "." in parts or "" in parts:
        return f"must be a plain path, without . and //, not {shown(text)}"
    if parts[0] in _NOT_CODE:
        return f"{shown(text)} is no place for code: cd4ml reads or writes there"
    return None


def location(text: str) -> str | None:
    if not _URL.match(text):
        return inside(text)
    if message := one_line_text(text):
        return message
    scheme, rest = text.split("://", 1)
    if scheme == "package":
        package, _, path = rest.partition("/")
        if not _PACKAGE.fullmatch(package) or inside(path):
            return f"must be package://NAME/PATH with a path inside the package, not {shown(text)}"
        return None
    try:
        host = urlsplit(text).netloc
    except ValueError:
        host = ""
    user, at, _ = host.rpartition("@")
    if at and ":" not in user:  # with a password it has been reported as a credential
        return "must not carry a user name: locations are recorded for good"
    if scheme in _LOCAL_SCHEMES or "::" in text or not host:
        return f"must be a URL of a remote file, a path inside the repository, or package://…, not {shown(text)}"
    return None


def database(text: str) -> str | None:
    """A SQLAlchemy URL that carries no credentials: those come from the environment, or the database's own files."""
    if message := one_line_text(text):
        return message
    dialect, there, rest = text.partition("://")
    if not there or not _DIALECT.fullmatch(dialect):
        return f"must be a SQLAlchemy URL such as postgresql+psycopg://host/database, not {shown(text)}"
    if dialect.partition("+")[0] == "sqlite":
        return inside(rest.removeprefix("/")) if rest.startswith("/") else f"must be sqlite:///PATH, not {shown(text)}"
    named = {key.strip().lower() for key, _ in parse_qsl(rest.partition("?")[2], keep_blank_values=True)}
    if "@" in rest.partition("/")[0] or named & {"user", "username", "password", "passwd", "pwd"}:
        return "must not carry a user name or password: locations are recorded for good"
    if other := sorted(named - _DATABASE_OPTIONS):
        return f"takes no {other[0]!r}: of a URL's options only {', '.join(sorted(_DATABASE_OPTIONS))}"
    return None


def select(text: str) -> str | None:
    """A query that reads. What it may do is the database's to limit; this keeps accidents out."""
    if len(text) > 20_000:
        return "is longer than 20000 characters"
    if not re.match(r"\s*(?:select|with|table|values)\b", text, re.IGNORECASE):
        return "must be a query that begins with SELECT, WITH, TABLE or VALUES"
    return None


def one_character(text: str) -> str | None:
    """A delimiter of cells."""
    return None if len(text) == 1 and text not in '"\r\n' else f"must be one character, not {shown(text)}"


def decimal_mark(text: str) -> str | None:
    """What stands before the fraction of a number."""
    return None if text in DECIMAL_MARKS else f"must be '.' or ',', not {shown(text)}"


def missing_word(text: str) -> str | None:
    """What a whole cell says when it holds nothing; a word of blanks is one, too."""
    if not text:
        return "must not be empty: a cell without text is missing as it is"
    if _NOT_ONE_LINE.search(text):
        return "must be one line without control characters"
    return longer(text, MAX_MISSING_WORD)


def timestamp(text: str) -> str | None:
    try:
        instant(text)
    except ValueError:
        return f'must be an ISO 8601 time such as "2013-09-01T00:00:00Z", not {shown(text)}'
    return None


def instant(text: str) -> datetime:
    """The moment that an ISO 8601 text names, as UTC; UTC is also what a text without a zone means.

    Raises ValueError for any other text.
    """
    moment = datetime.fromisoformat(text)
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(text) from error


def shown(value: Any) -> str:
    """A value in a message, short; credentials are taken out before it is cut, and before escapes are added."""
    if isinstance(value, Mapping | list):
        return "a mapping" if isinstance(value, Mapping) else "a list"
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        return "so large a number"
    text = redacted(repr(redacted(value) if isinstance(value, str) else value))
    return text if len(text) <= 60 else f"{text[:57]}…"


def nearest(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]}?" if close else ""
