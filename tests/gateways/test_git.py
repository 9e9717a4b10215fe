"""Git on real repositories: whatever a name, a setting, a variable or a stranger's tree holds."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cd4ml.errors import IntegrityError, RemoteError, RepositoryError, ToolError
from cd4ml.gateways import git
from cd4ml.gateways.git import HEADS, HERE, LANDING, RefUpdate, Repository
from cd4ml.gateways.git.chain import Remembered
from cd4ml.gateways.git.objects import _differences_first

HOSTILE_BRANCHES = (
    "exp/$(touch${IFS}canary)",
    "exp/`touch${IFS}canary`",
    "exp/;touch${IFS}canary",
    'exp/"q',
    "exp/'q",
    "exp/a&&b",
    "exp/a|b",
    "exp/${{github.token}}",
    "exp/<script>",
    "exp/\u202erevo",
    "exp/zero\u200bwidth",
    "exp/größe",
    "exp/実験",
    "0123456789abcdef0123456789abcdef01234567",
    "refs/heads/x",
    "exp/--upload-pack=touch",
    "exp/-x",
    "exp/" + "n" * 200,
    "exp/%s%n",
    "exp/a=b",
    "exp/#1",
    "exp/!!",
    "exp/a,b",
    "exp/{a,b}",
)


def sh(folder: Path, *command: str, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout.strip()


def commit(folder: Path, message: str = "more", **files: str) -> str:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    sh(folder, "git", "add", "--all")
    sh(folder, "git", "commit", "--quiet", "--allow-empty", "--message", message)
    return sh(folder, "git", "rev-parse", "HEAD")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A repository with one commit."""
    folder = tmp_path / "home"
    git.init(folder)
    commit(folder, "first", **{"conf__config.yaml": "a: 1\n", "code.py": "x = 1\n"})
    return folder


@pytest.fixture
def repository(home: Path) -> Repository:
    return git.open_repository(home)


@pytest.fixture
def remote(tmp_path: Path, home: Path) -> Path:
    """A bare remote of ``home``, named origin there."""
    folder = tmp_path / "remote.git"
    git.init(folder, bare=True)
    sh(home, "git", "remote", "add", "origin", "../remote.git")
    sh(home, "git", "push", "--quiet", "origin", "main")
    return folder


def head(folder: Path) -> str:
    return sh(folder, "git", "rev-parse", "HEAD")


def raw_tree(folder: Path, *entries: tuple[str, bytes, str]) -> str:
    """A tree that Git would not make by itself: entries of mode, name and object id, written as they are."""
    data = b"".join(mode.encode() + b" " + name + b"\0" + bytes.fromhex(object_id) for mode, name, object_id in entries)
    command = ["git", "hash-object", "-w", "-t", "tree", "--literally", "--stdin"]
    return subprocess.run(command, cwd=folder, input=data, capture_output=True, check=True).stdout.decode().strip()


def blob(folder: Path, data: bytes = b"x: 1\n") -> str:
    command = ["git", "hash-object", "-w", "--stdin"]
    return subprocess.run(command, cwd=folder, input=data, capture_output=True, check=True).stdout.decode().strip()


def state_of(folder: Path) -> dict[str, object]:
    """What no verb may touch: HEAD, index, stash, branches, settings, and the work tree with its times."""
    files = {
        str(path.relative_to(folder)): (path.lstat().st_mtime_ns, path.lstat().st_size)
        for path in sorted(folder.rglob("*"))
        if ".git" not in path.parts and not path.is_dir()
    }
    inside = {name: (folder / ".git" / name).read_bytes() for name in ("HEAD", "index", "config")}
    return {
        **inside,
        "refs": sh(folder, "git", "for-each-ref", "refs/heads", "refs/stash", "refs/tags"),
        "files": files,
    }


# ── opening ──


def test_a_folder_in_no_repository_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="cd4ml init"):
        git.open_repository(tmp_path)
    with pytest.raises(RepositoryError, match="no such folder"):
        git.open_repository(tmp_path / "nowhere")


def test_a_machine_without_git_is_told_so_and_not_to_make_a_project(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(home))
    with pytest.raises(RepositoryError, match=r"git: not found$"):
        git.open_repository(home)


def test_a_repository_with_sha256_names_is_refused_in_one_line(tmp_path: Path) -> None:
    sh(tmp_path, "git", "init", "--quiet", "--object-format=sha256", "new")
    with pytest.raises(RepositoryError, match="sha256; cd4ml works with sha1"):
        git.open_repository(tmp_path / "new")


def test_a_folder_below_the_top_belongs_to_the_repository(home: Path) -> None:
    assert git.open_repository(home / "conf").work_tree == home


def test_a_repository_whose_path_is_odd_is_opened(tmp_path: Path) -> None:
    folder = tmp_path / 'a "b" $(c) ü'
    git.init(folder)
    made = commit(folder, a="1")
    found = git.open_repository(folder)
    assert (found.work_tree, found.resolve("HEAD")) == (folder, made)
    clone = found.private_clone(made, folder / ".git" / "cd4ml" / "clone")
    assert (clone.root / "a").read_text("utf-8") == "1"


def test_a_bare_repository_has_no_work_tree_and_answers_all_the_same(remote: Path, home: Path) -> None:
    found = git.open_repository(remote)
    assert found.work_tree is None
    assert found.resolve("main") == head(home)
    assert found.read_files(head(home), "conf") == {"conf/config.yaml": b"a: 1\n"}
    assert found.private == remote / "cd4ml"


def test_linked_worktrees_share_one_private_folder(home: Path, tmp_path: Path) -> None:
    sh(home, "git", "worktree", "add", "--quiet", "-b", "exp/linked", str(tmp_path / "linked"))
    main, linked = git.open_repository(home), git.open_repository(tmp_path / "linked")
    assert linked.private == main.private
    assert linked.git_dir != main.git_dir
    assert linked.current_branch() == "exp/linked"
    assert linked.read_blob(head(home), "code.py", 100) == b"x = 1\n"
    assert (linked.private_clone(head(home), tmp_path / "clone").root / "code.py").is_file()


def test_a_repository_without_commits_answers_nothing_rather_than_failing(tmp_path: Path) -> None:
    git.init(tmp_path / "new", branch="trunk")
    found = git.open_repository(tmp_path / "new")
    assert found.resolve("HEAD") is None
    assert found.current_branch() == "trunk"
    assert found.local_heads() == {}
    assert found.fetch(HERE).heads == {}


def test_a_detached_head_has_no_branch(home: Path, repository: Repository) -> None:
    sh(home, "git", "checkout", "--quiet", "--detach")
    assert repository.current_branch() is None
    assert repository.resolve("HEAD") == head(home)


