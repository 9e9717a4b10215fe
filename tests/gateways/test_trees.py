"""Trees written along a few paths, against what Git's own index makes of the same change."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cd4ml.errors import RepositoryError
from cd4ml.gateways import git
from cd4ml.gateways.git import Repository
from cd4ml.gateways.git.trees import encode_tree, object_name, parse_tree

NAMES = st.sampled_from(["a", "b", "a.b", "a-", "a0", "runs", "ä", "x y", "README.md"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
FILES = st.dictionaries(PATHS, st.binary(max_size=6), max_size=6)


def consistent(files: dict[str, bytes]) -> dict[str, bytes]:
    """Without files that lie below another file: no tree holds both."""
    return {path: data for path, data in files.items() if not any(path.startswith(f"{one}/") for one in files)}


def by_gits_index(repository: Repository, base: dict[str, bytes], files: dict[str, bytes]) -> str:
    """The same change by ``git update-index``, in an index of its own."""
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "GIT_INDEX_FILE": str(Path(folder) / "index"), "GIT_DIR": str(repository.git_dir)}
        for path, data in (*base.items(), *files.items()):
            made = subprocess.run(
                ["git", "hash-object", "-w", "--stdin"], input=data, env=env, check=True, capture_output=True
            )
            line = b"100644 " + made.stdout.strip() + b"\t" + path.encode() + b"\0"
            subprocess.run(["git", "update-index", "--replace", "-z", "--index-info"], input=line, env=env, check=True)
        return subprocess.run(["git", "write-tree"], env=env, check=True, capture_output=True).stdout.decode().strip()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    folder = tmp_path_factory.mktemp("trees")
    git.init(folder)
    return git.open_repository(folder)


@settings(max_examples=25, deadline=None)
@given(base=FILES.map(consistent), files=FILES.map(consistent))
def test_a_change_along_paths_gives_the_tree_that_gits_index_gives(
    repository: Repository, base: dict[str, bytes], files: dict[str, bytes]
) -> None:
    before = repository.write_tree(None, base)
    assert repository.write_tree(before, files) == by_gits_index(repository, base, files)


@given(FILES.map(consistent))
@settings(max_examples=25, deadline=None)
def test_a_tree_object_read_and_written_is_the_same_object(repository: Repository, files: dict[str, bytes]) -> None:
    tree = repository.write_tree(None, files)
    data = repository._read_tree_object(bytes.fromhex(tree))
    assert encode_tree(parse_tree(data)) == data
    assert object_name("tree", data).hex() == tree


def test_a_folder_left_out_is_replaced_by_what_is_put_into_it(repository: Repository) -> None:
    base = repository.write_tree(None, {"conf/a": b"1", "conf/deep/b": b"2", "conf.yaml": b"3"})
    changed = repository.write_tree(base, {"conf/c": b"4"}, without="conf")
    assert repository.read_tree(changed) == {"conf/c": b"4", "conf.yaml": b"3"}
    assert repository.read_tree(repository.write_tree(base, {}, without="conf")) == {"conf.yaml": b"3"}
    assert repository.read_tree(repository.write_tree(base, {}, without="conf/deep")) == {
        "conf/a": b"1",
        "conf.yaml": b"3",
    }


def test_other_kinds_of_entries_stay_as_they_are(repository: Repository) -> None:
    data = object_name("blob", b"x")
    repository.write_tree(None, {"x": b"x"})
    entries = {b"link": (b"120000", data), b"run": (b"100755", data), b"sub": (b"160000", data)}
    repository._store({"tree": {object_name("tree", encode_tree(entries)): encode_tree(entries)}})
    base = object_name("tree", encode_tree(entries)).hex()
    changed = repository.write_tree(base, {"new": b"y"})
    assert parse_tree(repository._read_tree_object(bytes.fromhex(changed))).items() >= entries.items()


def test_a_path_that_leads_out_is_refused(repository: Repository) -> None:
    for path in ("../x", "a/../b", ".git/config", "a//b"):
        with pytest.raises(RepositoryError):
            repository.write_tree(None, {path: b""})


@settings(max_examples=25, deadline=None)
@given(base=FILES.map(consistent), files=FILES.map(consistent))
def test_what_a_commit_changes_is_told_as_git_tells_it(
    repository: Repository, base: dict[str, bytes], files: dict[str, bytes]
) -> None:
    parent = repository.commit_tree(repository.write_tree(None, base), (), "parent\n")
    commit = repository.commit_tree(repository.write_tree(parent, files), (parent,), "child\n")
    told = repository.over_parent(commit)
    assert told.changed == tuple(sorted(repository.changed_paths(parent, commit)))
    assert told.parents == (parent,)
    assert told.committer == repository.commit_info(commit).committer
    for path, data in files.items():
        assert repository.file_at(told.tree, path, 100) == data
    assert repository.file_at(told.tree, "no/such", 100) is None


@pytest.mark.parametrize("name", ["Ada", "Ada Lovelace", "Ärger", "日本"])
def test_the_committer_is_told_as_git_tells_it(repository: Repository, name: str) -> None:
    who = {"GIT_COMMITTER_NAME": name, "GIT_COMMITTER_EMAIL": "a@example.org", "GIT_AUTHOR_NAME": "B"}
    commit = repository.commit_tree(
        repository.write_tree(None, {}), (), "x\n", {**who, "GIT_AUTHOR_EMAIL": "b@example.org"}
    )
    assert repository.over_parent(commit).committer == f"{name} <a@example.org>"


def test_only_paths_that_are_there_exist(repository: Repository) -> None:
    tree = repository.write_tree(None, {"runs/a": b"", "b": b""})
    assert repository.existing(tree, ["runs/a", "runs", "b", "c", "runs/b"]) == {"runs/a", "runs", "b"}
    assert repository.existing(tree, []) == frozenset()
