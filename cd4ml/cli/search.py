"""The verb search: what is asked of the index, and in what form it is printed or written."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cd4ml.cli.context import Context, JsonFlag, json_text, print_json, say, show, warn
from cd4ml.errors import UsageError

if TYPE_CHECKING:
    from cd4ml.controller.history.search import Found


class Format(StrEnum):
    """What is printed or written."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    PARQUET = "parquet"


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(
        epilog="Examples: "
        "cd4ml search \"metrics.rmse < 18 and (params.model.name = 'xgboost' or lifecycle = 'merged')\" · "
        "cd4ml search \"'tree depth'\" --columns branch,metrics.rmse,conclusion --order-by metrics.rmse · "
        "cd4ml search -o runs.parquet · cd4ml search --fields"
    )(search)


def search(
    context: typer.Context,
    filter_text: Annotated[
        str, typer.Argument(metavar="[FILTER]", help="What to find; docs/search.md has the language.")
    ] = "",
    order: Annotated[
        str, typer.Option("--order-by", help="Fields with commas between them, each followed by asc or desc.")
    ] = "",
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="At most so many.")] = None,
    columns: Annotated[
        str, typer.Option("--columns", help="Fields to show, with commas between them; metrics shows every metric.")
    ] = "",
    form: Annotated[Format | None, typer.Option("--format", help="What to print or write.")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write there; the ending says what: .json, .csv, .parquet.")
    ] = None,
    count: Annotated[bool, typer.Option("--count", help="Print how many there are.")] = False,
    fields: Annotated[bool, typer.Option("--fields", help="List what can be asked for, and find nothing.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Find runs in the index, those of deleted branches included."""
    form = _form(form, output, as_json=as_json)
    options: Context = context.obj
    if fields:
        if filter_text or order or columns or count or output or form not in (Format.TABLE, Format.JSON):
            raise UsageError("--fields takes --json and nothing else")
        _list_fields(options, form)
        return
    from cd4ml.controller.history.search import search as ask

    if count and (columns or output or form not in (Format.TABLE, Format.JSON)):
        raise UsageError("--count prints a number: it takes --json, and no --columns, --format or -o")
    found = ask(options.project(), filter_text, order=order, limit=limit, columns=columns)
    for line in filter(None, (found.stale, *found.hints)):
        warn(line)
    if count:
        _say_count(found, form)
    elif output is not None:
        from cd4ml.gateways.files import hand_over

        hand_over(output, _bytes(found, form))
        warn(f"{len(found.runs)} {'run' if len(found.runs) == 1 else 'runs'} written to {output}")
    else:
        printed(found, form)


def _form(form: Format | None, output: Path | None, *, as_json: bool) -> Format:
    """What was asked for, by whichever option. Raises UsageError for what contradicts itself."""
    if as_json and form not in (None, Format.JSON):
        raise UsageError("--json and --format ask for two things")
    form = Format.JSON if as_json else form
    if output is None:
        if form is Format.PARQUET and sys.stdout.isatty():
            raise UsageError("Parquet is not for a terminal: say -o FILE, or send it to another program")
        return form or Format.TABLE
    endings = {f".{one.value}": one for one in Format if one is not Format.TABLE}
    named = endings.get(output.suffix.lower())
    if form in endings.values() and named not in (None, form):
        raise UsageError(f"-o {output}: its name says {named}, and {form} is asked for")
    form = form or named
    if form in (None, Format.TABLE):
        raise UsageError(f"-o {output}: end the name in {', '.join(endings)}, or say --format json, csv or parquet")
    return form


def _list_fields(options: Context, form: Format) -> None:
    from cd4ml.controller.history.search import known_fields

    known, stale = known_fields(options.project())
    if stale:
        warn(stale)
    if form is Format.JSON:
        print_json("fields", known)
    else:
        from cd4ml.report.runs import fields_table

        show(fields_table(known))


def _say_count(found: Found, form: Format) -> None:
    if form is Format.JSON:
        print_json("runs", [], count=len(found.runs))
    else:
        say(str(len(found.runs)))


def printed(found: Found, form: Format) -> None:
    """Print what was found to standard output."""
    if form is Format.TABLE:
        from cd4ml.index.grid import grid
        from cd4ml.report.runs import grid_table
        from cd4ml.report.terminal import runs_table

        chosen = bool(found.columns)
        show(grid_table(grid(found.runs, found.columns)) if chosen else runs_table(found.runs), whole=chosen)
        return
    content = _bytes(found, form)
    if form is Format.PARQUET:
        sys.stdout.buffer.write(content)
    elif form is Format.CSV and sys.stdout.isatty():
        for line in content.decode().splitlines():
            say(line)  # what others wrote must not move the cursor
    else:
        sys.stdout.write(content.decode())


def _bytes(found: Found, form: Format) -> bytes:
    if form is Format.JSON and not found.columns:
        return json_text("runs", found.runs).encode()
    from cd4ml.index.grid import grid
    from cd4ml.report.runs import csv_text, json_rows, parquet_bytes

    table = grid(found.runs, found.columns, found.held)
    if form is Format.JSON:
        return json_text("rows", json_rows(table), columns=[column.name for column in table.columns]).encode()
    return parquet_bytes(table) if form is Format.PARQUET else csv_text(table).encode()
