"""cd4ml in Python: what the edit loop needs in a notebook or a script.

::

    import cd4ml

    cd4ml.run("model.parameters.alpha=3")               # as `cd4ml run`; shows itself in a notebook
    cd4ml.load_spec("exp/deeper").model.name
    cd4ml.search("metrics.rmse < 18").sort_values("metrics.test.rmse")
    cd4ml.load_model("exp/deeper").predict(features)

Every function takes the project's ``directory`` (any folder in it), changes neither the current folder nor a
signal handler, and raises the errors of ``cd4ml.errors``. Nothing is printed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cd4ml.errors import UsageError
from cd4ml.gateways.process import thread_environment

if TYPE_CHECKING:
    import pandas as pd

    from cd4ml.controller.editing.edit import Edited
    from cd4ml.controller.project import Project
    from cd4ml.controller.running.run import Event
    from cd4ml.promotion.compare import Comparison
    from cd4ml.spec.experiment import Spec

__all__ = ["RunResult", "load_model", "load_spec", "run", "search"]


@dataclass(frozen=True)
class RunResult:
    """How a run of the work tree ended.

    ``outcome`` is ``"succeeded"`` or ``"failed"`` (``reason`` then says why, in one line); ``metrics`` are by side,
    then by name, in the units of the target; ``comparison`` is with the champion, and missing where there is none,
    or this is it. ``known`` is true when it was run before, so that nothing was run now.
    """

    id: str
    fingerprint: str
    outcome: str
    reason: str
    metrics: Mapping[str, Mapping[str, float]]
    comparison: Comparison | None
    known: bool

    def __repr__(self) -> str:
        sides = (
            f"{side}: " + ", ".join(f"{metric} {value:.6g}" for metric, value in values.items())
            for side, values in self.metrics.items()
        )
        known = " (run before)" if self.known else ""
        verdict = f"{self.comparison.verdict}: {self.comparison.reason}" if self.comparison else ""
        return "\n".join(filter(None, (f"{self.id}: {self.outcome}{known}", self.reason, verdict, *sides)))

    def _repr_html_(self) -> str:
        """A table of the metrics beside the champion's, for a notebook's cell."""
        if self.comparison is None:
            return f"<pre>{escape(repr(self))}</pre>"
        rows = "".join(
            "<tr>"
            + "".join(
                f"<td>{escape(cell)}</td>"
                for cell in (one.side, one.metric, _number(one.champion), _number(one.challenger), one.judgement)
            )
            + "</tr>"
            for one in self.comparison.metrics
        )
        head = "".join(f"<th>{title}</th>" for title in ("side", "metric", "champion", "this run", ""))
        told = escape(f"{self.id}: {self.comparison.verdict}: {self.comparison.reason}")
        return f"<p>{told}</p><table><tr>{head}</tr>{rows}</table>"


def run(
    *overrides: str,
    directory: str | Path = ".",
    remote: str = "",
    retry: bool = False,
    progress: Callable[[Event], None] | None = None,
) -> RunResult:
    """Run the work tree as it is, with Hydra overrides on top, and compare it with the champion: ``cd4ml run``.

    A run that fails is a result whose ``outcome`` is ``"failed"``. ``progress`` is called with an event for every
    stage. Side effects: those of ``cd4ml run``, a warm process that lingers among them. Raises ConfigError for
    what is wrong in conf/ or an override, RepositoryError, RemoteError. An interrupt ends everything it started.
    """
    from cd4ml.controller.editing.edit import run_work_tree

    return _result(run_work_tree(_project(directory, remote), overrides, progress or _silent, retry=retry))


def load_spec(revision: str = "", directory: str | Path = ".", *, remote: str = "") -> Spec:
    """The checked configuration of a commit or branch; of the work tree, committed or not, for ``""``.

    Raises UsageError for a revision that is not here, ConfigError with every problem found.
    """
    from cd4ml.controller.desired.specs import configuration
    from cd4ml.spec.parse import parse

    _check_text(revision)
    return parse(*configuration(_project(directory, remote), revision))


def search(
    filter: str = "",  # noqa: A002  # what the command line and docs/search.md call it
    directory: str | Path = ".",
    *,
    order_by: str | Sequence[str] = "",
    limit: int | None = None,
    columns: str | Sequence[str] = "",
    remote: str = "",
) -> pd.DataFrame:
    """The runs that a filter picks, one a row, those of deleted branches included: ``cd4ml search``.

    ``order_by`` and ``columns`` are as on the command line, or a list of what stands between the commas. Without
    ``columns`` there is one for every field of docs/search.md, every metric of any run in the index, and every other
    value of the runs found, by the path that a filter knows it by (``metrics.validation.rmse``); packages only when
    they are asked for. dtypes: text ``string``, whole numbers ``Int64``, other numbers (metrics, seconds)
    ``float64``, truth ``boolean``, instants ``datetime64[us, UTC]``; lists, and what has several kinds, are objects.
    What a run does not have is missing. Warns of a name that no run has. Raises UsageError for what cannot be read.
    """
    import warnings

    from cd4ml.controller.history.search import search as ask
    from cd4ml.index.grid import grid
    from cd4ml.report.runs import frame

    order, shown = (text if isinstance(text, str) else ", ".join(text) for text in (order_by, columns))
    _check_text(filter, order, shown)
    found = ask(_project(directory, remote), filter, order=order, limit=limit, columns=shown)
    for line in found.hints:
        warnings.warn(line, stacklevel=2)
    return frame(grid(found.runs, found.columns, found.held))


def load_model(run: str, directory: str | Path = ".", *, remote: str = "") -> Any:
    """The fitted estimator of a run: by its id, a unique prefix of a fingerprint, or a branch.

    The bytes come from DVC's cache, else from its remote, and are what the record says to the byte. Loading runs
    nothing but constructors of scikit-learn, XGBoost and the packages that the base branch allows. A project's own
    classes must be importable where this is called, as they were when the model was made: install the package, or
    have its folder on ``sys.path``. Raises UsageError for a name that means no run, RemoteError when the bytes are
    nowhere to be had, IntegrityError when they are wrong or hold a class that is not allowed or not importable.
    """
    from cd4ml.controller.history.models import load_model as load

    _check_text(run)
    return load(_project(directory, remote), run)


def _check_text(*texts: str) -> None:
    """The command line is given no other: half of a surrogate pair is nowhere in an index, nor can it be looked for."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UsageError(f"{text[:80]!r} is not valid Unicode") from None


def _project(directory: str | Path, remote: str) -> Project:
    from cd4ml.controller.project import open_project

    for name, value in thread_environment(1).items():
        os.environ.setdefault(name, value)  # as the command line does, for libraries that are not loaded yet
    return open_project(Path(directory).resolve(), remote)


def _silent(_: Event) -> None:
    pass


def _result(edited: Edited) -> RunResult:
    found, reason = edited.run, edited.run.reason
    told = f"{reason['stage']}: {reason['message']}" if reason else ""
    outcome = str(found.body["outcome"])
    return RunResult(found.id, found.fingerprint, outcome, told, found.metrics, edited.comparison, edited.known)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.6g}"
