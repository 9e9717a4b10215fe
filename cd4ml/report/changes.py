"""What a run was made from and what of that differs, as sections of a report."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from cd4ml.promotion.configuration import ConfigChange
from cd4ml.promotion.inputs import DataChange, FileChange, PackageChange
from cd4ml.promotion.review import ColumnMoved
from cd4ml.report.document import Block, Bullets, Code, Grid, Line, Section
from cd4ml.report.layout import counted
from cd4ml.report.visible import ABSENT, plain_number

_DIGITS = 10
_CLASS = "._target_"
_SMALL, _LARGE = 0.1, 0.25  # of the population stability index


def value_text(value: Any) -> str:
    """As JSON, so that the text ``1`` and the number 1 are told apart."""
    return json.dumps(value, ensure_ascii=False)


def config_section(changes: Sequence[ConfigChange]) -> Section | None:
    """The resolved keys that differ; where a class was changed for another, the parameters of the two come last."""
    if not changes:
        return None
    swapped = tuple(
        one.key.removesuffix("_target_") for one in changes if one.how == "changed" and one.key.endswith(_CLASS)
    )
    ordered = sorted(near_first(changes), key=lambda one: _is_parameter(one.key, swapped))
    rows = tuple(
        (
            (Code(one.key),),
            (ABSENT,) if one.how == "added" else (Code(value_text(one.champion)),),
            (ABSENT,) if one.how == "removed" else (Code(value_text(one.challenger)),),
        )
        for one in ordered
    )
    differ = "key differs" if len(rows) == 1 else "keys differ"
    summary = f"{plain_number(len(rows))} {differ}"
    return Section("Configuration", (summary,), (Grid(("Key", "Champion", "Challenger"), rows),))


def near_first(changes: Iterable[ConfigChange]) -> list[ConfigChange]:
    """What lies near the top of a configuration first, which is what people write: insides of lists come last."""
    return sorted(changes, key=lambda one: (one.key.count("["), one.key.count("."), one.key))


def _is_parameter(key: str, swapped: tuple[str, ...]) -> bool:
    return any(key.startswith(prefix) and key != f"{prefix}_target_" for prefix in swapped)


def data_section(changes: Sequence[DataChange], moved: Sequence[ColumnMoved]) -> Section | None:
    """Rows, digests and schema of each source that differs, and the columns whose distribution moved."""
    if not changes and not moved:
        return None
    blocks = [*_sources(changes), *_moved(moved)]
    differ = f"{counted(len(changes), 'source')} differ{'s' if len(changes) == 1 else ''}" if changes else ""
    large = sum(one.psi > _LARGE for one in moved)
    told = f"the distribution of {counted(len(moved), 'column')} moved" if moved else ""
    told += f", of {plain_number(large)} far" if large else ""
    return Section("Data", ("; ".join(part for part in (differ, told) if part),), tuple(blocks))


def _sources(changes: Sequence[DataChange]) -> Iterator[Block]:
    if not changes:
        return
    rows = tuple(
        (
            (Code(one.source),),
            (one.how,),
            _table(one.champion, one.champion_rows),
            _table(one.challenger, one.challenger_rows),
        )
        for one in changes
    )
    yield Grid(("Source", "", "Champion", "Challenger"), rows)
    columns = tuple(
        (
            Code(source.source),
            " ",
            Code(one.column),
            f" {one.how}: ",
            *((Code(one.champion),) if one.champion is not None else (ABSENT,)),
            " → ",
            *((Code(one.challenger),) if one.challenger is not None else (ABSENT,)),
        )
        for source in changes
        for one in source.columns
    )
    if columns:
        yield Bullets(columns)


def _table(digest: str | None, rows: int | None) -> Line:
    if digest is None:
        return (ABSENT,)
    return (Code(digest[:_DIGITS]), f", {plain_number(rows)} rows" if rows is not None else "")


def _moved(moved: Sequence[ColumnMoved]) -> Iterator[Block]:
    if not moved:
        return
    rows = tuple(
        (
            (Code(one.column),),
            (f"{one.psi:.2f}", ", far" if one.psi > _LARGE else ", a little" if one.psi > _SMALL else ""),
            (_share(one.missing_before),),
            (_share(one.missing_after),),
        )
        for one in sorted(moved, key=lambda one: -one.psi)
    )
    yield Grid(("Column", "Moved (PSI)", "Missing before", "Missing now"), rows, frozenset({1, 2, 3}))
    yield (
        f"PSI: the population stability index of the two training tables; below {_SMALL} small, above {_LARGE} large.",
    )


def _share(fraction: float) -> str:
    return f"{fraction:.1%}".replace("%", " %")


def code_section(changes: Sequence[FileChange]) -> Section | None:
    """The files that count as code and differ, with the lines gained and lost."""
    if not changes:
        return None
    rows = tuple(
        (
            (Code(one.path),),
            (one.how,),
            (ABSENT if one.added is None else f"+{plain_number(one.added)}",),
            (ABSENT if one.removed is None else f"-{plain_number(one.removed)}",),
        )
        for one in changes
    )
    summary = f"{counted(len(rows), 'file')} differ{'s' if len(rows) == 1 else ''}"
    return Section("Code", (summary,), (Grid(("File", "", "Lines added", "Lines removed"), rows, frozenset({2, 3})),))


def environment_section(changes: Sequence[PackageChange]) -> Section | None:
    """The packages whose version differs."""
    if not changes:
        return None
    rows = tuple(
        (
            (Code(one.package),),
            (ABSENT,) if one.champion is None else (Code(one.champion),),
            (ABSENT,) if one.challenger is None else (Code(one.challenger),),
        )
        for one in changes
    )
    summary = f"{counted(len(rows), 'package')} differ{'s' if len(rows) == 1 else ''}"
    return Section("Environment", (summary,), (Grid(("Package", "Champion", "Challenger"), rows),))
