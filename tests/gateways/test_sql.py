"""Queries of a real PostgreSQL and of SQLite: what is read, in which form, and what is refused without a secret."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cd4ml.errors import Cd4mlError, RemoteError, UsageError
from cd4ml.gateways import database
from cd4ml.gateways.sources import fetch_source
from cd4ml.spec.experiment import SourceSpec
from cd4ml.stages.table import column_types, read_table
from tests.gateways.postgres_world import PASSWORD, Server, postgres

CREATE = """CREATE TABLE trips (id bigint, city text, fare numeric(8, 2), far double precision, night boolean,
start timestamptz, day date, note uuid, gap integer)"""
FILL = """INSERT INTO trips VALUES
(2, 'Rome', 7.25, 'NaN', true, '2013-02-01 10:00+02', '2013-02-01', '12345678-1234-5678-1234-567812345678', 5),
(1, 'Oslo', 3.10, -0.0, false, '2013-01-01 00:00+00', '2013-01-01', NULL, NULL),
(10, NULL, NULL, 1e300, NULL, NULL, NULL, NULL, NULL)"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with postgres() as running:
        running.sql(CREATE, FILL)
        yield running


@pytest.fixture(autouse=True)
def _no_credentials_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("PG", "CD4ML_SOURCE_"))]:
        monkeypatch.delenv(name)


