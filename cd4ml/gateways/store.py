"""The query cache: the index in SQLite, for ``cd4ml search`` and for whoever asks what has happened.

The file can be deleted at any time. It is opened in place, and what has changed since is put in (``store_build``).
``query.sqlite`` is a link to the database that counts, in a folder beside it; another one is built whole, then the
link is moved. Of two processes that find something to write one waits for the other, and nobody waits to read: a
reader keeps the state that it began with (SQLite's write-ahead log). A file that is damaged, foreign, of another
version, or not writable costs a rebuild, at worst in memory, and nothing else: rows carry a seal, and SQLite's own
complaints, whenever they come, make the cache anew and ask again. What it holds any other tool may read.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol, TypeVar

from cd4ml.gateways import store_build
from cd4ml.gateways.files import exclusive
from cd4ml.gateways.store_build import DRAFT, INDEX, LANDING, LAYOUT, Stored
from cd4ml.index.fields import FIELDS, Holds
from cd4ml.index.fold import encode_envelope
from cd4ml.index.record import Entry
from cd4ml.index.rows import GONE, Row
from cd4ml.index.sql import COLUMNS, IN_FOLD_ORDER, OF_BRANCH, Order, Sql, Where, driving

__all__ = ["DRAFT", "INDEX", "LANDING", "Changes", "QueryCache", "Source", "Stored", "Wanted"]

_PATIENCE = 60.0
"""Seconds that SQLite waits for a lock: one is held for as long as a change takes to write."""

_CHECKED_WHOLE = 8 << 20
"""A file of at most so many bytes is looked through when it is opened."""

_LEFT_BEHIND = 86_400
"""Seconds after which what somebody was building is nobody's."""

Lifecycles = Mapping[tuple[str, str], tuple[str, str | None, str | None]]

Found = TypeVar("Found")


