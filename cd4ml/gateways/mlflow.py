"""MLflow: the runs of a tracking store. The one door to ``mlflow``, which is brought in where it is used."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from cd4ml.errors import RemoteError, UsageError
from cd4ml.gateways.files import scratch
from cd4ml.gateways.sqlite_file import copy_database, is_database
from cd4ml.index.foreign import ForeignRun, Unreadable, without_secrets
from cd4ml.spec.text import one_line

if TYPE_CHECKING:
    from mlflow.entities import Experiment, Run
    from mlflow.tracking import MlflowClient

_PAGE = 1000
_ENDED = {"FINISHED": True, "FAILED": False, "KILLED": False}
_OWN_TAGS = "mlflow."
_DATABASES = ("postgresql", "mysql", "mssql")
_DESCRIBED = "meta.yaml"
"""The file that says what a folder of a file store is."""
_MOST_SHOWN = 300


_PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "PGCONNECT_TIMEOUT": "30",
}
"""For how long a store that does not answer is waited for, unless the user says otherwise: not for minutes."""


@contextmanager
def open_store(uri: str) -> Iterator[MlflowClient]:
    """A client for the tracking store at ``uri``: ``sqlite:///FILE``, a folder, or the address of a server.

    The store is only read. A client brings the tables of what it opens up to date and makes folders in a file store:
    so it sees a copy of a file of SQLite, and a folder of links to a file store's runs. Raises UsageError when mlflow
    is not installed or there is no such store, RemoteError for one that does not answer or is damaged.
    """
    # neither usage reports nor progress of table updates are of interest to who imports
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)
    try:
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        raise UsageError("importing from MLflow needs its client: pip install 'cd4ml[mlflow]'") from error
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with scratch("cd4ml-mlflow-") as folder:
        with _failures():
            readable = _readable(uri, folder)
            client = MlflowClient(tracking_uri=readable)
        yield client


def _readable(uri: str, folder: Path) -> str:
    """An address under which the store can be read without being changed."""
    parts = urlsplit(uri)
    shown = one_line(without_secrets(uri), _MOST_SHOWN)
    if parts.scheme == "sqlite":
        file = Path(unquote(uri.partition("sqlite:///")[2]))
        if not is_database(file):
            raise UsageError(f"{shown}: is not a SQLite file")
        copy_database(file, folder / "store.db")
        copy = f"sqlite:///{folder / 'store.db'}"
        _check_tables(copy, shown)
        return copy
    if parts.scheme in ("", "file"):
        place = Path(unquote(parts.path)) if parts.scheme else Path(uri)
        if not place.is_dir():
            raise UsageError(f"{shown}: no such folder")
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        if not _link_experiments(place.absolute(), folder):
            raise UsageError(f"{shown}: holds no experiments of MLflow (*/meta.yaml): name its folder of runs")
        return folder.as_uri()
    if parts.scheme.partition("+")[0] in _DATABASES:
        _check_tables(uri, shown)
    return uri


def _check_tables(uri: str, shown: str) -> None:
    """See that the database answers and is MLflow's: a client tries a dead one ten times, and fills an empty one."""
    from sqlalchemy import create_engine, inspect, pool

    engine = create_engine(uri, poolclass=pool.NullPool)
    if not inspect(engine).has_table("experiments"):
        raise UsageError(f"{shown}: holds no tables of MLflow")


def _link_experiments(store: Path, folder: Path) -> int:
    """Make a file store of links to the runs of another, for a client to write beside; gives the experiments."""
    count = 0
    for experiment in sorted(store.iterdir()):
        described = experiment / _DESCRIBED
        if not described.is_file() or not described.stat().st_size:
            continue
        (folder / experiment.name).mkdir()
        for one in experiment.iterdir():
            if one.name == _DESCRIBED or _may_be_run(one):
                (folder / experiment.name / one.name).symlink_to(one)
        count += 1
    return count


def _may_be_run(folder: Path) -> bool:
    try:
        return (folder / _DESCRIBED).is_file()
    except PermissionError:  # it is named when it is read
        return True