def test_variables_that_point_git_elsewhere_are_not_followed(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git.init(tmp_path / "other")
    commit(tmp_path / "other", other="1")
    expected = head(home)
    for name, value in {
        "GIT_DIR": str(tmp_path / "other" / ".git"),
        "GIT_WORK_TREE": str(tmp_path / "other"),
        "GIT_INDEX_FILE": str(tmp_path / "other" / ".git" / "index"),
        "GIT_OBJECT_DIRECTORY": str(tmp_path / "other" / ".git" / "objects"),
        "GIT_COMMON_DIR": str(tmp_path / "other" / ".git"),
        "GIT_NAMESPACE": "elsewhere",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "cd4ml.base",
        "GIT_CONFIG_VALUE_0": "evil",
        "GIT_CONFIG_PARAMETERS": "'cd4ml.remote=evil'",
    }.items():
        monkeypatch.setenv(name, value)
    found = git.open_repository(home)
    assert found.work_tree == home
    assert found.resolve("HEAD") == expected
    assert found.config("cd4ml.base") == ""
    assert found.config("cd4ml.remote") == ""
    assert found.read_blob(expected, "code.py", 100) == b"x = 1\n"
    assert found.read_files(expected, "conf") == {"conf/config.yaml": b"a: 1\n"}
    assert found.local_heads() == {"main": expected}
    found.close()


# ── names ──


@pytest.mark.parametrize(
    "name", ["--help", "-x", "--all", "--git-dir", "", "a b", "main\n--all", "a\0b", "@{", ":/", "^main"]
)
def test_an_odd_revision_names_no_commit_and_is_no_option(repository: Repository, name: str) -> None:
    assert repository.resolve(name) is None


@pytest.mark.parametrize("name", ["--help", "--output=canary", "-s"])
def test_an_option_in_place_of_a_commit_is_refused_and_not_obeyed(
    home: Path, repository: Repository, name: str
) -> None:
    for question in (
        repository.commit_info,
        repository.tree_of,
        repository.read_tree,
        lambda name: repository.entry(name, "conf"),
        lambda name: repository.read_files(name, "conf"),
        lambda name: repository.changed_paths(name, name),
        lambda name: repository.first_parents(name),
        lambda name: repository.write_tree(name, {}),
    ):
        with pytest.raises((RepositoryError, ToolError)):
            question(name)
    assert not (home / "canary").exists()


def test_hostile_branch_names_go_through_every_question_and_run_nothing(
    home: Path, remote: Path, repository: Repository, tmp_path: Path
) -> None:
    for number, name in enumerate(HOSTILE_BRANCHES):
        tree = repository.write_tree(head(home), {"n": str(number).encode()})
        made = repository.commit_tree(tree, [head(home)], name)
        repository.create_branch(name, made)
        repository.push("origin", [RefUpdate(HEADS + name, "", made)])
        assert repository.remote_ref("origin", HEADS + name) == made
        assert repository.resolve(HEADS + name) == made
    state = repository.fetch("origin")
    assert set(HOSTILE_BRANCHES) < set(state.heads)
    assert set(HOSTILE_BRANCHES) < set(repository.local_heads())
    for name in HOSTILE_BRANCHES[:3]:
        repository.switch(name)
        assert repository.current_branch() == name
    assert not [*tmp_path.rglob("canary*")]


@pytest.mark.parametrize(
    "name", ["-x", "--force", "HEAD", "a b", "a..b", "a~1", "a:b", "x.lock", "@{u}", "a\0b", "", "/a", "a//b"]
)
def test_a_branch_name_that_git_or_a_shell_user_could_not_handle_is_refused(
    home: Path, repository: Repository, name: str
) -> None:
    with pytest.raises((RepositoryError, ToolError)):
        repository.create_branch(name, head(home))
    assert repository.local_heads() == {"main": head(home)}


def test_a_branch_that_exists_or_stands_in_the_way_is_not_overwritten(home: Path, repository: Repository) -> None:
    first = head(home)
    repository.create_branch("exp/a", first)
    second = commit(home, "second")
    with pytest.raises(RepositoryError, match="exp/a"):
        repository.create_branch("exp/a", second)
    with pytest.raises(RepositoryError, match="exp"):
        repository.create_branch("exp", second)
    assert repository.local_heads()["exp/a"] == first


def test_switching_over_local_changes_is_refused_in_one_line(home: Path, repository: Repository) -> None:
    tree = repository.write_tree(head(home), {"code.py": b"x = 2\n"})
    repository.create_branch("exp/a", repository.commit_tree(tree, [head(home)], "x"))
    (home / "code.py").write_text("mine\n", "utf-8")
    with pytest.raises(RepositoryError, match="exp/a"):
        repository.switch("exp/a")
    assert (home / "code.py").read_text("utf-8") == "mine\n"


# ── commits and trees ──


def test_facts_of_a_commit_are_read_whatever_its_message_looks_like(home: Path, repository: Repository) -> None:
    sh(home, "git", "config", "log.showSignature", "true")
    sh(home, "git", "config", "i18n.logOutputEncoding", "ISO-8859-1")
    sh(home, "git", "config", "format.pretty", "oneline")
    made = commit(home, "Größe `x` $(y)\n\nbody\n")
    info = repository.commit_info(made)
    assert (info.commit, info.subject, info.author) == (made, "Größe `x` $(y)", "Test <test@localhost>")
    assert info.tree == repository.tree_of(made) == repository.tree_of(info.tree)
    assert info.parents == (repository.resolve("HEAD~1"),)
    assert repository.first_parents(made) == (made, *info.parents)
    assert repository.is_ancestor(info.parents[0], made)
    assert not repository.is_ancestor(made, info.parents[0])


def test_what_is_no_commit_has_no_facts(home: Path, repository: Repository) -> None:
    for name in (blob(home), repository.tree_of("HEAD"), "0" * 40):
        with pytest.raises(RepositoryError, match="is not a commit"):
            repository.commit_info(name)
    with pytest.raises(RepositoryError, match="no such commit or tree"):
        repository.tree_of("0" * 40)


def test_facts_of_many_commits_are_asked_for_at_once_also_where_some_are_not_here(
    home: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = [commit(home, f"number {number}") for number in range(3)]
    log = tmp_path / "trace"
    monkeypatch.setenv("GIT_TRACE", str(log))
    infos = repository.commit_infos(["0" * 40, *made, "1" * 40])
    assert [infos[one].subject for one in infos] == ["number 0", "number 1", "number 2"]
    assert log.read_text("utf-8").count("built-in: git") == 1


def test_who_wrote_what_leaves_out_a_commit_that_is_not_here(home: Path, repository: Repository) -> None:
    one = commit(home, "one")
    assert one in repository.authorship(["0" * 40, one])


def test_facts_of_many_commits_leave_out_what_is_none(home: Path, repository: Repository) -> None:
    asked = [head(home), blob(home), repository.tree_of("HEAD")]
    assert repository.commit_infos(asked) == {head(home): repository.commit_info(head(home))}


def test_a_sparse_work_tree_that_lacks_what_counts_says_how_to_get_it(home: Path, repository: Repository) -> None:
    made = commit(home, "more", **{"src__x.py": "x = 1\n"})
    sh(home, "git", "sparse-checkout", "set", "conf")
    with pytest.raises(RepositoryError, match=r"is sparse and lacks files that count: `git sparse-checkout disable`"):
        repository.snapshot_tree(made, ["src", "conf"], [])
    sh(home, "git", "sparse-checkout", "disable")
    assert repository.snapshot_tree(made, ["src", "conf"], []) == repository.tree_of(made)


def test_an_annotated_tag_is_read_as_its_commit(home: Path, repository: Repository) -> None:
    sh(home, "git", "tag", "--annotate", "--message", "t", "v1")
    assert repository.commit_info(sh(home, "git", "rev-parse", "v1")).commit == head(home)


def test_a_replaced_object_is_read_as_it_was_committed(home: Path, repository: Repository) -> None:
    made = head(home)
    old, new = sh(home, "git", "rev-parse", "HEAD:code.py"), blob(home, b"evil\n")
    sh(home, "git", "replace", old, new)
    assert repository.read_blob(made, "code.py", 100) == b"x = 1\n"
    assert repository.read_tree(made)["code.py"] == b"x = 1\n"


def test_entries_are_found_by_their_literal_path_only(home: Path, repository: Repository) -> None:
    made = commit(home, **{"conf__a*b.yaml": "1", "conf__[x].yaml": "2", "conf__axb.yaml": "3"})
    assert repository.entry(made, "conf/a*b.yaml") == sh(home, "git", "rev-parse", "HEAD:conf/a*b.yaml")
    assert repository.entry(made, "conf/") == sh(home, "git", "rev-parse", "HEAD:conf")
    for path in (
        "conf/*",
        ":(glob)**",
        "../home/conf",
        "/conf",
        "conf/../conf",
        "",
        "/",
        ".",
        "conf//a",
        "a\0b",
        "none",
    ):
        assert repository.entry(made, path) is None, path
        assert repository.read_blob(made, path, 100) is None, path


def test_only_the_beginning_of_a_large_file_is_given_and_the_next_read_is_sound(
    home: Path, repository: Repository
) -> None:
    made = commit(home, large="x" * 3_000_000, small="y")
    assert repository.read_blob(made, "large", 10) == b"x" * 11
    assert repository.read_blob(made, "small", 10) == b"y"
    assert repository.read_blob(made, "conf", 10) is None
    repository.close()
    assert repository.read_blob(made, "small", 1) == b"y"


@pytest.mark.parametrize("where", ["conf", "conf/link.yaml", "conf/deep/link"])
def test_a_symbolic_link_in_a_folder_that_is_read_is_refused_by_name(
    home: Path, repository: Repository, where: str
) -> None:
    if where == "conf":
        shutil.rmtree(home / "conf")
    (home / where).parent.mkdir(parents=True, exist_ok=True)
    (home / where).symlink_to("/etc/passwd")
    made = commit(home)
    with pytest.raises(RepositoryError, match=f"{where}: a symbolic link"):
        repository.read_files(made, "conf")
    assert repository.read_blob(made, where, 100) is None
    assert where not in repository.read_tree(made)


def test_a_submodule_is_refused_and_never_fetched(home: Path, repository: Repository, tmp_path: Path) -> None:
    git.init(tmp_path / "module")
    commit(tmp_path / "module", a="1")
    sh(home, "git", "-c", "protocol.file.allow=always", "submodule", "add", "--quiet", "../module", "conf/module")
    made = commit(home)
    with pytest.raises(RepositoryError, match="conf/module: a submodule"):
        repository.read_files(made, "conf")
    clone = repository.private_clone(made, tmp_path / "clone")
    assert list((clone.root / "conf" / "module").iterdir()) == []


def test_a_file_where_a_folder_should_be_is_refused(home: Path, repository: Repository) -> None:
    tree = raw_tree(home, ("100644", b"conf", blob(home)))
    with pytest.raises(RepositoryError, match="conf: a file"):
        repository.read_files(tree, "conf")


@pytest.mark.parametrize("name", [b"..", b".", b".git", b".GIT", b"a" * 300 + b".yaml", b"\xff.yaml"])
def test_a_tree_whose_names_would_leave_the_folder_or_fit_no_disk_is_refused(
    home: Path, repository: Repository, name: bytes
) -> None:
    inner = raw_tree(home, ("100644", name, blob(home)))
    deep = raw_tree(home, ("40000", name, raw_tree(home, ("100644", b"x.yaml", blob(home)))))
    for conf in (inner, deep):
        with pytest.raises(RepositoryError, match="cannot be written"):
            repository.read_files(raw_tree(home, ("40000", b"conf", conf)), "conf")


def test_a_tree_that_holds_a_name_as_file_and_as_folder_is_refused(home: Path, repository: Repository) -> None:
    inner = raw_tree(home, ("100644", b"x.yaml", blob(home)))
    conf = raw_tree(home, ("100644", b"a", blob(home)), ("40000", b"a", inner))
    with pytest.raises(RepositoryError, match=r"conf/a/x.yaml: lies below a file"):
        repository.read_files(raw_tree(home, ("40000", b"conf", conf)), "conf")


def test_a_folder_too_large_to_be_configuration_is_refused_before_it_is_read(
    home: Path, repository: Repository
) -> None:
    made = commit(home, **{"conf__large.yaml": "#" * (33 << 20)})
    with pytest.raises(RepositoryError, match=r"conf/large.yaml: .* 32 MiB"):
        repository.read_files(made, "conf")
    assert repository.read_blob(made, "code.py", 100) == b"x = 1\n"


def test_unusual_paths_of_a_tree_come_back_as_they_are(home: Path, repository: Repository) -> None:
    names = ("tab\there", 'quote"d', "new\nline", " space ", "größe", "-x", "\\back", "*")
    for name in names:
        (home / name).write_text(name, "utf-8")
    (home / os.fsdecode(b"latin\xff")).write_bytes(b"a")
    (home / os.fsdecode(b"latin\xfe")).write_bytes(b"b")
    (home / "empty").touch()
    found = repository.read_tree(commit(home))
    assert {name: found[name].decode() for name in names} == {name: name for name in names}
    assert (found["latin\\xff"], found["latin\\xfe"], found["empty"]) == (b"a", b"b", b"")


def test_a_tree_with_a_missing_object_is_reported_as_damaged(home: Path, repository: Repository) -> None:
    made = head(home)
    name = sh(home, "git", "rev-parse", "HEAD:code.py")
    path = home / ".git" / "objects" / name[:2] / name[2:]
    path.chmod(0o600)
    path.unlink()
    with pytest.raises(IntegrityError, match=r"code\.py: its object .* is not here"):
        repository.read_tree(made)
    with pytest.raises(IntegrityError, match="cannot be read"):
        repository.read_blob(made, "code.py", 10)


def test_an_empty_tree_has_no_files(home: Path, repository: Repository) -> None:
    assert repository.read_tree(repository.write_tree(None, {})) == {}


def test_two_thousand_files_are_read_as_they_were_written(home: Path, repository: Repository) -> None:
    files = {f"runs/{number % 256:02x}/{number}.json": f'{{"n": {number}}}'.encode() * 50 for number in range(2000)}
    tree = repository.write_tree(None, files)
    assert repository.read_tree(tree) == files


def test_many_threads_may_read_at_once(home: Path, repository: Repository) -> None:
    files = {f"conf/{number}.yaml": (f"{number}\n" * (number + 1) * 97).encode() for number in range(40)}
    tree = repository.write_tree(None, files)
    with ThreadPoolExecutor(8) as pool:
        whole = [pool.submit(repository.read_files, tree, "conf") for _ in range(8)]
        single = {path: pool.submit(repository.read_blob, tree, path, 1 << 20) for path in files}
        assert all(future.result() == files for future in whole)
        assert {path: future.result() for path, future in single.items()} == files


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.lists(
            st.text("ab-. ü\"'\\*", min_size=1, max_size=3).map(lambda text: "n" + text), min_size=1, max_size=3
        ).map("/".join),
        st.binary(max_size=50),
        max_size=6,
    )
)
def test_what_is_written_to_a_tree_is_what_is_read_from_it(repository: Repository, files: dict[str, bytes]) -> None:
    clash = any(path.startswith(f"{other}/") for path in files for other in files)
    if not clash:
        tree = repository.write_tree(None, files)
        assert repository.read_tree(tree) == files
        assert repository.write_tree(repository.write_tree(None, {}), files) == tree


