"""Trees that are read and compared here, against what Git says of them."""

from __future__ import annotations

import itertools
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cd4ml.gateways import git
from cd4ml.gateways.git import Repository
from cd4ml.gateways.git.integrity import object_ids
from cd4ml.gateways.git.tree_changes import EMPTY_TREE, Trees, read_over_parents, tree_changes

NAMES = st.sampled_from(["a", "b", "a.b", "a-", "a0", "ä", "x y"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
MODES = st.sampled_from(["100644", "100755", "120000"])
FILES = st.dictionaries(PATHS, st.tuples(MODES, st.binary(max_size=3)), max_size=6)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    folder = tmp_path_factory.mktemp("compared")
    git.init(folder)
    return git.open_repository(folder)


def made(repository: Repository, lines: list[str]) -> str:
    """A tree of these lines, as ``git mktree`` takes them; it need not be one that Git would write."""
    data = "".join(f"{line}\n" for line in lines).encode()
    return repository.git("mktree", "--missing", stdin=data).text.strip()


def tree_of(repository: Repository, files: dict[str, tuple[str, bytes]]) -> str:
    below: dict[str, dict[str, tuple[str, bytes]]] = {}
    lines = []
    for path, (mode, data) in files.items():
        name, _, rest = path.partition("/")
        if rest:
            below.setdefault(name, {})[rest] = (mode, data)
        elif not any(other.startswith(f"{name}/") for other in files):
            lines.append(f"{mode} blob {repository.write_blob(data)}\t{name}")
    lines += [f"040000 tree {tree_of(repository, inner)}\t{name}" for name, inner in below.items()]
    return made(repository, lines)


@settings(max_examples=40, deadline=None)
@given(st.lists(FILES, min_size=2, max_size=4), st.lists(PATHS, max_size=5))
def test_what_git_tells_of_trees_and_paths_is_told(
    repository: Repository, some: list[dict[str, tuple[str, bytes]]], paths: list[str]
) -> None:
    trees = [EMPTY_TREE, *(tree_of(repository, files) for files in some)]
    pairs = list(itertools.pairwise(trees))
    reader = Trees(repository)
    told = [sorted(changes or (), key=lambda one: (one.path, one.status)) for changes in reader.changes(pairs)]
    assert told == [
        sorted(changes or (), key=lambda one: (one.path, one.status)) for changes in tree_changes(repository, pairs)
    ]
    asked = [(tree, path) for tree in trees[1:] for path in (*paths, *some[0])]
    ids = object_ids(repository, (f"{tree}:{path}" for tree, path in asked))
    assert reader.at(asked) == {(tree, path): ids[f"{tree}:{path}"] for tree, path in asked}


def test_of_a_tree_with_a_name_twice_and_of_one_that_is_not_here_nothing_is_said(repository: Repository) -> None:
    blob, other = repository.write_blob(b"1"), repository.write_blob(b"2")
    entries = b"".join(b"100644 a\0" + bytes.fromhex(one) for one in (blob, other))
    told = repository.git("hash-object", "-w", "-t", "tree", "--literally", "--stdin", stdin=entries).text.strip()
    reader = Trees(repository)
    assert reader.changes([(EMPTY_TREE, told), (EMPTY_TREE, "1" * 40), (EMPTY_TREE, "no name")]) == [None] * 3
    assert reader.at([(told, "a"), ("1" * 40, "a"), (told, "./a"), (told, "a/")]) == {}


def test_what_leads_into_a_submodule_is_for_git_to_say(repository: Repository) -> None:
    tree = made(repository, [f"160000 commit {'1' * 40}\tsub"])
    assert Trees(repository).at([(tree, "sub"), (tree, "other")]) == {(tree, "other"): None}


@pytest.fixture
def commits(repository: Repository) -> dict[str, str]:
    base = repository.write_tree(None, {"a": b"1"})
    source = repository.commit_tree(base, (), "source\n")
    record = repository.write_tree(base, {"b/record": b"record"})
    link = made(repository, [f"120000 blob {repository.write_blob(b'x')}\trecord"])
    linked = made(repository, [f"040000 tree {link}\tb"])
    return {
        "landed": repository.commit_tree(record, (source,), "landed\n"),
        "without a parent": repository.commit_tree(record, (), "landed\n"),
        "as it was": repository.commit_tree(base, (source,), "landed\n"),
        "a link": repository.commit_tree(linked, (source,), "landed\n"),
    }


def test_commits_are_read_over_their_parents_where_they_put_a_plain_file_there(
    repository: Repository, commits: dict[str, str]
) -> None:
    read = read_over_parents(repository, [*commits.values(), "1" * 40], "b/record", 6)
    assert set(read) == {commits["landed"]}
    one = read[commits["landed"]]
    expected = repository.over_parent(commits["landed"])
    assert (one.facts.tree, one.facts.parents, one.changed) == (expected.tree, expected.parents, expected.changed)
    assert (one.facts.committer, one.data) == (expected.committer, b"record")
    assert read_over_parents(repository, list(commits.values()), "b/record", 5) == {}


def test_objects_are_read_around_one_that_is_damaged(tmp_path: Path) -> None:
    from cd4ml.gateways.git.integrity import read_objects

    git.init(tmp_path)
    repository = git.open_repository(tmp_path)
    ids = [repository.write_blob(bytes([number]) * 100) for number in range(5)]
    path = repository.common_dir / "objects" / ids[2][:2] / ids[2][2:]
    path.chmod(0o644)
    path.write_bytes(b"damaged")
    read = read_objects(repository, [*ids, "1" * 40])
    assert read == {
        **{one: None if one == ids[2] else bytes([number]) * 100 for number, one in enumerate(ids)},
        "1" * 40: None,
    }
    assert subprocess.run(
        ["git", "cat-file", "blob", ids[2]], cwd=tmp_path, capture_output=True, check=False
    ).returncode
