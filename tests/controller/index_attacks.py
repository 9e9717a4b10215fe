"""A remote whose index holds a few folds of experiments, made without running anything, and what can befall it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

from cd4ml.controller.landing import trust
from cd4ml.controller.landing.fold import fold_landed
from cd4ml.controller.landing.land import land_experiment
from cd4ml.controller.project import open_project
from cd4ml.index.record import encode, seal
from tests.conftest import Shell
from tests.controller.controller_world import Content, cd4ml, commit, git, refs, remote
from tests.index.index_world import refused_body

INDEX = "refs/heads/cd4ml/index"
FOLDS = 3


def landed(shell: Shell, name: str) -> str:
    """An experiment record of a branch that is no more, landed and not folded; gives its id."""
    main = git(shell, "rev-parse", "origin/main")
    return land_experiment(open_project(shell.folder), refused_body(f"exp/{name}", commit=name) | {"commit": main})


def folded(shell: Shell, *names: str) -> list[str]:
    """The same, one fold for each name."""
    project = open_project(shell.folder)
    ids = []
    for name in names:
        ids.append(landed(shell, name))
        assert fold_landed(project, trust.fetch(project)) == ()
    return ids


def grown(template: Path, folder: Path, environment: dict[str, str]) -> Shell:
    """A copy of the template project whose index has three folds more, and one record that waits to be folded."""
    shutil.copytree(template, folder, symlinks=True)
    shell = Shell(folder / "project", environment)
    folded(shell, *(f"old{number}" for number in range(FOLDS)))
    landed(shell, "waiting")
    assert cd4ml(shell, "search", "--json").err == ""
    return shell


def plain_clone(shell: Shell, name: str = "other") -> Shell:
    """A clone made with plain Git."""
    parent = shell.at(shell.folder.parent)
    parent.run("git", "clone", "--quiet", "remote.git", name)
    return shell.at(parent.folder / name)


def tip(shell: Shell) -> str:
    return refs(remote(shell))[INDEX]


def entries(shell: Shell, revision: str = INDEX) -> dict[str, str]:
    """The blobs of the index's entries on the remote, by path."""
    listed = git(remote(shell), "ls-tree", "-r", revision, "runs", "experiments").splitlines()
    return {line.split("\t")[1]: line.split()[2] for line in listed}


def names(shell: Shell) -> set[str]:
    """The ids of all records that the remote's index holds."""
    return {Path(path).stem for path in entries(shell)}


def committed(shell: Shell, files: dict[str, Content], *, on: str | None = None, parents: tuple[str, ...] = ()) -> str:
    """A commit over the index's tip with these files, and more parents; the remote's index moves to it."""
    base = on or tip(shell)
    clone = remote(shell)
    made = commit(clone, base, files, "cd4ml: fold 1 record\n")
    if parents:
        tree = git(clone, "rev-parse", f"{made}^{{tree}}")
        more = [word for parent in parents for word in ("-p", parent)]
        made = git(clone, "commit-tree", tree, "-p", base, *more, stdin=b"cd4ml: fold 1 record\n")
    git(clone, "update-ref", INDEX, made)
    return made


def changed_entry(shell: Shell) -> tuple[str, bytes]:
    """An entry of the newest fold, with another value in it, sealed and digested anew."""
    path = min(path for path in entries(shell) if path.startswith("experiments/"))
    envelope = json.loads(git(remote(shell), "show", f"{INDEX}:{path}"))
    envelope["record"] = seal(envelope["record"] | {"author": "Eve <eve@example.org>"})
    envelope["record_sha256"] = hashlib.sha256(encode(envelope["record"])).hexdigest()
    return path, encode(envelope)


# ── what can befall it; each gives a word that the finding says, and what it names ──

Attack = Callable[[Shell], tuple[str, str]]


def deleted(shell: Shell) -> tuple[str, str]:
    before = tip(shell)
    git(remote(shell), "update-ref", "-d", INDEX)
    return "was deleted", before[:12]


def moved_back_by_one(shell: Shell) -> tuple[str, str]:
    git(remote(shell), "update-ref", INDEX, f"{INDEX}~1")
    return "was moved back", "by 1 fold:"


def moved_back_by_many(shell: Shell) -> tuple[str, str]:
    git(remote(shell), "update-ref", INDEX, f"{INDEX}~{FOLDS}")
    return "was moved back", f"by {FOLDS} folds:"


def mirrored(shell: Shell) -> tuple[str, str]:
    """What ``git push --mirror`` does from a clone that knows nothing of our refs."""
    plain_clone(shell, "mirroring").run("git", "push", "--quiet", "--mirror", "origin")
    return "was deleted", "1 landed record vanished"


def wiped(shell: Shell) -> tuple[str, str]:
    plain_clone(shell, "pruning").run(
        "git", "push", "--quiet", "--prune", "origin", "refs/cd4ml/*:refs/cd4ml/*", code=0
    )
    return "1 landed record vanished", "before being folded"


def edited(shell: Shell) -> tuple[str, str]:
    """An entry with another value, whose digests are those of the changed record."""
    path, data = changed_entry(shell)
    made = committed(shell, {path: data})
    return "was forged", f"commit {made[:12]}: {path}: was edited"