def test_written_files_replace_whatever_stands_in_their_way(home: Path, repository: Repository) -> None:
    (home / "artifacts").write_text("a file\n", "utf-8")
    (home / "metrics.json").mkdir()
    (home / "metrics.json" / "x").write_text("1", "utf-8")
    (home / "link").symlink_to("/etc")
    base = commit(home)
    wanted = {"artifacts/table": b"1", "metrics.json": b"2", "link/x": b"3", "code.py": b"4"}
    found = repository.read_tree(repository.write_tree(base, wanted))
    assert found == {**wanted, "conf/config.yaml": b"a: 1\n"}


def test_a_path_that_leads_out_of_the_tree_is_never_written(home: Path, repository: Repository) -> None:
    for path in ("../x", ".git/config", "a/../../x", "/etc/x"):
        with pytest.raises(RepositoryError, match="cannot be written"):
            repository.write_tree(head(home), {path: b"x"})


def test_changed_paths_names_both_ends_of_a_rename(home: Path, repository: Repository) -> None:
    before = head(home)
    sh(home, "git", "config", "diff.renames", "copies")
    sh(home, "git", "mv", "code.py", "größe\t.py")
    assert set(repository.changed_paths(before, commit(home))) == {"code.py", "größe\t.py"}


# ── merging ──


