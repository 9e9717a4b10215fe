"""MLflow: the runs of a tracking store. The one door to ``mlflow``, which is brought in where it is used."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from cd4ml.errors import RemoteError, UsageError
from cd4ml.index.foreign import ForeignRun

if TYPE_CHECKING:
    from mlflow.entities import Experiment, Run
    from mlflow.tracking import MlflowClient

_PAGE = 1000
_ENDED = {"FINISHED": True, "FAILED": False, "KILLED": False}
_OWN_TAGS = "mlflow."


@contextmanager
def open_store(uri: str) -> Iterator[MlflowClient]:
    """A client for the tracking store at ``uri``: ``sqlite:///FILE``, a folder, or the address of a server.

    A file of SQLite is read from a copy, since a client brings the tables of what it opens up to date. Raises
    UsageError when mlflow is not installed or there is no such store.
    """
    # neither usage reports nor progress of table updates are of interest to who imports
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        raise UsageError("importing from MLflow needs its client: pip install 'cd4ml[mlflow]'") from error
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="cd4ml-mlflow-") as folder:
        yield MlflowClient(tracking_uri=_readable(uri, Path(folder)))


def _readable(uri: str, folder: Path) -> str:
    """An address under which the store can be read without being changed."""
    parts = urlsplit(uri)
    if parts.scheme == "sqlite":
        file = Path(unquote(uri.partition("sqlite:///")[2]))
        if not file.is_file() or not file.read_bytes()[:16].startswith(b"SQLite format 3"):
            raise UsageError(f"{uri}: is not a SQLite file")
        for part in (file, Path(f"{file}-wal")):
            if part.is_file():
                shutil.copyfile(part, folder / f"store.db{part.name.removeprefix(file.name)}")
        return f"sqlite:///{folder / 'store.db'}"
    if parts.scheme in ("", "file"):
        place = Path(unquote(parts.path)) if parts.scheme else Path(uri)
        if not place.is_dir():
            raise UsageError(f"{uri}: no such folder")
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        return place.absolute().as_uri()
    return uri


def experiments_of(client: MlflowClient, names: Sequence[str]) -> dict[str, str]:
    """Names of the store's experiments by their ids; only these, when any are named.

    Raises UsageError for a name that none bears, RemoteError when the store does not answer.
    """
    with _failures():
        found = {one.experiment_id: str(one.name) for page in _experiment_pages(client) for one in page}
    unknown = [name for name in names if name not in found.values()]
    if unknown:
        raise UsageError(f"{unknown[0]}: no experiment of that name (there are: {', '.join(sorted(found.values()))})")
    return {number: name for number, name in found.items() if not names or name in names}


def _experiment_pages(client: MlflowClient) -> Iterator[Sequence[Experiment]]:
    token = None
    while True:
        page = client.search_experiments(max_results=_PAGE, page_token=token)
        yield page
        token = page.token
        if not token:
            return


def runs_of(client: MlflowClient, uri: str, experiments: dict[str, str]) -> Iterator[ForeignRun | None]:
    """Every run of these experiments, the oldest first; nothing in place of one that has not ended."""
    for number, name in experiments.items():
        token = None
        while True:
            with _failures():
                page = client.search_runs(
                    [number], max_results=_PAGE, order_by=["attributes.start_time ASC"], page_token=token
                )
            for run in page:
                yield _foreign(run, uri, name)
            token = page.token
            if not token:
                break


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
        told = str(error).strip().splitlines() or [type(error).__name__]
        raise RemoteError(f"MLflow: {told[0][:300]}") from error
