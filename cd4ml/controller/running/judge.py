"""The judge: trusted code in a clean folder.

It makes the table, the split and the features again from the pins, sees that the run used the same, and
scores the predictions against them. Nothing else that the run wrote is believed; everything it wrote is digested.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cd4ml.controller.running.run import JUDGE_REQUEST, JUDGE_VERDICT
from cd4ml.controller.running.stage import limit_memory
from cd4ml.errors import Cd4mlError, IntegrityError, StageFailed
from cd4ml.gateways.files import FileDigest, digest_file, write_atomically
from cd4ml.gateways.untrusted import read_json
from cd4ml.spec.pipeline import (
    JUDGED_ANEW,
    METRICS,
    MODEL,
    MODEL_CARD,
    PREDICTIONS,
    PROVENANCE,
    SIDES,
    SLICES,
    SPLIT_PROOF,
    Pipeline,
    executed,
    pipeline_of,
    stages,
)

_TRUTH = tuple(path for stage in stages(Pipeline(())) if stage.name in JUDGED_ANEW for path in stage.outs)
_TRUTH_DIGESTS = "digests.json"
_OUTCOME_OF_VALIDATION = tuple(path for path in _TRUTH if path.startswith("artifacts/validate/"))
_LARGEST_SMALL_FILE = 1 << 20
_LARGEST_TOLD = 64 << 20


def judge_main() -> int:
    """Judge the run that ``request.json`` of the current folder names; write ``verdict.json`` there."""
    limit_memory()  # what it reads may be made to take more than there is
    folder = Path.cwd()
    request = json.loads((folder / JUDGE_REQUEST).read_text("utf-8"))
    try:
        places = (Path(request[name]) for name in ("clone", "truth", "raw"))
        verdict = _judge(folder, *places, other_libraries=request["other_libraries"])
    except Cd4mlError as error:
        stage = error.stage if isinstance(error, StageFailed) else "judge"
        kind = error.kind if isinstance(error, StageFailed) else "deterministic"
        message = error.message if isinstance(error, StageFailed) else str(error)
        verdict = {"failure": {"stage": stage, "message": message, "kind": kind}}
    write_atomically(folder / JUDGE_VERDICT, json.dumps(verdict).encode())
    return 0


def _judge(folder: Path, clone: Path, truth: Path, raw: Path, *, other_libraries: bool) -> dict[str, Any]:
    from cd4ml.stages.runner import read_params, run_stage

    pipeline = pipeline_of(read_params(folder))
    _bring_truth(folder, truth, raw)
    files = _digest_outputs(folder, clone, pipeline)
    for path in _TRUTH:
        ours = digest_file(folder / path)
        if ours != files[path] and not (other_libraries and _same_content(folder, clone, path)):
            raise IntegrityError(f"{path}: is not what the pins and the configuration give")
        if path in _OUTCOME_OF_VALIDATION:
            files[path] = ours
    _copy(clone, folder, PREDICTIONS)
    if digest_file(folder / PREDICTIONS) != files[PREDICTIONS]:
        raise IntegrityError(f"{PREDICTIONS}: changed while it was judged")
    run_stage("evaluate", folder, raw)
    for path in stages(pipeline)[-1].written:
        files[path] = digest_file(folder / path)
    table = json.loads((folder / PROVENANCE).read_text("utf-8"))["table"]
    proof = json.loads((folder / SPLIT_PROOF).read_text("utf-8"))
    return {
        "metrics": json.loads((folder / METRICS).read_text("utf-8")),
        "slices": json.loads((folder / SLICES).read_text("utf-8")) if pipeline.sliced else {},
        "table": {key: table[key] for key in ("digest", "rows")},
        "split": {side: {key: proof[side][key] for key in ("digest", "rows")} for side in SIDES},
        "model": _model(clone, files[MODEL]),
        "files": {path: asdict(value) for path, value in files.items()},
    }


def _same_content(folder: Path, clone: Path, path: str) -> bool:
    """Whether a file of ours and one of a run with other versions of the libraries say the same.

    Tables are compared by their canonical digest, JSON by value. What validation says of the table is the judge's
    own in any case.
    """
    from cd4ml.stages.parquet import Bounds
    from cd4ml.stages.table import read_parquet, table_digest

    if path in _OUTCOME_OF_VALIDATION:
        return True
    if path.endswith(".json"):
        told = read_json(clone / path, _LARGEST_TOLD)
        return told is not None and told == json.loads((folder / path).read_text("utf-8"))
    if (clone / path).stat().st_size > 2 * (folder / path).stat().st_size + _LARGEST_SMALL_FILE:
        return False
    ours = read_parquet(folder / path)
    size = 2 * int(ours.memory_usage(deep=True).sum()) + _LARGEST_TOLD
    theirs = read_parquet(clone / path, bounds=Bounds(len(ours), size))
    binary = [name for name in ours.columns if name in theirs.columns and ours[name].dtype == object]
    digests = [table_digest(frame.drop(columns=binary)) for frame in (ours, theirs)]
    return digests[0] == digests[1] and all(ours[name].equals(theirs[name]) for name in binary)


def _bring_truth(folder: Path, truth: Path, raw: Path) -> None:
    """The trusted outputs of our own stages: as made for an earlier run of the same pins, or made now and kept."""
    from cd4ml.stages.runner import run_stage

    if _copied_truth(truth, folder):
        return
    for name in JUDGED_ANEW:
        run_stage(name, folder, raw)
    part = truth.with_name(f"{truth.name}.{uuid.uuid4().hex[:8]}.part")
    digests = {path: asdict(digest_file(folder / path)) for path in _TRUTH}
    try:
        for path in _TRUTH:
            _copy(folder, part, path)
        write_atomically(part / _TRUTH_DIGESTS, json.dumps(digests).encode())
        part.rename(truth)
    except OSError:  # another judge was first, or there is no room: what is not kept is made again
        shutil.rmtree(part, ignore_errors=True)


def _copied_truth(truth: Path, folder: Path) -> bool:
    """Copy what is kept and sound; drop it, and say no, when any byte of it is not what was kept."""
    digests = read_json(truth / _TRUTH_DIGESTS, _LARGEST_SMALL_FILE)
    try:
        for path in _TRUTH:
            _copy(truth, folder, path)
        sound = all(asdict(digest_file(folder / path)) == digests[path] for path in _TRUTH)
    except (OSError, KeyError, TypeError):
        sound = False
    if not sound:
        shutil.rmtree(truth, ignore_errors=True)
    return sound


def _copy(source: Path, target: Path, path: str) -> None:
    (target / path).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source / path, target / path)


def _digest_outputs(folder: Path, clone: Path, pipeline: Pipeline) -> dict[str, FileDigest]:
    """Digests of everything that the executed stages should have written. Raises StageFailed for a hole."""
    files: dict[str, FileDigest] = {}
    for stage in executed(pipeline):
        for path in stage.written:
            found = clone / path
            if Path(os.path.realpath(found)) != Path(os.path.realpath(clone)) / path or not found.is_file():
                raise StageFailed(stage.name, f"{path} was not written")
            files[path] = digest_file(found)
    for pin in sorted((folder / "data").glob("*.lock.json")):
        files[f"data/{pin.name}"] = digest_file(pin)
    return files


def _model(clone: Path, found: FileDigest) -> dict[str, Any]:
    """What is known of the model without loading it: its bytes, and that the card was made for them."""
    card = read_json(clone / MODEL_CARD, _LARGEST_SMALL_FILE)
    if not isinstance(card, dict) or card.get("digest") != found.sha256:
        raise IntegrityError(f"{MODEL_CARD}: is no card of the model that {MODEL} holds")
    return {"digest": found.sha256, "format": "skops", "bytes": found.bytes}


if __name__ == "__main__":
    sys.exit(judge_main())
