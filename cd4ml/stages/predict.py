"""Stage ``predict``: the stored model's predictions for the validation and the test side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cd4ml.errors import IntegrityError, StageFailed
from cd4ml.spec.pipeline import MODEL, MODEL_CARD, PREDICTIONS, SPLIT
from cd4ml.stages.job import Job, put, read_json

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

STAGE = "predict"
PREDICTED_SIDES = ("validation", "test")


def run(job: Job) -> None:
    """Read the model, its card, the features and the split; write ``PREDICTIONS``."""
    import pandas as pd

    from cd4ml.stages.featurize import load_features
    from cd4ml.stages.models import load_model, model_digest
    from cd4ml.stages.table import digest_matrix, read_parquet, write_parquet

    data = (job.root / MODEL).read_bytes()
    card = read_json(job.root, MODEL_CARD, STAGE)
    if model_digest(data) != card.get("digest"):
        raise IntegrityError(f"{MODEL} is not the model that {MODEL_CARD} describes")
    model = load_model(data, frozenset(job.spec.allowed_packages))
    digests = digest_matrix(read_parquet(job.root / SPLIT, ["row", "digest"])["digest"])
    parts = []
    for side in PREDICTED_SIDES:
        features, _, rows = load_features(job.root, side)
        parts.append(pd.DataFrame({"row": rows, "side": side, "prediction": predict(model, features)}))
    frame = pd.concat(parts, ignore_index=True)
    frame["side"] = frame["side"].astype("str")
    rows = frame["row"].to_numpy()
    put(job.root, PREDICTIONS, lambda path: write_parquet(frame, path, {"digest": digests[rows]}))


def predict(model: Any, features: pd.DataFrame) -> npt.NDArray[np.float64]:
    """One finite float64 per row of ``features``. Raises StageFailed for anything else."""
    import numpy as np

    from cd4ml.stages.train import guarded

    answer = np.asarray(guarded(STAGE, model, "predict", features))
    if answer.shape != (len(features),) or not np.issubdtype(answer.dtype, np.number):
        raise StageFailed(STAGE, f"the model answers an array of shape {answer.shape}, not {(len(features),)}")
    values: npt.NDArray[np.float64] = answer.astype(np.float64)
    wrong = int((~np.isfinite(values)).sum())
    if wrong:
        raise StageFailed(STAGE, f"{wrong} of {len(values)} predictions are not finite")
    return values
