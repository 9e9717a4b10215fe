"""What a query cache is asked: which rows match, and the JSON of rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from cd4ml.gateways.store_tables import decode, fragments, seal, unpacked_numbers, without_collection
from cd4ml.index.paths import Path
from cd4ml.index.rows import GONE
from cd4ml.index.sql import IN_FOLD_ORDER, OF_BRANCH, Order, Sql, Where, driving

_LARGEST = 2**63 - 1
"""The largest whole number that SQLite knows."""


def positions_of(
    database: sqlite3.Connection, where: Where | None, order: Order | None, limit: int | None
) -> list[int]:
    """The rows that match, in order."""
    limit = None if limit is None else min(limit, _LARGEST)
    condition = where.condition() if where else Sql("1")
    if order is None or order.along is None:
        joins = order.joins() if order else Sql("")
        by = order.by() if order else IN_FOLD_ORDER
        sql = f"SELECT run.position FROM run {joins.sql} WHERE {condition.sql} ORDER BY {by} LIMIT ?"  # noqa: S608  # of index.sql
        return _column(database, sql, (*joins.parameters, *condition.parameters, -1 if limit is None else limit))
    found = _along(database, where, order, limit)
    left = -1 if limit is None else limit - len(found)
    if left == 0:
        return found
    # then what has no value there, by the other terms
    along, joins = driving(order.along), order.joins(1)
    sql = (
        f"SELECT run.position FROM run {joins.sql} WHERE {condition.sql}"  # noqa: S608  # of index.sql
        f" AND run.position NOT IN (SELECT {along.position} FROM {along.source} WHERE {along.held.sql})"
        f" ORDER BY {order.by(1)} LIMIT ?"
    )
    bound = (*joins.parameters, *condition.parameters, *along.held.parameters, left)
    return found + _column(database, sql, bound)


def _along(database: sqlite3.Connection, where: Where | None, order: Order, limit: int | None) -> list[int]:
    """The rows that have a value to order by: along the order of these values, so that a limit ends the walk."""
    assert order.along is not None  # noqa: S101  # asked before
    along, joins = driving(order.along), order.joins(1)
    condition = where.condition(order.along) if where else Sql("1")
    rest = order.by(1)
    sql = (
        f"SELECT {along.position} FROM {along.source} CROSS JOIN run ON run.position = {along.position} {joins.sql}"  # noqa: S608  # of index.sql
        f" WHERE {along.held.sql} AND {condition.sql}"
        f" ORDER BY o.value {'DESC' if order.terms[0].descending else 'ASC'}, {rest} LIMIT ?"
    )
    bound = (*joins.parameters, *along.held.parameters, *condition.parameters, -1 if limit is None else limit)
    return _column(database, sql, bound)


def _column(database: sqlite3.Connection, sql: str, bound: Sequence[Any]) -> list[int]:
    return [position for (position,) in database.execute(sql, bound)]


_AT_ONCE = 500


Part = tuple[str, Any, bool]
"""A fragment: its key in a row's JSON, its value, and whether the key is one of ``params``."""

Shared = dict[int, Part]
"""Fragments by their number."""


def docs_of(
    database: sqlite3.Connection, positions: Sequence[int], shared: Shared | None = None
) -> list[dict[str, Any]]:
    """The JSON of rows, with what is stored once for many rows, and what became of the branch, put back.

    ``shared`` is what has been read of it before, and takes in what is read now. Raises DatabaseError for a row that
    is not what was written.
    """
    with without_collection():
        return _docs(database, positions, {} if shared is None else shared)


def _docs(database: sqlite3.Connection, positions: Sequence[int], shared: Shared) -> list[dict[str, Any]]:
    docs = []
    for content, numbers, (word, by, when) in _sealed(database, _DOCS, positions, shared):
        doc = whole(decode(content), map(shared.__getitem__, numbers))
        doc["lifecycle"], doc["lifecycle_by"], doc["lifecycle_at"] = word or GONE, by, when and f"{when}Z"
        docs.append(doc)
    return docs


def own_docs(
    database: sqlite3.Connection, positions: Sequence[int], by: Collection[Path], shared: Shared
) -> list[tuple[dict[str, Any], list[Part], tuple[int, ...]]]:
    """The JSON of rows without what is stored once for many, that, and the numbers of what of it lies at these paths.

    Of two rows of which the numbers are equal, all that lies there is. What became of the branch is not told.
    Raises as ``docs_of`` does.
    """
    decisive = {(path[-1], len(path) > 1) for path in by}
    found = []
    with without_collection():
        for content, numbers, _ in _sealed(database, _OWN_DOCS, positions, shared):
            parts = [shared[number] for number in numbers]
            told = tuple([number for number, part in zip(numbers, parts, strict=True) if part[::2] in decisive])
            found.append((decode(content), parts, told))
    return found


def whole(doc: dict[str, Any], parts: Iterable[Part]) -> dict[str, Any]:
    """A row's own JSON with what is stored once for many rows put back into it."""
    params: dict[str, Any] = {}
    for key, value, of_params in parts:
        if of_params:
            params[key] = value
        else:
            doc[key] = value
    if params:
        doc["params"] = params
    return doc


def _sealed(
    database: sqlite3.Connection, sql: str, positions: Sequence[int], shared: Shared
) -> Iterator[tuple[bytes, Sequence[int], Sequence[Any]]]:
    """Of each row its own JSON, the numbers of its fragments, which ``shared`` takes in, and what else is asked."""
    for start in range(0, len(positions), _AT_ONCE):
        part = positions[start : start + _AT_ONCE]
        found = {row[0]: row for row in database.execute(_marked(sql, part), part)}
        if len(found) < len(set(part)):
            raise sqlite3.DatabaseError("a row is not here")
        made_of = {position: unpacked_numbers(row[2]) for position, row in found.items()}
        new = set().union(*made_of.values()) - shared.keys()
        for number, (path, value) in fragments(database, new).items():
            shared[number] = path[-1], value, len(path) > 1
        for position in part:
            _, content, parts, sealed, *further = found[position]
            if sealed != seal(position, parts, content):
                raise sqlite3.DatabaseError(f"row {position} is not what was written")
            yield content, made_of[position], further


_OWN_DOCS = "SELECT position, content, parts, seal FROM doc WHERE position IN ({})"
_DOCS = (
    f"SELECT doc.position, doc.content, doc.parts, doc.seal,"  # noqa: S608  # names of index.sql
    f" {', '.join(f'coalesce(exact.{name}, other.{name})' for name in OF_BRANCH)}"
    " FROM doc JOIN run ON run.position = doc.position"
    ' LEFT JOIN lifecycle AS exact ON exact.branch = run."branch" AND exact."commit" = run."commit"'
    " LEFT JOIN lifecycle AS other ON exact.branch IS NULL"
    ' AND other.branch = run."branch" AND other."commit" = \'\''
    " WHERE doc.position IN ({})"
)


def _marked(sql: str, values: Sequence[Any]) -> str:
    return sql.format(", ".join("?" * len(values)))