def fork(home: Path, repository: Repository, ours: dict[str, str], theirs: dict[str, str]) -> tuple[str, str]:
    base = head(home)
    left = repository.commit_tree(
        repository.write_tree(base, {path: text.encode() for path, text in ours.items()}), [base], "ours"
    )
    right = repository.commit_tree(
        repository.write_tree(base, {path: text.encode() for path, text in theirs.items()}), [base], "theirs"
    )
    return left, right


def test_a_merge_without_conflict_gives_the_tree_of_both(home: Path, repository: Repository) -> None:
    left, right = fork(home, repository, {"a": "1"}, {"b": "2"})
    tree, conflicts = repository.merge_tree(left, right)
    assert tree is not None
    assert conflicts == ()
    assert set(repository.read_tree(tree)) == {"a", "b", "code.py", "conf/config.yaml"}


def test_a_conflict_names_its_files_and_no_other(home: Path, repository: Repository) -> None:
    odd = 'größe "q".yaml'
    left, right = fork(home, repository, {"code.py": "1\n", odd: "1\n", "a": "1"}, {"code.py": "2\n", odd: "2\n"})
    assert repository.merge_tree(left, right) == (None, tuple(sorted(["code.py", odd])))


def test_histories_that_share_nothing_cannot_be_merged(home: Path, repository: Repository) -> None:
    alone = repository.commit_tree(repository.tree_of("HEAD"), [], "alone")
    with pytest.raises(RepositoryError, match="unrelated histories"):
        repository.merge_tree(head(home), alone)
    with pytest.raises(RepositoryError, match="cannot be merged"):
        repository.merge_tree(head(home), "0" * 40)


def test_a_merge_depends_on_no_setting_attribute_or_driver_of_the_owner(home: Path, repository: Repository) -> None:
    left, right = fork(home, repository, {"code.py": "1\n"}, {"code.py": "2\n"})
    canary = home / "canary"
    for name in ("evil", "text", "union"):
        sh(home, "git", "config", f"merge.{name}.driver", f"touch '{canary}'; true")
    sh(home, "git", "config", "merge.default", "evil")
    sh(home, "git", "config", "diff.external", f"touch '{canary}'")
    (home / ".gitattributes").write_text("* merge=evil\n", "utf-8")
    (home / ".git" / "info").mkdir(exist_ok=True)
    (home / ".git" / "info" / "attributes").write_text("* merge=union\n", "utf-8")
    assert repository.merge_tree(left, right) == (None, ("code.py",))
    assert not canary.exists()


def test_a_merge_follows_renames_whatever_the_owner_has_set(home: Path, repository: Repository) -> None:
    base = commit(home, long="".join(f"line {number}\n" for number in range(30)))
    moved = raw_tree(home, ("100644", b"moved", sh(home, "git", "rev-parse", f"{base}:long")))
    left = repository.commit_tree(moved, [base], "moved")
    changed = (home / "long").read_bytes().replace(b"line 3\n", b"line three\n")
    right = repository.commit_tree(repository.write_tree(base, {"long": changed}), [base], "changed")
    sh(home, "git", "config", "merge.renames", "false")
    tree, conflicts = repository.merge_tree(left, right)
    assert tree is not None
    assert conflicts == ()
    assert repository.read_tree(tree)["moved"] == changed


# ── the remote ──


