"""SQL databases: the answer to one query, read without writing anything, as canonical Parquet.

SQLAlchemy speaks to whatever it has a driver for. The rows of the answer are sorted by all their columns before they
are written, so that the same rows give the same bytes in whatever order a server hands them out.
"""

from __future__ import annotations

import math
import os
import re
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from cd4ml.errors import ConfigError, Problem, RemoteError
from cd4ml.spec.experiment import SourceSpec
from cd4ml.spec.text import one_line

if TYPE_CHECKING:
    import pyarrow as pa
    import sqlalchemy

_ROWS_AT_ONCE = 10_000
_MOST_BYTES = 4 << 30
_CONNECT_SECONDS = 10
_EXTRAS: Mapping[str, str] = MappingProxyType({"psycopg": "cd4ml[postgres]", "sqlalchemy": "cd4ml[sql]"})
"""What to install for a module that is missing; of any other, the module itself."""

_TIMED = frozenset({"postgresql", "mysql", "mariadb"})
"""Dialects whose drivers know ``connect_timeout``."""

_HIDES_A_SEMICOLON = re.compile(r"[\\$#`\[]|--|/\*")
"""What quotes text, or begins a comment, in one dialect or another."""

_SECRET_KEY = re.compile(r"user|passw|pwd|secret|token", re.IGNORECASE)
"""Keys of a URL's query that name somebody, or let somebody in."""

_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")


def fetch_query(source: SourceSpec, override: str, root: Path, target: Path) -> None:
    """Write the answer to ``source.query`` to ``target`` as Parquet, its rows sorted by all columns.

    ``override`` is the URL to connect to instead of ``source.location`` (``""``: none); neither it nor a part of it
    is ever told. The path of SQLite's file counts from ``root``, and stays inside. Raises ConfigError naming the
    key of ``conf/data`` when the query, the dialect or a column is wrong, RemoteError when the server does not
    answer or breaks off. Writes to no database: the transaction reads only where there is such a thing, and is
    rolled back.
    """
    query = _one_statement(source)
    try:
        import sqlalchemy
    except ImportError as error:
        raise _missing(source, error) from error
    url = _url(source, override, root)
    secrets = [word for word in (override, url.password, url.username) if word]
    try:
        engine = sqlalchemy.create_engine(url, **_options(url))
    except (sqlalchemy.exc.NoSuchModuleError, ImportError) as error:
        raise _missing(source, error) from None
    except (sqlalchemy.exc.SQLAlchemyError, TypeError, ValueError) as error:
        raise _wrong(source, "location", f"cannot be used: {_why(error, secrets)}") from None
    try:
        table = _answer(engine, source, query, secrets)
    finally:
        engine.dispose()
    _write(table, target)


def _one_statement(source: SourceSpec) -> str:
    """The query without the ``;`` at its end. Raises ConfigError where another statement might follow."""
    query = source.query.strip().removesuffix(";").rstrip()
    if ";" in query and (_HIDES_A_SEMICOLON.search(query) or ";" in _QUOTED.sub("", query)):
        raise _wrong(source, "query", "must be one statement: a ; may stand at its end, or in plain quotes")
    return query


def _url(source: SourceSpec, override: str, root: Path) -> sqlalchemy.URL:
    import sqlalchemy

    try:
        url = sqlalchemy.make_url(override or source.location)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        named = "the environment's URL" if override else "location"
        raise _wrong(source, "location", f"{named} is not a SQLAlchemy URL") from None
    if not override and (url.username or url.password or any(map(_SECRET_KEY.search, url.query))):
        raise _wrong(source, "location", f"must not carry credentials, which ${_variable(source)} may hold")
    if url.get_backend_name() != "sqlite":
        return url
    path = root / (url.database or "")
    inside = Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))
    if not override and ("\0" in str(path) or not inside):
        raise _wrong(source, "location", "lies outside the project")
    if not path.is_file():
        raise _wrong(source, "location", "no such file")
    return url.set(database=path.resolve().as_uri(), query={"mode": "ro", "uri": "true"})


def _options(url: sqlalchemy.URL) -> dict[str, Any]:
    from sqlalchemy.pool import NullPool

    timed = url.get_backend_name() in _TIMED and "connect_timeout" not in url.query
    return {
        "poolclass": NullPool,
        "hide_parameters": True,
        "connect_args": {"connect_timeout": _CONNECT_SECONDS} if timed else {},
    }