@dataclass(frozen=True)
class Wanted:
    """What the cache is to hold: an index commit (or none), and by ref the landed commits that are not folded yet.

    Of each ref: its commit, and LANDING or DRAFT. ``version`` is the program's: what another one judged is judged
    again.
    """

    version: str
    index: str | None
    landed: Mapping[str, tuple[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Changes:
    """From one index commit to another: entries that came (as stored), and ids of those that went."""

    added: Sequence[Stored]
    removed: Sequence[str] = ()


class Source(Protocol):
    """Where entries come from."""

    def entries(self, index: str | None) -> Iterable[Stored]:
        """All of them, in the order of their paths."""
        ...

    def changes(self, before: str | None, after: str | None) -> Changes | None:
        """What changed; nothing when the two have nothing to do with each other."""
        ...

    def read(self, places: Sequence[tuple[str, str]]) -> Iterable[Entry]:
        """The entries of the index at these (blob id, path), in this order."""
        ...

    def judge(self, ref: str, commit: str, number: int) -> Entry | None:
        """The entry that a landed ref becomes in the fold of that number; nothing when a fold would refuse it."""
        ...


class QueryCache:
    """The cache at ``path``, which need not exist.

    After ``refresh`` an object holds one state, and does not notice that the file changes; make a new one, or
    refresh, for a new question. An object is for one thread at a time.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database: sqlite3.Connection | None = None
        self._asked: tuple[Wanted, Source] | None = None

    @classmethod
    def of(cls, rows: Iterable[Row]) -> QueryCache:
        """A cache in memory that holds these rows and no records; what became of branches is as the rows say."""
        cache = cls(Path(os.devnull))
        cache._database = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        store_build.build_rows(cache._database, rows)
        return cache

    # ── keeping ──

    def refresh(self, wanted: Wanted, source: Source) -> None:
        """Hold what is wanted, at the cost of what has changed. Raises what ``source`` does."""
        self._asked = (wanted, source)
        if self._database is not None and _holds(self._database, wanted):
            return
        self.close()
        self._database = self._opened(wanted)
        if self._database is not None:
            return
        try:
            with exclusive(self._path.with_suffix(".lock")):
                self._database = self._opened(wanted) or self._renewed(wanted, source)
        except OSError:
            self._database = _in_memory(self._path, wanted, source)

    def close(self) -> None:
        """Let go of the file."""
        if self._database is not None:
            self._database.close()
        self._database = None

    def _opened(self, wanted: Wanted) -> sqlite3.Connection | None:
        """The file, when it holds what is wanted."""
        database = _connect(self._path)
        if database is None:
            return None
        try:
            database.execute("BEGIN")
            if _holds(database, wanted):
                return database
        except sqlite3.DatabaseError:
            pass
        database.close()
        return None

    def _renewed(self, wanted: Wanted, source: Source) -> sqlite3.Connection:
        """The file changed to hold what is wanted, or made anew. Only under the lock. Raises OSError."""
        database = _connect(self._path)
        if database is not None:
            try:
                if _is_usable(database, wanted.version) and _advance(database, wanted, source):
                    database.execute("BEGIN")
                    _about(database)  # the state is taken with the first look at it
                    return database
            except sqlite3.DatabaseError:
                pass
            except BaseException:
                database.close()
                raise
            database.close()
        _replace(self._path, wanted, source)
        found = self._opened(wanted)
        if found is None:
            raise FileNotFoundError(self._path)
        return found

    def _ask(self, question: Callable[[sqlite3.Connection], Found], nothing: Found) -> Found:
        """The answer; where the file turns out to be damaged, of one that is made anew."""
        if self._database is None:
            return nothing
        try:
            return question(self._database)
        except sqlite3.DatabaseError:
            if self._asked is None:
                raise
        self.close()
        try:
            with exclusive(self._path.with_suffix(".lock")):
                _replace(self._path, *self._asked)
                self._database = self._opened(self._asked[0])
        except OSError:
            pass
        if self._database is None:
            self._database = _in_memory(None, *self._asked)
        return question(self._database)

    # ── what became of branches ──

    def untold(self, key: str, branches: Iterable[str]) -> frozenset[str]:
        """Those of the branches of which nothing is known under this key (see ``keep_lifecycles``)."""

        def found(database: sqlite3.Connection) -> frozenset[str]:
            about = _about(database)
            if about.get("lifecycles") != key:
                return frozenset(branches)
            sql = "SELECT 1 FROM lifecycle WHERE branch = ? AND \"commit\" = ''"
            return frozenset(one for one in branches if not database.execute(sql, (one,)).fetchone())

        return self._ask(found, frozenset())

    def keep_lifecycles(self, key: str, known: Lifecycles) -> None:
        """Hold what became of branches, by branch and commit (``""`` for any other), and by whom and when in UTC.

        What is held under another key goes. A branch of which nothing is held is gone.
        """
        rows = [
            (branch, commit, word, by, when and when.removesuffix("Z"))
            for (branch, commit), (word, by, when) in known.items()
        ]
        if self._database is None or self._asked is None:
            return
        try:
            with exclusive(self._path.with_suffix(".lock")):
                self._write_lifecycles(self._database, self._asked, key, rows)
        except OSError:
            self._write_lifecycles(self._database, self._asked, key, rows)

    def _write_lifecycles(
        self, database: sqlite3.Connection, asked: tuple[Wanted, Source], key: str, rows: list[tuple[Any, ...]]
    ) -> None:
        if database.in_transaction:
            database.execute("ROLLBACK")
        try:
            with _transaction(database):
                is_current = _holds(database, asked[0])
                if is_current:
                    _set_lifecycles(database, key, rows)
        except sqlite3.OperationalError:
            is_current = False
        if not is_current:  # somebody was faster and wants another state, or the file can be read only
            database.close()
            database = self._database = _in_memory(self._path, *asked)
            _set_lifecycles(database, key, rows)
        if not database.in_transaction:
            database.execute("BEGIN")
            _about(database)  # the state is taken with the first look at it

    # ── rows ──

    def search(
        self, where: Where | None = None, order_by: Order | None = None, limit: int | None = None
    ) -> list[dict[str, Any]]:
        """The JSON of the rows that match, at most ``limit`` of them; values inside are shared between them.

        They come in the order asked, and otherwise (and between equals) in fold order. Empty when the cache
        holds nothing.
        """
        return self._ask(lambda database: _docs(database, _positions(database, where, order_by, limit)), [])

    def paths(self) -> tuple[str, ...]:
        """Every written path of a group that some row holds, sorted: for completion and hints."""
        sql = (
            "SELECT path FROM place WHERE EXISTS (SELECT 1 FROM leaf WHERE leaf.place = place.number)"
            " OR EXISTS (SELECT 1 FROM own WHERE own.place = place.number) ORDER BY path"
        )
        return self._ask(lambda database: tuple(path for (path,) in database.execute(sql)), ())

    def named(self, name: str) -> tuple[Row, ...]:
        """The rows of that run id or fingerprint, in fold order."""
        return self._rows('run."id" = ? OR run."fingerprint" = ?', name, name)

    def of_branch(self, branch: str) -> tuple[Row, ...]:
        """The rows of a branch, in fold order."""
        return self._rows('run."branch" = ?', branch)

    def row_branches(self) -> tuple[str, ...]:
        """Every branch that has a row, sorted."""
        sql = 'SELECT DISTINCT "branch" FROM run ORDER BY 1'
        return self._ask(lambda database: tuple(branch for (branch,) in database.execute(sql)), ())

    def starting(self, prefix: str) -> tuple[str, ...]:
        """Every run id and fingerprint that begins so, sorted."""
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1) if prefix else ""
        part = 'SELECT "{0}" FROM run WHERE "{0}" >= ? AND "{0}" < ?'
        sql = f"{part.format('id')} UNION {part.format('fingerprint')} ORDER BY 1"
        both = (prefix, end, prefix, end)
        return self._ask(lambda database: tuple(name for (name,) in database.execute(sql, both)), ()) if prefix else ()

    def _rows(self, condition: str, *values: str) -> tuple[Row, ...]:
        def found(database: sqlite3.Connection) -> list[dict[str, Any]]:
            sql = f"SELECT position FROM run WHERE {condition} ORDER BY {IN_FOLD_ORDER}"  # noqa: S608  # text from above
            return _docs(database, [position for (position,) in database.execute(sql, values)])

        docs: list[dict[str, Any]] = self._ask(found, [])
        return tuple(Row(**{**doc, "tags": tuple(doc["tags"])}) for doc in docs)

    # ── entries ──

    def entries(self, condition: str, *values: Any, drafts: bool = True, limit: int | None = None) -> tuple[Entry, ...]:
        """Entries that meet a condition over ``entry``, in fold order, at most ``limit`` of them."""
        sql = f"SELECT number FROM entry WHERE {condition} AND origin <= ? ORDER BY fold, id LIMIT ?"  # noqa: S608  # of callers
        bound = (*values, DRAFT if drafts else LANDING, -1 if limit is None else limit)

        def found(database: sqlite3.Connection) -> list[Entry]:
            return store_build.load(database, _column(database, sql, bound), self._source.read)

        return tuple(self._ask(found, []))

    def with_components(self, components: Mapping[str, str | None]) -> tuple[Any, ...]:
        """The condition over ``entry``, and what is bound in it, for succeeded runs with these component digests."""
        tests = " AND ".join(f"{name} IS ?" for name in sorted(components) if name in store_build.COMPONENTS)
        values = (components[name] for name in sorted(components) if name in store_build.COMPONENTS)
        packed = tuple(bytes.fromhex(value) if value is not None else None for value in values)
        return f"kind = 'run' AND succeeded AND {tests or 1}", *packed

    def values(self, column: str, condition: str, *values: Any, drafts: bool = True) -> tuple[str, ...]:
        """The different values that a column of ``entry`` has where a condition is met, sorted."""
        sql = f"SELECT DISTINCT {column} FROM entry WHERE {condition} AND origin <= ? ORDER BY 1"  # noqa: S608  # as above
        bound = (*values, DRAFT if drafts else LANDING)
        return self._ask(lambda database: tuple(value for (value,) in database.execute(sql, bound)), ())

    @property
    def _source(self) -> Source:
        if self._asked is None:
            raise LookupError("nothing was asked for yet")
        return self._asked[1]


# ── the file ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _connect(path: Path) -> sqlite3.Connection | None:
    """The database, when there is one that this version can use."""
    try:
        size = path.stat().st_size
        if not path.is_file() or not _is_whole(path, size):
            return None
        database = sqlite3.connect(
            f"{path.resolve().as_uri()}?mode=rw",
            uri=True,
            timeout=_PATIENCE,
            isolation_level=None,
            check_same_thread=False,
        )
    except (OSError, sqlite3.DatabaseError):
        return None
    try:
        about = _about(database)
        tables = {sql for (sql,) in database.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")}
        sound = about.get("layout") == LAYOUT and about.get("complete") == 1 and tables == _STATEMENTS
        if sound and size <= _CHECKED_WHOLE:
            sound = database.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
        if sound:
            database.execute("PRAGMA synchronous = NORMAL")
            return database
    except sqlite3.DatabaseError:
        pass
    database.close()
    return None


def _is_whole(path: Path, size: int) -> bool:
    """Is the file as long as its first page says? Not asked while a log beside it may hold the rest."""
    with path.open("rb") as file:
        head = file.read(100)
    if len(head) < 100 or not head.startswith(b"SQLite format 3\0"):
        return False
    page = int.from_bytes(head[16:18], "big")
    log = path.resolve().with_name(f"{path.resolve().name}-wal")
    if log.exists() and log.stat().st_size:
        return True
    return int.from_bytes(head[28:32], "big") * (65536 if page == 1 else page) == size


def _about(database: sqlite3.Connection) -> dict[str, Any]:
    return dict(database.execute("SELECT name, value FROM about").fetchall())


def _is_usable(database: sqlite3.Connection, version: str) -> bool:
    return bool(_about(database).get("version") == version)


def _holds(database: sqlite3.Connection, wanted: Wanted) -> bool:
    about = _about(database)
    if (about.get("version"), about.get("index")) != (wanted.version, wanted.index or ""):
        return False
    return _landed(database) == dict(wanted.landed)


def _landed(database: sqlite3.Connection) -> dict[str, tuple[str, int]]:
    return {
        ref: (commit, origin) for ref, commit, origin in database.execute('SELECT ref, "commit", origin FROM landed')
    }


@contextlib.contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        with contextlib.suppress(sqlite3.DatabaseError):
            database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")


def _replace(path: Path, wanted: Wanted, source: Source) -> None:
    """Build a database and let ``path`` lead to it. Raises OSError, and then leaves nothing behind."""
    folder = path.with_suffix("")
    if path.is_dir():
        raise IsADirectoryError(path)
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{secrets.token_hex(8)}.sqlite"
    building, finished, link = folder / f".building-{name}", folder / name, folder / f".link-{name}"
    try:
        _build_file(building, wanted, source)
        building.rename(finished)
        link.symlink_to(Path(folder.name) / name)
        link.rename(path)
    except sqlite3.OperationalError as error:
        raise OSError(f"{building}: {error}") from error
    finally:
        for left in (building, Path(f"{building}-journal"), link):
            left.unlink(missing_ok=True)
    _clear(folder, name)


def _build_file(building: Path, wanted: Wanted, source: Source) -> None:
    database = sqlite3.connect(building, isolation_level=None)
    try:
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "locking_mode = EXCLUSIVE", "cache_size = -65536"):
            database.execute(f"PRAGMA {pragma}")
        _fill(database, wanted, source)
        database.execute("PRAGMA locking_mode = NORMAL")
        database.execute("PRAGMA journal_mode = WAL")
    finally:
        database.close()
    with building.open("rb") as file:
        os.fsync(file.fileno())


def _clear(folder: Path, current: str) -> None:
    """Remove databases that no link leads to, and what was left half built."""
    for found in folder.iterdir():
        if found.name.startswith(current):
            continue
        with contextlib.suppress(OSError):
            if not found.name.startswith(".") or time.time() - found.stat().st_mtime > _LEFT_BEHIND:
                found.unlink()


def _in_memory(path: Path | None, wanted: Wanted, source: Source) -> sqlite3.Connection:
    """What is wanted, for this process alone; from the file if that can at least be read."""
    found = _connect(path) if path is not None else None
    if found is not None:
        with contextlib.suppress(sqlite3.DatabaseError), contextlib.closing(found):
            database = _copied(found)
            if _is_usable(database, wanted.version) and _advance(database, wanted, source):
                return database
    database = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    _fill(database, wanted, source)
    return database


def _copied(found: sqlite3.Connection) -> sqlite3.Connection:
    database = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    found.backup(database)
    return database


# ── what it holds ────────────────────────────────────────────────────────────────────────────────────────────────


def _fill(database: sqlite3.Connection, wanted: Wanted, source: Source) -> None:
    """Make and fill the tables of an empty database."""
    database.execute("BEGIN")
    store_build.build(database, source.entries(wanted.index))
    _take_landed(database, wanted, source)
    _note(database, layout=LAYOUT, version=wanted.version, index=wanted.index or "", complete=1)
    database.execute("COMMIT")


def _advance(database: sqlite3.Connection, wanted: Wanted, source: Source) -> bool:
    """Put in what changed; false when that is another index altogether."""
    before = _about(database)["index"] or None
    changes = source.changes(before, wanted.index) if before != wanted.index else Changes(())
    if changes is None:
        return False
    with _transaction(database):
        if (_about(database)["index"] or None) != before:
            return False
        if before != wanted.index:
            # what has not been folded counts as of the fold after the last: all of it moves
            _drop_landed(database, list(_landed(database)), source.read)
            removed = store_build.load_by_id(database, changes.removed, source.read)
            store_build.change(database, removed, changes.added, source.read)
        _take_landed(database, wanted, source)
        _note(database, index=wanted.index or "")
    return True


def _take_landed(database: sqlite3.Connection, wanted: Wanted, source: Source) -> None:
    """Hold the landed refs that are wanted and no others; each is judged once."""
    now = _landed(database)
    _drop_landed(database, [ref for ref, held in now.items() if wanted.landed.get(ref) != held], source.read)
    (last,) = database.execute("SELECT coalesce(max(fold), 0) FROM entry WHERE origin = 0").fetchone()
    added = []
    for ref, (commit, origin) in sorted(wanted.landed.items()):
        if now.get(ref) == (commit, origin) and _kept(database, ref):
            continue
        entry = source.judge(ref, commit, last + 1)
        known = entry and database.execute("SELECT 1 FROM entry WHERE id = ?", (entry.record.id,)).fetchone()
        envelope = encode_envelope(entry) if entry else None
        row = (ref, commit, origin, entry.record.id if entry else None, envelope)
        database.execute("INSERT OR REPLACE INTO landed VALUES (?, ?, ?, ?, ?)", row)
        if entry and not known:
            added.append(Stored(entry, "", origin))
    store_build.change(database, (), added, source.read)


def _kept(database: sqlite3.Connection, ref: str) -> bool:
    return database.execute("SELECT 1 FROM landed WHERE ref = ?", (ref,)).fetchone() is not None


def _drop_landed(database: sqlite3.Connection, refs: Sequence[str], read: store_build.Read) -> None:
    """Forget landed refs, and the entries that they made."""
    entries = []
    for ref in refs:
        found = database.execute(
            "SELECT entry.id FROM landed JOIN entry ON entry.id = landed.id WHERE ref = ? AND entry.origin > 0", (ref,)
        ).fetchone()
        if found:
            entries += store_build.load_by_id(database, found, read)
    store_build.change(database, entries, (), read)
    database.executemany("DELETE FROM landed WHERE ref = ?", [(ref,) for ref in refs])


def _note(database: sqlite3.Connection, **values: Any) -> None:
    database.executemany("INSERT OR REPLACE INTO about VALUES (?, ?)", list(values.items()))


def _set_lifecycles(database: sqlite3.Connection, key: str, rows: list[tuple[Any, ...]]) -> None:
    if _about(database).get("lifecycles") != key:
        database.execute("DELETE FROM lifecycle")
        _note(database, lifecycles=key)
    database.executemany("INSERT OR REPLACE INTO lifecycle VALUES (?, ?, ?, ?, ?)", rows)


# ── questions ────────────────────────────────────────────────────────────────────────────────────────────────────


def _positions(database: sqlite3.Connection, where: Where | None, order: Order | None, limit: int | None) -> list[int]:
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
_STATEMENTS = frozenset((*store_build.TABLES, *store_build.INDEXES))


def _docs(database: sqlite3.Connection, positions: Sequence[int]) -> list[dict[str, Any]]:
    """The JSON of rows, with what is stored once for many rows, and what became of the branch, put back."""
    fragments: dict[int, tuple[tuple[str, ...], Any]] = {}
    docs = []
    for start in range(0, len(positions), _AT_ONCE):
        part = positions[start : start + _AT_ONCE]
        found = {row[0]: row[1:] for row in database.execute(_marked(_DOCS, part), part)}
        made_of = {position: [int(number) for number in row[1].split(",") if number] for position, row in found.items()}
        new = [number for numbers in made_of.values() for number in numbers if number not in fragments]
        fragments |= store_build.fragments(database, new)
        for position in part:
            if position not in found:
                raise sqlite3.DatabaseError(f"row {position} is not here")
            content, parts, sealed, *rest = found[position]
            of_branch, columns = rest[: len(OF_BRANCH)], tuple(rest[len(OF_BRANCH) :])
            if sealed != store_build.seal(position, columns, content, parts):
                raise sqlite3.DatabaseError(f"row {position} is not what was written")
            docs.append(_doc(columns, content, [fragments[number] for number in made_of[position]], of_branch))
    return docs


_COLUMN_SQL = (*(f'run."{name}"' for name in COLUMNS), "run.fold")
_NAMES = (*COLUMNS, "fold")
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
    columns: tuple[Any, ...], content: str, parts: list[tuple[tuple[str, ...], Any]], of_branch: list[str | None]
) -> dict[str, Any]:
    doc = {**_EMPTY, **dict(zip(_NAMES, columns, strict=True)), **json.loads(content)}
    for name in _TIMES:
        if doc[name]:
            doc[name] += "Z"
    for path, value in parts:
        if len(path) == 1:
            doc[path[0]] = value
        else:
            doc[path[0]][path[1]] = value
    word, by, when = of_branch
    doc["lifecycle"], doc["lifecycle_by"], doc["lifecycle_at"] = word or GONE, by, when and f"{when}Z"
    return doc
