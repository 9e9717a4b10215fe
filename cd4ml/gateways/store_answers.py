"""What a query cache is asked: which rows match, and the JSON of rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from operator import itemgetter
from typing import Any

from cd4ml.gateways.store_tables import ROW_COLUMNS, decode, fragments, row_seal, seal, without_collection
from cd4ml.index.fields import FIELDS, Holds
from cd4ml.index.paths import Path
from cd4ml.index.rows import GONE, Row
from cd4ml.index.sql import COLUMNS, IN_FOLD_ORDER, OF_BRANCH, Order, Sql, Where, driving
from cd4ml.spec.fingerprint import COMPONENTS


def positions_of(
    database: sqlite3.Connection, where: Where | None, order: Order | None, limit: int | None
) -> list[int]:
    """The rows that match, in order."""
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
    source, joins = driving(order.along), order.joins(1)
    position = "o.position" if source.sql.startswith("own") else "part.position"
    sql = (
        f"SELECT run.position FROM run {joins.sql} WHERE {condition.sql}"  # noqa: S608  # of index.sql
        f" AND run.position NOT IN (SELECT {position} FROM {source.sql}) ORDER BY {order.by(1)} LIMIT ?"
    )
    bound = (*joins.parameters, *condition.parameters, *source.parameters, left)
    return found + _column(database, sql, bound)


def _along(database: sqlite3.Connection, where: Where | None, order: Order, limit: int | None) -> list[int]:
    """The rows that have a value to order by: along the order of these values, so that a limit ends the walk."""
    assert order.along is not None  # noqa: S101  # asked before
    source, joins = driving(order.along), order.joins(1)
    of, _, held = source.sql.partition(" WHERE ")
    position = "o.position" if of.startswith("own") else "part.position"
    condition = where.condition(order.along) if where else Sql("1")
    rest = order.by(1)
    sql = (
        f"SELECT {position} FROM {of} CROSS JOIN run ON run.position = {position} {joins.sql}"  # noqa: S608  # of index.sql
        f" WHERE {held} AND {condition.sql}"
        f" ORDER BY o.value {'DESC' if order.terms[0].descending else 'ASC'}, {rest} LIMIT ?"
    )
    bound = (*joins.parameters, *source.parameters, *condition.parameters, -1 if limit is None else limit)
    return _column(database, sql, bound)


def _column(database: sqlite3.Connection, sql: str, bound: Sequence[Any]) -> list[int]:
    return [position for (position,) in database.execute(sql, bound)]


_AT_ONCE = 500


def docs_of(database: sqlite3.Connection, positions: Sequence[int]) -> list[dict[str, Any]]:
    """The JSON of rows, with what is stored once for many rows, and what became of the branch, put back.

    Raises DatabaseError for a row that is not what was written.
    """
    with without_collection():
        return _docs(database, positions)


def _docs(database: sqlite3.Connection, positions: Sequence[int]) -> list[dict[str, Any]]:
    shared: dict[str, tuple[tuple[str, ...], Any]] = {}
    docs = []
    for start in range(0, len(positions), _AT_ONCE):
        part = positions[start : start + _AT_ONCE]
        found = {row[0]: row for row in database.execute(_marked(_DOCS, part), part)}
        if len(found) < len(set(part)):
            raise sqlite3.DatabaseError("a row is not here")
        made_of = {at: row[2].split(",") if row[2] else [] for at, row in found.items()}
        new = [number for numbers in made_of.values() for number in numbers if number not in shared]
        shared |= fragments(database, new)
        for position in part:
            row = found[position]
            content, parts, columns = row[1], row[2], row[_COLUMNS_FROM:]
            if row[3] != seal(position, parts, row_seal(columns, content)):
                raise sqlite3.DatabaseError(f"row {position} is not what was written")
            held = map(shared.__getitem__, made_of[position])
            docs.append(_doc(columns, content, held, row[_BRANCH_FROM:_COLUMNS_FROM]))
    return docs


_BRANCH_FROM = 4
_COLUMNS_FROM = _BRANCH_FROM + len(OF_BRANCH)
"""Where in a row of ``_DOCS`` they begin."""

_COLUMN_SQL = tuple(f'run."{name}"' for name in ROW_COLUMNS)
_TIMES = tuple(name for name in COLUMNS if FIELDS[name] is Holds.TIME)
_EMPTY: Mapping[str, Any] = dict.fromkeys(one.name for one in fields(Row))

_DOCS = (
    f"SELECT doc.position, doc.content, doc.parts, doc.seal,"  # noqa: S608  # names of index.sql
    f" {', '.join(f'coalesce(exact.{name}, other.{name})' for name in OF_BRANCH)},"
    f" {', '.join(_COLUMN_SQL)}"
    " FROM doc JOIN run ON run.position = doc.position"
    ' LEFT JOIN lifecycle AS exact ON exact.branch = run."branch" AND exact."commit" = run."commit"'
    " LEFT JOIN lifecycle AS other ON exact.branch IS NULL"
    ' AND other.branch = run."branch" AND other."commit" = \'\''
    " WHERE doc.position IN ({})"
)


def _marked(sql: str, values: Sequence[Any]) -> str:
    return sql.format(", ".join("?" * len(values)))


def _doc(
    columns: tuple[Any, ...], content: str, parts: Iterable[tuple[Path, Any]], of_branch: tuple[str | None, ...]
) -> dict[str, Any]:
    doc = {**_EMPTY, **dict(zip(COLUMNS, columns, strict=False)), "fold": columns[-1], **decode(content)}
    held = _sorted(columns)
    if any(held):
        components = dict(zip(_SORTED, held, strict=True))
        if None in held:
            components = {name: value for name, value in components.items() if value is not None}
        doc["components"] = components if doc["components"] is None else {**components, **doc["components"]}
    for name in _TIMES:
        if doc[name]:
            doc[name] += "Z"
    inner: dict[str, Any] = {}  # of params, each group of which is a fragment
    for path, value in parts:
        if len(path) == 1:
            doc[path[0]] = value
        else:
            inner[path[1]] = value
    if inner:
        doc["params"] = inner
    word, by, when = of_branch
    doc["lifecycle"], doc["lifecycle_by"], doc["lifecycle_at"] = word or GONE, by, when and f"{when}Z"
    return doc


_SORTED = tuple(sorted(COMPONENTS))
_sorted = itemgetter(*(ROW_COLUMNS.index(f"components.{name}") for name in _SORTED))
