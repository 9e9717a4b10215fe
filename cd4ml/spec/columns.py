"""The columns that a spec names, against those that its pins list: what no run could find is told before one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cd4ml.errors import Problem
from cd4ml.spec.checks import nearest
from cd4ml.spec.experiment import Spec
from cd4ml.spec.parse import TARGET
from cd4ml.spec.pin import Pin
from cd4ml.spec.reading import file_of
from cd4ml.spec.sources import problem

_FEW_NAMED = 5


def column_problems(spec: Spec, pins: Mapping[str, Pin], origin: Mapping[str, str]) -> tuple[Problem, ...]:
    """Each column that the spec names and that is not there, by key, file and the nearest that is.

    ``pins`` are by source; where one is missing, or another source's, what needs it is not judged. ``origin`` is the
    file of each value.
    Judged are sources and their joins, the target, times, the split, the features, slices, and columns that a model's
    ColumnTransformer names. What an expectation names is not: that a column must not be there can be an expectation.
    """
    pins = {one.name: pins[one.name] for one in spec.data.sources if one.name in pins and pins[one.name].is_of(one)}
    joined = list(_of_joins(spec, pins))
    absent = [*joined, *(() if joined else _of_table(spec, pins)), *_of_model(spec)]
    return tuple(problem(file_of(origin, key), key, message, hint) for key, message, hint in absent)


_Found = tuple[str, str, str]
"""Key, message and hint."""


def _of_joins(spec: Spec, pins: Mapping[str, Pin]) -> Iterator[_Found]:
    there = _columns(pins.get(spec.data.sources[0].name))
    for index, join in enumerate(spec.data.joins):
        joined = _columns(pins.get(join.source))
        for key, wanted, columns, where in (
            ("on", join.on, there, "the main table and the joins before it"),
            ("on", join.on, joined, f"the source {join.source!r}"),
            ("columns", join.columns, joined, f"the source {join.source!r}"),
        ):
            yield from _absent(f"data.joins.{index}.{key}", wanted, columns, where)
        if there is not None:
            there = there | {f"{join.prefix}{column}" for column in join.columns}


def _of_table(spec: Spec, pins: Mapping[str, Pin]) -> Iterator[_Found]:
    """What is asked of the table that ingest makes of the sources."""
    columns = _columns(pins.get(spec.data.sources[0].name))
    if columns is None:
        return
    columns |= {f"{join.prefix}{column}" for join in spec.data.joins for column in join.columns}
    features = spec.features
    for key, wanted in (
        ("data.target", (spec.data.target,)),
        ("data.time_columns", spec.data.time_columns),
        ("split.column", (spec.split.column,) if spec.split.column else ()),
        ("features.numeric", features.numeric),
        ("features.categorical", features.categorical),
        *((f"features.calendar.{column}", (column,)) for column in features.calendar),
        ("features.text", features.text),
        ("evaluation.slices", spec.evaluation.slices),
    ):
        yield from _absent(key, wanted, columns, "the data")


def _columns(pin: Pin | None) -> frozenset[str] | None:
    return None if pin is None else frozenset(name for name, _ in pin.columns)


def _absent(key: str, wanted: tuple[str, ...], columns: frozenset[str] | None, where: str) -> Iterator[_Found]:
    if columns is None:
        return
    for name in wanted:
        if name not in columns:
            ordered = sorted(columns)
            few = f"it has {', '.join(map(repr, ordered[:_FEW_NAMED]))}{' …' if len(ordered) > _FEW_NAMED else ''}"
            yield key, f"{where} has no column {name!r}", nearest(name, ordered) or few


# --- the model --------------------------------------------------------------------------------------


def _of_model(spec: Spec) -> Iterator[_Found]:
    if any(stage.feeds == "features" for stage in spec.stages):
        return  # it may give any column, and only a run tells which
    features = spec.features
    calendar = (f"{column}_{part}" for column, parts in features.calendar.items() for part in parts)
    given = frozenset((*features.numeric, *features.categorical, *features.text, *calendar))
    for key, name in _named_by(spec.model.estimator, "model.estimator"):
        if name not in given:
            hint = nearest(name, sorted(given)) or "name it under features, or take its transformer out of the model"
            yield key, f"the model's ColumnTransformer takes column {name!r}, which is no feature", hint


def _named_by(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Each column named by a ColumnTransformer that gets the features as they are, with its key.

    Only what scikit-learn is known to hand them on to is looked into: the first step of a Pipeline, and estimators
    around others; a class of somebody else may make columns of its own.
    """
    if not isinstance(value, Mapping) or not str(value.get(TARGET, "")).startswith("sklearn."):
        return
    kind = str(value[TARGET]).rpartition(".")[2]
    if kind == "ColumnTransformer":
        yield from _taken_by(value.get("transformers"), f"{key}.transformers")
    elif kind == "Pipeline":
        steps = [one for one in _objects(value, "steps", key) if one[1] not in ("passthrough", None)]
        for place, first in steps[:1]:  # the others get what this one makes
            yield from _named_by(first, place)
    else:
        around = [(f"{key}.{name}", value.get(name)) for name in ("estimator", "regressor")]
        for place, inner in (
            *around,
            *_objects(value, "estimators", key),
            *_objects(value, "transformer_list", key),
        ):
            yield from _named_by(inner, place)


def _objects(value: Mapping[str, Any], name: str, key: str) -> Iterator[tuple[str, Any]]:
    """The objects in a list of (name, object), each with its key."""
    entries = value.get(name)
    for index, entry in enumerate(entries if isinstance(entries, list | tuple) else ()):
        if isinstance(entry, list | tuple) and len(entry) == 2:
            yield f"{key}.{name}.{index}.1", entry[1]


def _taken_by(transformers: Any, key: str) -> Iterator[tuple[str, str]]:
    for index, entry in enumerate(transformers if isinstance(transformers, list | tuple) else ()):
        if not isinstance(entry, list | tuple) or len(entry) != 3:
            continue
        columns = [entry[2]] if isinstance(entry[2], str) else entry[2]
        for name in columns if isinstance(columns, list | tuple) else ():
            if isinstance(name, str):
                yield f"{key}.{index}.2", name
