"""Runs whose stored outputs are made up: small tables, splits and predictions in a DVC cache of their own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cd4ml.gateways.dvc import Storage
from cd4ml.gateways.files import digest_file
from cd4ml.index.record import RunRecord
from cd4ml.spec.pipeline import FEATURE_SCHEMA, PREDICTIONS, SPLIT, TABLE
from cd4ml.stages.table import row_digests, table_digest, write_parquet

SCALE = {"train": 0, "validation": 1, "test": 2}


@dataclass(frozen=True)
class Store:
    """A DVC cache in a folder, with no remote."""

    folder: Path

    @property
    def storage(self) -> Storage:
        return Storage(self.folder / "cache", "", self.folder / "admin")

    def put(self, path: Path) -> dict[str, Any]:
        """Move a file into the cache; gives what a record says of it."""
        digest = digest_file(path)
        target = self.storage.cached(digest.md5)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
        return {"sha256": digest.sha256, "md5": digest.md5, "bytes": digest.bytes}

    def put_bytes(self, data: bytes) -> dict[str, Any]:
        path = self.folder / "part"
        path.write_bytes(data)
        return self.put(path)

    def put_frame(self, frame: pd.DataFrame, digests: npt.NDArray[np.uint8]) -> dict[str, Any]:
        path = self.folder / "part"
        write_parquet(frame, path, {"digest": digests} if len(digests) else None)
        return self.put(path)


NONE = np.empty((0, 16), np.uint8)


@dataclass(frozen=True)
class Ran:
    """What a made-up run did: a table, the side of each row, and what it predicts of each row that is not trained on.

    ``predicted`` are numbers by row (of a classification, codes of ``classes``), ``shares`` their probabilities.
    """

    table: pd.DataFrame
    sides: Sequence[str]
    predicted: Sequence[float]
    shares: npt.NDArray[np.float64] | None = None
    classes: Sequence[Any] | None = None
    task: str = "regression"
    target: str = "y"
    split: Mapping[str, Any] = field(default_factory=lambda: {"method": "random"})
    id: str = "r" + "0" * 20

    def record(self, store: Store, **files: Mapping[str, Any]) -> RunRecord:
        """The run's record, its outputs stored; ``files`` replace what is said of some of them."""
        digests = row_digests(self.table)
        sides = np.array(self.sides)
        rows = np.arange(len(self.table), dtype=np.int64)
        split = pd.DataFrame({"row": rows, "side": pd.Series(self.sides, dtype="str")})
        judged = np.flatnonzero(sides != "train")
        judged = judged[np.argsort([SCALE[side] for side in sides[judged]], kind="stable")]
        said = pd.DataFrame(
            {
                "row": rows[judged],
                "side": pd.Series(sides[judged], dtype="str"),
                "prediction": np.asarray(self.predicted, dtype=np.float64)[judged],
                **(
                    {f"p{n}": self.shares[judged, n] for n in range(self.shares.shape[1])}
                    if self.shares is not None
                    else {}
                ),
            }
        )
        stored = {
            TABLE: store.put_frame(self.table, NONE),
            SPLIT: store.put_frame(split, digests),
            PREDICTIONS: store.put_frame(said, digests[judged]),
            **(
                {FEATURE_SCHEMA: store.put_bytes(json.dumps({"classes": self.classes}).encode())}
                if self.classes
                else {}
            ),
        }
        body = {
            "id": self.id,
            "outcome": "succeeded",
            "params": {"evaluation": {"task": self.task}, "data": {"target": self.target}, "split": dict(self.split)},
            "table": {"digest": table_digest(self.table), "rows": len(self.table)},
            "split": {"test": {"digest": "d" * 64, "rows": int((sides == "test").sum())}},
            "files": {**stored, **files},
        }
        return RunRecord(body)


def numbered(rows: Sequence[float], **columns: Any) -> pd.DataFrame:
    """A canonical frame with the columns ``x`` (these values) and ``y`` (twice as much), and further ones."""
    x = np.asarray(rows, dtype=np.float64)
    return pd.DataFrame({"x": x, "y": 2 * x, **columns})
