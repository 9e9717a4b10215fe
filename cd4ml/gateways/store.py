"""The query cache: the index in SQLite, for ``cd4ml search`` and for whoever asks what has happened.

The file can be deleted at any time. It is opened in place, and what has changed since is put in (``store_change``);
where it cannot be used, another one is built whole (``store_build``) and put in its place (``store_file``). Of two
processes that find something to write one waits for the other, and nobody waits to read: a reader keeps the state
that it began with (SQLite's write-ahead log). A file that is damaged, foreign, of another version, or not writable
costs a rebuild, at worst in memory, and nothing else: rows carry a seal, and complaints of SQLite and of decoders,
whenever they come, make the cache anew and ask again. What it holds any other tool may read.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from cd4ml.gateways.files import exclusive
from cd4ml.gateways.store_answers import Shared, docs_of, own_docs, positions_of, whole
from cd4ml.gateways.store_batch import Stored
from cd4ml.gateways.store_build import build_rows
from cd4ml.gateways.store_change import load
from cd4ml.gateways.store_file import connect, in_memory, replace
from cd4ml.gateways.store_keeping import about, advance, holds, is_usable, set_lifecycles, transaction
from cd4ml.gateways.store_source import Changes, Source, Wanted
from cd4ml.gateways.store_tables import DAMAGE, DRAFT, INDEX, LANDING, column
from cd4ml.index.record import Entry
from cd4ml.index.rows import Row
from cd4ml.index.sql import IN_FOLD_ORDER, NUMBER, ROWS_OF_FRAGMENT, Order, Sql, Where
from cd4ml.spec.fingerprint import COMPONENTS

__all__ = ["DRAFT", "INDEX", "LANDING", "Changes", "QueryCache", "Source", "Stored", "Wanted"]

RowKey = tuple[str, str, str, str]
"""Of a row: the ids of the run, the branch, the commit and the side."""

Lifecycles = Mapping[tuple[str, str], tuple[str, str | None, str | None]]

Found = TypeVar("Found")
Common = TypeVar("Common")

_HELD = 'SELECT 1 FROM run WHERE run."components.{}" IS NOT NULL LIMIT 1'

_DOCS_AT_ONCE = 500
_MOST_SHARED = 50_000
"""So many fragments are kept in mind from one part of an answer to the next."""

_PLACE_OF = "(SELECT number FROM place WHERE path = ?)"


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
        build_rows(cache._database, rows)
        return cache

    # ── keeping ──

    def refresh(self, wanted: Wanted, source: Source) -> None:
        """Hold what is wanted, at the cost of what has changed. Raises what ``source`` does."""
        self._asked = (wanted, source)
        if self._database is not None and holds(self._database, wanted):
            return
        self.close()
        self._database = self._opened(wanted)
        if self._database is not None:
            return
        with contextlib.suppress(OSError), exclusive(self._path.with_suffix(".lock")):
            self._database = self._opened(wanted) or self._renewed(wanted, source)
        if self._database is None:  # not while the error lives, which holds on to what the first try had open
            self._database = in_memory(self._path, wanted, source)

    def close(self) -> None:
        """Let go of the file."""
        if self._database is not None:
            self._database.close()
        self._database = None

    def _opened(self, wanted: Wanted) -> sqlite3.Connection | None:
        """The file, when it holds what is wanted."""
        database = connect(self._path)
        if database is None:
            return None
        try:
            database.execute("BEGIN")
            if holds(database, wanted):
                return database
        except DAMAGE:
            pass
        database.close()
        return None

    def _renewed(self, wanted: Wanted, source: Source) -> sqlite3.Connection:
        """The file changed to hold what is wanted, or made anew. Only under the lock. Raises OSError."""
        database = connect(self._path)
        if database is not None:
            try:
                if is_usable(database, wanted.version) and advance(database, wanted, source):
                    database.execute("BEGIN")
                    about(database)  # the state is taken with the first look at it
                    return database
            except DAMAGE:
                pass
            except BaseException:
                database.close()
                raise
            database.close()
        replace(self._path, wanted, source)
        found = self._opened(wanted)
        if found is None:
            raise FileNotFoundError(self._path)
        return found

    def _ask(self, question: Callable[[sqlite3.Connection], Found], nothing: Found) -> Found:
        """The answer; ``nothing`` where the cache holds nothing."""
        return nothing if self._database is None else self._answer(self._database, question)

    def _answer(self, database: sqlite3.Connection, question: Callable[[sqlite3.Connection], Found]) -> Found:
        """The same; where the file turns out to be damaged, of one that is made anew."""
        try:
            return question(database)
        except DAMAGE:
            if self._asked is None:
                raise
        self.close()
        try:
            with exclusive(self._path.with_suffix(".lock")):
                replace(self._path, *self._asked)
                self._database = self._opened(self._asked[0])
        except OSError:
            pass
        if self._database is None:
            self._database = in_memory(None, *self._asked)
        return question(self._database)

    # ── what became of branches ──

    def untold(self, key: str, branches: Iterable[str]) -> frozenset[str]:
        """Those of the branches of which nothing is known under this key (see ``keep_lifecycles``)."""

        def found(database: sqlite3.Connection) -> frozenset[str]:
            if about(database).get("lifecycles") != key:
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
            with transaction(database):
                is_current = holds(database, asked[0])
                if is_current:
                    set_lifecycles(database, key, rows)
        except sqlite3.OperationalError:
            is_current = False
        if not is_current:  # somebody was faster and wants another state, or the file can be read only
            database.close()
            database = self._database = in_memory(self._path, *asked)
            set_lifecycles(database, key, rows)
        if not database.in_transaction:
            database.execute("BEGIN")
            about(database)  # the state is taken with the first look at it

    # ── rows ──

    def search(
        self, where: Where | None = None, order_by: Order | None = None, limit: int | None = None
    ) -> list[dict[str, Any]]:
        """The JSON of the rows that match, at most ``limit`` of them; values inside are shared between them.

        They come in the order asked, and otherwise (and between equals) in fold order. Empty when the cache
        holds nothing.
        """
        return self._ask(lambda database: docs_of(database, positions_of(database, where, order_by, limit)), [])

    def keys(self, where: Where | None = None) -> list[RowKey]:
        """What tells the rows that match apart, in fold order."""

        def found(database: sqlite3.Connection) -> list[RowKey]:
            condition = where.condition() if where else Sql("1")
            sql = (
                'SELECT run."id", run."branch", run."commit", run."side" FROM run'  # noqa: S608  # of index.sql
                f" WHERE {condition.sql} ORDER BY {IN_FOLD_ORDER}"
            )
            return database.execute(sql, condition.parameters).fetchall()

        return self._ask(found, [])

    def of_successes(
        self,
        by: Collection[tuple[str, ...]],
        common: Callable[[dict[str, Any]], Common],
        consume: Callable[[Iterator[tuple[dict[str, Any], Common]]], Found],
    ) -> Found:
        """What ``consume`` makes of each succeeded run's own row, which come in fold order.

        It is given what of the row's JSON is not stored once for many rows, and what ``common`` makes of the whole:
        that may look at what lies at the paths ``by`` alone, since it is asked once for all rows that are equal there.
        Some hundred rows are in memory at a time. Both are called again where the file turns out to be damaged.
        """
        sql = (
            "SELECT position FROM run WHERE own AND \"role\" IN ('result', 'replicate')"  # noqa: S608  # text from above
            f" ORDER BY {IN_FOLD_ORDER}"
        )

        def each(database: sqlite3.Connection) -> Iterator[tuple[dict[str, Any], Common]]:
            positions = column(database, sql)
            shared: Shared = {}
            known: dict[tuple[int, ...], Common] = {}
            for start in range(0, len(positions), _DOCS_AT_ONCE):
                for doc, parts, decisive in own_docs(database, positions[start : start + _DOCS_AT_ONCE], by, shared):
                    if decisive not in known:
                        known[decisive] = common(whole(dict(doc), parts))
                    yield doc, known[decisive]
                if len(shared) > _MOST_SHARED:
                    shared.clear()

        if self._database is None:
            return consume(iter(()))
        return self._answer(self._database, lambda database: consume(each(database)))

    def paths(self) -> tuple[str, ...]:
        """Every written path of a group that some row holds, sorted: for completion and hints."""
        sql = (
            "SELECT path FROM place WHERE EXISTS (SELECT 1 FROM leaf WHERE leaf.place = place.number)"
            " OR EXISTS (SELECT 1 FROM own WHERE own.place = place.number)"
        )

        def found(database: sqlite3.Connection) -> tuple[str, ...]:
            held = (f"components.{name}" for name in COMPONENTS if column(database, _HELD.format(name)))
            return tuple(sorted((*column(database, sql), *held)))

        return self._ask(found, ())

    def named(self, name: str) -> tuple[Row, ...]:
        """The rows of that run id or fingerprint, in fold order."""
        return self._rows('run."id" = ? OR run."fingerprint" = ?', name, name)

    def of_branch(self, branch: str) -> tuple[Row, ...]:
        """The rows of a branch, in fold order."""
        return self._rows('run."branch" = ?', branch)

    def of_commit(self, commit: str) -> tuple[Row, ...]:
        """The rows of the run whose result a commit holds, or else of those that ran it, in fold order."""
        return self._rows('run."result_commit" = ?', commit) or self._rows('run."source_commit" = ?', commit)

    def rows_of(self, ids: Collection[str]) -> dict[str, tuple[Row, ...]]:
        """By id the rows of these runs: its own first, then those of what else it answers, in fold order."""

        def found(database: sqlite3.Connection) -> dict[str, tuple[Row, ...]]:
            sql = f'SELECT position FROM run WHERE run."id" = ? ORDER BY NOT own, {IN_FOLD_ORDER}'  # noqa: S608  # text from above
            positions = {one: column(database, sql, one) for one in ids}
            docs = iter(docs_of(database, [position for those in positions.values() for position in those]))
            return {one: tuple(_row(next(docs)) for _ in those) for one, those in positions.items() if those}

        return self._ask(found, {})

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
            return docs_of(database, [position for (position,) in database.execute(sql, values)])

        docs: list[dict[str, Any]] = self._ask(found, [])
        return tuple(map(_row, docs))

    def results_with(self, path: str, value: str, metric: str = "") -> tuple[tuple[str, str, str, float | None], ...]:
        """Results that hold a text at a place (such as ``split.test.digest``), in fold order; no drafts.

        Of each its id, fingerprint, the branch that it was run for, and the number at the place ``metric``; of those
        that have none, nothing, and where a metric is asked for they are left out.
        """
        held = f"JOIN own ON own.position = run.position AND own.kind = {NUMBER} AND own.place = {_PLACE_OF}"
        sql = (
            f'SELECT run."id", run."fingerprint", run."branch", {"own.value" if metric else "NULL"}'  # noqa: S608  # text from above
            f" FROM leaf {ROWS_OF_FRAGMENT.format('leaf')} JOIN run ON run.position = held.value"
            f' JOIN entry ON entry.id = run."id" {held if metric else ""}'
            f" WHERE leaf.place = {_PLACE_OF} AND leaf.value = ? AND run.own AND run.\"role\" = 'result'"
            f' AND entry.origin <= {LANDING} ORDER BY run.fold, run."id"'
        )
        bound = (*([metric] if metric else []), path, value)
        return self._ask(lambda database: tuple(database.execute(sql, bound).fetchall()), ())

    def results(self) -> tuple[tuple[str, str, str], ...]:
        """Every result's id, fingerprint and the branch that it was run for, in fold order; no drafts."""
        sql = (
            'SELECT run."id", run."fingerprint", run."branch" FROM run JOIN entry ON entry.id = run."id"'  # noqa: S608  # text from above
            f" WHERE run.own AND run.\"role\" = 'result' AND entry.origin <= {LANDING}"
            ' ORDER BY run.fold, run."id"'
        )
        return self._ask(lambda database: tuple(database.execute(sql).fetchall()), ())

    # ── entries ──

    def entries(self, condition: str, *values: Any, drafts: bool = True, limit: int | None = None) -> tuple[Entry, ...]:
        """Entries that meet a condition over ``entry``, in fold order, at most ``limit`` of them."""
        sql = f"SELECT number FROM entry WHERE {condition} AND origin <= ? ORDER BY fold, id LIMIT ?"  # noqa: S608  # of callers
        bound = (*values, DRAFT if drafts else LANDING, -1 if limit is None else limit)

        def found(database: sqlite3.Connection) -> list[Entry]:
            return load(database, column(database, sql, *bound), self._source.read)

        return tuple(self._ask(found, []))

    def speaking_of(self, text: str, *, drafts: bool = True) -> Iterator[Entry]:
        """Entries of runs that hold a text (letters and digits) anywhere, in any order: each is looked through."""
        if self._asked is None:
            return
        wanted, source = self._asked
        if wanted.index is not None:
            yield from source.speaking_of(wanted.index, text.encode())
        marked = "kind = 'run' AND origin > ? AND id IN (SELECT id FROM landed WHERE instr(envelope, ?))"
        yield from self.entries(marked, INDEX, text.encode(), drafts=drafts)

    def with_components(self, components: Mapping[str, str | None]) -> tuple[Any, ...]:
        """The condition over ``entry``, and what is bound in it, for succeeded runs with these component digests."""
        tests = " AND ".join(f"{name} IS ?" for name in sorted(components) if name in COMPONENTS)
        values = (components[name] for name in sorted(components) if name in COMPONENTS)
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


def _row(doc: dict[str, Any]) -> Row:
    return Row(**{**doc, "tags": tuple(doc["tags"])})