def _answer(engine: sqlalchemy.Engine, source: SourceSpec, query: str, secrets: list[str]) -> pa.Table:
    """The whole answer, read in chunks."""
    import sqlalchemy

    try:
        connection = engine.connect()
    except ImportError as error:
        raise _missing(source, error) from None
    except Exception as error:  # noqa: BLE001  # each driver raises its own errors, and all mean the same
        hint = f"is its server up, and are credentials in ${_variable(source)} or where its driver looks?"
        raise RemoteError(f"source {source.name}: no connection: {_why(error, secrets)} ({hint})") from None
    with connection:
        try:
            _only_read(connection)
            result = connection.execution_options(
                stream_results=True, max_row_buffer=_ROWS_AT_ONCE, no_parameters=True
            ).exec_driver_sql(query)
            names = _names(list(result.keys()), source)
            chunks = (_chunk(rows, names, source) for rows in result.partitions(_ROWS_AT_ONCE))
            return _joined(chunks, names, source)
        except sqlalchemy.exc.DBAPIError as error:
            if error.connection_invalidated or _broke_off(error):
                raise RemoteError(f"source {source.name}: the connection broke off: {_why(error, secrets)}") from None
            raise _wrong(source, "query", _refusal(error, secrets)) from None


def _only_read(connection: sqlalchemy.Connection) -> None:
    """Have the server refuse to write; SQLite's file is opened so."""
    dialect = connection.dialect.name
    if dialect == "postgresql":
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    elif dialect in ("mysql", "mariadb"):
        connection.exec_driver_sql("SET SESSION TRANSACTION READ ONLY")
        connection.rollback()  # what is set holds from the next transaction on
    elif dialect == "oracle":
        connection.exec_driver_sql("SET TRANSACTION READ ONLY")


def _broke_off(error: sqlalchemy.exc.DBAPIError) -> bool:
    """SQLSTATE of class 08 (connection), 53 (resources), 57 (operator) or 40 (rollback): another try may succeed."""
    state = getattr(error.orig, "sqlstate", None)
    return isinstance(state, str) and state[:2] in {"08", "40", "53", "57"}


def _refusal(error: sqlalchemy.exc.DBAPIError, secrets: list[str]) -> str:
    """Why the database did not answer. Messages about values show them, so only those about the query are told."""
    import sqlalchemy

    about_values = isinstance(error, sqlalchemy.exc.DataError | sqlalchemy.exc.IntegrityError)
    if about_values or type(error.orig).__name__ == "RaiseException" or "with text" in str(error.orig):
        return f"the database could not compute the answer ({type(error.orig).__name__})"
    return f"the database refuses it: {_why(error, secrets)}"


def _names(names: list[str], source: SourceSpec) -> list[str]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise _wrong(source, "query", f"gives two columns the name {twice[0]!r}; rename one with AS")
    return names


def _chunk(rows: Sequence[Sequence[Any]], names: list[str], source: SourceSpec) -> dict[str, pa.Array]:
    columns: Iterable[tuple[Any, ...]] = zip(*rows, strict=True)
    return {name: _array(column, name, source) for name, column in zip(names, columns, strict=True)}


def _array(values: tuple[Any, ...], name: str, source: SourceSpec) -> pa.Array:
    """One column of a chunk: null where nothing is there, else bool, int64, float64, string or timestamp."""
    import pyarrow as pa

    found = {_KINDS.get(type(value), type(value).__name__) for value in values if value is not None}
    if "whole numbers" in found and found <= {"whole numbers", "numbers"}:
        found = {"numbers"} if "numbers" in found else {"whole numbers"}
    if not found:
        return pa.nulls(len(values))
    (kind, *more) = sorted(found)
    if more:
        raise _column(source, name, f"holds {' and '.join((kind, *more))}")
    if kind not in _ARROW:
        raise _column(source, name, f"holds values of type {kind}, which no table of cd4ml can")
    arrow, convert = _ARROW[kind]
    try:
        return pa.array([None if value is None else convert(value) for value in values], type=arrow())
    except (pa.ArrowException, OverflowError, ValueError):
        raise _column(source, name, f"holds {kind} that do not fit 64 bits") from None


