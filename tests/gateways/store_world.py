"""An index as values, as the query cache is told of one; and all that a cache holds, to be compared."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cd4ml.gateways.store import LANDING, Changes, QueryCache, Stored, Wanted
from cd4ml.gateways.store_batch import Batch, batches
from cd4ml.index.fold import entry_path
from cd4ml.index.record import Entry, encode
from tests.index.index_world import entry

Folds = Sequence[Sequence[Mapping[str, Any]]]
"""Records by the fold that took them in, as sealed bodies."""


@dataclass
class Index:
    """Indexes by name, each made of folds; ``landed`` are bodies by ref. Counts what is read of it."""

    indexes: dict[str, Folds] = field(default_factory=dict)
    landed: dict[str, Mapping[str, Any] | None] = field(default_factory=dict)
    read_whole: int = 0

    def of(self, index: str | None) -> dict[str, Entry]:
        found: dict[str, Entry] = {}
        for number, bodies in enumerate(self.indexes.get(index or "", ()), 1):
            for body in bodies:
                found.setdefault(str(body["id"]), entry(read(body), number))
        return found

    def batches(self, index: str | None) -> Iterable[Batch]:
        self.read_whole += 1
        return batches(sorted(map(stored, self.of(index).values()), key=lambda one: entry_path(one.entry.record)))

    def changes(self, before: str | None, after: str | None) -> Changes | None:
        old, new = self.of(before), self.of(after)
        return Changes([stored(new[one]) for one in new if one not in old], [one for one in old if one not in new])

    def read(self, places: Sequence[tuple[str, str]]) -> Iterable[Entry]:
        known = {one: found for index in self.indexes for one, found in self.of(index).items()}
        assert all(entry_path(known[blob].record) == path for blob, path in places)
        return [known[blob] for blob, _ in places]

    def speaking_of(self, index: str, text: bytes) -> Iterable[Entry]:
        return [one for one in self.of(index).values() if text in encode(one.record.body)]

    def judge(self, ref: str, commit: str, number: int) -> Entry | None:
        body = self.landed[ref]
        return entry(read(body), number) if body else None


def read(body: Mapping[str, Any]) -> dict[str, Any]:
    """The record as it comes out of a file: its keys sorted."""
    found: dict[str, Any] = json.loads(encode(body))
    return found


def stored(one: Entry) -> Stored:
    return Stored(one, one.record.id)


def wanted(index: str | None, landed: Mapping[str, tuple[str, int]] | Iterable[str] = (), version: str = "1") -> Wanted:
    refs = landed if isinstance(landed, Mapping) else {ref: (f"commit of {ref}", LANDING) for ref in landed}
    return Wanted(version, index, refs)


def held(cache: QueryCache) -> dict[str, Any]:
    """Everything that a cache holds, without the numbers that stand for places, rows and fragments."""
    database = cache._database
    assert database is not None
    rows = {}
    for position, own in database.execute("SELECT position, own FROM run").fetchall():
        (doc,) = _docs(database, position)
        leaves = sorted(database.execute(_LEAVES, (position, position)).fetchall(), key=repr)
        said = database.execute("SELECT said FROM run WHERE position = ?", (position,)).fetchone()
        key = (doc["id"], doc["branch"], doc["commit"], own)
        assert key not in rows
        rows[key] = (json.dumps(doc, sort_keys=True), leaves, said)
    return {
        "rows": rows,
        "entries": sorted(database.execute(_ENTRIES).fetchall()),
        "answers": sorted(database.execute(_ANSWERS).fetchall()),
        "fragments": sorted(database.execute("SELECT name, path, content FROM fragment").fetchall()),
        "leaves": sorted(database.execute("SELECT count(*) FROM leaf").fetchall()),
        "own": sorted(database.execute("SELECT count(*) FROM own").fetchall()),
        "parts": sorted(database.execute("SELECT sum(json_array_length(positions)) FROM part").fetchall()),
        "landed": sorted(database.execute("SELECT * FROM landed").fetchall()),
        "paths": cache.paths(),
    }


def _docs(database: sqlite3.Connection, position: int) -> list[dict[str, Any]]:
    from cd4ml.gateways.store_answers import docs_of

    return docs_of(database, [position])


_LEAVES = (
    "SELECT path, value, kind FROM own JOIN place ON number = place WHERE position = ? UNION ALL"
    " SELECT place.path, leaf.value, kind FROM part JOIN json_each(part.positions) AS held"
    " JOIN leaf ON leaf.fragment = part.fragment JOIN place ON place.number = leaf.place WHERE held.value = ?"
)
_ENTRIES = (
    "SELECT id, kind, origin, fold, blob, coalesce(fingerprint, ''), coalesce(branch, ''), coalesce(\"commit\", ''),"
    " coalesce(merge, ''), coalesce(succeeded, ''), coalesce(spec, ''), coalesce(env, '') FROM entry"
)
_ANSWERS = "SELECT run, id FROM answer JOIN entry ON entry.number = answer.number"
