"""What a query cache is asked: which rows match, and the JSON of rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from cd4ml.gateways.store_tables import decode, fragments, seal, unpacked_numbers, without_collection
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


Shared = dict[int, tuple[str, Any, bool]]
"""By the number of a fragment, its key in a row's JSON, its value, and whether the key is one of ``params``."""


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
    for start in range(0, len(positions), _AT_ONCE):
        part = positions[start : start + _AT_ONCE]
        found = {row[0]: row for row in database.execute(_marked(_DOCS, part), part)}
        if len(found) < len(set(part)):
            raise sqlite3.DatabaseError("a row is not here")
        made_of = {position: unpacked_numbers(row[2]) for position, row in found.items()}
        new = set().union(*made_of.values()) - shared.keys()
        for number, (path, value) in fragments(database, new).items():
            shared[number] = path[-1], value, len(path) > 1
        for position in part:
            _, content, parts, sealed, *of_branch = found[position]
            if sealed != seal(position, parts, content):
                raise sqlite3.DatabaseError(f"row {position} is not what was written")
            docs.append(_doc(content, map(shared.__getitem__, made_of[position]), of_branch))
    return docs


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


def _doc(content: bytes, parts: Iterable[tuple[str, Any, bool]], of_branch: Sequence[str | None]) -> dict[str, Any]:
    doc: dict[str, Any] = decode(content)
    params: dict[str, Any] = {}
    for key, value, of_params in parts:
        if of_params:
            params[key] = value
        else:
            doc[key] = value
    if params:
        doc["params"] = params
    word, by, when = of_branch
    doc["lifecycle"], doc["lifecycle_by"], doc["lifecycle_at"] = word or GONE, by, when and f"{when}Z"
    return doc