@pytest.fixture
def logged_in(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """As libpq's own variables say who asks."""
    monkeypatch.setenv("PGUSER", server.user)
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    return server


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A project with a SQLite file of its own."""
    (tmp_path / "data").mkdir()
    with contextlib.closing(sqlite3.connect(tmp_path / "data" / "shop.db")) as database:
        database.executescript(
            "CREATE TABLE orders (id INTEGER, name TEXT, price REAL, mixed, raw BLOB);"
            "INSERT INTO orders VALUES (2, 'b;c', 1, 1, x'00'), (1, 'a', 2.5, 'one', NULL), (3, NULL, NULL, 2, NULL);"
        )
    return tmp_path


def sqlite(query: str, location: str = "sqlite:///data/shop.db") -> SourceSpec:
    return SourceSpec("orders", location, "sql", query)


def pg(server: Server, query: str) -> SourceSpec:
    return SourceSpec("trips", server.location, "sql", query)


def rows(source: SourceSpec, root: Path) -> dict[str, list[Any]]:
    fetch_source(source, root, root / "raw")
    frame = read_table(root / "raw", "parquet", "raw.parquet")
    return {str(name): frame[name].tolist() for name in frame.columns}


def digest(source: SourceSpec, root: Path) -> str:
    fetch_source(source, root, root / "raw")
    return hashlib.sha256((root / "raw").read_bytes()).hexdigest()


# ── what is read ──


def test_every_usual_type_of_postgresql_comes_down_to_a_canonical_kind(logged_in: Server, tmp_path: Path) -> None:
    fetch_source(pg(logged_in, "SELECT * FROM trips;"), tmp_path, tmp_path / "raw")
    frame = read_table(tmp_path / "raw", "parquet", "raw.parquet")
    assert column_types(frame) == (
        ("id", "int64"),
        ("city", "string"),
        ("fare", "float64"),
        ("far", "float64"),
        ("night", "bool"),
        ("start", "timestamp"),
        ("day", "timestamp"),
        ("note", "string"),
        ("gap", "float64"),
    )
    assert frame["id"].tolist() == [1, 2, 10]
    assert frame["fare"].tolist()[:2] == [3.10, 7.25]
    assert frame["start"].iloc[1].isoformat() == "2013-02-01T08:00:00+00:00"
    assert frame["far"].isna().tolist() == [False, True, False]


def test_the_order_in_which_a_server_keeps_its_rows_moves_no_byte(logged_in: Server, tmp_path: Path) -> None:
    many = "INSERT INTO {} SELECT n, 'city ' || n % 7, n / 3.0, NULLIF(n % 5, 0) FROM generate_series(1, 25000) n "
    columns = "(id bigint, city text, share double precision, gap integer)"
    logged_in.sql(
        f"CREATE TABLE up {columns}",
        many.format("up") + "ORDER BY n",
        f"CREATE TABLE down {columns}",
        many.format("down") + "ORDER BY n % 13, n DESC",
    )
    up = digest(pg(logged_in, "SELECT * FROM up"), tmp_path)
    assert digest(pg(logged_in, "SELECT * FROM down"), tmp_path) == up
    logged_in.sql("UPDATE down SET share = share WHERE id < 9000")  # its rows move to the end of the file
    assert digest(pg(logged_in, "SELECT * FROM down"), tmp_path) == up
    logged_in.sql("UPDATE down SET share = 0 WHERE id = 9000")
    assert digest(pg(logged_in, "SELECT * FROM down"), tmp_path) != up
    assert pq.ParquetFile(tmp_path / "raw").metadata.num_rows == 25_000


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("SELECT city FROM trips WHERE city LIKE 'O%'", ["Oslo"]),
        ("WITH few AS (SELECT city FROM trips) SELECT city::text FROM few WHERE city = 'Rome'", ["Rome"]),
        ("SELECT 'a;b:c' AS city", ["a;b:c"]),
        ("VALUES (':x'), ('%s')", ["%s", ":x"]),
    ],
)
def test_a_query_reaches_the_server_as_it_is_written(
    logged_in: Server, tmp_path: Path, query: str, expected: list[str]
) -> None:
    (column,) = rows(pg(logged_in, query), tmp_path).values()
    assert column == expected


def test_sqlite_is_read_from_a_file_of_the_project(shop: Path) -> None:
    assert rows(sqlite("SELECT id, name, price FROM orders WHERE id < 3"), shop) == {
        "id": [1, 2],
        "name": ["a", "b;c"],
        "price": [2.5, 1.0],
    }


# ── credentials ──


def test_credentials_come_from_an_environment_variable_for_the_fetch_only(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CD4ML_SOURCE_TRIPS_URL", server.url)
    elsewhere = SourceSpec("trips", "postgresql+psycopg://127.0.0.1:1/nowhere", "sql", "SELECT id FROM trips")
    assert rows(elsewhere, tmp_path) == {"id": [1, 2, 10]}


def test_credentials_come_from_the_files_of_libpq(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, services = tmp_path / "pgpass", tmp_path / "pg_service.conf"
    words.write_text(f"127.0.0.1:{server.port}:*:{server.user}:{PASSWORD}\n")
    words.chmod(stat.S_IRUSR | stat.S_IWUSR)
    services.write_text(f"[taxi]\nhost=127.0.0.1\nport={server.port}\nuser={server.user}\ndbname=postgres\n")
    monkeypatch.setenv("PGPASSFILE", str(words))
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    monkeypatch.setenv("PGSERVICE", "taxi")
    source = SourceSpec("trips", "postgresql+psycopg://", "sql", "SELECT id FROM trips")
    assert rows(source, tmp_path) == {"id": [1, 2, 10]}


@pytest.mark.parametrize("kind", ["password", "server", "port", "table", "url"])
def test_no_message_shows_a_credential(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    secret = "s3cret-word"
    url = {
        "password": f"postgresql+psycopg://{server.user}:{secret}@127.0.0.1:{server.port}/postgres",
        "server": f"postgresql+psycopg://{secret}:{secret}@127.0.0.1:1/postgres",
        "port": f"postgresql+psycopg://x:{secret}@127.0.0.1:notaport/postgres",
        "table": server.url,
        "url": f"{secret}@nowhere",
    }[kind]
    monkeypatch.setenv("CD4ML_SOURCE_TRIPS_URL", url)
    with pytest.raises(Cd4mlError) as caught:
        fetch_source(pg(server, "SELECT * FROM nothing"), tmp_path, tmp_path / "raw")
    told = str(caught.value)
    assert secret not in told
    assert PASSWORD not in told
    assert "horse" not in told
    assert len(told.splitlines()) == 1
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize("location", ["postgresql://ann:x@h/d", "postgresql://ann@h/d", "mysql://h/d?passwd=x&a=b"])
def test_a_location_that_carries_credentials_is_never_connected_to(tmp_path: Path, location: str) -> None:
    with pytest.raises(UsageError, match=r"x\.location: must not carry credentials, which \$CD4ML_SOURCE_X_URL may"):
        fetch_source(SourceSpec("x", location, "sql", "SELECT 1"), tmp_path, tmp_path / "raw")


# ── what is refused ──


@pytest.mark.parametrize(
    "query",
    [
        "SELECT 1; DROP TABLE trips",
        "SELECT 1; COMMIT; DROP TABLE trips; SELECT 1",
        "SELECT $$'$$; DROP TABLE trips; --'",
        "SELECT /* /* */ ' */ 1; DROP TABLE trips; --'",
        "SELECT '\\'; DROP TABLE trips; --'",
        "SELECT 1 -- '\n; DROP TABLE trips --'",
        "WITH gone AS (DELETE FROM trips RETURNING id) SELECT * FROM gone",
        "SELECT id INTO copied FROM trips",
        "SELECT nextval('counter') AS n",
        "SELECT lo_create(0) AS n",
    ],
)
def test_no_query_writes(logged_in: Server, tmp_path: Path, query: str) -> None:
    logged_in.sql("CREATE SEQUENCE IF NOT EXISTS counter")
    with pytest.raises(UsageError, match=r"^conf/data: data\.sources\.trips\.query: "):
        fetch_source(pg(logged_in, query), tmp_path, tmp_path / "raw")
    assert rows(pg(logged_in, "SELECT id FROM trips"), tmp_path) == {"id": [1, 2, 10]}
    assert rows(pg(logged_in, "SELECT is_called::text AS called FROM counter"), tmp_path) == {"called": ["false"]}


def test_kinds_that_differ_from_chunk_to_chunk_are_joined_or_refused(logged_in: Server, tmp_path: Path) -> None:
    many = "SELECT {} AS n FROM generate_series(1, 30000) n"
    assert rows(pg(logged_in, many.format("CASE WHEN n > 20000 THEN n / 2.0 END")), tmp_path)["n"][0] == 10000.5
    twice = rows(pg(logged_in, "SELECT n::numeric AS n FROM generate_series(1, 30000) n"), tmp_path)["n"]
    assert twice == [float(n) for n in range(1, 30001)]


def test_sqlite_is_opened_for_reading_only(shop: Path) -> None:
    with pytest.raises(UsageError, match=r"data\.sources\.orders\.query"):
        rows(sqlite("WITH x AS (SELECT 1) INSERT INTO orders SELECT 9, 'x', 1, 1, NULL FROM x"), shop)
    assert rows(sqlite("SELECT id FROM orders"), shop) == {"id": [1, 2, 3]}


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT * FROM ordrs", "no such table: ordrs"),
        ("SELECT idd FROM orders", "no such column: idd"),
        ("SELECT FROM", "syntax error"),
        ("SELECT id, id FROM orders", "two columns the name 'id'"),
        ("SELECT mixed FROM orders", "column 'mixed' holds text and whole numbers; CAST it"),
        ("SELECT 9223372036854775807 + 1.0 AS n UNION SELECT 'x'", "column 'n' holds numbers and text"),
        ("SELECT raw FROM orders", "column 'raw' holds values of type bytes"),
        ("SELECT id FROM orders WHERE id > 5", "gives no rows"),
        ("SELECT 1; SELECT 2", "must be one statement"),
    ],
)
def test_a_query_that_gives_no_table_is_one_line_that_names_its_key(shop: Path, query: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        rows(sqlite(query), shop)
    assert str(caught.value).startswith("conf/data: data.sources.orders.query: ")
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT * FROM tripz", 'relation "tripz" does not exist'),
        ("SELECT cty FROM trips", 'column "cty" does not exist'),
        ("SELECT city::integer FROM trips", "could not compute the answer (InvalidTextRepresentation)"),
        ("SELECT 1 / (id - 1) FROM trips", "could not compute the answer (DivisionByZero)"),
        ("SELECT 'infinity'::timestamptz AS start", "could not compute the answer"),
        ("SELECT 99999999999999999999999::numeric AS n, interval '1 day' AS i", "column 'i' holds values of type"),
        ("SELECT ARRAY[1, 2] AS a", "column 'a' holds values of type list"),
    ],
)
def test_postgresql_s_refusals_name_the_key_and_show_no_cell(
    logged_in: Server, tmp_path: Path, query: str, message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        rows(pg(logged_in, query), tmp_path)
    assert str(caught.value).startswith("conf/data: data.sources.trips.query: ")
    assert message in str(caught.value)
    assert "Oslo" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_server_that_does_not_answer_or_lets_nobody_in_may_do_so_later(server: Server, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    silent = SourceSpec("trips", f"postgresql+psycopg://127.0.0.1:{port}/postgres", "sql", "SELECT 1")
    for source in (silent, pg(server, "SELECT 1")):
        with pytest.raises(RemoteError, match=r"^source trips: no connection: .*CD4ML_SOURCE_TRIPS_URL") as caught:
            fetch_source(source, tmp_path, tmp_path / "raw")
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("oracle+oracledb://host/x", r"the driver for oracle\+oracledb is not installed \(pip install 'oracledb'\)"),
        ("postgresql+psycopg2://host/x", r"the driver for postgresql\+psycopg2 is not installed"),
        ("nosuch://host/x", r"the driver for nosuch is not installed"),
    ],
)
def test_a_driver_that_is_missing_is_named_with_what_to_install(tmp_path: Path, location: str, message: str) -> None:
    with pytest.raises(UsageError, match=rf"^conf/data: data\.sources\.x\.location: {message}"):
        fetch_source(SourceSpec("x", location, "sql", "SELECT 1"), tmp_path, tmp_path / "raw")


@pytest.mark.parametrize(("module", "extra"), [("psycopg", "postgres"), ("sqlalchemy", "sql")])
def test_the_extra_that_brings_a_missing_library_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, extra: str
) -> None:
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(UsageError, match=rf"pip install 'cd4ml\[{extra}\]'"):
        fetch_source(SourceSpec("x", "postgresql+psycopg://127.0.0.1/x", "sql", "SELECT 1"), tmp_path, tmp_path / "r")


@pytest.mark.parametrize("path", ["../shop.db", "data/link.db", "data/none.db", "data"])
def test_a_sqlite_file_outside_the_project_or_not_there_is_refused(shop: Path, tmp_path: Path, path: str) -> None:
    (shop.parent / "shop.db").write_bytes((shop / "data" / "shop.db").read_bytes())
    (shop / "data" / "link.db").symlink_to(shop.parent / "shop.db")
    with pytest.raises(UsageError, match=r"data\.sources\.orders\.location: (lies outside the project|no such file)"):
        rows(sqlite("SELECT id FROM orders", f"sqlite:///{path}"), shop)
    assert not (shop / "data" / "none.db").exists()


def test_a_file_that_is_no_database_is_refused(shop: Path) -> None:
    (shop / "data" / "text.db").write_text("a,b\n1,2\n" * 1000)
    with pytest.raises(UsageError, match=r"data\.sources\.orders\.query: .*not a database"):
        rows(sqlite("SELECT id FROM orders", "sqlite:///data/text.db"), shop)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT pg_terminate_backend(pg_backend_pid())::text AS gone",
        "SELECT set_config('statement_timeout', '1', true) || pg_sleep(5)::text AS late FROM generate_series(1, 9)",
    ],
)
def test_a_connection_that_breaks_off_may_hold_the_next_time(logged_in: Server, tmp_path: Path, query: str) -> None:
    logged_in.sql("ALTER ROLE reader SET statement_timeout = '300ms'")
    try:
        with pytest.raises(RemoteError, match=r"^source trips: the connection broke off: ") as caught:
            fetch_source(pg(logged_in, query), tmp_path, tmp_path / "raw")
    finally:
        logged_in.sql("ALTER ROLE reader RESET statement_timeout")
    assert len(str(caught.value).splitlines()) == 1


def test_an_answer_that_would_not_fit_into_memory_is_stopped_before_it_is_there(
    logged_in: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last rows, which cannot be computed, are never asked for."""
    monkeypatch.setattr(database, "_MOST_BYTES", 1 << 20)
    many = "SELECT md5(n::text) AS word, 1 / (190000 - n) AS x FROM generate_series(1, 200000) n"
    with pytest.raises(UsageError, match=r"data\.sources\.trips\.query: gives more than"):
        fetch_source(pg(logged_in, many), tmp_path, tmp_path / "raw")
