"""DVC's storage on a real folder remote: damaged, emptied, and described in every way DVC allows."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cd4ml.errors import ConfigError, IntegrityError, RemoteError
from cd4ml.gateways.dvc import NO_FILE, Storage, isolate, open_storage
from cd4ml.gateways.files import FileDigest, digest_file, usual_mode
from cd4ml.index.retention import GRACE_HOURS

CONFIG = b"""[core]
    remote = storage
['remote "storage"']
    url = ../../storage
"""


@pytest.fixture
def owner(tmp_path: Path) -> Path:
    folder = tmp_path / "owner"
    (folder / ".dvc").mkdir(parents=True)
    return folder


@pytest.fixture
def storage(owner: Path, tmp_path: Path) -> Storage:
    return open_storage(CONFIG, b"", owner, tmp_path / "admin")


@pytest.fixture
def data(tmp_path: Path) -> tuple[Path, FileDigest]:
    path = tmp_path / "data"
    path.write_bytes(b"row\n" * 1000)
    return path, digest_file(path)


def on_remote(tmp_path: Path, md5: str) -> Path:
    return tmp_path / "storage" / "files" / "md5" / md5[:2] / md5[2:]


def sh(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


# ── what a configuration says ──


def settings_of(storage: Storage) -> dict[str, dict[str, str]]:
    """The settings as DVC itself reads what was written for it."""
    from dvc.config import Config

    found: dict[str, dict[str, str]] = Config.load_file(str(storage.admin / ".dvc" / "config"))["remote"]
    return found


def test_a_relative_place_counts_from_the_folder_that_dvc_counts_from(storage: Storage, tmp_path: Path) -> None:
    assert storage.remote == "storage"
    assert settings_of(storage)["storage"]["url"] == str(tmp_path / "storage")
    assert storage.cache == tmp_path / "owner" / ".dvc" / "cache"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("/abs/o/lute", "/abs/o/lute"),
        ("s3://bucket/a/../b", "s3://bucket/a/../b"),
        ("ssh://user@host:22/path", "ssh://user@host:22/path"),
        ("~/storage", "{home}/storage"),
        ("inside", "{owner}/.dvc/inside"),
        ("../größe ü", "{owner}/größe ü"),
        ('"../quoted # not a comment"', "{owner}/quoted # not a comment"),
        ("../plain  # a comment", "{owner}/plain"),
        ("../a=b;c%d", "{owner}/a=b;c%d"),
    ],
)
def test_a_place_is_read_as_dvc_reads_it(owner: Path, tmp_path: Path, url: str, expected: str) -> None:
    from dvc.config import Config

    config = f"[core]\nremote = s\n['remote \"s\"']\n    url = {url}\n".encode()
    (owner / ".dvc" / "config").write_bytes(config)
    own = Config(str(owner / ".dvc"))["remote"]["s"]["url"]
    found = settings_of(open_storage(config, b"", owner, tmp_path / "admin"))["s"]["url"]
    assert found == str(own) == expected.format(home=Path.home(), owner=owner)


def test_files_that_a_remote_names_are_found_from_where_its_settings_lay(owner: Path, tmp_path: Path) -> None:
    config = (
        b"[core]\nremote = s\n['remote \"s\"']\nurl = s3://b\ncredentialpath = ../keys\nKeyfile = /k\nprofile = x\n"
    )
    found = settings_of(open_storage(config, b"", owner, tmp_path / "admin"))["s"]
    assert found["credentialpath"] == str(owner / "keys")
    assert (found["keyfile"], found["profile"]) == ("/k", "x")


def test_of_several_remotes_the_default_is_taken_and_local_settings_come_on_top(owner: Path, tmp_path: Path) -> None:
    config = CONFIG + b"['remote \"other\"']\n    url = /other\n"
    local = b"[core]\n    remote = other\n['remote \"other\"']\n    password = secret\n['remote \"mine\"']\nurl = /m\n"
    storage = open_storage(config, local, owner, tmp_path / "admin")
    assert storage.remote == "other"
    assert settings_of(storage)["other"] == {"url": "/other", "password": "secret"}
    assert set(settings_of(storage)) == {"storage", "other", "mine"}
    written = storage.admin / ".dvc" / "config"
    assert stat.S_IMODE(written.stat().st_mode) == 0o600, "others could read the password"


def test_a_section_may_be_written_without_its_outer_quotes(owner: Path, tmp_path: Path) -> None:
    storage = open_storage(b'[core]\nremote = s\n[remote "s"]\nurl = /s\n', b"", owner, tmp_path / "admin")
    assert settings_of(storage)["s"]["url"] == "/s"


def test_a_cache_may_lie_elsewhere(owner: Path, tmp_path: Path) -> None:
    for setting, expected in ((b"../../c", tmp_path / "c"), (b"/abs/c", Path("/abs/c")), (b"~/c", Path.home() / "c")):
        storage = open_storage(b"[cache]\n    dir = " + setting + b"\n", b"", owner, tmp_path / "admin")
        assert storage.cache == expected
        assert storage.cached("0123456789") == expected / "files" / "md5" / "01" / "23456789"


def test_no_configuration_means_no_remote(owner: Path, tmp_path: Path) -> None:
    storage = open_storage(b"", b"", owner, tmp_path / "admin")
    assert (storage.remote, storage.cache) == ("", owner / ".dvc" / "cache")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (b"[core]\nremote = nowhere\n", r"^\.dvc/config: core\.remote: names 'nowhere'"),
        (b"\xff\xfe\x00", r"^\.dvc/config: is not DVC configuration"),
        (b"[core\nremote", r"^\.dvc/config: is not DVC configuration"),
        (b"<html>", r"^\.dvc/config: is not DVC configuration"),
        (b"a = 1\n", r"^\.dvc/config: a: stands outside of a section"),
        (b"[core]\nremote = a, b\n", r"^\.dvc/config: core\.remote"),
    ],
)
def test_a_configuration_that_is_none_is_refused_by_name(
    owner: Path, tmp_path: Path, config: bytes, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        open_storage(config, b"", owner, tmp_path / "admin")
    with pytest.raises(ConfigError, match=r"^\.dvc/config"):
        open_storage(CONFIG, config, owner, tmp_path / "admin")
    assert not (tmp_path / "admin").exists()


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(max_size=80), st.text("[]'\"=\n#, coreuml\\%$", max_size=60).map(str.encode)))
def test_any_bytes_are_a_configuration_or_a_configuration_error(owner: Path, tmp_path: Path, config: bytes) -> None:
    try:
        storage = open_storage(config, b"", owner, tmp_path / "any")
    except ConfigError as error:
        files = {problem.file for problem in error.problems}
    else:
        files = {".dvc/config"}
        settings_of(storage)
    assert files == {".dvc/config"}


def test_what_dvc_cannot_make_sense_of_is_a_remote_error_in_one_line(owner: Path, tmp_path: Path) -> None:
    for config in (
        b"[core]\nremote = s\n['remote \"s\"']\nurl = gopher://x\n",
        b"[core]\nremote = s\n['remote \"s\"']\nprofile = x\n",
        b"[core]\nremote = s\n['remote \"s\"']\nurl = s3://bucket/x\n",
        b"[core]\nremote = s\n['remote \"s\"']\nurl = /x\nnonsense = 1\n",
    ):
        storage = open_storage(config, b"", owner, tmp_path / "admin")
        with pytest.raises(RemoteError, match=r"^DVC remote 's': .+$"), storage.open_remote():
            pass


# ── bytes in and out ──


def test_notes_that_dvc_cannot_keep_are_a_remote_error(storage: Storage) -> None:
    """As on a disk that is full: SQLite's errors are none that DVC knows."""
    with storage.open_remote():
        pass
    kept = [path for path in (storage.admin / "site").rglob("*.db") if path.is_file()]
    assert kept
    for path in kept:
        path.unlink()
        path.mkdir()
    with (
        pytest.raises(RemoteError, match=r"^DVC remote 'storage': unable to open database file"),
        storage.open_remote(),
    ):
        pass


