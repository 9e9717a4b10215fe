"""Files on a real file system: whole or not at all, and never through a link."""

from __future__ import annotations

import hashlib
import io
import multiprocessing
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cd4ml.errors import IntegrityError
from cd4ml.gateways.files import (
    copy_verified,
    digest_file,
    digest_stream,
    exclusive,
    hand_over,
    remove_tree,
    replacing,
    scratch,
    write_atomically,
)

NOBODY = 65534


def in_child(work: Callable[[], None], *, prepare: Callable[[], None] = lambda: None) -> int:
    """Exit code of a forked child that does the work: 0 done, 1 OSError, 2 anything else."""
    pid = os.fork()
    if pid == 0:
        code = 2
        try:
            prepare()
            work()
            code = 0
        except OSError:
            code = 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def small_files() -> None:
    """From now on no file of this process may grow beyond 100 bytes: what a full disk looks like."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))


@pytest.fixture
def anyones() -> Iterator[Path]:
    """A folder that everyone may enter and write to (pytest's own are the user's alone)."""
    folder = Path(tempfile.mkdtemp(prefix="cd4ml-test-"))
    folder.chmod(0o777)
    yield folder
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o700)
    shutil.rmtree(folder)


def unprivileged() -> None:
    """Root may do everything: become nobody, if it is root that runs the tests."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


@given(st.binary(max_size=5000))
def test_digests_are_those_of_hashlib(data: bytes) -> None:
    found = digest_stream(io.BytesIO(data))
    assert found.sha256 == hashlib.sha256(data).hexdigest()
    assert found.md5 == hashlib.md5(data, usedforsecurity=False).hexdigest()
    assert found.bytes == len(data)


def test_a_file_larger_than_a_chunk_has_the_digest_of_the_whole(tmp_path: Path) -> None:
    data = os.urandom(3_000_001)
    (tmp_path / "x").write_bytes(data)
    assert digest_file(tmp_path / "x").sha256 == hashlib.sha256(data).hexdigest()
    with pytest.raises(FileNotFoundError):
        digest_file(tmp_path / "none")


def test_a_file_is_written_whole_with_its_folders_and_mode(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / ("ü" * 100)
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    write_atomically(path, b"", mode=0o600)
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"", 0o600)
    assert list(path.parent.iterdir()) == [path]


def test_a_write_that_the_disk_cuts_short_leaves_the_old_bytes_and_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    assert in_child(lambda: write_atomically(path, b"x" * 1000), prepare=small_files) == 1
    assert in_child(lambda: write_atomically(path, b"short"), prepare=small_files) == 0
    assert in_child(lambda: write_atomically(tmp_path / "new", b"x" * 1000), prepare=small_files) == 1
    assert path.read_bytes() == b"short"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_into_a_read_only_folder_fails_and_leaves_nothing(anyones: Path) -> None:
    (anyones / "locked").mkdir(mode=0o755)
    (anyones / "locked" / "file").write_bytes(b"old")
    (anyones / "locked").chmod(0o555)
    assert in_child(lambda: write_atomically(anyones / "locked" / "file", b"new"), prepare=unprivileged) == 1
    assert [path.read_bytes() for path in (anyones / "locked").iterdir()] == [b"old"]


def test_a_block_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def interrupted() -> None:
        with replacing(path, 0o644) as temporary:
            temporary.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        write_atomically(tmp_path / "folder", b"x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
    assert path.read_bytes() == b"old"


def test_a_link_in_the_place_of_a_file_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"mine")
    (tmp_path / "link").symlink_to("outside")
    write_atomically(tmp_path / "link", b"new")
    assert (tmp_path / "outside").read_bytes() == b"mine"
    assert not (tmp_path / "link").is_symlink()


def test_a_reader_never_sees_a_part(tmp_path: Path) -> None:
    path = tmp_path / "file"
    values = [bytes([n]) * 200_000 for n in (1, 2)]
    write_atomically(path, values[0])
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            for value in values:
                write_atomically(path, value)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert all(path.read_bytes() in values for _ in range(200))
    finally:
        stop.set()
        writer.join()