def experiments_of(client: MlflowClient, names: Sequence[str]) -> dict[str, str]:
    """Names of the store's experiments by their ids; only these, when any are named.

    Raises UsageError for a name that none bears, RemoteError when the store does not answer.
    """
    with _failures():
        found = {one.experiment_id: str(one.name) for page in _experiment_pages(client) for one in page}
    unknown = [name for name in names if name not in found.values()]
    if unknown:
        there = one_line(", ".join(sorted(found.values())), _MOST_SHOWN)
        raise UsageError(f"{unknown[0]}: no experiment of that name (there are: {there})")
    return {number: name for number, name in found.items() if not names or name in names}


def _experiment_pages(client: MlflowClient) -> Iterator[Sequence[Experiment]]:
    token = None
    while True:
        page = client.search_experiments(max_results=_PAGE, page_token=token)
        yield page
        token = page.token
        if not token:
            return


def runs_of(client: MlflowClient, uri: str, experiments: dict[str, str]) -> Iterator[ForeignRun | Unreadable | None]:
    """Every run of these experiments, the oldest first; nothing in place of one that has not ended."""
    store = urlsplit(client.tracking_uri)
    for number, name in experiments.items():
        if store.scheme == "file":
            found = _filed_runs(client, Path(unquote(store.path)) / number)
        else:
            found = _searched_runs(client, number)
        for run in found:
            yield run if isinstance(run, Unreadable) else _foreign(run, uri, name)


def _searched_runs(client: MlflowClient, experiment: str) -> Iterator[Run]:
    token = None
    while True:
        with _failures():
            page = client.search_runs(
                [experiment], max_results=_PAGE, order_by=["attributes.start_time ASC"], page_token=token
            )
        yield from page
        token = page.token
        if not token:
            return


def _filed_runs(client: MlflowClient, folder: Path) -> Iterator[Run | Unreadable]:
    """The same of a file store, one by one: a search there fails for all when one of them is damaged."""
    found = []
    for name in sorted(path.name for path in folder.iterdir()):
        described = folder / name / _DESCRIBED
        try:
            if not described.is_file():
                continue
            if described.stat().st_size:
                found.append(client.get_run(name))
            else:  # as a client leaves that was killed
                yield Unreadable(one_line(name, _MOST_SHOWN), f"its {_DESCRIBED} is empty")
        except Exception as error:  # noqa: BLE001  # whatever the client's readers of YAML and numbers raise
            yield Unreadable(one_line(name, _MOST_SHOWN), _said(error))
    yield from sorted(
        (run for run in found if run.info.lifecycle_stage == "active"), key=lambda run: run.info.start_time or 0
    )


def _foreign(run: Run, uri: str, experiment: str) -> ForeignRun | None:
    info, data = run.info, run.data
    if info.status not in _ENDED:
        return None
    own = data.tags
    return ForeignRun(
        tool="mlflow",
        location=uri,
        experiment=experiment,
        id=info.run_id,
        name=info.run_name or own.get("mlflow.runName", ""),
        author=own.get("mlflow.user", info.user_id or ""),
        description=own.get("mlflow.note.content", ""),
        succeeded=_ENDED[info.status],
        params=data.params,
        metrics=data.metrics,
        tags={name: value for name, value in own.items() if not name.startswith(_OWN_TAGS)},
        started=_instant(info.start_time),
        finished=_instant(info.end_time),
        commit=own.get("mlflow.source.git.commit"),
    )


def _instant(milliseconds: int | None) -> datetime | None:
    if not milliseconds or not 0 < milliseconds < 253_370_764_800_000:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


@contextmanager
def _failures() -> Iterator[None]:
    """What the client and the libraries under it raise, in one line."""
    try:
        yield
    except (RemoteError, UsageError):
        raise
    except Exception as error:  # the client raises what its stores do: of SQL, of HTTP, of its own
        raise RemoteError(f"MLflow: {_said(error)}") from error


def _said(error: Exception) -> str:
    told = [line for line in str(error).splitlines() if line.strip() and not line.startswith("(Background on")]
    return one_line(told[0] if told else type(error).__name__, _MOST_SHOWN)
