"""Stage ``featurize``: the columns that the model sees, learnt on the train side and the same for all sides."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from cd4ml.errors import ConfigError, Problem, StageFailed
from cd4ml.spec.experiment import EvaluationSpec, FeaturesSpec
from cd4ml.spec.pipeline import FEATURE_SCHEMA, FEATURES, PARAMS_FILE, SIDES, SPLIT, TABLE, Pipeline, own_features
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
    features, schema = featurize_table(table, side, job.spec.features, job.spec.data.target, job.spec.evaluation)
    for name in SIDES:
        here = features[(side == name).to_numpy()].reset_index(drop=True)
        put(job.root, FEATURES[name], lambda path, here=here: write_parquet(here, path))  # type: ignore[misc]  # bound now
    put_json(job.root, FEATURE_SCHEMA, schema)


def featurize_table(
    table: pd.DataFrame, side: pd.Series[Any], features: FeaturesSpec, target: str, evaluation: EvaluationSpec
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Features, target (both under their names) and ``__row__`` of every row, and the schema.

    Numeric features and calendar parts are float64, categorical ones text, missing where the train side never
    had the value, text features text, ``""`` where there is none. The target is float64: of a classification the
    position of its class in ``classes``. The schema is ``{features: [{name, kind, categories?}], target, task,
    classes}`` with sorted categories; ``classes`` are the labels of the whole table, sorted, in a binary task with the
    positive one last, and null for a regression. Raises ConfigError for columns that are missing, empty, of the wrong
    kind, named twice, the target or a copy of it, and for a positive class that is none; StageFailed when a number
    is infinite, or a class is never seen in training.
    """
    import numpy as np
    import pandas as pd

    _refuse_wrong_columns(table, features, target, evaluation)
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
    for name in features.text:
        columns[name] = table[name].fillna("")
        described.append({"name": name, "kind": "text"})
    classes = None if evaluation.task == "regression" else _classes(table[target], evaluation)
    columns[target] = table[target].astype("float64") if classes is None else _codes(table[target], classes, side)
    for name, values in columns.items():
        if values.dtype == np.float64 and (infinite := int(np.isinf(values.to_numpy()).sum())):
            raise StageFailed(STAGE, f"column {name!r} holds infinite values, {infinite} of {len(table)}")
    frame = pd.DataFrame(columns)
    frame[ROW] = np.arange(len(table), dtype=np.int64)
    return frame, {"features": described, "target": target, "task": evaluation.task, "classes": classes}


def _classes(target: pd.Series[Any], evaluation: EvaluationSpec) -> list[Any]:
    """The labels, sorted; of a binary task the positive one last. Raises ConfigError when it is none of them."""
    labels = sorted(target.unique().tolist())
    if evaluation.task == "binary" and evaluation.positive:
        positive = [label for label in labels if evaluation.positive in _written(label)]
        if not positive:
            message = f"{evaluation.positive!r} is no class of the target {target.name!r}"
            raise ConfigError([Problem(PARAMS_FILE, "evaluation.positive", message, "write it as the data does")])
        labels = [*(label for label in labels if label not in positive), *positive]
    return labels


def _written(label: Any) -> tuple[str, ...]:
    """How a configuration may write a label: as its text, and truth as YAML does."""
    return (str(label), str(label).lower()) if isinstance(label, bool) else (str(label),)


def _codes(target: pd.Series[Any], classes: list[Any], side: pd.Series[Any]) -> pd.Series[Any]:
    """The position of each target's class, float64. Raises StageFailed for classes that training never sees."""
    import numpy as np
    import pandas as pd

    codes = pd.Series(pd.Index(classes).get_indexer(target), index=target.index)
    train = set(codes[(side == "train").to_numpy()])
    unseen = [code for code in range(len(classes)) if code not in train]
    if unseen:
        rows = int(np.isin(codes, unseen).sum())
        message = f"{len(unseen)} of {len(classes)} classes ({rows} rows) are not on the train side"
        raise StageFailed(STAGE, f"{message}; split.method: stratified by {target.name!r} puts each on every side")
    return codes.astype("float64")


def _as_text(column: pd.Series[Any]) -> pd.Series[Any]:
    """Whole numbers and truth as their text, so that any column of few values may serve as a category."""
    from cd4ml.stages.table import kind_of

    return column if kind_of(column) == "string" else column.astype("string").astype("str").where(column.notna())


def _refuse_wrong_columns(table: pd.DataFrame, features: FeaturesSpec, target: str, evaluation: EvaluationSpec) -> None:
    from cd4ml.stages.table import column_types

    kinds = dict(column_types(table))
    asked = [
        *(("features.numeric", name, {"int64", "float64", "bool"}) for name in features.numeric),
        *(("features.categorical", name, {"string", "int64", "bool"}) for name in features.categorical),
        *((f"features.calendar.{name}", name, {"timestamp"}) for name in features.calendar),
        *(("features.text", name, {"string"}) for name in features.text),
    ]
    problems = []
    for key, name, wanted in asked:
        message, hint = _wrong_column(table, kinds, name, wanted, target, evaluation)
        if message:
            problems.append(Problem(PARAMS_FILE, key, message, hint))
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
    if target in names and target not in {name for _, name, _ in asked}:
        problems.append(Problem(PARAMS_FILE, "features.calendar", f"{target!r} is the target"))
    if problems:
        raise ConfigError(problems)