def test_a_copy_with_the_promised_bytes_is_read_only_and_any_other_is_refused(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "deep" / "target"
    source.write_bytes(b"data")
    copy_verified(source, target, hashlib.sha256(b"data").hexdigest())
    assert target.read_bytes() == b"data"
    assert stat.S_IMODE(target.stat().st_mode) == 0o444
    source.write_bytes(b"dato")
    with pytest.raises(IntegrityError, match="source"):
        copy_verified(source, target, hashlib.sha256(b"data").hexdigest())
    assert target.read_bytes() == b"data"
    assert list(target.parent.iterdir()) == [target]
    with pytest.raises(FileNotFoundError):
        copy_verified(tmp_path / "none", tmp_path / "other", "0" * 64)
    assert not (tmp_path / "other").exists()


def test_a_copy_that_arrived_in_part_is_refused_though_its_source_is_sound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_part(source: Path, target: Path) -> None:
        target.write_bytes(source.read_bytes()[:2])

    (tmp_path / "source").write_bytes(b"data")
    monkeypatch.setattr("cd4ml.gateways.files.shutil.copyfile", in_part)
    with pytest.raises(IntegrityError, match="source"):
        copy_verified(tmp_path / "source", tmp_path / "target", hashlib.sha256(b"data").hexdigest())
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_file_takes_its_place_only_once_its_bytes_are_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a loss of power could leave an empty file under its name."""
    done: list[tuple[str, int]] = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(handle: int) -> None:
        done.append(("on the disk", os.fstat(handle).st_ino))
        fsync(handle)

    def noted_replace(source: Path, target: Path) -> None:
        done.append(("in its place", source.stat().st_ino))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    write_atomically(tmp_path / "file", b"data")
    number = (tmp_path / "file").stat().st_ino
    assert done == [("on the disk", number), ("in its place", number)]


def test_a_file_may_have_the_longest_name_that_there_is(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 255)
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_wrong_read_only_copy_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"damaged")
    (tmp_path / "target").chmod(0o444)
    (tmp_path / "source").write_bytes(b"data")
    copy_verified(tmp_path / "source", tmp_path / "target", hashlib.sha256(b"data").hexdigest())
    assert (tmp_path / "target").read_bytes() == b"data"


def test_removing_follows_no_link_and_changes_no_mode_outside(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"mine")
    (outside / "file").chmod(0o400)
    outside.chmod(0o500)
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "deep" / "folder").symlink_to(outside)
    (tree / "deep" / "file").symlink_to(outside / "file")
    (tree / "deep" / "gone").symlink_to("nowhere")
    (tree / "deep").chmod(0o500)
    remove_tree(tree)
    for name in ("link", "broken"):
        (tmp_path / name).symlink_to(outside if name == "link" else "nowhere")
        remove_tree(tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outside"]
    assert (stat.S_IMODE(outside.stat().st_mode), stat.S_IMODE((outside / "file").stat().st_mode)) == (0o500, 0o400)
    outside.chmod(0o700)


def test_a_tree_without_permissions_is_removed_by_its_owner(anyones: Path) -> None:
    def work() -> None:
        tree = anyones / "tree"
        (tree / "a" / "b").mkdir(parents=True)
        (tree / "a" / "file").write_bytes(b"x")
        (tree / "a" / "file").chmod(0o000)
        (tree / "a" / "b").chmod(0o000)
        (tree / "a").chmod(0o400)
        tree.chmod(0o500)
        remove_tree(tree)
        if tree.exists():
            raise OSError

    assert in_child(work, prepare=unprivileged) == 0


def test_a_tree_that_cannot_be_removed_is_an_error_and_not_a_silence(anyones: Path) -> None:
    (anyones / "locked" / "tree").mkdir(parents=True)
    (anyones / "locked").chmod(0o555)
    assert in_child(lambda: remove_tree(anyones / "locked" / "tree"), prepare=unprivileged) == 1


def test_removing_what_is_not_there_or_is_a_file_is_harmless(tmp_path: Path) -> None:
    remove_tree(tmp_path / "none")
    (tmp_path / "file").write_bytes(b"x")
    remove_tree(tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def hold(path: str, ready: object, seconds: float) -> None:
    with exclusive(Path(path)):
        ready.set()  # type: ignore[attr-defined]  # an event of multiprocessing, whose type is not public
        time.sleep(seconds)


def test_a_lock_is_held_by_one_process_at_a_time_and_freed_by_its_death(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    holder = context.Process(target=hold, args=(str(tmp_path / "deep" / "lock"), ready, 60))
    holder.start()
    assert ready.wait(10)
    order: list[str] = []

    def take() -> None:
        with exclusive(tmp_path / "deep" / "lock"):
            order.append("taken")

    waiter = threading.Thread(target=take)
    waiter.start()
    time.sleep(0.2)
    order.append("killed")
    holder.kill()
    holder.join()
    waiter.join(10)
    assert order == ["killed", "taken"]


def test_a_file_that_somebody_named_keeps_its_mode_and_a_new_one_gets_the_usual(tmp_path: Path) -> None:
    mine, new = tmp_path / "mine", tmp_path / "new"
    mine.touch(0o600)
    mine.chmod(0o600)
    before = os.umask(0o027)
    try:
        for path in (mine, new):
            hand_over(path, b"x")
    finally:
        os.umask(before)
    assert [(path.read_bytes(), path.stat().st_mode & 0o777) for path in (mine, new)] == [(b"x", 0o600), (b"x", 0o640)]


def test_a_link_and_a_pipe_that_somebody_named_are_written_through_and_stay(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    hand_over(tmp_path / "link", b"x")
    hand_over(tmp_path / "link", b"y")
    assert ((tmp_path / "file").read_bytes(), (tmp_path / "link").is_symlink()) == (b"y", True)
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor(1) as reader:
        read = reader.submit((tmp_path / "pipe").read_bytes)
        hand_over(tmp_path / "pipe", b"z")
        assert read.result() == b"z"
    assert (tmp_path / "pipe").is_fifo()


_KILLED_IN_ITS_FOLDER = """
import os, signal
from cd4ml.gateways.files import scratch
with scratch("cd4ml-test-") as folder:
    (folder / "large").write_text("what it was at")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_temporary_folder_goes_at_the_end_and_that_of_a_killed_process_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    killed = subprocess.run([sys.executable, "-c", _KILLED_IN_ITS_FOLDER], check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    with scratch("cd4ml-test-"):
        assert left.exists(), "it may be one that somebody is about to hold"
    os.utime(left / "cd4ml.lock", (0, 0))
    (tmp_path / "cd4ml-test-odd").mkdir()
    os.mkfifo(tmp_path / "cd4ml-test-odd" / "cd4ml.lock")
    with scratch("cd4ml-test-") as one, scratch("cd4ml-test-") as other:
        assert not left.exists()
        assert one != other
        os.utime(one.parent / "cd4ml.lock", (0, 0))
        with scratch("cd4ml-test-"):
            assert one.is_dir(), "nobody takes it from who is at it"
    assert [path.name for path in tmp_path.iterdir()] == ["cd4ml-test-odd"]