def _moment(value: date) -> datetime:
    """UTC; that is what a time without a zone is taken for, and a day begins at midnight."""
    moment = value if isinstance(value, datetime) else datetime(value.year, value.month, value.day, tzinfo=UTC)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _number(value: Any) -> float | None:
    number = float(value) + 0.0  # -0.0 becomes 0.0, as in digests
    return None if math.isnan(number) else number


def _timestamp() -> pa.DataType:
    import pyarrow as pa

    return pa.timestamp("us", tz="UTC")


def _arrow(name: str) -> Callable[[], pa.DataType]:
    def kind() -> pa.DataType:
        import pyarrow as pa

        return getattr(pa, name)()

    return kind


_KINDS: Mapping[type, str] = MappingProxyType(
    {
        bool: "truth",
        int: "whole numbers",
        float: "numbers",
        Decimal: "numbers",
        str: "text",
        uuid.UUID: "text",
        date: "times",
        datetime: "times",
    }
)
_ARROW: Mapping[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = MappingProxyType(
    {
        "truth": (_arrow("bool_"), bool),
        "whole numbers": (_arrow("int64"), int),
        "numbers": (_arrow("float64"), _number),
        "text": (_arrow("string"), str),
        "times": (_timestamp, _moment),
    }
)


def _joined(chunks: Iterable[dict[str, pa.Array]], names: list[str], source: SourceSpec) -> pa.Table:
    """The chunks as one table, each column of one kind, its rows sorted. Raises ConfigError for no rows at all."""
    import pyarrow as pa

    parts: dict[str, list[pa.Array]] = {name: [] for name in names}
    size = 0
    for chunk in chunks:
        for name, array in chunk.items():
            parts[name].append(array)
            size += array.nbytes
        if size > _MOST_BYTES:
            raise _wrong(source, "query", f"gives more than {_MOST_BYTES >> 30} GiB")
    if not size and not any(parts.values()):
        raise _wrong(source, "query", "gives no rows")
    table = pa.table({name: _one_kind(arrays, name, source) for name, arrays in parts.items()})
    return table.sort_by([(name, "ascending") for name in names])


def _one_kind(arrays: list[pa.Array], name: str, source: SourceSpec) -> pa.ChunkedArray:
    import pyarrow as pa

    kinds = {array.type for array in arrays if not pa.types.is_null(array.type)}
    if kinds == {pa.int64(), pa.float64()}:
        kinds = {pa.float64()}
    if len(kinds) > 1:
        words = (word for word, (arrow, _) in _ARROW.items() if arrow() in kinds)
        raise _column(source, name, f"holds {' and '.join(sorted(words))}")
    kind = kinds.pop() if kinds else pa.float64()
    return pa.chunked_array([array.cast(kind, safe=False) for array in arrays], type=kind)


def _write(table: pa.Table, target: Path) -> None:
    """Equal tables give equal bytes under one version of Arrow."""
    import pyarrow.parquet as pq

    pq.write_table(table, target, row_group_size=131_072, compression="zstd", store_schema=False, version="2.6")


def _variable(source: SourceSpec) -> str:
    from cd4ml.gateways.sources import override_variable

    return override_variable(source.name)


def _wrong(source: SourceSpec, key: str, message: str) -> ConfigError:
    return ConfigError([Problem("conf/data", f"data.sources.{source.name}.{key}", message)])


def _column(source: SourceSpec, name: str, message: str) -> ConfigError:
    return _wrong(source, "query", f"column {one_line(repr(name), 80)} {message}; CAST it in the query")


def _missing(source: SourceSpec, error: BaseException) -> ConfigError:
    """What to install, for a driver or a dialect that is not there."""
    module = getattr(error, "name", None) or ""
    what = _EXTRAS.get(module.partition(".")[0], module)
    hint = f"pip install '{what}'" if what else "install the package that brings it"
    key = f"data.sources.{source.name}.location"
    dialect = source.location.partition("://")[0]
    return ConfigError([Problem("conf/data", key, f"the driver for {dialect} is not installed", hint)])


def _why(error: BaseException, secrets: Iterable[str]) -> str:
    """The first line of what the driver itself says, without credentials."""
    text = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
    for secret in secrets:
        text = text.replace(secret, "…")
    return one_line(text, 300) or type(error).__name__