def test_a_fetch_sees_new_moved_and_deleted_heads_and_nothing_else_moves(
    home: Path, remote: Path, repository: Repository
) -> None:
    first = head(home)
    (home / "code.py").write_text("dirty\n", "utf-8")
    repository.push("origin", [RefUpdate(HEADS + "exp/a", "", first), RefUpdate(LANDING + "r1", "", first)])
    before = state_of(home)
    state = repository.fetch("origin")
    assert state.heads == {"main": first, "exp/a": first}
    assert state.landing == {LANDING + "r1": first}
    assert state.index is None
    sh(remote, "git", "update-ref", "-d", HEADS + "exp/a")
    sh(remote, "git", "update-ref", "-d", LANDING + "r1")
    sh(remote, "git", "tag", "v1", first)
    state = repository.fetch("origin")
    assert (state.heads, state.landing) == ({"main": first}, {})
    assert state == repository.last_seen()
    assert state_of(home) == before
    assert not (home / ".git" / "FETCH_HEAD").exists()


def test_a_branch_that_becomes_a_folder_of_branches_and_back_is_followed(
    home: Path, remote: Path, repository: Repository
) -> None:
    first = head(home)
    for names in (("exp",), ("exp/a", "exp/b"), ("exp/a/c",), ("exp",)):
        for ref in sh(remote, "git", "for-each-ref", "--format=%(refname)", "refs/heads/exp").splitlines():
            sh(remote, "git", "update-ref", "-d", ref)
        for name in names:
            sh(remote, "git", "update-ref", HEADS + name, first)
        assert set(repository.fetch("origin").heads) == {"main", *names}


def test_a_landing_ref_to_something_else_than_a_commit_stops_no_reader(
    home: Path, remote: Path, repository: Repository
) -> None:
    sh(home, "git", "tag", "--annotate", "--message", "t", "v1")
    for name, target in {
        "blob": blob(home),
        "tree": repository.tree_of("HEAD"),
        "tag": sh(home, "git", "rev-parse", "v1"),
    }.items():
        sh(home, "git", "push", "--quiet", "origin", f"{target}:{LANDING}{name}")
    repository.push("origin", [RefUpdate(LANDING + "good", "", head(home))])
    assert repository.fetch("origin").landing == {LANDING + "good": head(home)}


def test_a_repository_is_its_own_remote(home: Path, repository: Repository) -> None:
    first = head(home)
    repository.push(HERE, [RefUpdate(LANDING + "r1", "", first)])
    assert repository.fetch(HERE).landing == {LANDING + "r1": first}
    assert repository.remote_ref(HERE, LANDING + "r1") == first
    repository.push(HERE, [RefUpdate(LANDING + "r1", first, "")])
    assert repository.fetch(HERE).landing == {}


def test_a_remote_that_is_gone_gives_one_line_without_its_password(home: Path, repository: Repository) -> None:
    sh(home, "git", "remote", "add", "gone", "../gone.git")
    for question in (
        lambda: repository.fetch("gone"),
        lambda: repository.remote_ref("gone", "HEAD"),
        lambda: repository.default_branch("gone"),
        lambda: repository.push("gone", [RefUpdate(HEADS + "x", "", head(home))]),
    ):
        with pytest.raises(RemoteError, match=r"^git [a-z-]+: .*gone\.git"):
            question()
    with pytest.raises(RemoteError) as caught:
        repository.fetch("https://someone:secret@localhost:1/x.git")
    assert "localhost:1" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_default_branch_is_what_the_remote_says(home: Path, remote: Path, repository: Repository) -> None:
    assert repository.default_branch("origin") == "main"
    sh(remote, "git", "update-ref", HEADS + "trunk", head(home))
    sh(remote, "git", "symbolic-ref", "HEAD", HEADS + "trunk")
    assert repository.default_branch("origin") == "trunk"
    sh(remote, "git", "symbolic-ref", "HEAD", HEADS + "unborn")
    assert repository.default_branch("origin") is None


def test_of_many_writers_that_create_one_ref_exactly_one_wins(home: Path, remote: Path, repository: Repository) -> None:
    commits = [repository.commit_tree(repository.tree_of("HEAD"), [head(home)], f"writer {n}") for n in range(6)]
    barrier = threading.Barrier(len(commits))

    def write(made: str) -> bool:
        barrier.wait()
        try:
            repository.push("origin", [RefUpdate(LANDING + "same", "", made)])
        except RemoteError:
            return False
        return True

    with ThreadPoolExecutor(len(commits)) as pool:
        won = [made for made, success in zip(commits, pool.map(write, commits), strict=True) if success]
    assert won == [repository.remote_ref("origin", LANDING + "same")]


def test_a_ref_moves_only_from_the_value_that_was_seen(home: Path, remote: Path, repository: Repository) -> None:
    first = head(home)
    second, third = commit(home, "second"), commit(home, "third")
    ref = HEADS + "exp/a"
    repository.push("origin", [RefUpdate(ref, "", first)])
    repository.push("origin", [RefUpdate(ref, first, second)])
    for update in (RefUpdate(ref, first, third), RefUpdate(ref, "", third), RefUpdate(ref, first, "")):
        with pytest.raises(RemoteError, match="stale info"):
            repository.push("origin", [update])
    assert repository.remote_ref("origin", ref) == second


def test_one_stale_value_among_several_moves_nothing(home: Path, remote: Path, repository: Repository) -> None:
    first, second = head(home), commit(home, "second")
    before = sh(remote, "git", "for-each-ref")
    updates = [
        RefUpdate(HEADS + "cd4ml/index", "", second),
        RefUpdate(LANDING + "r1", first, ""),
        RefUpdate(HEADS + "main", first, second),
    ]
    with pytest.raises(RemoteError):
        repository.push("origin", updates)
    assert sh(remote, "git", "for-each-ref") == before


