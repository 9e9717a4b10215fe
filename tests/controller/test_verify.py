"""``cd4ml verify``: what it says, what it leaves alone, and what ``--repair`` puts right."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.conftest import Shell
from tests.controller.controller_world import Done, cd4ml, commit, push
from tests.controller.index_attacks import committed
from tests.controller.keeping_world import rule
from tests.controller.verify_world import INDEX, LANDING, World


@pytest.fixture
def shell(recorded: World, few_flights: Path) -> Shell:
    return Shell(recorded.local, {"PYTHONPATH": str(few_flights)})


SCHEMA = json.loads((Path(__file__).parents[2] / "docs/schemas/faults.schema.json").read_text("utf-8"))


def findings(done: Done) -> list[dict[str, Any]]:
    """What was found, in the shape that is published."""
    Draft202012Validator(SCHEMA).validate(done.json)
    found: list[dict[str, Any]] = done.json["faults"]
    return found


def found(shell: Shell, *arguments: str, code: int = 1) -> list[dict[str, Any]]:
    return findings(cd4ml(shell, "verify", "--json", *arguments, code=code))


def stored(recorded: World, path: str = "artifacts/train/model.skops") -> tuple[str, str]:
    """The MD5 of an output of some succeeded run, and the run."""
    for envelope in recorded.entries.values():
        record = envelope["record"]
        if record.get("outcome") == "succeeded":
            return record["files"][path]["md5"], record["id"]
    raise AssertionError("no run succeeded")


def cached(recorded: World, md5: str) -> Path:
    return recorded.local / ".dvc/cache/files/md5" / md5[:2] / md5[2:]


def on_remote(recorded: World, md5: str) -> Path:
    return recorded.folder / "storage/files/md5" / md5[:2] / md5[2:]


def overwrite(path: Path, data: bytes = b"damaged") -> None:
    path.chmod(0o644)
    path.write_bytes(data)


def test_a_sound_project_is_said_to_be_sound_with_how_much_was_looked_at(recorded: World, shell: Shell) -> None:
    count = len(recorded.entries)
    assert cd4ml(shell, "verify").out.startswith(f"{count} records in {len(recorded.folds)} folds, ")
    done = cd4ml(shell, "verify", "--json")
    assert (done.json["sound"], done.json["faults"]) == (True, [])
    assert done.json["checked"]["records"] == count


def test_verify_touches_nothing_of_the_users_and_moves_no_ref_of_the_remote(recorded: World, shell: Shell) -> None:
    refs = recorded.refs(recorded.remote)
    status, head = shell.run("git", "status", "--porcelain"), (recorded.local / ".git/HEAD").read_bytes()
    overwrite(cached(recorded, stored(recorded)[0]))
    cd4ml(shell, "verify", code=1)
    cd4ml(shell, "verify", "--repair")
    assert recorded.refs(recorded.remote) == refs
    assert (shell.run("git", "status", "--porcelain"), (recorded.local / ".git/HEAD").read_bytes()) == (status, head)


def test_each_finding_says_what_where_who_needs_it_and_the_cure(recorded: World, shell: Shell) -> None:
    md5, run = stored(recorded)
    on_remote(recorded, md5).unlink()
    (finding,) = found(shell)
    assert {key: finding[key] for key in ("kind", "what", "place", "where", "level")} == {
        "kind": "missing",
        "what": "object",
        "place": "remote",
        "where": md5,
        "level": "fault",
    }
    assert run in finding["runs"]
    told = cd4ml(shell, "verify", code=1).out
    assert all(word in told for word in (md5, "artifacts/train/model.skops", run, "cd4ml verify --repair", "1 fault"))


def test_what_the_cache_alone_lacks_is_a_note_and_repair_brings_it(recorded: World, shell: Shell) -> None:
    md5, _ = stored(recorded)
    cached(recorded, md5).unlink()
    (note,) = found(shell, code=0)
    assert (note["level"], note["place"], note["where"]) == ("note", "cache", md5)
    assert findings(cd4ml(shell, "verify", "--repair", "--json")) == []
    assert cached(recorded, md5).read_bytes() == on_remote(recorded, md5).read_bytes()


def test_quick_sees_what_is_missing_or_cut_off_and_downloads_nothing(recorded: World, shell: Shell) -> None:
    md5, _ = stored(recorded)
    place = on_remote(recorded, md5)
    whole = place.read_bytes()
    overwrite(place, whole[:-1])
    assert [finding["where"] for finding in found(shell, "--quick")] == [md5]
    overwrite(place, b"x" * len(whole))
    assert found(shell, "--quick", code=0) == []
    assert [finding["where"] for finding in found(shell)] == [md5]


def test_only_the_objects_of_runs_that_are_named_are_looked_at(recorded: World, shell: Shell) -> None:
    only_here = next(
        one
        for one in recorded.verify().needed.values()
        if len(one.runs) == 1 and one.paths == ("artifacts/train/model.skops",)
    )
    on_remote(recorded, only_here.md5).unlink()
    other = next(
        envelope["record"]["id"]
        for envelope in recorded.entries.values()
        if envelope["record"].get("outcome") == "succeeded" and envelope["record"]["id"] != only_here.runs[0]
    )
    assert found(shell, other, code=0) == []
    assert [finding["where"] for finding in found(shell, only_here.runs[0][:9])] == [only_here.md5]


def test_of_a_branch_the_run_that_answers_it_is_looked_at_though_another_asked_for_it_first(
    recorded: World, shell: Shell
) -> None:
    first = next(one["record"] for one in recorded.entries.values() if one["record"].get("outcome") == "succeeded")
    twin = commit(shell, first["commit"], {"NOTES.md": "the same is asked for"})
    push(shell, "refs/heads/exp/twin", twin)
    cd4ml(shell, "reconcile", "exp/twin")
    assert "all sound" in cd4ml(shell, "verify", "exp/twin").out
    md5 = first["files"]["artifacts/train/model.skops"]["md5"]
    on_remote(recorded, md5).unlink()
    assert [(one["kind"], one["where"]) for one in found(shell, "exp/twin")] == [("missing", md5)]


def test_an_object_of_the_remote_that_is_no_file_stops_nothing_and_is_repaired(recorded: World, shell: Shell) -> None:
    md5, _ = stored(recorded)
    on_remote(recorded, md5).unlink()
    os.mkfifo(on_remote(recorded, md5))
    (finding,) = found(shell)
    assert (finding["kind"], finding["where"]) == ("damaged", md5)
    assert finding["message"].endswith("is no file in the DVC remote")
    cd4ml(shell, "verify", "--repair")
    assert on_remote(recorded, md5).is_file()


def test_a_name_that_no_run_has_is_refused_with_the_nearest(shell: Shell) -> None:
    (line,) = cd4ml(shell, "verify", "exp/deepr", code=2).lines
    assert "exp/deepr" in line
    assert "did you mean exp/deeper?" in line


# ── repair ──


@pytest.mark.parametrize("place", ["cache", "remote"])
def test_damaged_bytes_are_moved_aside_and_replaced_by_the_recorded_ones(
    recorded: World, shell: Shell, place: str
) -> None:
    md5, _ = stored(recorded)
    path = cached(recorded, md5) if place == "cache" else on_remote(recorded, md5)
    whole = path.read_bytes()
    overwrite(path)
    assert [finding["where"] for finding in found(shell)] == [md5]
    told = cd4ml(shell, "verify", "--repair").out
    assert "all sound" in told
    assert path.read_bytes() == whole
    (aside,) = (recorded.local / ".git/cd4ml/damaged" / place).iterdir()
    assert aside.read_bytes() == b"damaged"


def test_what_cache_and_remote_lost_is_taken_from_git_where_git_has_it(recorded: World, shell: Shell) -> None:
    md5, _ = stored(recorded, "artifacts/evaluate/metrics.json")
    for path in (cached(recorded, md5), on_remote(recorded, md5)):
        path.unlink()
    assert findings(cd4ml(shell, "verify", "--repair", "--json")) == []
    assert json.loads(on_remote(recorded, md5).read_bytes())["test"]


def test_what_nobody_has_is_said_to_be_lost_for_good_with_the_runs_and_stays_a_fault(
    recorded: World, shell: Shell
) -> None:
    md5, run = stored(recorded)
    cached(recorded, md5).unlink()
    overwrite(on_remote(recorded, md5))
    done = cd4ml(shell, "verify", "--repair", "--json", code=1)
    assert done.json["lost"] == 1
    (fault,) = [finding for finding in findings(done) if finding["level"] == "fault"]
    assert "Lost for good" in fault["message"]
    assert run in fault["runs"]
    assert on_remote(recorded, md5).read_bytes() == b"damaged"  # the only copy of anything stays where it is


def loose(repository: Path, recorded: World) -> Path:
    """The file of a loose object that the index needs."""
    objects = (repository / ".git" if (repository / ".git").is_dir() else repository) / "objects"
    present = (objects / one[:2] / one[2:] for one in sorted(recorded.reachable))
    return next(path for path in present if path.is_file())


STRANGE: dict[str, Callable[[Path], object]] = {
    "deleted": lambda path: None,
    "damaged": lambda path: path.write_bytes(b"damaged"),
    "a link to nothing": lambda path: path.symlink_to("/nowhere"),
    "a folder": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("damage", STRANGE)
def test_objects_of_git_are_brought_from_the_remote_again(recorded: World, shell: Shell, damage: str) -> None:
    path = loose(recorded.local, recorded)
    path.unlink()
    STRANGE[damage](path)
    name = path.parent.name + path.name
    assert name in {finding["where"] for finding in found(shell)}
    assert findings(cd4ml(shell, "verify", "--repair", "--json")) == []
    assert shell.run("git", "fsck", "--full", "--no-dangling") == ""


def test_a_damaged_pack_is_moved_aside_and_gives_what_only_it_held(recorded: World, shell: Shell) -> None:
    """A commit that was never pushed lies in it."""
    shell.run("git", "commit", "--quiet", "--allow-empty", "--message", "Only here")
    own = shell.run("git", "rev-parse", "HEAD").strip()
    shell.run("git", "repack", "-adq")
    (pack,) = (recorded.local / ".git/objects/pack").glob("*.pack")
    data = pack.read_bytes()
    overwrite(pack, data[:-1] + bytes([data[-1] ^ 1]))
    assert pack.stem in {finding["where"].partition(".")[0] for finding in found(shell)}
    assert findings(cd4ml(shell, "verify", "--repair", "--json")) == []
    assert shell.run("git", "cat-file", "-t", own).strip() == "commit"
    assert shell.run("git", "fsck", "--full", "--no-dangling") == ""
    assert list((recorded.local / ".git/cd4ml/damaged/git").glob("*.pack"))


@pytest.mark.parametrize("kind", ["blob", "tree", "commit"])
def test_objects_that_the_git_remote_lacks_are_sent_to_it(recorded: World, shell: Shell, kind: str) -> None:
    tips = set(recorded.refs(recorded.remote).values())
    fits = (one for one in sorted(recorded.reachable - tips) if recorded.git("cat-file", "-t", one) == kind)
    path = next(file for one in fits if (file := recorded.remote / "objects" / one[:2] / one[2:]).is_file())
    path.unlink()
    assert {finding["place"] for finding in found(shell)} == {"git remote"}
    refs = recorded.refs(recorded.remote)
    assert findings(cd4ml(shell, "verify", "--repair", "--json")) == []
    assert recorded.refs(recorded.remote) == refs
    recorded.git("fsck", "--full", "--no-dangling")


def test_an_object_of_git_that_neither_side_has_is_lost_and_names_the_runs_that_need_it(
    recorded: World, shell: Shell
) -> None:
    envelope = next(
        one
        for one in recorded.entries.values()
        if one["record"]["kind"] == "run" and one["record"]["branch"] == "exp/gusty"
    )
    blob = recorded.git("rev-parse", f"{envelope['result_commit']}:params.yaml")
    gone = 0
    for objects in (recorded.local / ".git/objects", recorded.remote / "objects"):
        path = objects / blob[:2] / blob[2:]
        gone += path.is_file()
        path.unlink(missing_ok=True)
    assert gone
    done = cd4ml(shell, "verify", "--repair", "--json", code=1)
    lost = [finding for finding in findings(done) if "Lost for good" in finding["message"]]
    assert [finding["where"] for finding in lost] == [blob]
    assert envelope["record"]["id"] in lost[0]["runs"]


# ── what else there may be ──


def test_a_clone_that_remembers_nothing_and_has_an_empty_cache_finds_the_index_sound(
    recorded: World, few_flights: Path
) -> None:
    fresh = recorded.folder / "fresh"
    subprocess.run(["git", "clone", "--quiet", str(recorded.remote), str(fresh)], check=True)
    (fresh / ".dvc").mkdir(exist_ok=True)
    told = found(Shell(fresh, {"PYTHONPATH": str(few_flights)}), code=0)
    assert {(finding["place"], finding["kind"], finding["level"]) for finding in told} == {("cache", "missing", "note")}


def test_objects_of_a_run_that_was_let_go_may_be_gone(recorded: World, shell: Shell) -> None:
    from cd4ml.index.record import RECORD_PATH, encode, seal

    only = next(one for one in recorded.verify().needed.values() if len(one.runs) == 1)
    on_remote(recorded, only.md5).unlink()
    assert [finding["where"] for finding in found(shell)] == [only.md5]
    base = recorded.git("rev-parse", "main")
    said = {"reason": "old", "rule": "age > 1d", "by": "A <a@localhost>", "at": "2026-11-03T10:00:00Z"}
    body = {"kind": "removal", "run": only.runs[0], "commit": base, "what": "artefacts", "objects": [], **said}
    record = seal(body)
    commit = recorded.land_again(base, {RECORD_PATH: encode(record)}, [base])
    recorded.git("update-ref", LANDING + record["id"], commit)
    cd4ml(shell, "reconcile", "main")
    assert [finding for finding in found(shell, code=0) if finding["level"] == "fault"] == []


def test_a_shallow_clone_is_told_to_bring_its_history_first(recorded: World, few_flights: Path) -> None:
    fresh = recorded.folder / "fresh"
    url = f"file://{recorded.remote}"
    subprocess.run(["git", "clone", "--quiet", "--depth", "1", "--no-single-branch", url, str(fresh)], check=True)
    (line,) = cd4ml(Shell(fresh, {"PYTHONPATH": str(few_flights)}), "verify", code=2).lines
    assert "git fetch --unshallow" in line


def test_a_storage_that_cannot_be_reached_is_a_fault_that_says_so(recorded: World, shell: Shell) -> None:
    (recorded.folder / "storage").rename(recorded.folder / "elsewhere")
    told = found(shell)
    assert {finding["place"] for finding in told if finding["level"] == "fault"} == {"remote"}


def test_a_git_remote_that_is_gone_leaves_what_the_last_fetch_saw_to_be_checked(recorded: World, shell: Shell) -> None:
    count = len(recorded.entries)
    cd4ml(shell, "verify", "--quick")  # the last fold was this clone's own, and no fetch has seen it
    recorded.remote.rename(recorded.folder / "elsewhere.git")
    done = cd4ml(shell, "verify", "--json", code=1)
    assert done.json["checked"]["records"] == count
    assert {finding["place"] for finding in findings(done)} == {"git remote"}


def test_an_epoch_is_believed_from_whom_main_names_and_from_nobody_else(
    recorded: World, shell: Shell, few_flights: Path
) -> None:
    key = recorded.folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "eraser", "-f", str(key)], check=True)
    public = key.with_suffix(".pub").read_text("utf-8").strip()
    rule(shell, erasers=f'[{{name: "Eraser <eraser@example.org>", key: "{public}"}}]')
    shell.run("git", "config", "user.signingkey", str(key))
    _, run = stored(recorded)
    cd4ml(shell, "forget", run, "--reason", "asked to", "--keep-data", "--purge", "--yes")
    assert [finding for finding in found(shell, code=0) if finding["level"] == "fault"] == []
    fresh = recorded.folder / "fresh"  # it has never seen what the epoch replaced
    subprocess.run(["git", "clone", "--quiet", str(recorded.remote), str(fresh)], check=True)
    other = Shell(fresh, {"PYTHONPATH": str(few_flights)})
    tip = recorded.git("rev-parse", INDEX)
    assert [finding for finding in found(other, code=0) if finding["level"] == "fault"] == []
    rule(shell)  # main names nobody any more
    told = found(other)
    assert [finding["where"] for finding in told if "not sanctioned" in finding["message"]] == [tip]


def test_records_are_judged_in_parts_as_they_are_all_at_once(
    recorded: World, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An epoch, too, whose one commit holds the entries of many folds."""
    whole = recorded.verify()
    monkeypatch.setattr("cd4ml.controller.care.verify._AT_ONCE", 2)
    assert recorded.verify() == whole
    key = recorded.folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "eraser", "-f", str(key)], check=True)
    public = key.with_suffix(".pub").read_text("utf-8").strip()
    rule(shell, erasers=f'[{{name: "Eraser <eraser@example.org>", key: "{public}"}}]')
    shell.run("git", "config", "user.signingkey", str(key))
    cd4ml(shell, "forget", stored(recorded)[1], "--reason", "asked to", "--keep-data", "--purge", "--yes")
    assert [finding for finding in recorded.verify().findings if finding.fault] == []


def test_the_number_of_the_epoch_is_the_chains_and_not_the_summarys(recorded: World, shell: Shell) -> None:
    text = recorded.read(f"{INDEX}:summary.json").decode()
    committed(shell, {"summary.json": text.replace('"epoch": 1', '"epoch": 7')})
    (fault,) = [one for one in found(shell) if one["level"] == "fault"]
    assert fault["where"] == "summary.json"


def test_what_is_no_entry_is_a_note_as_no_reader_reads_it(recorded: World, shell: Shell) -> None:
    committed(shell, {"notes.txt": "mine\n", "Runs/aa/x.json": "{}"})
    told = found(shell, code=0)
    assert {one["level"] for one in told} == {"note"}
    assert [one for one in told if "'notes.txt', which is no entry" in one["message"]]
    assert cd4ml(shell, "restore", "--yes").out.startswith("nothing to restore: ")
