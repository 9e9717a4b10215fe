"""What removal records say of a run: which of several counts, and its words for people.

Words, and how a run's health is called, are all that follows from a removal here. Whoever may land a record may land
a removal, too, so none makes anything be run, freed or promoted by itself (``retention`` says what frees objects).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cd4ml.index.history import RemovalEntry
from cd4ml.index.instant import utc_form
from cd4ml.spec.text import one_line

ERASED = "run"
"""What a removal of a whole run calls itself."""

LET_GO = "artefacts"
"""What one calls itself that lets go of a run's artefacts alone."""

STORED = "stored"
"""What one calls itself that takes that back: the artefacts were made again, and stored."""

_LONGEST = 200
_DAY = len("2026-11-03")


def counting(removals: Iterable[RemovalEntry]) -> dict[str, RemovalEntry]:
    """By run the removal that counts, of all in fold order: an erasure always, else the last.

    Of a run whose artefacts are stored again none does.
    """
    ordered = sorted(removals, key=lambda one: one.removal.what == ERASED)
    last = {one.removal.run: one for one in ordered}
    return {run: one for run, one in last.items() if one.removal.what != STORED}


def erasures(removals: Iterable[RemovalEntry]) -> dict[str, str]:
    """The objects of erased runs, their raw data among them, by name, each with who erased it, when and why."""
    told = (one.removal.body for one in removals if one.removal.what == ERASED)
    return {str(held["md5"]): words(body) for body in told for held in body["objects"]}


def words(told: Mapping[str, Any], artefacts: str = "its artefacts") -> str:
    """One line for a removal's ``what``, ``at``, ``by`` and ``reason``; in it the day is UTC's.

    ``artefacts`` is what is said to be let go, where the run itself was not erased.
    """
    day, by = utc_form(str(told["at"]))[:_DAY], one_line(told["by"], _LONGEST)
    if told["what"] == ERASED:
        return f"erased on {day} by {by}: {one_line(told['reason'], _LONGEST)}"
    return f"{artefacts} were let go on {day} by {by}"
