"""Runs in the index that asked for the same as this one, or for the same but for one key: "already run as …"."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from cd4ml.index.record import RunRecord
from cd4ml.promotion.compare import finite
from cd4ml.promotion.configuration import ConfigChange, Path, config_changes, values_of
from cd4ml.promotion.review import Relative
from cd4ml.spec.text import one_line

MOST = 5
"""Relatives of each kind that are told, the newest."""

_LONGEST_REASON = 200
_ABSENT = object()
_NAMED = "model.parameters."
"""Values that other places of the model's configuration refer to."""

_FEW = 3
"""The names of a list, and a parameter of the model, may tell the one change again."""


@dataclass(frozen=True)
class Kin:
    """A run, and a branch that it was run for or answers; ``lifecycle`` is that branch's."""

    run: RunRecord
    branch: str
    lifecycle: str


def same_runs(kin: Iterable[Kin], own: str, primary: str) -> tuple[Relative, ...]:
    """Those of one fingerprint (given in fold order) that are of another branch than ``own``, the newest first.

    Of each branch the success counts where it has one, and else its last failure.
    """
    found: dict[str, Kin] = {}
    for one in kin:
        if one.branch != own and (one.run.succeeded or one.branch not in found or not found[one.branch].run.succeeded):
            found.pop(one.branch, None)
            found[one.branch] = one
    newest = list(reversed(found.values()))[:MOST]
    return tuple(_relative("same", one.run, one.branch, one.lifecycle, primary) for one in newest)


def near_runs(
    candidates: Iterable[RunRecord], params: Mapping[str, Any], fingerprint: str, left_out: frozenset[str]
) -> tuple[tuple[RunRecord, str, Any, Any], ...]:
    """Of runs (given newest first) those whose configuration differs in exactly one resolved key.

    Each with the key and its value here and there. Code, data and pipeline of the candidates must be the same.
    ``left_out`` are branches whose runs do not count; of a fingerprint only the newest run does.
    """
    here = values_of(params)
    found: list[tuple[RunRecord, str, Any, Any]] = []
    seen = {fingerprint}
    for run in candidates:
        if run.fingerprint in seen or run.branch in left_out:
            continue
        seen.add(run.fingerprint)
        if _differ_much(here, values_of(run.params)):
            continue
        change = _only(list(islice(config_changes(run.params, params), 3)))
        if change is not None:
            found.append((run, change.key, change.challenger, change.champion))
            if len(found) == MOST:
                break
    return tuple(found)


def _only(changes: Sequence[ConfigChange]) -> ConfigChange | None:
    """The one change that there is. A parameter of the model and the one place that refers to it are one."""
    if len(changes) == 1:
        return changes[0]
    named = [one for one in changes if one.key.startswith(_NAMED)]
    others = [one for one in changes if one not in named]
    if len(named) != 1 or len(others) != 1:
        return None
    alike = all(getattr(named[0], side) == getattr(others[0], side) for side in ("champion", "challenger"))
    return named[0] if alike else None


def near_relatives(
    found: Iterable[tuple[RunRecord, str, Any, Any]], lifecycles: Mapping[str, str], primary: str
) -> tuple[Relative, ...]:
    """What ``near_runs`` gave, as it is told; ``lifecycles`` are by branch, and a branch not in it is discarded."""
    return tuple(
        _relative("near", run, run.branch, lifecycles.get(run.branch, "discarded"), primary, key, here, there)
        for run, key, here, there in found
    )


def _differ_much(here: Mapping[Path, Any], there: Mapping[Path, Any]) -> bool:
    """Surely in more than one key? A cheap look: most candidates need no closer one."""
    count = 0
    for path in here.keys() | there.keys():
        one, other = here.get(path, _ABSENT), there.get(path, _ABSENT)
        if one is _ABSENT or other is _ABSENT or one != other:
            count += 1
            if count > _FEW:
                return True
    return False


def _relative(
    kind: Any,
    run: RunRecord,
    branch: str,
    lifecycle: str,
    primary: str,
    key: str = "",
    here: Any = None,
    there: Any = None,
) -> Relative:
    why = run.reason or {}
    reason = f"{why.get('stage', '')}: {why.get('message', '')}" if why else ""
    return Relative(
        kind=kind,
        run=run.id,
        branch=branch,
        lifecycle=lifecycle,
        outcome="succeeded" if run.succeeded else "failed",
        finished=str(run.body["finished"]),
        metric=finite((run.metrics.get("validation") or {}).get(primary)),
        reason=one_line(reason, _LONGEST_REASON),
        key=key,
        here=here,
        there=there,
    )
