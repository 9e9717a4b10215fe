"""The verb search on records that have landed: filters over all that they say, every form of output, and hints."""

from __future__ import annotations

import csv
import io
import json
import subprocess
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from jsonschema import Draft202012Validator

import cd4ml as api
from cd4ml.cli.app import run
from cd4ml.cli.context import json_text
from cd4ml.cli.search import Format, printed
from cd4ml.controller.history.search import Found, known_state
from cd4ml.controller.landing.landed import current_cache
from cd4ml.controller.project import open_project
from cd4ml.errors import UsageError
from cd4ml.gateways.store import QueryCache
from cd4ml.index.fold import landing_ref
from cd4ml.index.query import parse
from cd4ml.index.record import RECORD_PATH, encode, seal
from cd4ml.index.sql import compile_filter
from tests.conftest import Shell
from tests.controller.controller_world import Done, cd4ml, commit, git
from tests.index.filter_world import row
from tests.index.index_world import experiment_body, hexes, run_body

SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"
SLICES = {
    "carrier": {
        "values": [
            {
                "value": "UA",
                "rows": {"validation": 90, "test": 30},
                "validation": {"rmse": 9.5},
                "test": {"rmse": 21.5},
            },
            {"value": "(missing)", "rows": {"validation": 1, "test": 2}, "validation": {"rmse": None}, "test": {}},
        ],
        "left_out": 3,
    }
}
FAILED = [
    {"type": "expect_column_values_to_be_between", "column": "dep_delay", "severity": "critical"},
    {"type": "expect_table_row_count_to_be_between", "column": None, "severity": "warning"},
]
VALIDATION = {"suite": "flights", "success": False, "asked": 5, "returned": 5, "failed": FAILED}