def shim(folder: Path, when: str, then: str) -> str:
    """A PATH whose ``git`` does its work and then something else when its arguments match."""
    real = shutil.which("git")
    folder.mkdir()
    script = folder / "git"
    script.write_text(f'#!/bin/sh\ncase " $* " in *" {when} "*) {then};; esac\nexec {real} "$@"\n', "utf-8")
    script.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def test_a_push_that_did_its_work_and_failed_is_an_error_after_which_the_ref_can_be_read_back(
    home: Path, remote: Path, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.which("git")
    monkeypatch.setenv("PATH", shim(tmp_path / "bin", "push", f'{real} "$@"; exit 1'))
    with pytest.raises(RemoteError, match="git push"):
        repository.push("origin", [RefUpdate(LANDING + "r1", "", head(home))])
    assert repository.remote_ref("origin", LANDING + "r1") == head(home)


def test_the_owner_s_push_settings_push_nothing_more_and_refuse_nothing(
    home: Path, remote: Path, repository: Repository, tmp_path: Path
) -> None:
    sh(home, "git", "tag", "--annotate", "--message", "t", "private-tag")
    for key, value in {
        "push.followTags": "true",
        "push.gpgSign": "true",
        "push.pushOption": "skip",
        "push.recurseSubmodules": "check",
        "push.useForceIfIncludes": "true",
        "remote.origin.mirror": "true",
        "core.hooksPath": str(tmp_path / "hooks"),
    }.items():
        sh(home, "git", "config", key, value)
    (tmp_path / "hooks").mkdir()
    for name in ("pre-push", "reference-transaction", "post-commit", "post-checkout", "pre-commit"):
        (tmp_path / "hooks" / name).write_text(f"#!/bin/sh\ntouch '{tmp_path}/canary'\nexit 1\n", "utf-8")
        (tmp_path / "hooks" / name).chmod(0o755)
    repository.push("origin", [RefUpdate(LANDING + "r1", "", head(home))])
    repository.fetch("origin")
    assert sh(remote, "git", "for-each-ref", "--format=%(refname)").splitlines() == [LANDING + "r1", HEADS + "main"]
    assert not (tmp_path / "canary").exists()


def test_the_owner_s_programs_are_never_started(
    home: Path, remote: Path, repository: Repository, tmp_path: Path
) -> None:
    canary = tmp_path / "canary"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\necho \"$0 $*\" >> '{canary}'\n", "utf-8")
    program.chmod(0o755)
    for key in (
        "core.fsmonitor",
        "diff.external",
        "core.pager",
        "core.editor",
        "gpg.program",
        "filter.f.clean",
        "filter.f.smudge",
    ):
        sh(home, "git", "config", "--global", key, str(program))
    for key, value in {
        "commit.gpgSign": "true",
        "alias.rev-parse": f"!{program}",
        "alias.ls-tree": f"!{program}",
        "pager.show": "true",
        "filter.f.required": "true",
        "gc.auto": "1",
    }.items():
        sh(home, "git", "config", "--global", key, value)
    try:
        found = git.open_repository(home)
        tree = found.write_tree(head(home), {".gitattributes": b"* filter=f diff=f\n"})
        made = found.commit_tree(tree, [head(home)], "x")
        found.commit_info(made)
        found.changed_paths(head(home), made)
        found.push("origin", [RefUpdate(HEADS + "exp/a", "", made)])
        found.fetch("origin")
        clone = found.private_clone(made, tmp_path / "clone")
        assert (clone.root / "code.py").read_bytes() == b"x = 1\n"
        (home / "new").write_text("1", "utf-8")
        found.commit_paths(["new"], "new")
        assert not canary.exists(), canary.read_text("utf-8")
    finally:
        config = Path(os.environ["GIT_CONFIG_GLOBAL"])
        config.write_text("[user]\n\tname = Test\n\temail = test@localhost\n[init]\n\tdefaultBranch = main\n", "utf-8")


# ── clones ──


def test_a_private_clone_holds_the_very_bytes_of_the_commit(home: Path, repository: Repository, tmp_path: Path) -> None:
    commit(
        home,
        **{
            ".gitattributes": "*.crlf text eol=crlf\n*.id ident\n*.f filter=f\n*.utf working-tree-encoding=UTF-16LE\n",
            "a.crlf": "a\nb\n",
            "b.id": "$Id$\n",
        },
    )
    tree = repository.write_tree("HEAD", {"c.f": b"raw", "d.utf": "ü\n".encode()})
    made = repository.commit_tree(tree, [head(home)], "x")
    clone = repository.private_clone(made, tmp_path / "clone")
    for path, data in repository.read_tree(made).items():
        assert (clone.root / path).read_bytes() == data, path
    assert clone.resolve("HEAD") == made
    assert clone.current_branch() is None
    assert clone.git("status", "--porcelain").text == ""


def test_a_private_clone_has_no_hooks_remotes_or_settings_of_the_owner(
    home: Path, repository: Repository, tmp_path: Path
) -> None:
    sh(home, "git", "config", "cd4ml.base", "evil")
    sh(home, "git", "config", "--global", "init.templateDir", str(tmp_path / "template"))
    (tmp_path / "template" / "hooks").mkdir(parents=True)
    (tmp_path / "template" / "hooks" / "post-checkout").write_text(f"#!/bin/sh\ntouch {tmp_path}/canary\n", "utf-8")
    (tmp_path / "template" / "hooks" / "post-checkout").chmod(0o755)
    try:
        before = state_of(home)
        clone = repository.private_clone(head(home), tmp_path / "clone")
    finally:
        sh(home, "git", "config", "--global", "--unset", "init.templateDir")
    assert (clone.config("cd4ml.base"), clone.remotes()) == ("", ())
    assert not (clone.git_dir / "hooks").exists()
    assert not (tmp_path / "canary").exists()
    assert state_of(home) == before


def test_what_is_set_or_written_in_a_private_clone_does_not_reach_the_owner(
    home: Path, repository: Repository, tmp_path: Path
) -> None:
    before = state_of(home)
    clone = repository.private_clone(head(home), tmp_path / "clone")
    sh(clone.root, "git", "config", "core.fsmonitor", f"touch {tmp_path}/canary; false")
    sh(clone.root, "git", "config", "core.hooksPath", str(tmp_path))
    (clone.root / "code.py").write_text("evil\n", "utf-8")
    (clone.root / ".git" / "HEAD").write_text("ref: refs/heads/evil\n", "utf-8")
    sh(home, "git", "status")
    sh(home, "git", "gc", "--quiet")
    assert not (tmp_path / "canary").exists()
    assert state_of(home)["files"] == before["files"]
    assert head(home) == repository.resolve("main")


def test_a_shallow_clone_is_read_cloned_and_pushed_from(home: Path, remote: Path, tmp_path: Path) -> None:
    commit(home, "second", b="2")
    last = commit(home, "third", c="3")
    sh(home, "git", "push", "--quiet", "origin", "main")
    sh(tmp_path, "git", "clone", "--quiet", "--depth=1", f"file://{remote}", "shallow")
    found = git.open_repository(tmp_path / "shallow")
    clone = found.private_clone(last, tmp_path / "clone")
    assert sh(clone.root, "git", "log", "--format=%H") == last
    assert (clone.root / "c").read_text("utf-8") == "3"
    other = found.commit_tree(found.write_tree(last, {"d": b"4"}), [last], "x")
    again = found.commit_tree(found.write_tree(last, {"e": b"5"}), [last], "y")
    tree, _ = found.merge_tree(other, again)
    assert tree is not None
    assert {"c", "d", "e"} < set(found.read_tree(tree))
    found.push("origin", [RefUpdate(LANDING + "r1", "", other)])
    assert found.fetch("origin").landing == {LANDING + "r1": other}


def test_a_partial_clone_brings_what_a_private_clone_of_it_needs(home: Path, remote: Path, tmp_path: Path) -> None:
    last = commit(home, "second", b="2" * 1000, deep__c="3")
    sh(home, "git", "push", "--quiet", "origin", "main")
    sh(remote, "git", "config", "uploadpack.allowFilter", "true")
    sh(tmp_path, "git", "clone", "--quiet", "--filter=blob:none", "--no-checkout", f"file://{remote}", "partial")
    found = git.open_repository(tmp_path / "partial")
    clone = found.private_clone(last, tmp_path / "clone")
    assert (clone.root / "deep" / "c").read_text("utf-8") == "3"
    assert set(found.read_tree(last)) == {"b", "code.py", "conf/config.yaml", "deep/c"}