def test_what_is_stored_is_there_and_comes_back(
    storage: Storage, data: tuple[Path, FileDigest], tmp_path: Path
) -> None:
    path, digest = data
    with storage.open_remote() as remote:
        assert remote.digest(digest.md5) is None
        remote.store(path, digest)
        assert remote.digest(digest.md5) == digest
        remote.retrieve(digest.md5, digest.sha256, tmp_path / "deep" / "target")
    assert on_remote(tmp_path, digest.md5).read_bytes() == path.read_bytes()
    assert (tmp_path / "deep" / "target").read_bytes() == path.read_bytes()
    assert [found.name for found in (tmp_path / "deep").iterdir()] == ["target"]


def delete(path: Path) -> None:
    path.unlink()


def truncate(path: Path) -> None:
    os.truncate(path, 100)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[1234] ^= 1
    path.write_bytes(content)


def overwrite(path: Path) -> None:
    path.write_bytes(os.urandom(100))


@pytest.mark.parametrize("protected", [True, False])
@pytest.mark.parametrize("damage", [delete, truncate, empty, flip, overwrite])
def test_a_damaged_object_is_refused_when_read_and_replaced_when_stored(
    storage: Storage,
    data: tuple[Path, FileDigest],
    tmp_path: Path,
    damage: Callable[[Path], None],
    protected: bool,
) -> None:
    path, digest = data
    with storage.open_remote() as remote:
        remote.store(path, digest)
        there = on_remote(tmp_path, digest.md5)
        there.chmod(0o644)
        damage(there)
        if protected and there.exists():
            there.chmod(0o444)
        wanted = RemoteError if damage is delete else IntegrityError
        with pytest.raises(wanted, match=rf"^DVC remote 'storage': object {digest.md5}"):
            remote.retrieve(digest.md5, digest.sha256, tmp_path / "out" / "target")
        assert list((tmp_path / "out").iterdir()) == []
        assert remote.digest(digest.md5) != digest
        remote.store(path, digest)
        assert remote.digest(digest.md5) == digest
    with storage.open_remote() as remote:
        remote.retrieve(digest.md5, digest.sha256, tmp_path / "out" / "target")