def imported(source: str) -> dict[str, Any]:
    return seal(
        {
            "kind": "import",
            "commit": source,
            "source": {"kind": "mlflow", "location": "sqlite:///mlruns.db", "experiment": "Delays", "id": "abc123"},
            "source_commit": None,
            "name": "gentle-ox-12",
            "author": "bo",
            "description": "Before cd4ml",
            "outcome": "succeeded",
            "params": {"depth": 7},
            "metrics": {"validation": {"rmse": 11.0}},
            "tags": {"team": "pricing", "mark": ""},
            "started": "2026-01-03T10:00:00Z",
            "finished": None,
        }
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A clone whose remote holds records that nobody has folded: two runs, what asked for them, and an import."""
    folder = tmp_path_factory.mktemp("search")
    subprocess.run(
        ["git", "init", "--quiet", "--bare", "--initial-branch=main", str(folder / "remote.git")], check=True
    )
    subprocess.run(["git", "init", "--quiet", "--initial-branch=main", str(folder / "project")], check=True)
    shell = Shell(folder / "project", {"PYTHONPATH": str(Path(__file__).parents[2])})
    (shell.folder / "README").write_text("x", "utf-8")
    shell.run("git", "add", "--all")
    shell.run("git", "commit", "--quiet", "--message", "A project")
    shell.run("git", "remote", "add", "origin", "../remote.git")
    shell.run("git", "push", "--quiet", "--set-upstream", "origin", "main")
    head = shell.run("git", "rev-parse", "HEAD").strip()
    good = run_body("good", commit=head, branch="exp/good", slices=SLICES)
    bad = run_body("bad", commit=head, branch="exp/bad", failed=True, validation=VALIDATION, params={"depth": 3})
    said = {"commit": head, "hypothesis": "Größere Bäume", "tags": ["prod", "team=delays"], "name": "=good"}
    asked = seal({**experiment_body("exp/good"), **said, "answer": {"head": good["id"], "merge": None}})
    for body in (good, bad, asked, imported(head)):
        landed = commit(shell, head, {RECORD_PATH: encode(body)})
        git(shell, "push", "--quiet", "origin", f"{landed}:{landing_ref(body['id'])}")
    return shell


@pytest.fixture(scope="module")
def cache(project: Shell) -> QueryCache:
    """The query cache of the project, as search brings it up to date."""
    opened = open_project(project.folder, "")
    return current_cache(opened, known_state(opened)[0])


def branches(shell: Shell, text: str, *options: str) -> list[str]:
    """The branches that are found, in order."""
    done = cd4ml(shell, "search", text, "--json", *options)
    assert "no run holds" not in done.err
    return [run["branch"] for run in done.json["runs"]]


def checked(done: Done, name: str) -> Any:
    """The list, after the object was held against its published schema."""
    schema = json.loads((SCHEMAS / f"{name}.schema.json").read_text("utf-8"))
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(done.json)
    return done.json[name]


GOOD, BAD, IMPORTED = "exp/good", "exp/bad", "mlflow:Delays"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {GOOD, BAD, IMPORTED}),
        ("slices.carrier.UA.rmse < 10", {GOOD}),
        ("slices.test.carrier.UA.rmse > 20 and slices.carrier.UA.rows = 90", {GOOD}),
        ('slices.test.carrier."(missing)".rows = 2 and slices.carrier.`(missing)`.rows = 1', {GOOD}),
        (f"data.flights.digest = '{hexes('rows')}' and data.flights.rows = 3", {GOOD, BAD}),
        (f"table.digest = '{hexes('table')}' and split.test.digest = '{hexes('test')}'", {GOOD}),
        ("split.test.rows between 1 and 2 and table.rows in (3)", {GOOD}),
        ("validation.success = false and validation.asked = 5", {BAD}),
        ("validation.failed like '%between(dep_delay)'", {BAD}),
        ("validation.failed = 'expect_table_row_count_to_be_between'", {BAD}),
        ("validation.failed != 'expect_x' and role != 'imported'", {BAD}),
        ("validation.failed is null", {IMPORTED}),
        ("failure.kind = 'deterministic' and reason.stage = 'validate' and reason like '%2 rows'", {BAD}),
        ("components.spec like '%' and components.env is not null", {GOOD, BAD}),
        ("environment.python like '3.11.%' and environment.packages.numpy = '2.4.6'", {GOOD, BAD}),
        ("packages.numpy in ('2.4.6') and environment.platform = 'linux'", {GOOD, BAD}),
        ("cost.train > 1 and primary.metric = 'rmse'", {GOOD, BAD}),
        ("judge.code is null", {GOOD, BAD, IMPORTED}),
        ("tags = 'prod'", {GOOD}),
        ("tag in ('prod', 'mark')", {GOOD, IMPORTED}),
        ("tags.team = 'delays'", {GOOD}),
        ("tag.team in ('pricing')", {IMPORTED}),
        ("not tags like 'team%'", {BAD}),
        ("role = 'imported' and imported.source = 'mlflow' and imported.id = 'abc123'", {IMPORTED}),
        ("params.depth > 5 and start_time < '2026-02-01' and end_time is null", {IMPORTED}),
        ("attributes.status = 'FINISHED' and metric.rmse < 12", {IMPORTED}),
        ("'größere BÄUME'", {GOOD}),
        ("match 'bäume prod ada' and metrics.rmse < 13", {GOOD}),
        ("'gentle before'", {IMPORTED}),
        ("'rows' or 'pricing'", {BAD, IMPORTED}),
        ("not 'exp/'", {IMPORTED}),
    ],
)
def test_everything_that_a_record_says_can_be_asked_for(cache: QueryCache, text: str, found: set[str]) -> None:
    assert {run["branch"] for run in cache.search(compile_filter(parse(text), datetime.now(UTC)))} == found


def test_runs_are_listed_as_published_with_all_that_can_be_asked_for(project: Shell) -> None:
    runs = {run["branch"]: run for run in checked(cd4ml(project, "search", "--format", "json"), "runs")}
    good, bad, foreign = runs[GOOD], runs[BAD], runs[IMPORTED]
    assert good["slices"] == {
        "validation": {"carrier": {"UA": {"rows": 90, "rmse": 9.5}, "(missing)": {"rows": 1}}},
        "test": {"carrier": {"UA": {"rows": 30, "rmse": 21.5}, "(missing)": {"rows": 2}}},
    }
    assert good["tags"] == ["prod", "team=delays"]
    assert bad["failure"] == {"kind": "deterministic", "stage": "validate", "message": "2 rows"}
    assert bad["validation"]["failed"] == [
        "expect_column_values_to_be_between(dep_delay)",
        "expect_table_row_count_to_be_between",
    ]
    assert (foreign["role"], foreign["fingerprint"], foreign["tags"]) == ("imported", None, ["mark", "team=pricing"])
    assert not any("packages" in run for run in runs.values()), "hundreds of versions, only where they are asked for"


def test_an_order_has_several_terms_and_a_limit_cuts_it(project: Shell) -> None:
    assert branches(project, "", "--order-by", "outcome desc, metrics.rmse") == [IMPORTED, GOOD, BAD]
    assert branches(project, "", "--order-by", "metrics.rmse desc", "--limit", "1") == [GOOD]


def test_a_name_that_no_run_has_is_said_on_stderr_with_the_nearest(project: Shell) -> None:
    done = cd4ml(project, "search", "metrics.rmsee < 3 or params.dpth = 1")
    assert done.out == "No runs.\n"
    assert done.lines == [
        "cd4ml: no run holds metrics.rmsee; did you mean metrics.rmse?",
        "cd4ml: no run holds params.dpth; did you mean params.depth?",
    ]
    done = cd4ml(project, "search", "--order-by", "metrics.rsme", "--columns", "branch,packages.nmpy")
    assert [line.partition(": ")[2] for line in done.lines] == [
        "no run holds metrics.rsme; did you mean metrics.rmse?",
        "no run holds packages.nmpy; did you mean packages.numpy?",
    ]
    assert cd4ml(project, "search", "metrics.rmsee is null and params.depth is null").err == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["brnch = 'x'"], ["did you mean branch?", "  brnch = 'x'", "  ^"]),
        (["--order-by", "name, nme"], ["order, character 7", "  name, nme", "        ^"]),
        (["--columns", "name,nme"], ["columns, character 6", "  name,nme", "       ^"]),
        (["--json", "--format", "csv"], ["two things"]),
        (["-o", "runs.txt"], ["runs.txt: end the name in .json, .csv, .parquet"]),
        (["-o", "runs.csv", "--format", "table"], ["end the name in"]),
        (["-o", "runs.parquet", "--format", "csv"], ["its name says parquet, and csv is asked for"]),
        (["-o", "runs.csv", "--json"], ["its name says csv, and json is asked for"]),
        (["--fields", "name = 'x'"], ["--fields takes"]),
        (["--count", "--columns", "name"], ["--count prints"]),
        (["--format", "xml"], ["xml"]),
        (["--limit", "0"], ["limit"]),
    ],
)
def test_what_cannot_be_done_is_a_usage_error_that_says_where(
    project: Shell, arguments: list[str], words: list[str]
) -> None:
    done = cd4ml(project, "search", *arguments, code=2)
    assert done.out == ""
    lines = [line.removeprefix("cd4ml: ") for line in done.lines]
    assert len(lines) == len(words)
    assert all(word in line for word, line in zip(words, lines, strict=True)), lines


def test_columns_are_shown_as_asked(project: Shell) -> None:
    asked = ["--columns", "branch,metrics,params.depth,tags", "--order-by", "branch"]
    lines = [line.rstrip() for line in cd4ml(project, "search", *asked).out.splitlines()]
    assert lines == [
        "branch         metrics.test.rmse  metrics.validation.rmse  params.depth  tags",
        "exp/bad                        –                        –             3  []",
        'exp/good                   13.25                    12.50             –  ["prod", "team=delays"]',
        'mlflow:Delays                  –                    11.00             7  ["mark", "team=pricing"]',
    ]
    rows = checked(cd4ml(project, "search", *asked, "--json"), "rows")
    assert rows[1] == {
        "branch": GOOD,
        "metrics.validation.rmse": 12.5,
        "metrics.test.rmse": 13.25,
        "params.depth": None,
        "tags": ["prod", "team=delays"],
    }
    (one,) = cd4ml(project, "search", "role = 'result'", "--columns", "packages", "--json").json["rows"]
    assert one == {"packages.numpy": "2.4.6"}


def test_csv_is_the_same_on_stdout_and_in_a_file_and_begins_no_formula(project: Shell, tmp_path: Path) -> None:
    asked = ["search", "--columns", "branch,name,metrics.rmse", "--order-by", "branch"]
    text = cd4ml(project, *asked, "--format", "csv").out
    assert list(csv.reader(io.StringIO(text, newline=""))) == [
        ["branch", "name", "metrics.rmse"],
        [BAD, "a", ""],
        [GOOD, "'=good", "12.5"],
        [IMPORTED, "gentle-ox-12", "11.0"],
    ]
    file = tmp_path / "runs.csv"
    done = cd4ml(project, *asked, "-o", str(file))
    assert done.out == ""
    assert "3 runs written to" in done.err
    assert file.read_bytes() == text.encode()


def test_parquet_and_json_go_to_a_file_with_everything(project: Shell, tmp_path: Path) -> None:
    cd4ml(project, "search", "-o", str(tmp_path / "runs.parquet"), "--order-by", "branch")
    table = pq.read_table(tmp_path / "runs.parquet").to_pydict()
    assert table["branch"] == [BAD, GOOD, IMPORTED]
    assert table["metrics.validation.rmse"] == [None, 12.5, 11.0]
    assert table["slices.test.carrier.UA.rmse"] == [None, 21.5, None]
    assert table["name"][1] == "=good", "exact where nothing makes a formula of it"
    cd4ml(project, "search", "-o", str(tmp_path / "runs.JSON"))
    assert json.loads((tmp_path / "runs.JSON").read_text("utf-8")) == cd4ml(project, "search", "--json").json
    done = cd4ml(project, "search", "-o", str(tmp_path / "none" / "runs.csv"), code=None)
    assert done.code in (0, 1)


class Terminal(io.StringIO):
    """A standard output that a person looks at."""

    def isatty(self) -> bool:
        return True


def test_parquet_goes_to_another_program_and_never_to_a_terminal(project: Shell) -> None:
    with redirect_stdout(Terminal()) as out, redirect_stderr(io.StringIO()) as err:
        code = run(["-C", str(project.folder), "search", "--format", "parquet"])
    assert (code, out.getvalue()) == (2, "")
    assert "not for a terminal" in err.getvalue()
    pipe = io.BytesIO()
    with redirect_stdout(io.TextIOWrapper(pipe, write_through=True)) as text:
        assert run(["-C", str(project.folder), "search", "--format", "parquet"]) == 0
        text.detach()
    assert pq.read_table(io.BytesIO(pipe.getvalue())).num_rows == 3


def test_csv_on_a_terminal_shows_what_others_wrote_and_obeys_none_of_it() -> None:
    found = Found([row(0, params={"x": "\x1b[2Jgone"}).as_json()], columns=(("params", "x"),))
    for stream, expected in (
        (Terminal(), "params.x\n\\x1b[2Jgone\n"),
        (io.StringIO(), "params.x\r\n\x1b[2Jgone\r\n"),
    ):
        with redirect_stdout(stream):
            printed(found, Format.CSV)
        assert stream.getvalue() == expected


@pytest.mark.parametrize("count", [0, 20, 21, 50])
def test_many_items_are_printed_one_a_line_and_mean_the_same(count: int) -> None:
    items = [{"id": f"r{number}", "name": 'é "x"\n', "metrics": {"test": {"rmse": 0.5}}} for number in range(count)]
    text = json_text("runs", items, columns=["a"])
    assert json.loads(text) == {"version": 1, "runs": items, "columns": ["a"]}
    lines = [line.rstrip(",") for line in text.splitlines() if line.startswith('{"id"')]
    assert [json.loads(line) for line in lines] == (items if count > 20 else [])


def test_a_number_of_many_digits_is_printed_whole_among_many_items() -> None:
    items: list[dict[str, Any]] = [{"params": {"x": 1 << 70}}, *({"params": None} for _ in range(30))]
    assert json.loads(json_text("runs", items))["runs"] == items


def test_count_is_a_number(project: Shell) -> None:
    assert cd4ml(project, "search", "--count").out == "3\n"
    done = cd4ml(project, "search", "outcome = 'failed'", "--count", "--json")
    assert checked(done, "runs") == []
    assert done.json["count"] == 1


def test_fields_lists_what_can_be_asked_for_and_what_runs_have(project: Shell) -> None:
    fields = {one["name"]: one for one in checked(cd4ml(project, "search", "--fields", "--json"), "fields")}
    assert "params.model.name" in fields["params.PATH"]["held"]
    assert "metrics.validation.rmse" in fields["metrics.NAME"]["held"]
    assert fields["data.SOURCE.rows"]["held"] == ["data.flights.rows"]
    assert "cost.train" in fields["cost.STAGE"]["held"]
    assert "packages.numpy" in fields["packages.NAME"]["held"]
    shown = cd4ml(project, "search", "--fields").out
    assert "lifecycle_at" in shown
    assert "  version: =, !=, IN, LIKE, ILIKE, IS NULL" in shown
    assert "slices.validation.carrier.UA.rmse" in shown


def test_from_python_it_is_a_frame_with_the_same_columns_for_any_answer(project: Shell) -> None:
    found = api.search("metrics.rmse < 100", project.folder, order_by=["metrics.rmse desc", "name"])
    assert list(found["branch"]) == [GOOD, IMPORTED]
    assert str(found["started"].dtype) == "datetime64[us, UTC]"
    assert found.loc[1, "started"] == pd.Timestamp("2026-01-03T10:00:00Z")
    assert (str(found["fold"].dtype), str(found["validation.asked"].dtype)) == ("Int64", "Int64")
    assert str(found["metrics.validation.rmse"].dtype) == "float64"
    nothing = api.search("name = 'nobody'", project.folder)
    assert len(nothing) == 0
    assert dict(nothing.dtypes) == {name: found.dtypes[name] for name in nothing.columns}
    assert {"id", "branch", "metrics.validation.rmse", "metrics.test.rmse", "tags"} <= set(nothing.columns)
    chosen = api.search("", project.folder, columns=["branch", "params.depth"], order_by="branch", limit=2)
    assert list(chosen.columns) == ["branch", "params.depth"]
    assert chosen["params.depth"].tolist()[0] == 3
    with pytest.warns(UserWarning, match=r"did you mean metrics\.rmse\?"):
        api.search("metrics.rsme < 1", project.folder)
    with pytest.raises(UsageError, match="did you mean branch"):
        api.search("brnch = 'x'", project.folder)


def test_a_number_that_was_asked_for_as_text_is_told_where_it_would_be_found(project: Shell) -> None:
    done = cd4ml(project, "search", "params.depth = '7'", "--count")
    assert done.out == "0\n"
    assert done.lines == ["cd4ml: nothing is found; a number and the text that says it differ: params.depth = 7"]
    assert cd4ml(project, "search", "params.depth = '8'").lines == []
    assert cd4ml(project, "search", "params.depth = 7", "--count").lines == []


def test_a_digest_that_was_cut_is_told_where_it_would_be_found(project: Shell) -> None:
    (run,) = api.search(f"branch = '{GOOD}'", project.folder, columns=["fingerprint"]).itertuples()
    cut = str(run[1])[:10]
    done = cd4ml(project, "search", f"fingerprint = '{cut}'")
    assert done.lines == [
        f"cd4ml: nothing is found; what only begins so is asked for with LIKE: fingerprint LIKE '{cut}%'"
    ]