# ── writing without touching ──


def test_objects_are_written_and_the_owner_s_state_is_left_alone(
    home: Path, remote: Path, repository: Repository, tmp_path: Path
) -> None:
    (home / "stashed").write_text("1", "utf-8")
    sh(home, "git", "add", "stashed")
    sh(home, "git", "stash", "push", "--quiet")
    (home / "staged").write_text("1", "utf-8")
    sh(home, "git", "add", "staged")
    (home / "code.py").write_text("dirty\n", "utf-8")
    (home / "untracked").write_text("1", "utf-8")
    before = state_of(home)
    tree = repository.write_tree(head(home), {"a": b"1"})
    made = repository.commit_tree(tree, [head(home)], "x")
    repository.merge_tree(head(home), made)
    repository.push("origin", [RefUpdate(HEADS + "exp/a", "", made)])
    repository.fetch("origin")
    repository.private_clone(made, tmp_path / "clone")
    repository.commit_info(made)
    repository.close()
    assert state_of(home) == before


def test_only_the_named_paths_are_committed(home: Path, repository: Repository) -> None:
    for name in ("pin.json", "other", "größe *.json"):
        (home / name).write_text("1", "utf-8")
    (home / ".gitignore").write_text("*.json\n", "utf-8")
    sh(home, "git", "add", "other")
    (home / "code.py").write_text("dirty\n", "utf-8")
    made = repository.commit_paths(["pin.json", "größe *.json"], "#1 pinned\n")
    assert set(repository.changed_paths(f"{made}~1", made)) == {"pin.json", "größe *.json"}
    assert repository.commit_info(made).subject == "#1 pinned"
    assert sh(home, "git", "diff", "--cached", "--name-only") == "other"
    assert (home / "code.py").read_text("utf-8") == "dirty\n"


def test_committing_nothing_new_is_refused_in_one_line(home: Path, repository: Repository) -> None:
    before = head(home)
    with pytest.raises(RepositoryError, match=r"cannot commit code\.py: nothing to commit"):
        repository.commit_paths(["code.py"], "x")
    with pytest.raises(RepositoryError, match=r"cannot commit none: pathspec"):
        repository.commit_paths(["none"], "x")
    assert head(home) == before


