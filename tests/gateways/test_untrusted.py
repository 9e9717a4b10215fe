"""Files that somebody else wrote: nothing but plain files is read, and of those no more than was to be read."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cd4ml.errors import IntegrityError
from cd4ml.gateways import untrusted
from cd4ml.gateways.files import digest_file

HELD = b'{"a": 1}'
HUGE = 1 << 40
"""Bytes of a file without any blocks: who read it all would have no memory for it."""


def a_link(place: Path, elsewhere: Path) -> None:
    place.symlink_to(elsewhere)


def a_hard_link(place: Path, elsewhere: Path) -> None:
    place.hardlink_to(elsewhere)


def a_folder(place: Path, elsewhere: Path) -> None:
    place.mkdir()


def a_pipe(place: Path, elsewhere: Path) -> None:
    os.mkfifo(place)


def a_socket(place: Path, elsewhere: Path) -> None:
    here = Path.cwd()
    os.chdir(place.parent)  # the path of a socket has a hundred letters at most
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(place.name)
    finally:
        os.chdir(here)


def nothing(place: Path, elsewhere: Path) -> None:
    pass


NO_FILE = (a_link, a_hard_link, a_folder, a_pipe, a_socket, nothing)
Make = Callable[[Path, Path], None]


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A file outside of the folder, which holds what was asked for."""
    path = tmp_path / "elsewhere"
    path.write_bytes(HELD)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "folder"
    (path / "in").mkdir(parents=True)
    return path


def test_a_plain_file_is_read_by_each(folder: Path, elsewhere: Path, tmp_path: Path) -> None:
    path = folder / "in/x"
    path.write_bytes(HELD)
    assert untrusted.read_json(path, len(HELD)) == {"a": 1}
    assert untrusted.read_plain(folder, "in/x", len(HELD)) == HELD
    assert untrusted.digest_plain(folder, "in/x") == digest_file(elsewhere)
    assert untrusted.tail_plain(folder, "in/x", 3) == HELD[-3:]
    untrusted.check_holds_only(folder, {"in/x": len(HELD)})
    untrusted.take(folder, "in/x", tmp_path / "taken", digest_file(elsewhere))
    assert (tmp_path / "taken").read_bytes() == HELD


@pytest.mark.parametrize("make", NO_FILE, ids=lambda make: make.__name__)
def test_what_is_no_plain_file_is_read_by_none(folder: Path, elsewhere: Path, tmp_path: Path, make: Make) -> None:
    make(folder / "in/x", elsewhere)
    promised = digest_file(elsewhere)
    if make is not a_hard_link:  # of this process's own folder, where nobody else can have made one
        assert untrusted.read_json(folder / "in/x", 100) is None
    assert untrusted.digest_plain(folder, "in/x") is None
    assert untrusted.tail_plain(folder, "in/x", 3) is None
    with pytest.raises(IntegrityError, match="in/x"):
        untrusted.read_plain(folder, "in/x", 100)
    with pytest.raises(IntegrityError, match="in/x"):
        untrusted.check_holds_only(folder, {"in/x": len(HELD)})
    with pytest.raises(IntegrityError, match="in/x"):
        untrusted.take(folder, "in/x", tmp_path / "taken", promised)
    assert not (tmp_path / "taken").exists()


@pytest.mark.parametrize("path", ["up/x", "in/../up/x", "./in/x"])
def test_no_link_and_no_dots_on_the_way_are_followed(folder: Path, elsewhere: Path, tmp_path: Path, path: str) -> None:
    (folder / "in/x").write_bytes(HELD)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x").write_bytes(HELD)
    (folder / "up").symlink_to(outside, target_is_directory=True)
    assert untrusted.digest_plain(folder, path) is None
    assert untrusted.tail_plain(folder, path, 3) is None
    with pytest.raises(IntegrityError):
        untrusted.read_plain(folder, path, 100)
    with pytest.raises(IntegrityError):
        untrusted.take(folder, path, tmp_path / "taken", digest_file(elsewhere))
    with pytest.raises(IntegrityError):
        untrusted.check_holds_only(folder, {"in/x": len(HELD), path: len(HELD)})


def test_no_more_is_read_than_was_to_be(folder: Path, elsewhere: Path, tmp_path: Path) -> None:
    path = folder / "in/x"
    with path.open("wb") as file:
        file.write(HELD)
        file.truncate(HUGE)
    assert untrusted.read_json(path, len(HELD)) is None
    with pytest.raises(IntegrityError, match=r"more than 8 bytes"):
        untrusted.read_plain(folder, "in/x", len(HELD))
    with pytest.raises(IntegrityError, match=r"and 8 were promised"):
        untrusted.take(folder, "in/x", tmp_path / "taken", digest_file(elsewhere))
    assert untrusted.tail_plain(folder, "in/x", 3) == b"\0\0\0"


@pytest.mark.parametrize(
    "data", [b"NaN", b'{"a": Infinity}', b"-Infinity", b"[" * 100_000, b"9" * 5000, b"{", b"\xff", b""]
)
def test_what_is_no_json_or_no_number_is_nothing(folder: Path, data: bytes) -> None:
    (folder / "x").write_bytes(data)
    assert untrusted.read_json(folder / "x", 1 << 20) is None
    with pytest.raises(IntegrityError):
        untrusted.parse_strictly(data)


def test_where_each_thing_is_to_be_said_once_a_second_time_is_refused() -> None:
    assert untrusted.parse_strictly(b'{"a": {"b": 1}, "c": 2}') == {"a": {"b": 1}, "c": 2}
    with pytest.raises(IntegrityError):
        untrusted.parse_strictly(b'{"a": {"b": 1, "b": 2}}')


def test_other_bytes_of_the_promised_size_are_not_taken(folder: Path, elsewhere: Path, tmp_path: Path) -> None:
    (folder / "in/x").write_bytes(b'{"a": 2}')
    with pytest.raises(IntegrityError, match="does not hold the bytes"):
        untrusted.take(folder, "in/x", tmp_path / "taken", digest_file(elsewhere))
    assert not (tmp_path / "taken").exists()


@given(st.integers(0, 5), st.integers(0, 5))
def test_a_folder_is_listed_only_up_to_so_many_names(
    tmp_path_factory: pytest.TempPathFactory, there: int, most: int
) -> None:
    folder = tmp_path_factory.mktemp("listed")
    for number in range(there):
        (folder / str(number)).touch()
    if there > most:
        with pytest.raises(IntegrityError, match=f"more than {most} entries"):
            untrusted.names_in(folder, most)
    else:
        assert untrusted.names_in(folder, most) == [str(number) for number in range(there)]


def test_a_file_too_many_or_in_a_folder_that_was_not_to_be_is_named(folder: Path) -> None:
    (folder / "in/x").write_bytes(HELD)
    for extra in ("y", "in/y", "more/y"):
        path = folder / extra
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
        with pytest.raises(IntegrityError, match=extra.split("/")[0]):
            untrusted.check_holds_only(folder, {"in/x": len(HELD)})
        path.unlink()
        if path.parent.name == "more":
            with pytest.raises(IntegrityError, match="more"):  # an empty folder is one too many as well
                untrusted.check_holds_only(folder, {"in/x": len(HELD)})
