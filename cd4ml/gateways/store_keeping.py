"""What a query cache holds, as a state that is written whole or moved from one to another."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

from cd4ml.gateways.store_batch import Stored
from cd4ml.gateways.store_build import Read, build
from cd4ml.gateways.store_change import change, load_by_id
from cd4ml.gateways.store_source import Changes, Source, Wanted
from cd4ml.gateways.store_tables import LAYOUT
from cd4ml.index.fold import encode_envelope


def about(database: sqlite3.Connection) -> dict[str, Any]:
    """What a database says of itself: layout, version, index, complete, lifecycles."""
    return dict(database.execute("SELECT name, value FROM about").fetchall())


def is_usable(database: sqlite3.Connection, version: str) -> bool:
    """Was it written by this version of the program, and does it say of which index?"""
    told = about(database)
    return told.get("version") == version and "index" in told


def holds(database: sqlite3.Connection, wanted: Wanted) -> bool:
    """Does it hold just what is wanted?"""
    told = about(database)
    if (told.get("version"), told.get("index")) != (wanted.version, wanted.index or ""):
        return False
    return _landed(database) == dict(wanted.landed)


def _landed(database: sqlite3.Connection) -> dict[str, tuple[str, int]]:
    return {
        ref: (commit, origin) for ref, commit, origin in database.execute('SELECT ref, "commit", origin FROM landed')
    }


@contextlib.contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """Everything in the block is written, or nothing."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        with contextlib.suppress(sqlite3.DatabaseError):
            database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")


def fill(database: sqlite3.Connection, wanted: Wanted, source: Source) -> None:
    """Make and fill the tables of an empty database."""
    database.execute("BEGIN")
    build(database, source.batches(wanted.index))
    _take_landed(database, wanted, source)
    _note(database, layout=LAYOUT, version=wanted.version, index=wanted.index or "", complete=1)
    database.execute("COMMIT")


def advance(database: sqlite3.Connection, wanted: Wanted, source: Source) -> bool:
    """Put in what changed; false when that is another index altogether."""
    before = about(database)["index"] or None
    changes = source.changes(before, wanted.index) if before != wanted.index else Changes(())
    if changes is None:
        return False
    with transaction(database):
        if (about(database)["index"] or None) != before:
            return False
        if before != wanted.index:
            # what has not been folded counts as of the fold after the last: all of it moves
            _drop_landed(database, list(_landed(database)), source.read)
            removed = load_by_id(database, changes.removed, source.read)
            change(database, removed, changes.added, source.read)
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
    change(database, (), added, source.read)


def _kept(database: sqlite3.Connection, ref: str) -> bool:
    return database.execute("SELECT 1 FROM landed WHERE ref = ?", (ref,)).fetchone() is not None


def _drop_landed(database: sqlite3.Connection, refs: Sequence[str], read: Read) -> None:
    """Forget landed refs, and the entries that they made."""
    entries = []
    for ref in refs:
        found = database.execute(
            "SELECT entry.id FROM landed JOIN entry ON entry.id = landed.id WHERE ref = ? AND entry.origin > 0", (ref,)
        ).fetchone()
        if found:
            entries += load_by_id(database, found, read)
    change(database, entries, (), read)
    database.executemany("DELETE FROM landed WHERE ref = ?", [(ref,) for ref in refs])


def _note(database: sqlite3.Connection, **values: Any) -> None:
    database.executemany("INSERT OR REPLACE INTO about VALUES (?, ?)", list(values.items()))


def set_lifecycles(database: sqlite3.Connection, key: str, rows: list[tuple[Any, ...]]) -> None:
    """Hold what became of branches: branch, commit, lifecycle, by whom, when; what is held under another key goes."""
    if about(database).get("lifecycles") != key:
        database.execute("DELETE FROM lifecycle")
        _note(database, lifecycles=key)
    database.executemany("INSERT OR REPLACE INTO lifecycle VALUES (?, ?, ?, ?, ?)", rows)
