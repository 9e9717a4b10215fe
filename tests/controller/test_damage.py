"""What is damaged here, or cannot be written, is told in a line, costs nothing, and passes with its cause."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cd4ml.gateways import files
from tests.conftest import Shell
from tests.controller.controller_world import RECORDS, cd4ml, experiment, experiments, git, refs, rejected, remote, runs

CACHE = ".git/cd4ml/query.sqlite"


def overwrite(path: Path, data: bytes = b"damaged") -> None:
    path.chmod(0o644)
    path.write_bytes(data)


def replace_by_folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()
    (path / "x").write_text("x", "utf-8")


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("damage", [overwrite, replace_by_folder, half])
def test_a_damaged_query_cache_changes_no_answer(team: Shell, damage: Callable[[Path], None]) -> None:
    before = runs(team)
    damage(team.folder / CACHE)
    assert runs(team) == before
    assert runs(team) == before


def each(pattern: str, change: Callable[[Path], None]) -> Callable[[Shell], None]:
    def damage(shell: Shell) -> None:
        found = [path for path in shell.folder.glob(pattern) if path.is_file()]
        assert found, pattern
        for path in found:
            change(path)

    return damage


def other_seed(path: Path) -> None:
    """Damage that is still sound JSON, with another value."""
    changed, count = re.subn(r'"seed": \d', '"seed": 4', path.read_text("utf-8"))
    assert count
    path.write_text(changed, "utf-8")


def plain_file(name: str) -> Callable[[Shell], None]:
    """A file where cd4ml keeps a folder."""

    def damage(shell: Shell) -> None:
        files.remove_tree(shell.folder / name)
        (shell.folder / name).write_text("x", "utf-8")

    return damage


def left_locks(shell: Shell) -> None:
    """Locks that killed programs left: DVC's, Git's on the index, and our own."""
    for name in (".dvc/tmp/rwlock", ".dvc/tmp/lock", ".git/index.lock", ".git/cd4ml/work.lock"):
        (shell.folder / name).parent.mkdir(exist_ok=True)
        (shell.folder / name).write_bytes(b"")


HEALED: dict[str, Callable[[Shell], None]] = {
    "specs": each(".git/cd4ml/specs/*.json", other_seed),
    "raw": each(".git/cd4ml/raw/*", overwrite),
    "truth-file": plain_file(".git/cd4ml/truth"),
    "dvc-cache": each(".dvc/cache/files/md5/*/*", lambda path: overwrite(path, path.read_bytes() + b"x")),
    "locks": left_locks,
}


@pytest.mark.parametrize(
    "damage",
    [
        each(".git/cd4ml/specs/*.json", overwrite),
        each(".git/cd4ml/specs/*.json", other_seed),
        plain_file(".git/cd4ml/specs"),
    ],
)
def test_a_damaged_composition_is_composed_again(team: Shell, damage: Callable[[Shell], None]) -> None:
    before = experiments(team)
    damage(team)
    assert experiments(team) == before


def test_everything_of_ours_that_is_damaged_at_once_heals_within_one_reconcile(team: Shell) -> None:
    source = experiment(team, "exp/x", seed=3)
    cd4ml(team, "plan")
    (recorded,) = runs(team, "branch = 'main'")
    for damage in HEALED.values():
        damage(team)
    cd4ml(team, "reconcile")
    item = experiments(team)["exp/x"]
    assert (item["sync"], item["health"], item["commit"]) == ("Synced", "Healthy", source)
    assert runs(team, "branch = 'main'") == [recorded]  # what is damaged here moved no fingerprint
    cd4ml(team, "plan", "--exit-code")


def loose(shell: Shell, revision: str) -> Path:
    """The file of an object, brought here."""
    object_id = git(shell, "rev-parse", revision)
    return shell.folder / ".git/objects" / object_id[:2] / object_id[2:]


@pytest.mark.parametrize("inside", ["^{tree}", ":conf/config.yaml"])
def test_a_damaged_object_of_a_branch_holds_up_no_other_and_is_not_recorded_as_a_refusal(
    team: Shell, inside: str
) -> None:
    team.run("git", "switch", "--quiet", "--create", "exp/bad")
    config = team.folder / "conf/config.yaml"
    config.write_text(config.read_text("utf-8").replace("seed: 20130101", "seed: 5"), "utf-8")
    team.run("git", "commit", "--quiet", "--all", "--message", "bad")
    team.run("git", "push", "--quiet", "origin", "exp/bad")
    team.run("git", "switch", "--quiet", "main")
    rejected(team, "exp/other")
    place = loose(team, f"exp/bad{inside}")
    sound = place.read_bytes()
    overwrite(place)
    (line,) = cd4ml(team, "reconcile", code=1).lines
    assert line.startswith("cd4ml: exp/bad: ")
    assert "git fsck" in line
    assert experiments(team)["exp/other"]["sync"] == "Synced"
    assert runs(team, "branch = 'exp/bad'") == []
    overwrite(place, sound)
    assert [action["action"] for action in experiments(team, "plan")["exp/bad"]["actions"]] == ["run"]


def test_a_damaged_head_is_told_with_its_ref_and_not_taken_for_a_branch_that_is_gone(team: Shell) -> None:
    rejected(team, "exp/other")
    cd4ml(team, "reconcile", "exp/other", code=1)
    at = git(team, "rev-parse", "refs/cd4ml/remote/heads/exp/other")
    place = loose(team, at)
    sound = place.read_bytes()
    overwrite(place)
    for verb in ("status", "reconcile"):
        (line,) = cd4ml(team, verb, code=1).lines
        assert at in line
        assert "git fsck" in line
    overwrite(place, sound)
    assert experiments(team)["exp/other"]["lifecycle"] == "open"


def test_a_branch_whose_objects_are_damaged_is_not_reported_on_as_one_that_is_refused(team: Shell) -> None:
    at = experiment(team, "exp/bad", seed=5)
    overwrite(loose(team, f"{at}^{{tree}}"))
    (line,) = cd4ml(team, "report", "exp/bad", code=1).lines
    assert line.startswith("cd4ml: exp/bad: ")
    assert "git fsck" in line


@pytest.mark.parametrize(
    ("name", "content", "verbs"),
    [
        (".dvc/config", b"[[[ not config", ("data update",)),
        (".dvc/config.local", b"not = [config", ("data update", "reconcile")),
        (".dvc/config.local", b"\xff\xfe", ("data update", "reconcile")),
    ],
)
def test_dvc_configuration_that_is_none_is_named(
    team: Shell, name: str, content: bytes, verbs: tuple[str, ...]
) -> None:
    rejected(team, "exp/x")
    (team.folder / name).write_bytes(content)
    for verb in verbs:
        (line,) = cd4ml(team, *verb.split(), code=2).lines
        assert line.startswith(f"cd4ml: {name}: ")


# ── disks ──


@pytest.mark.parametrize("place", [".dvc/cache", "../storage"])
def test_a_place_that_cannot_be_written_is_named_nothing_is_recorded_and_the_next_reconcile_converges(
    team: Shell, place: str
) -> None:
    source = experiment(team, "exp/x", seed=3)
    before = refs(remote(team))
    kept = team.folder / place
    aside = kept.with_name("aside")
    if kept.exists():
        kept.rename(aside)
    kept.write_text("no folder", "utf-8")
    done = cd4ml(team, "reconcile", code=1)
    (line,) = done.lines
    assert line.startswith("cd4ml: exp/x: ")
    assert str(Path(place).name) in line
    after = refs(remote(team))
    assert {ref: after[ref] for ref in before} == before
    kept.unlink()
    if aside.exists():
        aside.rename(kept)
    cd4ml(team, "reconcile")
    item = experiments(team)["exp/x"]
    assert (item["sync"], item["health"], item["commit"]) == ("Synced", "Healthy", source)
    assert len(runs(team, "branch = 'exp/x'")) == 1


def test_a_disk_that_takes_no_large_file_is_told_in_a_line_and_passes(team: Shell) -> None:
    """As a full disk: the limit on the size of files cuts a write off in the middle."""
    experiment(team, "exp/x", seed=3)
    files.remove_tree(team.folder / ".git/cd4ml/raw")
    limited = team.attempt("bash", "-c", "ulimit -f 40; cd4ml reconcile", CD4ML_WARM="")
    told = [line for line in limited.stderr.splitlines() if line.startswith("cd4ml:")]
    assert limited.returncode == 1, limited.stderr
    assert told == [f"cd4ml: exp/x: {told[0].split(': ')[2]}: File too large"], told
    assert str(team.folder) in told[0]
    assert not list((team.folder / ".git/cd4ml/raw").glob(".*"))
    cd4ml(team, "reconcile")
    assert experiments(team)["exp/x"]["health"] == "Healthy"


@pytest.mark.parametrize("environment", [{"HOME": ""}, {"HOME": "/dev/null"}, {"TMPDIR": "/dev/null"}])
def test_reading_needs_no_home_and_no_temporary_folder_of_ones_own(team: Shell, environment: dict[str, str]) -> None:
    for verb in ("status", "search", "plan"):
        done = team.attempt("cd4ml", verb, **environment)
        assert (done.returncode, done.stderr) == (0, ""), verb


# ── two at once ──


def test_a_reconcile_that_sleeps_overwrites_nothing_when_it_wakes(team: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CD4ML_CLAIM_SECONDS", "1")
    rejected(team, "exp/x")
    team.at(team.folder.parent).run("git", "clone", "--quiet", "remote.git", "other")
    other = team.at(team.folder.parent / "other")
    environment = {**os.environ, **team.environment}
    slow = subprocess.Popen(
        ["cd4ml", "reconcile"],
        cwd=team.folder,
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert slow.stderr is not None
    while "land started" not in slow.stderr.readline():
        assert slow.poll() is None
    slow.send_signal(signal.SIGSTOP)
    cd4ml(other, "reconcile")
    found = refs(remote(team))
    slow.send_signal(signal.SIGCONT)
    assert slow.wait(60) == 0, slow.stderr.read()
    git(remote(team), "merge-base", "--is-ancestor", found["refs/heads/cd4ml/index"], "cd4ml/index")
    told = runs(other, "branch = 'exp/x'")
    assert {run["role"] for run in told} == {"attempt"}
    assert experiments(other)["exp/x"]["sync"] == "Synced"
    assert not [ref for ref in refs(remote(team)) if ref.startswith(RECORDS)]
    cd4ml(other, "plan", "--exit-code")


def test_the_second_reconcile_in_a_clone_says_that_it_waits_and_then_has_nothing_to_do(team: Shell) -> None:
    rejected(team, "exp/x")
    environment = {**os.environ, **team.environment}

    def start(**more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["cd4ml", "reconcile", "--json"],
            cwd=team.folder,
            env=environment | more,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    first = start(CD4ML_STOP_AT="execute.started")
    while "T" not in Path(f"/proc/{first.pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0]:
        assert first.poll() is None
        time.sleep(0.05)
    second = start()
    assert second.stderr is not None
    err = ""
    while "waiting for it" not in err:
        assert second.poll() is None
        err += second.stderr.readline()
    os.kill(first.pid, signal.SIGCONT)
    first.communicate(timeout=60)
    out, _ = second.communicate(timeout=60)
    assert (first.returncode, second.returncode) == (0, 0)
    assert json.loads(out)["ran"] == []
