"""What other tools recorded, brought in: from a real MLflow store and real experiments of DVC."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cd4ml.controller.landing import imports
from cd4ml.controller.landing.fold import MOST_FOLDED
from cd4ml.controller.landing.imports import import_runs
from cd4ml.controller.project import Project
from cd4ml.errors import RemoteError
from cd4ml.gateways.git import RefUpdate
from cd4ml.index.foreign import ForeignRun, import_body
from tests.conftest import Shell
from tests.controller.controller_world import cd4ml, commit, git, push, refs, remote, runs
from tests.controller.keeping_world import land, project_of
from tests.controller.parts_world import assert_published

COMMIT = "a" * 40


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tracking store of SQLite with two experiments: finished, failed and running runs."""
    from mlflow.tracking import MlflowClient

    file = tmp_path_factory.mktemp("mlflow") / "mlruns.db"
    client = MlflowClient(tracking_uri=f"sqlite:///{file}")
    for name in ("flights", "hotels"):
        experiment = client.create_experiment(name)
        for number in range(3):
            tags = {"mlflow.user": "ada", "mlflow.note.content": f"tried depth {number}", "team": "blue"}
            run = client.create_run(experiment, run_name=f"{name}-{number}", tags=tags).info.run_id
            client.log_param(run, "model.depth", number)
            client.log_param(run, "kind", "tree")
            client.log_metric(run, "rmse", 10.0 + number)
            client.log_metric(run, "test_rmse", 11.0 + number)
            client.log_metric(run, "broken", float("nan"))
            client.set_terminated(run, "FAILED" if number == 2 else "FINISHED")
    flights = client.get_experiment_by_name("flights")
    assert flights is not None
    client.create_run(flights.experiment_id, run_name="at work")
    return file


def imported(shell: Shell, text: str = "role = 'imported'") -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in runs(shell, text)}


def test_the_runs_of_an_mlflow_store_are_found_by_what_they_hold(team: Shell, store: Path) -> None:
    done = cd4ml(team, "import", "mlflow", f"sqlite:///{store}")
    assert "6 runs imported" in done.out
    assert "1 not ended" in done.out
    assert len(imported(team)) == 6
    found = imported(team, "role = 'imported' and metrics.rmse < 10.5 and params.model.depth = 0")
    assert sorted(found) == ["flights-0", "hotels-0"]
    one = found["flights-0"]
    assert one["metrics"] == {"validation": {"rmse": 10.0}, "test": {"rmse": 11.0}}
    assert one["params"] == {"model": {"depth": 0}, "kind": "tree"}
    assert one["author"] == "ada"
    assert one["outcome"] == "succeeded"
    assert imported(team, "role = 'imported' and outcome = 'failed'").keys() == {"flights-2", "hotels-2"}


def test_an_import_asked_for_again_adds_nothing_and_new_runs_only_are_added(team: Shell, store: Path) -> None:
    cd4ml(team, "import", "mlflow", f"sqlite:///{store}", "--experiment", "hotels")
    before = refs(remote(team))
    again = cd4ml(team, "import", "mlflow", f"sqlite:///{store}", "-e", "hotels")
    assert "0 runs imported" in again.out
    assert refs(remote(team)) == before
    assert "3 runs imported" in cd4ml(team, "import", "mlflow", f"sqlite:///{store}").out
    assert len(imported(team)) == 6


def test_an_import_is_said_before_and_changes_nothing(team: Shell, store: Path) -> None:
    before = refs(remote(team)), store.read_bytes()
    done = cd4ml(team, "import", "mlflow", f"sqlite:///{store}", "--dry-run", "--json")
    (told,) = done.json["imports"]
    assert (len(told["landed"]), told["known"], told["unfinished"], told["dry_run"]) == (6, 0, 1, True)
    assert (refs(remote(team)), store.read_bytes()) == before


