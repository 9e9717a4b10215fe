"""Instants in records and filters: ISO 8601, told apart to the microsecond."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_SHAPE = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?(?:Z|[+-][0-9]{2}:[0-9]{2})?)?"
)


def parse_instant(text: str) -> datetime:
    """The instant in UTC; a text without a zone is UTC, one without a time of day its midnight.

    Raises ValueError when it is not such a date.
    """
    if not _SHAPE.fullmatch(text):
        raise ValueError(f"{text!r} is not an ISO 8601 date")
    value = datetime.fromisoformat(text)
    if value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{text!r} is outside the calendar") from error


def sort_text(value: datetime) -> str:
    """A text whose order is that of time: UTC, no zone, a fraction only when there is one."""
    # A text is less than any longer one that it begins, so 10:00:00 comes before 10:00:00.5, as it should.
    return value.astimezone(UTC).replace(tzinfo=None).isoformat()


def utc_text(value: datetime) -> str:
    """The form that is shown: ``2026-11-03T10:00:00Z``, with a fraction only when there is one."""
    return sort_text(value) + "Z"


def utc_form(text: str) -> str:
    """Any instant in the form that is shown. Raises as ``parse_instant`` does."""
    if len(text) == 20 and text[4::3] == "--T::Z":
        datetime.fromisoformat(text)  # which there is
        return text
    return utc_text(parse_instant(text))