@pytest.mark.parametrize(
    ("variables", "me"),
    [
        ({}, "cd4ml <cd4ml@localhost>"),
        ({"GIT_COMMITTER_NAME": "Ada", "GIT_COMMITTER_EMAIL": "ada@localhost"}, "Ada <ada@localhost>"),
    ],
)
def test_without_an_identity_configured_commits_are_made_all_the_same(
    home: Path, variables: dict[str, str], me: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = git.open_repository(home)
    made = found.commit_tree(found.tree_of("HEAD"), [head(home)], "x")
    assert found.me() == found.commit_info(made).committer == me
    (home / "new").write_text("1", "utf-8")
    assert found.commit_info(found.commit_paths(["new"], "x")).committer == me


def test_me_is_who_the_settings_name(repository: Repository) -> None:
    assert repository.me() == "Test <test@localhost>"


def test_a_commit_is_the_same_wherever_its_identity_and_times_are_given(home: Path, repository: Repository) -> None:
    identity = {
        f"GIT_{who}_{what}": value
        for who in ("AUTHOR", "COMMITTER")
        for what, value in {"NAME": "cd4ml", "EMAIL": "cd4ml@localhost", "DATE": "2026-01-02T03:04:05+00:00"}.items()
    }
    first = repository.commit_tree(repository.tree_of("HEAD"), [head(home)], "Größe\n", identity)
    sh(home, "git", "config", "i18n.commitEncoding", "ISO-8859-1")
    sh(home, "git", "config", "commit.gpgSign", "true")
    assert repository.commit_tree(repository.tree_of("HEAD"), [head(home)], "Größe\n", identity) == first


def test_modes_of_untouched_files_survive_a_written_tree(home: Path, repository: Repository, tmp_path: Path) -> None:
    (home / "run.sh").write_text("#!/bin/sh\n", "utf-8")
    (home / "run.sh").chmod(0o755)
    base = commit(home)
    made = repository.commit_tree(repository.write_tree(base, {"a": b"1"}), [base], "x")
    clone = repository.private_clone(made, tmp_path / "clone")
    assert stat.S_IMODE((clone.root / "run.sh").stat().st_mode) & 0o100


def test_objects_come_in_the_order_in_which_git_keeps_them_each_once_and_missing_ones_last(
    repository: Repository,
) -> None:
    blobs = [repository.write_blob(str(number).encode()) for number in range(5)]
    missing = "0" * 40
    found = repository.in_stored_order([missing, *blobs, *blobs])
    assert (found[-1], sorted(found[:-1])) == (missing, sorted(blobs))
    assert list(repository.read_many(found[:-1])) == [str(blobs.index(one)).encode() for one in found[:-1]]
    with pytest.raises(IntegrityError, match=missing):
        list(repository.read_many(found))


def test_an_object_comes_right_after_those_that_are_kept_as_differences_from_it() -> None:
    kept = {"a": None, "b": None, "c": "a", "d": "b", "e": "c", "f": "a", "g": "d"}
    told = [text for one, base in kept.items() for text in (one, base or "0" * 40)]
    assert _differences_first(told) == ["e", "c", "f", "a", "g", "d", "b"]


def test_every_object_that_git_keeps_as_a_difference_comes_before_the_other_one(
    home: Path, repository: Repository
) -> None:
    blobs = [repository.write_blob(b"a line that many share\n" * 200 + str(number).encode()) for number in range(30)]
    packed = "".join(f"{one}\n" for one in blobs).encode()
    repository.git("pack-objects", "--depth=10", "-q", ".git/objects/pack/pack", stdin=packed)
    repository.git("prune-packed", "-q")
    told = repository.git("cat-file", "--batch-check=%(deltabase)", stdin=packed).text.split()
    found = repository.in_stored_order(blobs)
    differing = [(found.index(base), found.index(one)) for one, base in zip(blobs, told, strict=True) if base in found]
    assert sorted(found) == sorted(blobs)
    assert len(differing) > 20
    assert all(one < base for base, one in differing)


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_objects_are_put_into_files_each_where_it_is_said_to_be(
    repository: Repository, tmp_path: Path, count: int
) -> None:
    blobs = [repository.write_blob(b"\n" * number + str(number).encode()) for number in range(count)]
    with (tmp_path / "a").open("w+b") as first, (tmp_path / "b").open("w+b") as second:
        places = repository.put_many(blobs, [first, second])
    read = [(tmp_path / "ab"[one.file]).read_bytes()[one.start :][: one.size] for one in places]
    assert read == [b"\n" * number + str(number).encode() for number in range(count)]


def test_objects_one_of_which_is_not_here_are_not_put_into_files(repository: Repository, tmp_path: Path) -> None:
    blobs = [repository.write_blob(b"a"), "0" * 40, repository.write_blob(b"b")]
    with (tmp_path / "a").open("w+b") as file, pytest.raises(OSError, match="0" * 40):
        repository.put_many(blobs, [file])


def test_objects_for_which_there_is_no_room_are_not_put_into_files(repository: Repository) -> None:
    blobs = [repository.write_blob(b"a" * 10_000)]
    with Path("/dev/full").open("r+b", buffering=0) as file, pytest.raises(OSError, match="could not be put"):
        repository.put_many(blobs, [file])


def test_of_many_objects_the_damaged_one_is_named_and_those_before_it_are_read(
    home: Path, repository: Repository
) -> None:
    blobs = [repository.write_blob(str(number).encode() * 3000) for number in range(5)]
    damaged = home / ".git" / "objects" / blobs[3][:2] / blobs[3][2:]
    damaged.chmod(0o644)
    damaged.write_bytes(damaged.read_bytes()[:20])
    read = repository.read_many(blobs)
    assert [next(read) for _ in range(3)] == [str(number).encode() * 3000 for number in range(3)]
    with pytest.raises(IntegrityError, match=blobs[3]):
        next(read)


@pytest.fixture
def dropped(tmp_path: Path) -> tuple[git.Repository, str, str]:
    """A clone that has seen ``exp/x``, which the remote has no more; its commit, and a new blob of the remote."""
    bare, there = tmp_path / "remote.git", tmp_path / "there"
    git.init(bare, bare=True)
    git.init(there)
    sh(there, "git", "commit", "--quiet", "--allow-empty", "--message", "first")
    sh(there, "git", "push", "--quiet", str(bare), "HEAD:main", "HEAD:exp/x")
    sh(tmp_path, "git", "clone", "--quiet", str(bare), "here")
    repository = git.open_repository(tmp_path / "here")
    seen = repository.fetch("origin").heads["exp/x"]
    (there / "file").write_text("content", "utf-8")
    sh(there, "git", "add", "file")
    sh(there, "git", "commit", "--quiet", "--message", "second")
    sh(there, "git", "push", "--quiet", str(bare), "HEAD:main", ":exp/x")
    return repository, seen, sh(bare, "git", "rev-parse", "main:file")


def test_a_head_that_is_gone_is_kept_though_the_fetch_that_saw_it_failed(
    dropped: tuple[git.Repository, str, str], tmp_path: Path
) -> None:
    repository, seen, blob = dropped
    lost = tmp_path / "remote.git" / "objects" / blob[:2] / blob[2:]
    lost.rename(tmp_path / "away")
    with pytest.raises(RemoteError):
        repository.fetch("origin")
    (tmp_path / "away").rename(lost)
    assert repository.fetch("origin").vanished == (("exp/x", seen),)


_KILLED = """
import os, sys
from pathlib import Path
from cd4ml.gateways.git import open_repository
from cd4ml.gateways.git.remote import Remotes
command = Remotes._remote_command
def cut_off(self, *arguments, **options):
    command(self, *arguments, **options)
    os.kill(os.getpid(), 9)
Remotes._remote_command = cut_off
open_repository(Path(sys.argv[1])).fetch("origin")
"""


def test_a_head_that_is_gone_is_kept_though_the_fetch_that_saw_it_was_killed(
    dropped: tuple[git.Repository, str, str],
) -> None:
    repository, seen, _ = dropped
    here = str(repository.work_tree)
    assert subprocess.run([sys.executable, "-c", _KILLED, here], check=False).returncode == -9
    assert "exp/x" not in sh(Path(here), "git", "for-each-ref", "refs/cd4ml")
    assert repository.fetch("origin").vanished == (("exp/x", seen),)
    repository.drop_vanished([("exp/x", seen)])
    assert repository.fetch("origin").vanished == ()
    assert [*repository.private.glob("fetching-*")] == []


# ── what a landed commit changes, and what this clone remembers ──


@pytest.mark.parametrize("mode", ["100755", "120000", "160000"])
def test_another_mode_alone_is_a_change_over_the_parent(home: Path, repository: Repository, mode: str) -> None:
    """A source file that became a link would lead elsewhere with the very same bytes."""
    before = head(home)
    object_id = sh(home, "git", "rev-parse", "HEAD:code.py")
    conf = sh(home, "git", "rev-parse", "HEAD:conf")
    tree = raw_tree(home, (mode, b"code.py", object_id), ("40000", b"conf", conf))
    made = sh(home, "git", "commit-tree", tree, "-p", before, "-m", "x")
    assert repository.over_parent(made).changed == ("code.py",)


def test_a_link_or_a_folder_where_a_file_was_asked_for_is_no_file(home: Path, repository: Repository) -> None:
    inner = raw_tree(home, ("100644", b"x", blob(home)))
    tree = raw_tree(home, ("40000", b"folder", inner), ("120000", b"link", blob(home, b"code.py")))
    assert repository.file_at(tree, "link", 100) is None
    assert repository.file_at(tree, "folder", 100) is None
    assert repository.file_at(tree, "folder/x", 100) == b"x: 1\n"


def test_memory_moves_from_what_it_was_alone(home: Path, repository: Repository) -> None:
    """Whoever was faster has the last word."""
    first, second, third = head(home), commit(home, "second"), commit(home, "third")
    ref = LANDING + "r" + "0" * 20
    held = Remembered(first, {ref: first})
    repository.remember("origin", Remembered(), held)
    assert repository.remembered("origin") == held
    repository.remember("origin", Remembered(second, {ref: first}), Remembered(third, {ref: first}))
    assert repository.remembered("origin") == held
    repository.remember("origin", Remembered(first, {ref: second}), Remembered(first, {}))
    assert repository.remembered("origin") == held
    repository.remember_index("origin", second, third)
    assert repository.remembered("origin") == held
    repository.remember("origin", held, Remembered(third))
    assert repository.remembered("origin") == Remembered(third)


def test_no_setting_hides_a_submodule_from_the_chain(home: Path, repository: Repository) -> None:
    before = head(home)
    made = sh(home, "git", "commit-tree", raw_tree(home, ("160000", b"runs", before)), "-p", before, "-m", "x")
    sh(home, "git", "config", "diff.ignoreSubmodules", "all")
    assert "runs" in {one.path for one in repository.changes([(made, before)])[made]}


def test_a_folder_at_a_path_is_something_there(home: Path, repository: Repository) -> None:
    assert repository.holding([head(home)], "conf") == {head(home)}
    assert repository.holding([head(home)], "elsewhere") == frozenset()
