"""A proposal written as ``conf/``: every file says what its keys are and why they are so."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from cd4ml.controller.starting.proposal import Proposal
from cd4ml.controller.starting.proposed_columns import Column
from cd4ml.controller.starting.proposed_split import FEW_TEST_ROWS
from cd4ml.controller.starting.proposed_suite import ProposedExpectation
from cd4ml.errors import UsageError
from cd4ml.spec.experiment import Task
from cd4ml.spec.sources import CONFIG, ConfDumper, dump_yaml, visible

_LINEAR: Mapping[Task, str] = {"regression": "ridge", "binary": "logistic", "multiclass": "logistic"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_SEED = "seed: 1"
_PROMOTION = "conf/promotion/default.yaml"
_MIN_ROWS = re.compile(r"^min_rows: \d+$", re.MULTILINE)
_OF_DATA = ("data", "validation", "split", "features", "model", "evaluation", "experiment")
"""The groups whose shipped choices are those of the example."""


@dataclass(frozen=True)
class Place:
    """Where the table is read from and how, and the name that the project gives it."""

    name: str
    location: str
    format: str
    delimiter: str = ","
    decimal: str = "."
    missing: tuple[str, ...] = ()


def check_name(name: str) -> str:
    """The name, when a source, a Hydra choice and a suite may have it. Raises UsageError."""
    if not _NAME.fullmatch(name) or name == "hydra":
        raise UsageError(f"--name: {name!r} must be letters, digits, _ and -, and begin with a letter or digit")
    return name


def conf_files(proposal: Proposal, place: Place, scaffold: Mapping[str, bytes], lock: str) -> dict[str, bytes]:
    """The files under ``conf/`` by path from the repository's root.

    ``scaffold`` are the shipped ones; of them those are taken over that say nothing of data: how runs are
    executed, promoted and rendered. ``lock`` is the path of the lock file of the environment.
    """
    linear = _LINEAR[proposal.task]
    of_data = tuple(f"conf/{group}/" for group in _OF_DATA)
    files = {path: text.decode() for path, text in scaffold.items() if not path.startswith(of_data)}
    choices = {
        "data": place.name,
        "validation": place.name,
        "split": proposal.split.method,
        "features": place.name,
        "model": linear,
        "evaluation": proposal.task,
    }
    files |= {
        CONFIG: _config(scaffold[CONFIG].decode(), choices, lock),
        f"conf/data/{place.name}.yaml": _data(proposal, place),
        f"conf/validation/{place.name}.yaml": _validation(proposal, place.name),
        f"conf/split/{proposal.split.method}.yaml": _split(proposal),
        f"conf/features/{place.name}.yaml": _features(proposal),
        f"conf/model/{linear}.yaml": _linear(proposal, linear),
        "conf/model/hist_gradient_boosting.yaml": _boosting(proposal),
        "conf/model/xgboost.yaml": _xgboost(proposal),
        f"conf/evaluation/{proposal.task}.yaml": _evaluation(proposal),
        "conf/experiment/baseline.yaml": _baseline(linear),
        _PROMOTION: _promotion(files[_PROMOTION], proposal.split.rows.get("test")),
    }
    return {path: text.encode() for path, text in sorted(files.items())}


def _promotion(shipped: str, test_rows: int | None) -> str:
    """The shipped gates; where the test side is smaller than they ask for, no model could ever pass."""
    if test_rows is None or test_rows >= FEW_TEST_ROWS:
        return shipped
    least = max(2, test_rows * 9 // 10)
    return _MIN_ROWS.sub(f"min_rows: {least}   # the test side has about {test_rows} rows", shipped)


# --- YAML with comments -----------------------------------------------------------------------------


def _flow(value: Any) -> str:
    """A value on one line: a list or mapping in brackets, text in quotes where it needs them."""
    whole = [value] if isinstance(value, list | dict) else value
    text = yaml.dump(
        whole, Dumper=ConfDumper, default_flow_style=True, width=2**30, allow_unicode=True, sort_keys=False
    )
    return text.strip()[1:-1] if whole is not value else text.removesuffix("\n").removesuffix("\n...")


def _said(text: str) -> str:
    """Text in a comment: names come from the data, and must not end its line."""
    return visible(text)


def _lines(*lines: str) -> str:
    return "\n".join(lines) + "\n"


def _listed(key: str, columns: Iterable[Column]) -> list[str]:
    """A list of columns, one a line, each with what was seen of it."""
    taken = list(columns)
    if not taken:
        return [f"{key}: []"]
    return [f"{key}:", *(f"  - {_flow(column.name)}   # {_said(_seen(column))}" for column in taken)]


def _seen(column: Column) -> str:
    return f"{column.why}; {column.missing:.1%} missing" if column.missing else column.why


# --- one function a group ---------------------------------------------------------------------------


def _config(text: str, choices: Mapping[str, str], lock: str) -> str:
    """The shipped root with the choices of the proposal."""
    for group, choice in choices.items():
        text = re.sub(rf"(?m)^(  - {group}: ).*$", lambda found, choice=choice: f"{found[1]}{_flow(choice)}", text)  # type: ignore[misc]  # bound now
    text = re.sub(r"(?m)^  lock: .*$", lambda _: f"  lock: {_flow(lock)}", text)
    return re.sub(r"(?m)^seed: \d+$", _SEED, text)


def _data(proposal: Proposal, place: Place) -> str:
    times = proposal.with_role("time")
    formats = {column.name: column.time_format for column in times if column.time_format}
    source = [f"    location: {_flow(place.location)}", f"    format: {place.format}"]
    if place.format == "csv" and place.delimiter != ",":
        source.append(f"    delimiter: {_flow(place.delimiter)}   # what stands between the cells")
    if place.decimal != ".":
        source.append(f"    decimal: {_flow(place.decimal)}   # what stands before the fraction of a number")
    if place.missing:
        source.append("    # Words for a cell that holds nothing, beside none and NA, N/A, NaN, nan, NULL, null, <NA>.")
        source.append(f"    missing: {_flow(list(place.missing))}")
    return _lines(
        f"# The table {place.name}: {proposal.rows:,} rows, {len(proposal.columns)} columns when this was proposed.",
        "# sources: the first is the main table, `joins` add columns of others to it. A location is a path in this",
        "# repository, a URL, or package://NAME/PATH for a file that an installed Python package ships.",
        "sources:",
        f"  {_flow(place.name)}:",
        *source,
        "joins: []",
        f"target: {_flow(proposal.target)}   # the column to predict",
        "# Columns that are read as UTC timestamps.",
        *_listed("time_columns", times),
        *(["# strptime formats of those that are not ISO 8601."] if formats else []),
        *([f"time_formats: {_flow(formats)}"] if formats else []),
        f"# Rows without a target ({proposal.missing_target:,} seen): true leaves them out, false refuses the data.",
        f"drop_missing_target: {'true' if proposal.missing_target else 'false'}",
    )


def _validation(proposal: Proposal, name: str) -> str:
    return _lines(
        "# The expectation suite for the ingested table: any declarative Great Expectations type by name and kwargs.",
        "# severity critical (the default) rejects the data, warning only reports. Each of these was derived from the",
        "# data as it was, with slack, and says what was seen: put what you know in the place of what was seen.",
        f"suite: {_flow(name)}",
        "expectations:",
        *(line for one in proposal.expectations for line in _expectation(one)),
    )


def _expectation(one: ProposedExpectation) -> list[str]:
    lines = [f"  - type: {one.type}   # derived: saw {_said(one.saw)}", f"    kwargs: {_flow(dict(one.kwargs))}"]
    return [*lines, *(["    severity: warning"] if one.severity == "warning" else [])]


def _split(proposal: Proposal) -> str:
    split = proposal.split
    rows = ", ".join(f"{side} {count:,}" for side, count in split.rows.items())
    meaning = {
        "time": "By time: train before validation_from, validation before test_from, test from there on.",
        "group": "By group: no value of the column is on two sides. validation and test are shares, met about.",
        "stratified": "Stratified: each side gets its share of every value of the column.",
        "random": "Random: each distinct row keeps its side when rows are added. The shares are met about.",
    }
    return _lines(
        f"# {meaning[split.method]}",
        f"# Why: {_said(split.why)}.",
        *([f"# Rows: {rows}."] if rows else []),
        *(f"# Mind: {_said(note)}." for note in split.notes),
        "# Methods: random, stratified, group, time, predefined.",
        *(f"{key}: {_flow(value)}" for key, value in split.keys.items()),
    )


def _features(proposal: Proposal) -> str:
    calendar = {column.name: list(column.parts) for column in proposal.with_role("time") if column.parts}
    left = [f"#   {_said(repr(column.name))}: {_said(column.why)}" for column in proposal.with_role("left out")]
    return _lines(
        "# The columns that the model sees. Leave out what is not known when a prediction is needed: it would leak.",
        *(["# Left out, and why (a column that is named in none of the lists is not used):", *left] if left else []),
        "# Numbers, and whole numbers that are amounts.",
        *_listed("numeric", proposal.with_role("numeric")),
        "# Categories: text, truth or codes that come again.",
        *_listed("categorical", proposal.with_role("categorical")),
        "# Prose, for a vectoriser in the model's pipeline.",
        *_listed("text", proposal.with_role("text")),
        "# Parts of a time column (month, day, dayofweek, hour, minute), each one numeric feature COLUMN_PART.",
        f"calendar: {_flow(calendar)}",
    )


def _evaluation(proposal: Proposal) -> str:
    lines = [
        "# Metrics are computed by the judge, on the validation and the test side; `primary` ranks.",
        f"task: {proposal.task}   # why: {_said(proposal.task_why)}",
        f"metrics: {_flow(list(proposal.metrics))}",
        f"primary: {proposal.primary}   # {proposal.primary_why}",
    ]
    if proposal.task == "binary":
        lines.append('# The class that counts as positive ("": the later of the two in sorted order).')
        lines.append(f"positive: {_flow(proposal.positive)}")
    return _lines(
        *lines,
        "# Columns for each of whose values the metrics are shown too.",
        f"slices: {_flow(list(proposal.slices))}",
        "# How often each feature is shuffled to see what the model makes of it (0: not at all).",
        "permutation_importance: 0",
    )


def _baseline(linear: str) -> str:
    hypothesis = f"A linear model ({linear}) on all columns that look useful is the measure for what comes after."
    return _lines(
        "# @package _global_",
        "# What `main` asks for. `cd4ml new NAME` copies this file and changes the copy.",
        "name: baseline",
        f"hypothesis: {_flow(hypothesis)}",
    )


# --- models -----------------------------------------------------------------------------------------


def _step(name: str, target: str, **parameters: Any) -> list[Any]:
    return [name, {"_target_": target, **parameters}]


def _pipeline(*steps: list[Any]) -> dict[str, Any]:
    return {"_target_": "sklearn.pipeline.Pipeline", "steps": list(steps)}


def _prose(proposal: Proposal, *more: list[Any]) -> list[list[Any]]:
    """A transformer for each column of prose: its words weighed, and ``more`` steps after that."""
    weigh = _step("weigh", "sklearn.feature_extraction.text.TfidfVectorizer", max_features=2000, sublinear_tf=True)
    return [
        [f"prose_{number}", _pipeline(weigh, *more), column.name]
        for number, column in enumerate(proposal.with_role("text"), start=1)
    ]


def _scaled() -> dict[str, Any]:
    return _pipeline(
        _step("impute", "sklearn.impute.SimpleImputer", strategy="median"),
        _step("scale", "sklearn.preprocessing.StandardScaler"),
    )


def _linear(proposal: Proposal, name: str) -> str:
    categories = {
        "_target_": "sklearn.preprocessing.OneHotEncoder",
        "handle_unknown": "ignore",
        "min_frequency": "${model.parameters.min_frequency}",
    }
    prepare = {
        "_target_": "sklearn.compose.ColumnTransformer",
        "transformers": [
            ["numbers", _scaled(), "${features.numeric}"],
            ["categories", categories, "${features.categorical}"],
            *_prose(proposal),
        ],
        "remainder": _scaled(),
    }
    if proposal.task == "regression":
        parameter, value = "alpha", 1.0
        last = _step("regress", "sklearn.linear_model.Ridge", alpha="${model.parameters.alpha}")
    else:
        parameter, value = "C", 1.0
        last = _step("classify", "sklearn.linear_model.LogisticRegression", C="${model.parameters.C}", max_iter=2000)
    return _model(
        "A linear baseline: scaled numbers, one-hot categories"
        + (", words by their weight (tf-idf)," if proposal.with_role("text") else "")
        + f" into {'ridge' if proposal.task == 'regression' else 'logistic'} regression.",
        "`remainder` takes what features names beside numeric, categorical and text: calendar parts.",
        name=name,
        parameters={parameter: value, "min_frequency": 5},
        estimator=_pipeline(["prepare", prepare], last),
    )


def _model(*about: str, name: str, estimator: Mapping[str, Any], parameters: Mapping[str, Any] | None = None) -> str:
    named: list[str] = []
    if parameters:
        key = next(iter(parameters))
        named = [
            "# Named here, since an override cannot reach into a list:",
            f"# `cd4ml new NAME model.parameters.{key}=10`",
            dump_yaml({"parameters": dict(parameters)}).rstrip("\n"),
        ]
    return _lines(
        *(f"# {line}" for line in about),
        "# `_target_` names a class that follows the scikit-learn estimator protocol; the rest are its parameters.",
        f"name: {name}",
        *named,
        dump_yaml({"estimator": dict(estimator)}).rstrip("\n"),
    )


_TREES = ("classify", "Classifier"), ("regress", "Regressor")


def _boosting(proposal: Proposal) -> str:
    return _trees(
        proposal,
        "hist_gradient_boosting",
        "scikit-learn's histogram boosting; it takes missing values and categories as they are.",
        "sklearn.ensemble.HistGradientBoosting",
        {"max_iter": 100, "learning_rate": 0.1},
        {"categorical_features": "from_dtype"},
    )


def _xgboost(proposal: Proposal) -> str:
    return _trees(
        proposal,
        "xgboost",
        "XGBoost's histogram trees; they take missing values and categories as they are.",
        "xgboost.XGB",
        {"n_estimators": 100, "max_depth": 6, "learning_rate": 0.1},
        {"tree_method": "hist", "enable_categorical": True},
    )


def _trees(
    proposal: Proposal,
    name: str,
    about: str,
    family: str,
    tuned: Mapping[str, Any],
    categories: Mapping[str, Any],
) -> str:
    """Boosted trees: on the features as they are, or after prose was made into numbers."""
    step, ending = _TREES[proposal.task == "regression"]
    if not proposal.with_role("text"):
        return _model(about, name=name, estimator={"_target_": family + ending, **tuned, **categories})
    settled = {
        key: value for key, value in categories.items() if key not in ("categorical_features", "enable_categorical")
    }
    codes = {
        "_target_": "sklearn.preprocessing.OrdinalEncoder",
        "handle_unknown": "use_encoded_value",
        "unknown_value": -1,
    }
    fewer = _step("shrink", "sklearn.decomposition.TruncatedSVD", n_components=10)
    prepare = {
        "_target_": "sklearn.compose.ColumnTransformer",
        "transformers": [["categories", codes, "${features.categorical}"], *_prose(proposal, fewer)],
        "remainder": "passthrough",
    }
    named = {key: f"${{model.parameters.{key}}}" for key in tuned}
    last = _step(step, family + ending, **named, **settled)
    return _model(
        about,
        "Before them prose becomes ten numbers a column, and categories become codes.",
        name=name,
        parameters=tuned,
        estimator=_pipeline(["prepare", prepare], last),
    )
