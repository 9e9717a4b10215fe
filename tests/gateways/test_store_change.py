"""The query cache brought up to date holds exactly what one that is made anew does."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cd4ml.gateways.store import DRAFT, LANDING, QueryCache
from cd4ml.index.history import History
from cd4ml.index.record import seal
from cd4ml.index.rows import rows
from tests.gateways.store_world import Index, held, wanted
from tests.index.index_world import bodies, entry, experiment_body, fingerprint, hexes, run_body


@st.composite
def records(draw: st.DrawFn) -> dict[str, Any]:
    """Runs and experiments that meet, and removals and imports."""
    kind = draw(st.sampled_from(["run or experiment"] * 4 + ["removal", "import"]))
    if kind == "run or experiment":
        return draw(bodies())
    commit = hexes("base", 40)
    if kind == "import":
        return import_body(draw(st.integers(0, 1)), commit)
    run = draw(st.sampled_from([run_body(number)["id"] for number in range(4)] + [import_body(0, commit)["id"]]))
    what = draw(st.sampled_from(["artefacts", "stored", "run"]))
    removal = {"commit": commit, "run": run, "what": what, "reason": "", "rule": "", "by": "Ada"}
    return seal({"kind": "removal", **removal, "at": "2026-11-03T10:00:00Z", "objects": []})


def import_body(number: int, commit: str) -> dict[str, Any]:
    source = {"kind": "mlflow", "location": "x", "experiment": "Default", "id": str(number)}
    facts = {
        "commit": commit,
        "source_commit": None,
        "outcome": "succeeded",
        "params": {"x": number},
        "tags": {"a": "b"},
    }
    said = {"name": "n", "author": "", "description": "", "started": None, "finished": None}
    return seal({"kind": "import", "source": source, **facts, **said, "metrics": {"validation": {"rmse": 0.5}}})


FOLDS = st.lists(st.lists(records(), max_size=4), min_size=1, max_size=5)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(folds=FOLDS, landed=st.lists(records(), max_size=4), data=st.data())
def test_any_way_from_state_to_state_ends_where_a_rebuild_does(
    tmp_path: Path, folds: list[list[dict[str, Any]]], landed: list[dict[str, Any]], data: st.DataObject
) -> None:
    """Forward and back over folds, with landed records and drafts that come, count, are folded and go."""
    source = Index(
        {str(count): folds[:count] for count in range(len(folds) + 1)}, {str(body["id"]): body for body in landed}
    )
    cache = QueryCache(Path(tempfile.mkdtemp(dir=tmp_path)) / "query.sqlite")  # of its own for each example
    states = st.tuples(
        st.sampled_from([None, *source.indexes]),
        st.dictionaries(st.sampled_from([*source.landed, ""]), st.sampled_from([LANDING, DRAFT]), max_size=3),
    )
    for index, refs in data.draw(st.lists(states, min_size=1, max_size=4)):
        state = wanted(index, {ref: (f"commit of {ref}", origin) for ref, origin in refs.items() if ref})
        cache.refresh(state, source)
        fresh = QueryCache(Path("/dev/null/none"))
        fresh.refresh(state, source)
        assert held(cache) == held(fresh)
        assert_rows(cache, source, index, sorted(ref for ref in refs if ref))
    cache.close()


def assert_rows(cache: QueryCache, source: Index, index: str | None, refs: Sequence[str]) -> None:
    """The rows are those of the pure fold over everything."""
    known = list(source.of(index).values())
    number = max((one.fold for one in known), default=0) + 1
    landed = [entry(dict(body), number) for ref in refs if (body := source.landed[ref])]
    expected = [row.as_json() for row in rows(History.of([*known, *landed]), {})]
    assert cache.search() == expected


def test_what_is_asked_of_the_history_on_disk_is_what_the_fold_of_all_entries_says() -> None:
    """Lookups in the cache against the same in ``History``; tests/controller has the whole of it over Git."""
    folds = [
        [run_body(1), run_body(1, failed=True), run_body(2)],
        [run_body(1, threads=2), experiment_body("exp/a", 1)],
    ]
    cache = QueryCache(Path("/dev/null/none"))
    source = Index({"i": folds})
    cache.refresh(wanted("i"), source)
    history = History.of(source.of("i").values())
    found = cache.entries("kind = 'run' AND fingerprint = ? AND succeeded", fingerprint(1), limit=1)
    result = history.result(fingerprint(1))
    assert result is not None
    assert found == (result.entry,)
    condition, *values = cache.with_components({"code": result.run.components["code"]})
    assert cache.entries(condition, *values, limit=1) == (result.entry,)
    assert cache.values("branch", "kind = 'experiment'") == history.branches


def test_a_change_does_not_read_what_it_does_not_touch(tmp_path: Path) -> None:
    folds = [[run_body(number) for number in range(20)], [run_body(99)]]
    source = Index({"1": folds[:1], "2": folds})
    cache = QueryCache(tmp_path / "query.sqlite")
    cache.refresh(wanted("1"), source)
    read: list[str] = []
    plain = source.read
    source.read = lambda places: (read.extend(blob for blob, _ in places), plain(places))[1]  # type: ignore[method-assign,func-returns-value]  # counts
    cache.refresh(wanted("2"), source)
    assert (source.read_whole, read) == (1, [])
    assert len(cache.search()) == 21