def dropped(shell: Shell) -> tuple[str, str]:
    path = min(entries(shell))
    made = committed(shell, {path: None})
    return "was forged", f"commit {made[:12]}: {path}: was deleted"


def added_without_proof(shell: Shell) -> tuple[str, str]:
    """A record that nobody landed."""
    _, data = changed_entry(shell)
    envelope = json.loads(data)
    path = f"experiments/{envelope['record']['id'][1:3]}/{envelope['record']['id']}.json"
    envelope["fold"] = FOLDS + 10
    made = committed(shell, {path: encode(envelope)})
    return "was forged", f"commit {made[:12]}: {path}: was added without its landed commit"


def added_with_another_value(shell: Shell) -> tuple[str, str]:
    """A landed commit among the parents, and an entry that says otherwise."""
    ref, landing = next((ref, one) for ref, one in refs(remote(shell)).items() if "/landing/" in ref)
    body = json.loads(git(remote(shell), "show", f"{landing}:.cd4ml/record.json")) | {"hypothesis": "Forged."}
    record = seal(body)
    path = f"experiments/{record['id'][1:3]}/{record['id']}.json"
    sha256 = hashlib.sha256(encode(record)).hexdigest()
    envelope = {"record_sha256": sha256, "result_commit": landing, "landed_by": "x", "fold": 9, "record": record}
    made = committed(shell, {path: encode(envelope)}, parents=(landing,))
    assert ref
    return "was forged", f"commit {made[:12]}: {path}: is not where its record belongs"


def taken_in_and_left_out(shell: Shell) -> tuple[str, str]:
    """The landed commit becomes a parent, and its record is not in the index."""
    ref, landing = next((ref, one) for ref, one in refs(remote(shell)).items() if "/landing/" in ref)
    committed(shell, {}, parents=(landing,))
    git(remote(shell), "update-ref", "-d", ref)
    return "was forged", "is missing, though"


def miscounted(shell: Shell) -> tuple[str, str]:
    """The next fold would get a number that was given before."""
    summary = json.loads(git(remote(shell), "show", f"{INDEX}:summary.json"))
    made = committed(shell, {"summary.json": json.dumps(summary | {"folds": 1})})
    return "was forged", f"commit {made[:12]}: summary.json: counts 1 folds"


def reordered(shell: Shell) -> tuple[str, str]:
    """The last two folds in the other order: the same files, another history."""
    clone = remote(shell)
    newest, before, base = (git(clone, "rev-parse", f"{INDEX}~{number}") for number in range(3))
    made = base
    for fold in (newest, before):
        landing = git(clone, "rev-parse", f"{fold}^2")
        added = git(clone, "diff-tree", "-r", "--name-only", f"{fold}^1", fold, "--", "experiments").strip()
        data = git(clone, "show", f"{fold}:{added}")
        made = committed(shell, {added: data + "\n"}, on=made, parents=(landing,))
    return "was rewritten", f"last seen at {newest[:12]}"


def unreadable(shell: Shell) -> tuple[str, str]:
    """An entry that its landed commit proves, byte by byte, and over which every reader would stumble."""
    main = refs(remote(shell))["refs/heads/main"]
    number = json.loads(git(remote(shell), "show", f"{INDEX}:summary.json"))["folds"] + 1
    data = encode({"kind": "zzz", "id": "e00", "schema": 1})
    landing = commit(remote(shell), main, {".cd4ml/record.json": data}, "result\n")
    envelope = {
        "record_sha256": hashlib.sha256(data).hexdigest(),
        "result_commit": landing,
        "landed_by": git(remote(shell), "log", "-1", "--format=%cn <%ce>", landing),
        "fold": number,
        "record": json.loads(data),
    }
    made = committed(shell, {"experiments/00/e00.json": encode(envelope)}, parents=(landing,))
    return "was forged", f"commit {made[:12]}: experiments/00/e00.json: no fold takes {landing[:12]}"


def hidden_behind_a_parent(shell: Shell) -> tuple[str, str]:
    """The landed commit is in the index's history, and its record is not in the index."""
    ref, landing = next((ref, one) for ref, one in refs(remote(shell)).items() if "/landing/" in ref)
    tree = git(remote(shell), "rev-parse", "refs/heads/main^{tree}")
    between = git(remote(shell), "commit-tree", tree, "-p", landing, stdin=b"between\n")
    committed(shell, {}, parents=(between,))
    git(remote(shell), "update-ref", "-d", ref)
    return f"its parents: {between[:12]} is none", "1 landed record vanished"


def another_history(shell: Shell) -> tuple[str, str]:
    """An index that somebody began anew after ours was deleted, with a valid record of its own."""
    before = tip(shell)
    git(remote(shell), "update-ref", "-d", INDEX)
    folded(plain_clone(shell, "anew"), "anew")
    return "was rewritten", before[:12]


ATTACKS: tuple[Attack, ...] = (
    deleted,
    moved_back_by_one,
    moved_back_by_many,
    mirrored,
    wiped,
    edited,
    dropped,
    added_without_proof,
    added_with_another_value,
    taken_in_and_left_out,
    miscounted,
    unreadable,
    hidden_behind_a_parent,
    reordered,
    another_history,
)
