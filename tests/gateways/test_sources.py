"""Raw data from packages, files and URLs, and nothing from anywhere else."""

from __future__ import annotations

import functools
import http.server
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cd4ml.errors import RemoteError, UsageError
from cd4ml.gateways.sources import fetch, fetch_source, file_name, override_variable
from cd4ml.spec.experiment import SourceSpec


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "raw").mkdir(parents=True)
    (folder / "raw" / "a.csv").write_bytes(b"x\n1\n")
    (tmp_path / "secret").write_bytes(b"secret")
    return folder


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = tmp_path / "site" / "few_rows"
    (folder / "data").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')\n", "utf-8")
    (folder / "data" / "a.csv").write_bytes(b"packaged")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return "few_rows"


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder and says nothing of it."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name of the base class
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "web"
    folder.mkdir()
    (folder / "a.csv").write_bytes(b"web" * 1000)
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as http_server:
        thread = threading.Thread(target=http_server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http_server.server_port}"
        http_server.shutdown()
        thread.join()


def test_a_file_of_the_project_is_copied(root: Path, tmp_path: Path) -> None:
    fetch("raw/a.csv", root, tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"x\n1\n"


@pytest.mark.parametrize(
    "location", ["../secret", "raw/../../secret", "/etc/passwd", "raw/link", "raw/folder/secret", "a\0b"]
)
def test_a_path_out_of_the_project_is_refused(root: Path, tmp_path: Path, location: str) -> None:
    (root / "raw" / "link").symlink_to(tmp_path / "secret")
    (root / "raw" / "folder").symlink_to(tmp_path)
    with pytest.raises(UsageError, match="outside the project"):
        fetch(location, root, tmp_path / "target")
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("location", ["raw/none.csv", "raw", "", "."])
def test_what_is_no_file_is_refused(root: Path, tmp_path: Path, location: str) -> None:
    with pytest.raises(UsageError, match="no such file"):
        fetch(location, root, tmp_path / "target")


def test_a_file_that_a_package_ships_is_found_without_importing_it(package: str, root: Path, tmp_path: Path) -> None:
    fetch(f"package://{package}/data/a.csv", root, tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"packaged"
    assert package not in sys.modules


def test_every_folder_of_a_namespace_package_is_looked_in(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2):
        (tmp_path / str(number) / "spread").mkdir(parents=True)
        monkeypatch.syspath_prepend(str(tmp_path / str(number)))
    (tmp_path / "1" / "spread" / "a.csv").write_bytes(b"found")
    fetch("package://spread/a.csv", root, tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"found"


@pytest.mark.parametrize(
    ("inner", "message"),
    [
        ("few_rows/../../../secret", "expected package"),
        ("few_rows//etc/passwd", "expected package"),
        ("few_rows/", "expected package"),
        ("few_rows", "expected package"),
        ("few_rows.data/a.csv", "expected package"),
        ("os;x/a.csv", "expected package"),
        ("no_such_package/a.csv", "no_such_package is not installed"),
        ("__main__/a.csv", "__main__ is not installed"),
        ("sys/a.csv", "sys is not installed"),
        ("few_rows/data/none.csv", "no such file"),
        ("few_rows/data", "no such file"),
    ],
)
def test_a_package_gives_only_what_it_ships(package: str, root: Path, tmp_path: Path, inner: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        fetch(f"package://{inner}", root, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_urls_are_read_by_fsspec(root: Path, tmp_path: Path, server: str) -> None:
    import fsspec

    with fsspec.open("memory://bucket/a.csv", "wb") as stream:
        stream.write(b"remembered")
    for location, expected in {
        "memory://bucket/a.csv": b"remembered",
        f"file://{root}/raw/a.csv": b"x\n1\n",
        f"{server}/a.csv": b"web" * 1000,
    }.items():
        fetch(location, root, tmp_path / "target")
        assert (tmp_path / "target").read_bytes() == expected


def test_a_url_that_gives_nothing_is_an_error_in_one_line(root: Path, tmp_path: Path, server: str) -> None:
    for location, kind in {
        "memory://bucket/none.csv": UsageError,
        f"{server}/none.csv": UsageError,
        "nosuchscheme://x/a.csv": UsageError,
        f"file://{root}/raw": RemoteError,
        "http://127.0.0.1:1/a.csv": RemoteError,
    }.items():
        with pytest.raises(kind) as caught:
            fetch(location, root, tmp_path / "target")
        assert str(caught.value).startswith(location)


@pytest.mark.parametrize(
    ("location", "name"),
    [
        ("package://few/data/flights.csv.zip", "flights.csv.zip"),
        ("raw/a.csv", "a.csv"),
        ("https://host/a.csv.gz?token=a/b.zip", "a.csv.gz"),
        ("s3://bucket/größe.parquet", "größe.parquet"),
        ("", ""),
    ],
)
def test_the_name_is_the_last_part_of_the_path(location: str, name: str) -> None:
    assert file_name(SourceSpec("x", location, "csv")) == name


def test_the_answer_of_a_database_has_the_name_of_its_source() -> None:
    assert file_name(SourceSpec("sales", "postgresql://host/db.csv.zip", "sql", "SELECT 1")) == "sales.parquet"


@pytest.mark.parametrize(
    ("source", "variable"),
    [("flights", "CD4ML_SOURCE_FLIGHTS_URL"), ("daily-sales_2", "CD4ML_SOURCE_DAILY_SALES_2_URL")],
)
def test_the_variable_of_a_source_is_its_name_in_capitals(source: str, variable: str) -> None:
    assert override_variable(source) == variable


def test_an_environment_variable_replaces_a_location_for_the_fetch(
    root: Path, tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CD4ML_SOURCE_SALES_URL", f"{server}/a.csv?signature=s3cret")
    fetch_source(SourceSpec("sales", "https://nowhere.invalid/a.csv", "csv"), root, tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"web" * 1000
    fetch_source(SourceSpec("other", "raw/a.csv", "csv"), root, tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"x\n1\n"


@pytest.mark.parametrize("url", ["{server}/none.csv?key=s3cret", "http://127.0.0.1:1/s3cret", "s3cret://x/a", "s3cret"])
def test_what_an_environment_variable_holds_is_never_told(
    root: Path, tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("CD4ML_SOURCE_SALES_URL", url.format(server=server))
    with pytest.raises((RemoteError, UsageError), match=r"^source sales: \$CD4ML_SOURCE_SALES_URL: ") as caught:
        fetch_source(SourceSpec("sales", "raw/a.csv", "csv"), root, tmp_path / "target")
    assert "s3cret" not in str(caught.value)
    assert caught.value.__suppress_context__