def _wrong_column(
    table: pd.DataFrame, kinds: Mapping[str, str], name: str, wanted: set[str], target: str, evaluation: EvaluationSpec
) -> tuple[str, str]:
    """What is wrong with a column as a feature, and a hint."""
    from cd4ml.stages.table import did_you_mean

    if name not in kinds:
        return f"the table has no column {name!r}", did_you_mean(name, kinds)
    if not table[name].notna().any():
        return f"column {name!r} holds no value at all", "leave it out"
    if kinds[name] not in wanted:
        return f"column {name!r} is {kinds[name]}, not {' or '.join(sorted(wanted))}", ""
    if name == target:
        return f"{name!r} is the target", ""
    if _is_copy(table[name], table[target], evaluation):
        return f"column {name!r} is an exact copy of the target", "as a feature it would leak"
    return "", ""


def _is_copy(column: pd.Series[Any], target: pd.Series[Any], evaluation: EvaluationSpec) -> bool:
    """Does the column say in every row what the target does, as a number, as text, or by other names of classes?"""
    import numpy as np
    import pandas as pd

    from cd4ml.stages.table import kind_of, words_of

    if column.isna().any() or kind_of(column) == "timestamp":
        return False
    if evaluation.task != "regression":
        one, classes = pd.factorize(words_of(target))
        other, values = pd.factorize(words_of(column))
        # few rows may agree by chance; classes that come back may not
        return len(classes) == len(values) and len(target) > 2 * len(classes) and bool((one == other).all())
    numbers = pd.to_numeric(column, errors="coerce") if kind_of(column) == "string" else column
    return bool((numbers.to_numpy(np.float64, na_value=np.nan) == target.to_numpy(np.float64)).all())


def load_schema(root: Path) -> dict[str, Any]:
    """The schema that ``featurize_table`` returned. Raises StageFailed when the file does not hold one."""
    schema = read_json(root, FEATURE_SCHEMA, STAGE)
    if not isinstance(schema, dict) or not {"features", "target", "task", "classes"} <= set(schema):
        raise StageFailed(STAGE, f"{FEATURE_SCHEMA} holds no schema of features")
    return schema


def load_features(
    root: Path, side: str, pipeline: Pipeline
) -> tuple[pd.DataFrame, npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """One side as a model takes it: X (columns in the schema's order, categorical ones with the schema's
    categories; then those of the project's own stages, float64), y (float64) and the rows' positions in the table
    (int64), all of one length.

    Raises StageFailed when the files do not fit the schema, or an own stage's file does not fit the side.
    """
    import numpy as np
    import pandas as pd

    from cd4ml.stages.table import read_parquet

    schema = load_schema(root)
    frame = read_parquet(root / FEATURES[side])
    names = [feature["name"] for feature in schema["features"]]
    if list(frame.columns) != [*names, schema["target"], ROW]:
        raise StageFailed(STAGE, f"{FEATURES[side]} does not hold the columns of {FEATURE_SCHEMA}")
    for feature in schema["features"]:
        if feature["kind"] == "categorical":
            kind = pd.CategoricalDtype(pd.Index(feature["categories"], dtype="str"))
            frame[feature["name"]] = frame[feature["name"]].astype(kind)
    rows = frame[ROW].to_numpy(np.int64)
    parts = [frame[names]]
    taken = {*names, schema["target"], ROW}
    for path in own_features(pipeline, side):
        more = _own_columns(root, path, rows, taken)
        taken |= set(more.columns)
        parts.append(more)
    x = parts[0] if len(parts) == 1 else pd.concat(parts, axis=1)
    y = frame[schema["target"]].to_numpy(np.float64)
    leak = [
        name for name in x.columns[len(names) :] if side == "train" and np.ptp(y) and (x[name].to_numpy() == y).all()
    ]
    if leak:
        raise StageFailed(STAGE, f"feature {leak[0]!r} of a stage of the project is an exact copy of the target")
    return x, y, rows


def _own_columns(root: Path, path: str, rows: npt.NDArray[np.int64], taken: set[str]) -> pd.DataFrame:
    """The columns of a file that a stage of the project wrote, in the order of ``rows``, as float64."""
    import numpy as np
    import pandas as pd

    from cd4ml.errors import IntegrityError
    from cd4ml.stages.table import column_types, read_parquet

    try:
        frame = read_parquet(root / path)
    except (IntegrityError, StageFailed) as error:
        raise StageFailed(STAGE, f"{path} is no Parquet file of numbers: {error}") from None
    kinds = dict(column_types(frame))
    if kinds.pop(ROW, "") != "int64":
        raise StageFailed(STAGE, f"{path} has no column {ROW!r} of whole numbers, which says whose values they are")
    for name, kind in kinds.items():
        if kind not in {"int64", "float64", "bool"}:
            raise StageFailed(STAGE, f"{path}: column {name!r} is {kind}, not numbers")
        if name.startswith("__index_level_"):
            raise StageFailed(STAGE, f"{path} holds the index of pandas as a column; write it with index=False")
    numbers: pd.DataFrame = frame.drop(columns=ROW).astype("float64")
    position = pd.Index(frame[ROW].to_numpy())
    if position.has_duplicates or len(position) != len(rows) or not position.isin(rows).all():
        raise StageFailed(STAGE, f"{path} must hold each of the side's {len(rows)} rows once, by {ROW!r}")
    double = sorted(set(numbers.columns) & taken)
    if double:
        raise StageFailed(STAGE, f"{path}: feature {double[0]!r} is there already")
    infinite = [name for name in numbers.columns if np.isinf(numbers[name].to_numpy()).any()]
    if infinite:
        raise StageFailed(STAGE, f"{path}: column {infinite[0]!r} holds infinite values")
    found: pd.DataFrame = numbers.iloc[position.get_indexer(pd.Index(rows))].reset_index(drop=True)
    return found
