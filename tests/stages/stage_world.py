"""A tiny, hand-made project for the stages: three sources, every kind of column, real gaps."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cd4ml.render.artifacts import render_params, with_derived
from cd4ml.spec.experiment import DataSpec, Spec
from cd4ml.spec.parse import parse
from cd4ml.spec.pin import Pin
from cd4ml.spec.pipeline import PARAMS_FILE, pin_path
from cd4ml.spec.sources import conf_digest
from cd4ml.stages.own_code import code_on_disk
from cd4ml.stages.table import column_types, read_table, table_digest

DAYS = 60
CITIES = ("oslo", "rome", "lima")


def trips_csv(days: int = DAYS) -> str:
    """One trip a day: ``delay`` is the target and is missing every tenth day, ``plane`` every seventh."""
    lines = ["start,city,plane,distance,late_start,night,delay"]
    for day in range(days):
        month, dom = divmod(day, 28)
        city = CITIES[day % 3] if day < days - 5 else "cairo"
        plane = "" if day % 7 == 0 else f"P{day % 4}"
        delay = "" if day % 10 == 9 else f"{(day * 37 % 50) - 5 + day % 3}"
        late = f"{day * 13 % 40}.5" if day % 11 else "NA"
        lines.append(
            f"2013-{month + 1:02d}-{dom + 1:02d}T{day % 24:02d}:00:00Z,{city},{plane},{100 + day},{late},"
            f"{'true' if day % 2 else 'false'},{delay}"
        )
    return "\n".join(lines) + "\n"


PLANES_CSV = "plane,year,seats,electric\nP0,2001,100,false\nP1,1999,140,true\nP2,2010,55,false\n"

CSVS: Mapping[str, str] = {"trips": trips_csv(), "planes": PLANES_CSV}

RESOLVED: Mapping[str, Any] = {
    "name": "tiny",
    "hypothesis": "",
    "tags": [],
    "seed": 7,
    "code": [],
    "environment": {"lock": ""},
    "allowed_packages": ["sklearn", "xgboost"],
    "data": {
        "sources": {
            "trips": {"location": "trips.csv", "format": "csv"},
            "planes": {"location": "planes.csv", "format": "csv"},
        },
        "joins": [
            {"source": "planes", "on": ["plane"], "columns": ["year", "seats", "electric"], "prefix": "plane_"},
        ],
        "target": "delay",
        "time_columns": ["start"],
        "drop_missing_target": True,
    },
    "validation": {
        "suite": "tiny",
        "expectations": [
            {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "delay"}},
            {"type": "expect_column_values_to_be_between", "kwargs": {"column": "distance", "min_value": 1}},
        ],
    },
    "split": {
        "method": "time",
        "column": "start",
        "validation_from": "2013-02-08T00:00:00Z",
        "test_from": "2013-02-20T00:00:00Z",
    },
    "features": {
        "numeric": ["distance", "late_start", "plane_year"],
        "categorical": ["city", "plane"],
        "calendar": {"start": ["month", "hour"]},
    },
    "model": {
        "name": "ridge",
        "estimator": {
            "_target_": "sklearn.pipeline.Pipeline",
            "steps": [
                [
                    "prepare",
                    {
                        "_target_": "sklearn.compose.ColumnTransformer",
                        "transformers": [
                            ["numbers", {"_target_": "sklearn.impute.SimpleImputer"}, ["distance", "late_start"]],
                            [
                                "words",
                                {"_target_": "sklearn.preprocessing.OneHotEncoder", "handle_unknown": "ignore"},
                                ["city", "plane"],
                            ],
                        ],
                    },
                ],
                ["regress", {"_target_": "sklearn.linear_model.Ridge"}],
            ],
        },
    },
    "evaluation": {"task": "regression", "metrics": ["rmse", "mae", "r2"], "primary": "rmse"},
    "promotion": {"min_improvement": 0.0},
    "ci": {"provider": "github", "python": "3.11"},
    "executor": {"threads": 1, "jobs": 1, "timeout_minutes": 1},
    "experiments": {"branches": ["exp/*"], "rerun_on": ["spec", "code", "data", "pipeline"], "retries": 2},
}


def resolved(changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """``RESOLVED`` with values at dotted paths replaced."""
    value = copy.deepcopy(dict(RESOLVED))
    for path, item in (changes or {}).items():
        *above, last = path.split(".")
        place = value
        for key in above:
            place = place[key]
        place[last] = item
    return value


def spec(changes: Mapping[str, Any] | None = None) -> Spec:
    return parse(resolved(changes))


def data(changes: Mapping[str, Any] | None = None) -> DataSpec:
    return spec({f"data.{key}": value for key, value in (changes or {}).items()}).data


def build(root: Path, raw: Path, value: Mapping[str, Any], files: Mapping[str, Path | str] = CSVS) -> None:
    """A rendered tree at ``root``: ``conf/``, ``params.yaml`` and pins; raw files in ``raw``."""
    (root / "conf").mkdir(parents=True)
    (root / "conf/config.yaml").write_text("# stands for a whole configuration\n")
    raw.mkdir(parents=True, exist_ok=True)
    (root / "data").mkdir()
    for name, source in value["data"]["sources"].items():
        file = files[name]
        content = file.read_bytes() if isinstance(file, Path) else file.encode()
        pin(root, raw, name, source["location"], content)
    render(root, value)


def render(root: Path, value: Mapping[str, Any]) -> None:
    conf = {"conf/config.yaml": (root / "conf/config.yaml").read_bytes()}
    spec = parse(value)
    params = with_derived(value, spec, code_on_disk(root, spec.code), "")
    (root / PARAMS_FILE).write_text(render_params(params, conf_digest(conf)))


def pin(root: Path, raw: Path, name: str, location: str, content: bytes) -> Pin:
    sha256 = hashlib.sha256(content).hexdigest()
    (raw / sha256).write_bytes(content)
    frame = read_table(raw / sha256, "csv", location)
    value = Pin(
        source=name,
        digest=table_digest(frame),
        rows=len(frame),
        columns=column_types(frame),
        raw_sha256=sha256,
        raw_md5=hashlib.md5(content, usedforsecurity=False).hexdigest(),
        raw_bytes=len(content),
        raw_name=location.rsplit("/", 1)[-1],
        format="csv",
        location=location,
        fetched="2026-11-01T00:00:00Z",
    )
    (root / pin_path(name)).write_text(value.dump())
    return value
