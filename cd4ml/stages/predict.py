"""Stage ``predict``: the stored model's predictions for the validation and the test side.

Of a regression they are one column, ``prediction``. Of a classification ``prediction`` is the class's code (its
place among the classes of the feature schema) and, when the model has ``predict_proba``, ``p0``, ``p1``, … are the
probabilities of the classes by code.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cd4ml.errors import IntegrityError, StageFailed
from cd4ml.spec.pipeline import MODEL, MODEL_CARD, PREDICTIONS, SPLIT, pipeline_of
from cd4ml.stages.guard import guarded
from cd4ml.stages.job import Job, put, read_json

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

STAGE = "predict"
PREDICTED_SIDES = ("validation", "test")
_ROUNDING = 1e-3
"""How far from 1 the probabilities of a row may sum: XGBoost computes them in 32 bits."""


def run(job: Job) -> Mapping[str, float]:
    """Read the model, its card, the features and the split; write ``PREDICTIONS``.

    Gives ``seconds_per_row``: the wall-clock seconds in which the model answered both sides, each in one batch, by
    their number of rows. So it is what a row costs among many, and not how long one row alone waits.
    """
    import pandas as pd

    from cd4ml.stages.featurize import load_features, load_schema
    from cd4ml.stages.table import digest_matrix, read_parquet, write_parquet

    model = load_described_model(job)
    classes = len(load_schema(job.root)["classes"] or ())
    digests = digest_matrix(read_parquet(job.root / SPLIT, ["row", "digest"])["digest"])
    parts = []
    seconds = 0.0
    for side in PREDICTED_SIDES:
        features, _, rows = load_features(job.root, side, pipeline_of(job.spec))
        began = time.perf_counter()
        answered = answers(model, features, classes)
        seconds += time.perf_counter() - began
        parts.append(pd.DataFrame({"row": rows, "side": side, **answered}))
    frame = pd.concat(parts, ignore_index=True)
    frame["side"] = frame["side"].astype("str")
    rows = frame["row"].to_numpy()
    put(job.root, PREDICTIONS, lambda path: write_parquet(frame, path, {"digest": digests[rows]}))
    return {"seconds_per_row": seconds / max(len(frame), 1)}


def load_described_model(job: Job) -> Any:
    """The model in ``MODEL``, seen to be the one that ``MODEL_CARD`` describes. Raises IntegrityError."""
    from cd4ml.stages.models import load_model, model_digest

    data = (job.root / MODEL).read_bytes()
    if model_digest(data) != read_json(job.root, MODEL_CARD, STAGE).get("digest"):
        raise IntegrityError(f"{MODEL} is not the model that {MODEL_CARD} describes")
    return load_model(data, frozenset(job.spec.allowed_packages))


def answers(model: Any, features: pd.DataFrame, classes: int = 0) -> Mapping[str, npt.NDArray[np.float64]]:
    """The columns of predictions for ``features``, each float64 with one value a row.

    ``classes`` is how many there are (0: a regression). Raises StageFailed for answers that are not what they should
    be: finite numbers, codes of classes, probabilities between 0 and 1 that sum to 1.
    """
    prediction = predict(model, features)
    if not classes:
        return {"prediction": prediction}
    wrong = int(((prediction != prediction.round()) | (prediction < 0) | (prediction >= classes)).sum())
    if wrong:
        raise StageFailed(STAGE, f"{wrong} of {len(prediction)} predictions are no code of one of {classes} classes")
    columns = {"prediction": prediction}
    if hasattr(model, "predict_proba"):
        shares = probabilities(model, features, classes)
        columns |= {f"p{code}": shares[:, code] for code in range(classes)}
    return columns


def predict(model: Any, features: pd.DataFrame) -> npt.NDArray[np.float64]:
    """One finite float64 per row of ``features``. Raises StageFailed for anything else."""
    import numpy as np

    answer = np.asarray(guarded(STAGE, model, "predict", features))
    if answer.shape != (len(features),) or not np.issubdtype(answer.dtype, np.number):
        raise StageFailed(STAGE, f"the model answers an array of shape {answer.shape}, not {(len(features),)}")
    values: npt.NDArray[np.float64] = answer.astype(np.float64)
    wrong = int((~np.isfinite(values)).sum())
    if wrong:
        raise StageFailed(STAGE, f"{wrong} of {len(values)} predictions are not finite")
    return values


def probabilities(model: Any, features: pd.DataFrame, classes: int) -> npt.NDArray[np.float64]:
    """The probability of each class (columns, by code) for each row of ``features``: float64, rows sum to 1.

    A class that the model never saw has 0. Raises StageFailed for an answer of another shape, and for numbers that
    are no probabilities.
    """
    import numpy as np

    answer = np.asarray(guarded(STAGE, model, "predict_proba", features))
    codes = np.asarray(getattr(model, "classes_", np.arange(classes)))
    if answer.shape != (len(features), len(codes)) or not np.issubdtype(answer.dtype, np.number):
        wanted = (len(features), len(codes))
        raise StageFailed(STAGE, f"the model answers probabilities of shape {answer.shape}, not {wanted}")
    if not np.issubdtype(codes.dtype, np.number) or not np.isin(codes, np.arange(classes)).all():
        raise StageFailed(STAGE, "the model knows other classes than it was given")
    shares = np.zeros((len(features), classes))
    shares[:, codes.astype(np.int64)] = answer
    sums = shares.sum(axis=1)
    good = (shares >= -_ROUNDING).all(axis=1) & (abs(sums - 1.0) <= _ROUNDING)  # false for what is no number
    if not good.all():
        raise StageFailed(STAGE, f"{int((~good).sum())} of {len(good)} rows have no probabilities that sum to 1")
    shares = shares.clip(0.0, 1.0)
    normal: npt.NDArray[np.float64] = (shares / shares.sum(axis=1, keepdims=True)).clip(0.0, 1.0)
    return normal