def aged(path: Path) -> None:
    """As if it had been there for three days."""
    then = path.stat().st_mtime - 3 * 86_400
    os.utime(path, (then, then))


def test_an_old_object_that_is_stored_again_is_young_and_whole_at_every_moment(
    storage: Storage, data: tuple[Path, FileDigest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, digest = data
    seen: list[bytes] = []
    copyfile, there = shutil.copyfile, on_remote(tmp_path, digest.md5)

    def looking(source: Path, target: Path) -> None:
        seen.append(there.read_bytes())
        copyfile(source, target)
        seen.append(there.read_bytes())

    with storage.open_remote() as remote:
        remote.store(path, digest)
        aged(there)
        before = there.stat().st_mtime
        monkeypatch.setattr("cd4ml.gateways.dvc.shutil.copyfile", looking)
        remote.store(path, digest)
    assert seen == [path.read_bytes()] * 2
    assert there.stat().st_mtime > before + 86_400
    assert stat.S_IMODE(there.stat().st_mode) == usual_mode()
    assert [one.name for one in there.parent.iterdir()] == [there.name]


def test_an_object_whose_grace_is_nearly_over_is_young_once_it_is_stored_again(
    storage: Storage, data: tuple[Path, FileDigest], tmp_path: Path
) -> None:
    """Else a run that counts on it, and lands within the grace, could lose it."""
    path, digest = data
    there = on_remote(tmp_path, digest.md5)
    with storage.open_remote() as remote:
        remote.store(path, digest)
        then = there.stat().st_mtime - 0.75 * GRACE_HOURS * 3600
        os.utime(there, (then, then))
        remote.store(path, digest)
    assert there.stat().st_mtime > then + 0.5 * GRACE_HOURS * 3600


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_a_wrong_object_that_is_a_link_to_another_is_replaced_and_the_other_stays(
    storage: Storage, data: tuple[Path, FileDigest], tmp_path: Path, link: Callable[[Path, Path], None]
) -> None:
    path, digest = data
    other = tmp_path / "other"
    other.write_bytes(b"sound")
    with storage.open_remote() as remote:
        remote.store(path, digest)
        on_remote(tmp_path, digest.md5).unlink()
        link(other, on_remote(tmp_path, digest.md5))
        remote.store(path, digest)
        assert remote.digest(digest.md5) == digest
    assert other.read_bytes() == b"sound"


def folder_with_a_file(path: Path) -> None:
    path.mkdir()
    (path / "x").write_bytes(b"x")


STRANGE: dict[str, Callable[[Path], object]] = {
    "a folder": folder_with_a_file,
    "a pipe": os.mkfifo,
    "a link to itself": lambda path: path.symlink_to(path),
    "a link to nothing": lambda path: path.symlink_to("/nowhere"),
}


@pytest.mark.parametrize("strange", STRANGE)
def test_what_is_no_file_is_told_as_that_at_once_and_can_be_moved_aside(
    storage: Storage, data: tuple[Path, FileDigest], tmp_path: Path, strange: str
) -> None:
    path, digest = data
    with storage.open_remote() as remote:
        remote.store(path, digest)
        on_remote(tmp_path, digest.md5).unlink()
        STRANGE[strange](on_remote(tmp_path, digest.md5))
        assert remote.digest(digest.md5) == NO_FILE
        assert remote.listed(digest.md5) is None
        with pytest.raises(RemoteError, match=f"object {digest.md5} is no file"):
            remote.retrieve(digest.md5, digest.sha256, tmp_path / "out")
        assert remote.bring_as_is(digest.md5, tmp_path / "aside")
        assert os.path.lexists(tmp_path / "aside")
        remote.store(path, digest)
        assert remote.digest(digest.md5) == digest


def test_a_remote_that_is_replaced_between_two_runs_is_not_taken_for_the_old_one(
    storage: Storage, data: tuple[Path, FileDigest], tmp_path: Path
) -> None:
    path, digest = data
    with storage.open_remote() as remote:
        remote.store(path, digest)
    shutil.rmtree(tmp_path / "storage")
    with storage.open_remote() as remote:
        remote.store(path, digest)
        assert remote.digest(digest.md5) == digest


def test_a_file_that_changed_before_it_was_stored_is_refused_and_leaves_nothing_wrong(
    storage: Storage, data: tuple[Path, FileDigest], tmp_path: Path
) -> None:
    path, digest = data
    path.write_bytes(b"changed")
    with storage.open_remote() as remote:
        with pytest.raises(IntegrityError, match=f"data .{digest.md5}. held 7 bytes with another digest"):
            remote.store(path, digest)
        assert remote.digest(digest.md5) is None
    assert not on_remote(tmp_path, digest.md5).exists()


def test_a_remote_that_cannot_be_written_is_an_error_in_one_line(
    storage: Storage, data: tuple[Path, FileDigest], tmp_path: Path
) -> None:
    path, digest = data
    (tmp_path / "storage").write_bytes(b"a file where the remote should be")
    with storage.open_remote() as remote:
        actions: tuple[Callable[[], None], ...] = (
            lambda: remote.store(path, digest),
            lambda: remote.retrieve(digest.md5, digest.sha256, tmp_path / "target"),
        )
        for action in actions:
            with pytest.raises(RemoteError, match=r"^DVC remote 'storage': .+$"):
                action()


def test_a_folder_that_is_not_there_is_named_and_not_an_object_of_it(
    storage: Storage, data: tuple[Path, FileDigest], tmp_path: Path
) -> None:
    path, digest = data
    with storage.open_remote() as remote:
        remote.store(path, digest)
        (place,) = (found for found in tmp_path.rglob(digest.md5[2:]) if found.is_file())
        root = place.parents[3]
        root.rename(tmp_path / "not mounted")
        with pytest.raises(RemoteError, match=f"its folder {re.escape(str(root))} is not there$"):
            remote.retrieve(digest.md5, digest.sha256, tmp_path / "x")


def test_an_empty_file_is_stored_like_any_other(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    digest = digest_file(tmp_path / "empty")
    with storage.open_remote() as remote:
        remote.store(tmp_path / "empty", digest)
        assert remote.digest(digest.md5) == digest


def test_plain_dvc_finds_what_was_stored(storage: Storage, data: tuple[Path, FileDigest], tmp_path: Path) -> None:
    path, digest = data
    with storage.open_remote() as remote:
        remote.store(path, digest)
    plain = tmp_path / "plain"
    plain.mkdir()
    sh(plain, "git", "init", "--quiet")
    sh(plain, "dvc", "init", "--quiet")
    sh(plain, "dvc", "remote", "add", "--default", "storage", str(tmp_path / "storage"))
    (plain / "data.dvc").write_text(
        f"outs:\n- md5: {digest.md5}\n  size: {digest.bytes}\n  hash: md5\n  path: data\n", "utf-8"
    )
    sh(plain, "dvc", "pull", "--quiet")
    assert (plain / "data").read_bytes() == path.read_bytes()


def test_what_plain_dvc_pushed_is_found_here(owner: Path, tmp_path: Path) -> None:
    sh(owner, "git", "init", "--quiet")
    shutil.rmtree(owner / ".dvc")
    sh(owner, "dvc", "init", "--quiet")
    sh(owner, "dvc", "remote", "add", "--default", "storage", "../storage")
    (owner / "data").write_bytes(b"pushed")
    sh(owner, "dvc", "add", "--quiet", "data")
    sh(owner, "dvc", "push", "--quiet")
    digest = digest_file(owner / "data")
    storage = open_storage((owner / ".dvc" / "config").read_bytes(), b"", owner, tmp_path / "admin")
    assert storage.cached(digest.md5).read_bytes() == b"pushed"
    with storage.open_remote() as remote:
        assert remote.digest(digest.md5) == digest


def test_damaged_cache_entries_that_a_lock_names_are_dropped_and_sound_ones_kept(
    storage: Storage, tmp_path: Path
) -> None:
    names = []
    for number, text in enumerate((b"sound", b"damaged")):
        (tmp_path / "x").write_bytes(text)
        names.append(digest_file(tmp_path / "x").md5)
        place = storage.cached(names[number])
        place.parent.mkdir(parents=True)
        place.write_bytes(text if number == 0 else b"dbmaged")
        place.chmod(0o444)
    lock = tmp_path / "dvc.lock"
    lock.write_text("".join(f"md5: {name}\n" for name in (*names, "0" * 32)), "utf-8")
    assert storage.remove_damaged(lock) == (names[1],)
    assert [storage.cached(name).exists() for name in names] == [True, False]
    assert storage.remove_damaged(tmp_path / "none") == ()


# ── isolation ──


def test_an_isolated_clone_has_our_settings_and_no_pipeline_of_the_branch(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    for name in (
        ".git/HEAD", ".git/dvc.yaml", ".dvc/config", ".dvc/config.local", ".dvc/plugin.py", "dvc.yaml", "dvc.lock",
        "evil.dvc", ".dvcignore", "deep/dvc.yaml", "deep/dvc.lock", "deep/data.dvc", "deep/.dvcignore",
        "deep/.dvc/config", "conf/config.yaml", "src/dvc.py", "data/flights.lock.json",
    ):  # fmt: skip
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        (clone / name).write_text("evil", "utf-8")
    isolate(clone, tmp_path / "cache")
    left = {str(path.relative_to(clone)) for path in clone.rglob("*") if path.is_file()}
    assert left == {
        ".git/HEAD", ".git/dvc.yaml", ".dvc/config", "conf/config.yaml", "src/dvc.py", "data/flights.lock.json",
    }  # fmt: skip
    text = (clone / ".dvc" / "config").read_text("utf-8")
    assert str(tmp_path / "cache") in text
    assert "remote" not in text
    assert "evil" not in text


@pytest.mark.parametrize("dangling", [False, True])
def test_links_that_lead_out_of_an_isolated_clone_are_cut_and_nothing_outside_is_touched(
    tmp_path: Path, dangling: bool
) -> None:
    clone, outside = tmp_path / "clone", tmp_path / "outside"
    (clone / ".git").mkdir(parents=True)
    (clone / "data").mkdir()
    (clone / "data" / "in.csv").write_text("x", "utf-8")
    if not dangling:
        (outside / "deep").mkdir(parents=True)
        (outside / "dvc.yaml").write_text("mine", "utf-8")
        (outside / "deep" / "x.dvc").write_text("mine", "utf-8")
        outside.chmod(0o755)
    for name in (".dvc", "artifacts", "dvc.yaml", "deep.dvc", "data/out"):
        (clone / name).symlink_to(outside)
    (clone / "hop").symlink_to("artifacts")
    (clone / "git").symlink_to(".git")
    (clone / "inside").symlink_to("data")
    (clone / "data" / "pipeline").write_text("evil", "utf-8")
    (clone / "data" / "dvc.yaml").symlink_to("pipeline")
    isolate(clone, tmp_path / "cache")
    assert sorted(path.name for path in clone.iterdir() if path.is_symlink()) == ["inside"]
    assert sorted(path.name for path in (clone / "data").iterdir()) == ["in.csv", "pipeline"]
    assert (clone / ".dvc" / "config").is_file()
    if dangling:
        assert not outside.exists()
    else:
        assert sorted(path.name for path in outside.rglob("*")) == ["deep", "dvc.yaml", "x.dvc"]
        assert stat.S_IMODE(outside.stat().st_mode) == 0o755


def test_dvc_runs_in_an_isolated_clone_and_fills_the_given_cache(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    clone.mkdir()
    sh(clone, "git", "init", "--quiet")
    (clone / "deep").mkdir()
    canary = "stages:\n  evil:\n    cmd: touch ../canary\n    outs: [x]\n"
    (clone / "deep" / "dvc.yaml").write_text(canary, "utf-8")
    isolate(clone, tmp_path / "größe cache")
    (clone / "dvc.yaml").write_text("stages:\n  good:\n    cmd: echo 1 > out\n    outs: [out]\n", "utf-8")
    sh(clone, "dvc", "repro", "--quiet")
    assert not (clone / "canary").exists()
    md5 = digest_file(clone / "out").md5
    assert (tmp_path / "größe cache" / "files" / "md5" / md5[:2] / md5[2:]).read_bytes() == b"1\n"