def test_what_would_be_imported_is_listed_by_name(team: Shell, store: Path) -> None:
    done = cd4ml(team, "import", "mlflow", f"sqlite:///{store}", "--dry-run")
    assert {"  flights-1 (flights)", "  hotels-2 (hotels)"} <= set(done.out.splitlines())
    assert "  flights-1 (flights)" not in cd4ml(team, "import", "mlflow", f"sqlite:///{store}").out.splitlines()


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_what_an_import_prints_has_the_published_shape(team: Shell, store: Path, more: tuple[str, ...]) -> None:
    told = cd4ml(team, "import", "mlflow", f"sqlite:///{store}", *more, "--json").json
    assert len(told["imports"][0]["landed"]) == 6
    assert_published(told, "imports")


@pytest.mark.parametrize("case", ["missing", "not sqlite", "no mlflow", "unknown experiment", "no folder", "no server"])
def test_a_store_that_is_none_is_one_line(team: Shell, store: Path, tmp_path: Path, case: str) -> None:
    other = tmp_path / "other.db"
    if case == "not sqlite":
        other.write_bytes(b"text")
    if case == "no mlflow":
        with sqlite3.connect(other) as database:
            database.execute("CREATE TABLE mine (x)")
    arguments = [f"sqlite:///{other}"]
    if case == "unknown experiment":
        arguments = [f"sqlite:///{store}", "-e", "flihgts"]
    if case == "no folder":
        arguments = [str(tmp_path / "nothing")]
    if case == "no server":
        arguments = ["http://127.0.0.1:9"]
    before = refs(remote(team))
    done = cd4ml(team, "import", "mlflow", *arguments, code=None)
    assert done.code == (1 if case == "no server" else 2)
    assert len(done.lines) == 1
    if case == "no mlflow":
        with sqlite3.connect(other) as database:
            assert database.execute("SELECT name FROM sqlite_master").fetchall() == [("mine",)]
    assert refs(remote(team)) == before


