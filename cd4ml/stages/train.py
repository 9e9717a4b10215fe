"""Stage ``train``: fit the estimator on the train side and store it."""

from __future__ import annotations

import re
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cd4ml.errors import StageFailed
from cd4ml.spec.pipeline import FEATURE_SCHEMA, MODEL, MODEL_CARD, PARAMS_FILE
from cd4ml.stages.job import Job, put_bytes, put_json, read_json

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

STAGE = "train"

_LIBRARIES = frozenset({"sklearn", "xgboost"})
_ABOUT_PARAMETERS = frozenset({"InvalidParameterError", "XGBoostError"})
_BAD_PARAMETER = re.compile(r"The '(\w{1,60})' parameter of|Parameter (?:format for )?(\w{1,60})")


def run(job: Job) -> None:
    """Read the train side; write ``MODEL`` and ``MODEL_CARD``."""
    from cd4ml.stages.estimators import build_estimator
    from cd4ml.stages.featurize import load_features
    from cd4ml.stages.models import dump_model, model_digest

    spec = job.spec
    estimator = build_estimator(spec.model.estimator, spec.allowed_packages, spec.seed, file=PARAMS_FILE)
    features, target, _ = load_features(job.root, "train")
    fitted = fit(estimator, features, target)
    data = dump_model(fitted, frozenset(spec.allowed_packages))
    card = {
        "digest": model_digest(data),
        "bytes": len(data),
        "format": "skops",
        "estimator": f"{type(fitted).__module__}.{type(fitted).__qualname__}",
        "deterministic": is_deterministic(fitted),
        "features": [feature["name"] for feature in read_json(job.root, FEATURE_SCHEMA, STAGE)["features"]],
        "rows": len(target),
    }
    put_bytes(job.root, MODEL, data)
    put_json(job.root, MODEL_CARD, card)


def fit(estimator: Any, features: pd.DataFrame, target: npt.NDArray[np.float64]) -> Any:
    """The estimator, fitted on ``features`` (rows x columns) and ``target`` (rows, float64).

    Raises StageFailed: deterministic when the target does not vary or the estimator raises, transient when
    memory runs out. The message names the exception and the library function, never a value of the data.
    """
    import numpy as np

    if not len(target) or not np.isfinite(target).all():
        raise StageFailed(STAGE, "the target has missing or infinite values on the train side")
    if (target == target[0]).all():
        raise StageFailed(STAGE, "the target is the same in every row of the train side")
    empty = [str(name) for name in features.columns if features[name].isna().all()]
    if empty:
        raise StageFailed(STAGE, f"feature {', '.join(map(repr, empty[:5]))} has no value on the train side")
    return guarded(STAGE, estimator, "fit", features, target)


def guarded(stage: str, estimator: Any, method: str, *arguments: Any) -> Any:
    """``estimator.method(*arguments)`` with whatever it raises turned into StageFailed; warnings are dropped."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return getattr(estimator, method)(*arguments)
    except MemoryError as error:
        raise StageFailed(stage, f"{type(estimator).__name__} ran out of memory", "transient") from error
    except Exception as error:  # an estimator may raise anything, and that is a result
        raise StageFailed(stage, explain(error, estimator)) from error


def explain(error: Exception, estimator: Any) -> str:
    """What an estimator raised, in words that hold nothing of the data.

    A library's messages may quote cells, so only the exception's type, the innermost function of the library
    and, where the message is about a parameter, its name are told.
    """
    frames = traceback.extract_tb(error.__traceback__)
    inner = [frame for frame in frames if _LIBRARIES & set(Path(frame.filename).parts)]
    place = f", in {Path(inner[-1].filename).stem}.{inner[-1].name}" if inner else ""
    about = _BAD_PARAMETER.search(str(error)) if type(error).__name__ in _ABOUT_PARAMETERS else None
    parameter = f" about parameter {(about.group(1) or about.group(2))!r}" if about else ""
    return f"{type(error).__name__} in {type(estimator).__name__}{parameter}{place}"


def is_deterministic(estimator: Any) -> bool:
    """Whether the same data would give the same model: no random number is drawn without a seed, one thread."""
    params = estimator.get_params(deep=True)
    unseeded = any(name.rpartition("__")[2] == "random_state" and value is None for name, value in params.items())
    threads = any(name.rpartition("__")[2] == "n_jobs" and value not in (None, 1) for name, value in params.items())
    return not unseeded and not threads
