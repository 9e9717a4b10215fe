"""Stage ``featurize``: the columns that the model sees, learnt on the train side and the same for all sides."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from cd4ml.errors import ConfigError, Problem, StageFailed
from cd4ml.spec.experiment import FeaturesSpec
from cd4ml.spec.pipeline import FEATURE_SCHEMA, FEATURES, PARAMS_FILE, SIDES, SPLIT, TABLE
from cd4ml.stages.job import Job, put, put_json, read_json

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

STAGE = "featurize"
ROW = "__row__"
"""The column of a side's file that says which row of the table it is."""

CALENDAR_PARTS: Mapping[str, str] = MappingProxyType(
    {"month": "month", "day": "day", "dayofweek": "day_of_week", "hour": "hour", "minute": "minute"}
)
"""Parts of a moment in UTC by the name that configuration gives them: what pandas calls them (Monday is 0)."""


def run(job: Job) -> None:
    """Read ``TABLE`` and ``SPLIT``; write the sides' features and ``FEATURE_SCHEMA``."""
    from cd4ml.stages.table import read_parquet, write_parquet

    table = read_parquet(job.root / TABLE)
    side = read_parquet(job.root / SPLIT, ["row", "side"])["side"]
    features, schema = featurize_table(table, side, job.spec.features, job.spec.data.target)
    for name in SIDES:
        here = features[(side == name).to_numpy()].reset_index(drop=True)
        put(job.root, FEATURES[name], lambda path, here=here: write_parquet(here, path))  # type: ignore[misc]  # bound now
    put_json(job.root, FEATURE_SCHEMA, schema)


def featurize_table(
    table: pd.DataFrame, side: pd.Series[Any], features: FeaturesSpec, target: str
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Features, target (both under their names) and ``__row__`` of every row, and the schema.

    Numeric features and calendar parts are float64, categorical ones text, missing where the train side never
    had the value. The schema is ``{features: [{name, kind, categories?}], target}`` with sorted
    categories. Raises ConfigError for columns that are missing, of the wrong kind, named twice, the target or
    an exact copy of it; StageFailed naming the column when a number is infinite.
    """
    import numpy as np
    import pandas as pd

    _refuse_wrong_columns(table, features, target)
    train = (side == "train").to_numpy()
    columns: dict[str, pd.Series[Any]] = {name: table[name].astype("float64") for name in features.numeric}
    described: list[dict[str, Any]] = [{"name": name, "kind": "numeric"} for name in features.numeric]
    for name in features.categorical:
        text = _as_text(table[name])
        categories = sorted(text[train].dropna().unique().tolist())
        columns[name] = text.where(text.isin(categories))
        described.append({"name": name, "kind": "categorical", "categories": categories})
    for column, parts in features.calendar.items():
        for part in parts:
            columns[f"{column}_{part}"] = getattr(table[column].dt, CALENDAR_PARTS[part]).astype("float64")
            described.append({"name": f"{column}_{part}", "kind": "numeric"})
    columns[target] = table[target].astype("float64")
    for name, values in columns.items():
        if values.dtype == np.float64 and np.isinf(values.to_numpy()).any():
            raise StageFailed(STAGE, f"column {name!r} holds infinite values")
    frame = pd.DataFrame(columns)
    frame[ROW] = np.arange(len(table), dtype=np.int64)
    return frame, {"features": described, "target": target}


def _as_text(column: pd.Series[Any]) -> pd.Series[Any]:
    """Whole numbers and truth as their text, so that any column of few values may serve as a category."""
    from cd4ml.stages.table import kind_of

    return column if kind_of(column) == "string" else column.astype("string").astype("str").where(column.notna())


def _refuse_wrong_columns(table: pd.DataFrame, features: FeaturesSpec, target: str) -> None:
    from cd4ml.stages.table import column_types

    kinds = dict(column_types(table))
    asked = [
        *(("features.numeric", name, {"int64", "float64", "bool"}) for name in features.numeric),
        *(("features.categorical", name, {"string", "int64", "bool"}) for name in features.categorical),
        *((f"features.calendar.{name}", name, {"timestamp"}) for name in features.calendar),
    ]
    problems = []
    for key, name, wanted in asked:
        if name not in kinds:
            problems.append(Problem(PARAMS_FILE, key, f"the table has no column {name!r}"))
        elif kinds[name] not in wanted:
            message = f"column {name!r} is {kinds[name]}, not {' or '.join(sorted(wanted))}"
            problems.append(Problem(PARAMS_FILE, key, message))
        elif name == target:
            problems.append(Problem(PARAMS_FILE, key, f"{name!r} is the target"))
        elif _is_copy(table, name, target):
            problems.append(Problem(PARAMS_FILE, key, f"column {name!r} is an exact copy of the target"))
    problems += [
        Problem(PARAMS_FILE, f"features.calendar.{column}", f"{part!r} is none of {', '.join(CALENDAR_PARTS)}")
        for column, parts in features.calendar.items()
        for part in parts
        if part not in CALENDAR_PARTS
    ]
    names = [name for key, name, _ in asked if not key.startswith("features.calendar")]
    names += [f"{column}_{part}" for column, parts in features.calendar.items() for part in parts]
    twice = sorted({name for name in names if names.count(name) > 1 or name == ROW})
    problems += [Problem(PARAMS_FILE, "features", f"feature {name!r} is there twice") for name in twice]
    if not names:
        problems.append(Problem(PARAMS_FILE, "features", "names no feature"))
    if problems:
        raise ConfigError(problems)


def _is_copy(table: pd.DataFrame, name: str, target: str) -> bool:
    from cd4ml.stages.table import kind_of

    if kind_of(table[name]) not in {"int64", "float64"}:
        return False
    return bool((table[name].astype("float64") == table[target].astype("float64")).all())


def load_features(root: Path, side: str) -> tuple[pd.DataFrame, npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """One side as a model takes it: X (columns in the schema's order, categorical ones with the schema's
    categories), y (float64) and the rows' positions in the table (int64), all of one length.

    Raises StageFailed when the files do not fit the schema.
    """
    import numpy as np
    import pandas as pd

    from cd4ml.stages.table import read_parquet

    schema = read_json(root, FEATURE_SCHEMA, STAGE)
    frame = read_parquet(root / FEATURES[side])
    names = [feature["name"] for feature in schema["features"]]
    if list(frame.columns) != [*names, schema["target"], ROW]:
        raise StageFailed(STAGE, f"{FEATURES[side]} does not hold the columns of {FEATURE_SCHEMA}")
    for feature in schema["features"]:
        if feature["kind"] == "categorical":
            kind = pd.CategoricalDtype(pd.Index(feature["categories"], dtype="str"))
            frame[feature["name"]] = frame[feature["name"]].astype(kind)
    return frame[names], frame[schema["target"]].to_numpy(np.float64), frame[ROW].to_numpy(np.int64)