@pytest.mark.parametrize(
    "address", ["http://u:Passw0rd@127.0.0.1:9", "postgresql+psycopg://u:Passw0rd@127.0.0.1:9/x", "damaged"]
)
def test_a_store_that_does_not_answer_or_is_damaged_is_one_line_without_credentials(
    team: Shell, store: Path, tmp_path: Path, address: str
) -> None:
    """Nobody set how often it is to be tried."""
    half = tmp_path / "half.db"
    half.write_bytes(store.read_bytes()[: store.stat().st_size // 3])
    done = cd4ml(team, "import", "mlflow", f"sqlite:///{half}" if address == "damaged" else address, code=1)
    assert len(done.lines) == 1
    assert "Passw0rd" not in done.err
    assert "Background" not in done.err


@pytest.fixture
def file_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tracking store of files, with one run that has an artifact."""
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    made, folder = tmp_path / "made", tmp_path / "mlruns"
    client = MlflowClient(tracking_uri=made.as_uri())
    run = client.create_run(client.create_experiment("flights"), run_name="filed").info.run_id
    client.log_param(run, "model.depth", 3)
    client.log_metric(run, "rmse", 10.5)
    client.set_terminated(run)
    (made / ".trash").rmdir()
    made.rename(folder)  # MLflow remembers for a process what it has opened
    return folder


def content(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def test_the_runs_of_a_file_store_are_found(team: Shell, file_store: Path) -> None:
    assert "1 run imported" in cd4ml(team, "import", "mlflow", str(file_store)).out
    found = imported(team)["filed"]
    assert (found["params"], found["metrics"]) == ({"model": {"depth": 3}}, {"validation": {"rmse": 10.5}})


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_a_file_store_is_only_read(team: Shell, file_store: Path, more: tuple[str, ...]) -> None:
    (file_store / "other").mkdir()  # no experiment: a client would complain of it
    before = content(file_store)
    done = cd4ml(team, "import", "mlflow", str(file_store), *more)
    assert done.err == ""
    assert content(file_store) == before


def test_runs_of_a_file_store_that_cannot_be_read_are_named_and_the_others_come(team: Shell, file_store: Path) -> None:
    """One whose client was killed as it began, and one with a metric that is no number."""
    (sound,) = (path.parent for path in file_store.glob("*/*/meta.yaml"))
    empty, wrong = (sound.parent / (letter * 32) for letter in "ab")
    for one in (empty, wrong):
        shutil.copytree(sound, one)
        (one / "meta.yaml").write_text((sound / "meta.yaml").read_text("utf-8").replace(sound.name, one.name), "utf-8")
    (empty / "meta.yaml").write_text("", "utf-8")
    (wrong / "metrics" / "rmse").write_text("not a number\n", "utf-8")
    done = cd4ml(team, "import", "mlflow", str(file_store))
    assert "1 run imported" in done.out
    first, second = done.lines
    assert first == f"cd4ml: left out: run {empty.name}: its meta.yaml is empty"
    assert second.startswith(f"cd4ml: left out: run {wrong.name}: ")
    told = cd4ml(team, "import", "mlflow", str(file_store), "--json").json
    assert_published(told, "imports")
    assert [one["id"] for one in told["imports"][0]["unreadable"]] == [empty.name, wrong.name]


def test_a_run_that_is_larger_than_a_record_is_named_and_the_others_come(team: Shell) -> None:
    some = ForeignRun("mlflow", "elsewhere", "x", "a" * 32, "a", "", "", True, {}, {}, {}, None, None)
    large = replace(some, id="b" * 32, params={f"p{number}": "x" * 9000 for number in range(120)})
    done = import_runs(project_of(team), [some, large])
    assert [name for _, name in done.landed.values()] == ["a"]
    assert [(one.id, one.why) for one in done.unreadable] == [("b" * 32, "it is larger than a record may be (1 MiB)")]


def test_a_folder_that_is_no_file_store_is_refused_and_left_alone(team: Shell) -> None:
    before = content(team.folder / "conf")
    done = cd4ml(team, "import", "mlflow", "conf", "--dry-run", code=2)
    assert len(done.lines) == 1
    assert content(team.folder / "conf") == before


TOKEN = f"ghp_{'A1b2' * 9}"
URL = "postgresql://u:Passw0rd@h/x"


@pytest.fixture
def indiscreet(tmp_path: Path) -> Path:
    """A store of one run that holds credentials in nine places."""
    from mlflow.tracking import MlflowClient

    file = tmp_path / "indiscreet.db"
    client = MlflowClient(tracking_uri=f"sqlite:///{file}")
    tags = {"mlflow.user": URL, "mlflow.note.content": f"x\n{URL}", "seen": URL, TOKEN: "a tag"}
    run = client.create_run(client.create_experiment(f"of {TOKEN}"), run_name=f"with {TOKEN}", tags=tags).info.run_id
    for name, value in (("api_token", TOKEN), ("db", URL), ("model.depth", "3"), (f"key.{TOKEN}", "5")):
        client.log_param(run, name, value)
    client.set_terminated(run)
    return file


def test_an_import_leaves_credentials_out(team: Shell, indiscreet: Path) -> None:
    done = cd4ml(team, "import", "mlflow", f"sqlite:///{indiscreet}")
    texts = git(remote(team), "log", "--all", "-p", "-m", "--format=%B")
    assert "imports/" in texts
    assert "ghp_" not in texts
    assert "Passw0rd" not in texts
    assert "9 values seemed to hold a credential, which was left out" in done.out
    (found,) = imported(team).values()
    assert found["params"]["db"] == "postgresql://…h/x"
    assert found["params"]["model"] == {"depth": 3}


def test_a_run_is_known_wherever_its_store_lies_and_however_it_is_called(
    team: Shell, store: Path, tmp_path: Path
) -> None:
    cd4ml(team, "import", "mlflow", f"sqlite:///{store}")
    copied = tmp_path / "copied.db"
    copied.write_bytes(store.read_bytes())
    folder = store.parent
    for address in (copied, f"{folder}/../{folder.name}/{store.name}", os.path.relpath(store)):
        done = cd4ml(team, "import", "mlflow", f"sqlite:///{address}")
        assert "0 runs imported" in done.out
        assert "6 known already" in done.out
    assert len(imported(team)) == 6


def test_a_run_is_known_after_the_base_branch_has_moved(team: Shell, store: Path) -> None:
    cd4ml(team, "import", "mlflow", f"sqlite:///{store}")
    push(team, "refs/heads/main", commit(team, "main", {"notes.md": b"moved"}))
    assert "0 runs imported" in cd4ml(team, "import", "mlflow", f"sqlite:///{store}").out


def test_a_run_that_has_landed_and_is_not_folded_is_known(team: Shell) -> None:
    run = ForeignRun("mlflow", "elsewhere", "x", "f" * 32, "", "", "", True, {}, {}, {}, None, None)
    land(team, import_body(run, git(team, "rev-parse", "origin/main")))
    assert import_runs(project_of(team), [run]).known == 1


def test_runs_that_hold_nothing_are_told(team: Shell, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    file = tmp_path / "runs.db"
    client = MlflowClient(tracking_uri=f"sqlite:///{file}")
    for number in range(3):
        run = client.create_run("0").info.run_id
        if number:
            client.log_param(run, "depth", number)
        client.set_terminated(run)
    done = cd4ml(team, "import", "mlflow", f"sqlite:///{file}", "--dry-run")
    (line,) = done.lines
    assert line.startswith("cd4ml: 1 of them holds neither parameters nor metrics")


def test_a_run_hangs_on_its_commit_only_where_that_is_published(team: Shell, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    public = git(team, "rev-parse", "origin/main")
    private = git(team, "commit-tree", f"{public}^{{tree}}", "-p", public, "-m", "mine")
    file = tmp_path / "runs.db"
    client = MlflowClient(tracking_uri=f"sqlite:///{file}")
    for name, of in (("public", public), ("private", private), ("unknown", COMMIT)):
        run = client.create_run("0", run_name=name, tags={"mlflow.source.git.commit": of}).info.run_id
        client.set_terminated(run)
    cd4ml(team, "import", "mlflow", f"sqlite:///{file}")
    found = imported(team)
    assert found["public"]["source_commit"] == public
    assert found["unknown"]["source_commit"] == COMMIT
    reachable = git(remote(team), "rev-list", "--all").split()
    assert private not in reachable


def test_experiments_of_dvc_are_found_and_live_on_after_dvc_forgot_them(team: Shell) -> None:
    stages = "stages:\n  train:\n    cmd: 'true'\n    metrics:\n      - metrics.json:\n          cache: false\n"
    (team.folder / "dvc.yaml").write_text(stages, "utf-8")
    for number, name in enumerate(("one", "two")):
        (team.folder / "params.yaml").write_text(f"model:\n  depth: {number}\n", "utf-8")
        (team.folder / "metrics.json").write_text(f'{{"rmse": {10 + number}, "test": {{"rmse": 3}}}}', "utf-8")
        team.at(team.folder).run(
            "dvc", "exp", "save", "-q", "-f", "-n", name, "-I", "metrics.json", "-I", "params.yaml"
        )
    made = [commit for name, commit in refs(team).items() if name.startswith("refs/exps/")]
    assert "2 runs imported" in cd4ml(team, "import", "dvc-exp").out
    team.run("dvc", "exp", "remove", "-q", "one", "two")
    found = imported(team, "role = 'imported' and metrics.rmse < 10.5 and params.model.depth = 0")
    assert list(found) == ["one"]
    assert found["one"]["metrics"]["test"] == {"rmse": 3}
    held = git(remote(team), "rev-list", "--all").split()
    assert set(made) <= set(held)


@pytest.mark.parametrize("location", ["elsewhere", "a copy of it"])
def test_of_two_imports_at_once_each_tells_of_its_own_and_neither_fails(
    team: Shell, monkeypatch: pytest.MonkeyPatch, location: str
) -> None:
    """The other brings one of the two runs in, from the same store or a copy of it, between the look and the push."""
    some = ForeignRun("mlflow", "elsewhere", "x", "", "", "", "", True, {}, {}, {}, None, None)
    one, two = (replace(some, id=letter * 32, name=letter) for letter in "ab")
    team.run("git", "clone", "--quiet", "../remote.git", "../other")
    other = team.at(team.folder.parent / "other")
    land, others = imports._land, list[str]()

    def landed(project: Project, bodies: Mapping[str, Mapping[str, Any]], along: RefUpdate) -> None:
        if not others:
            others.append("is about to")
            others.extend(import_runs(project_of(other), [replace(one, location=location)]).landed)
        land(project, bodies, along)

    monkeypatch.setattr(imports, "_land", landed)
    done = import_runs(project_of(team), [one, two])
    assert [name for _, name in done.landed.values()] == ["b"]
    assert (done.known, len(others)) == (1, 2)
    found = sorted((run["name"], run["id"]) for run in runs(team, "role = 'imported'"))
    assert found == [("a", others[1]), ("b", next(iter(done.landed)))]
    cd4ml(team, "verify")


def test_of_many_imports_of_different_stores_at_once_none_fails(team: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "_AT_ONCE", 10)
    some = ForeignRun("mlflow", "elsewhere", "x", "", "", "", "", True, {}, {}, {}, None, None)
    clones = [team.at(team.folder.parent / name) for name in "abcd"]
    for clone in clones:
        team.run("git", "clone", "--quiet", "../remote.git", str(clone.folder))

    def imported_by(clone: Shell) -> int:
        own = [replace(some, id=f"{clone.folder.name}{number:031x}") for number in range(50)]
        return len(import_runs(project_of(clone), own).landed)

    with ThreadPoolExecutor(len(clones)) as threads:
        assert list(threads.map(imported_by, clones)) == [50] * len(clones)
    assert len(runs(team, "role = 'imported'")) == 50 * len(clones)


def test_a_remote_that_takes_no_such_ref_is_asked_a_few_times_and_told(team: Shell) -> None:
    hook = remote(team).folder / "hooks" / "update"
    hook.write_text('#!/bin/sh\necho "$1" >> asked\ncase "$1" in refs/cd4ml/imports/*) exit 1;; esac\n', "utf-8")
    hook.chmod(0o755)
    some = ForeignRun("mlflow", "elsewhere", "x", "a" * 32, "a", "", "", True, {}, {}, {}, None, None)
    with pytest.raises(RemoteError, match="could not be landed with refs/cd4ml/imports/mlflow: "):
        import_runs(project_of(team), [some])
    assert (remote(team).folder / "asked").read_text("utf-8").count("refs/cd4ml/imports/mlflow") == 3
    assert not [ref for ref in refs(remote(team)) if "/landing/" in ref]


def test_a_fold_that_fails_is_told_and_what_has_landed_is_not_called_known(
    team: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = ForeignRun("mlflow", "elsewhere", "x", "f" * 32, "", "", "", True, {}, {}, {}, None, None)

    def failing(*_: object) -> None:
        raise RemoteError("goes away")

    with monkeypatch.context() as patch:
        patch.setattr(imports, "fold_landed", failing)
        with pytest.raises(RemoteError, match="goes away"):
            import_runs(project_of(team), [some])
    cd4ml(team, "reconcile")
    assert len(imported(team, "role = 'imported'")) == 1


def test_what_an_imported_run_cannot_be_asked_says_that_it_was_imported(team: Shell) -> None:
    some = ForeignRun("mlflow", "elsewhere", "x", "f" * 32, "gentle-ox", "", "", True, {}, {}, {}, None, None)
    (one,) = import_runs(project_of(team), [some]).landed
    for verb in (["diff", "main", one], ["lineage", one], ["reproduce", one]):
        (line,) = cd4ml(team, *verb, code=2).lines
        assert f"{one}: was run by mlflow, and imported: `cd4ml show {one}` tells" in line


def save_experiment(team: Shell, name: str, files: dict[str, str]) -> None:
    """An experiment of DVC's own with these files."""
    for path, text in files.items():
        (team.folder / path).write_text(text, "utf-8")
    team.run("dvc", "exp", "save", "-q", "-f", "-n", name, *(word for path in files for word in ("-I", path)))


def test_a_commit_of_dvc_that_would_publish_a_credential_stays_here(team: Shell) -> None:
    token = f"ghp_{'A1b2' * 9}"
    url = f"https://{'a1b2' * 5}@git.example.org/x.git"
    for name, secret in (("open", "none"), ("secret", token), ("said", "none"), ("url", url), ("large", "none")):
        files = {"dvc.yaml": "params:\n  - params.yaml\n", "params.yaml": f"key: {secret} {name}\n"}
        save_experiment(team, name, files | ({"large.txt": "x" * (5 << 20)} if name == "large" else {}))
        (team.folder / "large.txt").unlink(missing_ok=True)
    said = next(name for name in refs(team) if name.startswith("refs/exps/") and name.endswith("/said"))
    git(team, "update-ref", said, git(team, "commit-tree", f"{said}^{{tree}}", "-p", f"{said}^", "-m", f"with {token}"))
    made = {name.rpartition("/")[2]: one for name, one in refs(team).items() if name.startswith("refs/exps/")}
    made.pop("EXEC_HEAD", None)
    told = cd4ml(team, "import", "dvc-exp").out
    assert "5 runs imported" in told
    assert "4 commits stay here alone: what nobody else has yet may hold a credential" in told
    held = git(remote(team), "rev-list", "--all").split()
    assert [name for name in made if made[name] in held] == ["open"]
    assert token not in git(remote(team), "log", "--all", "-p", "-m")
    assert imported(team, "role = 'imported'").keys() == {"open", "secret", "said", "url", "large"}


def test_a_parameter_that_two_files_of_dvc_share_is_that_of_the_default_one(team: Shell) -> None:
    listed = "params:\n  - params.yaml\n  - a.toml\n"
    save_experiment(team, "two", {"dvc.yaml": listed, "params.yaml": "alpha: 5\n", "a.toml": "alpha = 0.1\n"})
    cd4ml(team, "import", "dvc-exp")
    assert imported(team, "params.alpha = 5")["two"]["params"] == {"alpha": 5, "a_toml:alpha": 0.1}


def test_many_runs_are_folded_some_hundred_at_a_time(team: Shell, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    file = tmp_path / "runs.db"
    client = MlflowClient(tracking_uri=f"sqlite:///{file}")
    count = MOST_FOLDED + 50
    first = client.create_run("0", run_name="n0").info.run_id
    client.set_terminated(first)
    with sqlite3.connect(file) as database:  # as the client writes them, in one go
        columns = [row[1] for row in database.execute("PRAGMA table_info(runs)")]
        row = dict(zip(columns, database.execute("SELECT * FROM runs").fetchone(), strict=True))
        marks = ", ".join("?" * len(columns))
        database.executemany(
            f"INSERT INTO runs VALUES ({marks})",  # noqa: S608  # marks are question marks
            [
                tuple({**row, "run_uuid": f"{number:032x}", "name": f"n{number}"}[name] for name in columns)
                for number in range(1, count)
            ],
        )
    cd4ml(team, "import", "mlflow", f"sqlite:///{file}")
    assert len(imported(team)) == count
    assert not [name for name in refs(remote(team)) if name.startswith("refs/cd4ml/landing/")]
    cd4ml(team, "import", "mlflow", f"sqlite:///{file}")
    assert len(imported(team)) == count
