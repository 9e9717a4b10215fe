"""Runs against each other, as people read them: what is better is said without colour, and no text forges a line."""

from __future__ import annotations

from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import RenderableType

from cd4ml.index.history import History
from cd4ml.index.lineage import Answer, ModelRun
from cd4ml.index.record import RunRecord
from cd4ml.promotion.compare import compare
from cd4ml.promotion.inputs import Source
from cd4ml.promotion.table import contrast
from cd4ml.report.compare import contrast_view, diff_view, patch_view
from cd4ml.report.leaderboard import leaderboard_view
from cd4ml.report.lineage import heading, rows_view, run_tree
from cd4ml.spec.pin import Pin
from tests.index.index_world import entry, hexes, run_body
from tests.promotion.boards import leaderboard
from tests.report.test_terminal import CHALLENGER, HOSTILE, run, shown


def test_a_comparison_shows_the_verdict_every_metric_and_every_difference() -> None:
    lines = shown(diff_view(compare(run(), CHALLENGER)))
    assert lines == [
        "better: rmse on the test side is better, 10.00 → 9.500 (-5.0 %, lower is better)",
        f"Champion r{'1' * 20}, challenger r{'2' * 20}",
        "Test rows: tttttttttt, the same",
        "By the numbers alone: `cd4ml report BRANCH` says whether it is more than chance",
        "",
        "Side        Metric  Champion  Challenger   Change  Relative",
        "validation  rmse       11.00       11.00        0    +0.0 %  = equal",
        "test        rmse       10.00       9.500  -0.5000    -5.0 %  ▲ better",
        "test        r2             –      0.9000        –         –  unknown",
        "",
        "Configuration",
        '  ~ model.alpha 1 → "1"',
        "  + model.depth 6",
        "",
        "Data",
        "  ~ flights dddddddddd (336,776 rows) → eeeeeeeeee (330,000 rows)",
        "",
        "Environment",
        "  - numpy 2.4.6",
        "  + scipy 1.17.1",
        "",
        "Moved: spec",
    ]


def sliced(number: float, count: int = 1) -> dict[str, Any]:
    values = [{"value": f"v{one}", "validation": {}, "test": {"rmse": number + one * number}} for one in range(count)]
    return {"origin": {"values": values, "left_out": 0}}


def test_columns_files_and_slices_are_shown_beneath_what_they_belong_to() -> None:
    old = Source(columns={"flights": (("delay", "int64"),)}, files={"own/a.py": "1", "own/b.py": "1"})
    new = Source(columns={"flights": (("delay", "float64"), ("gate", "string"))}, files={"own/a.py": "2"})
    challenger = run(data={"flights": {"digest": "e" * 64, "rows": 1}}, components={"code": "C"}, slices=sliced(2.0))
    lines = shown(diff_view(compare(run(slices=sliced(3.0)), challenger, 0.0, (old, new), {"own/a.py": (3, 1)})))
    assert lines[lines.index("Data") : lines.index("Data") + 4] == [
        "Data",
        "  ~ flights dddddddddd (336,776 rows) → eeeeeeeeee (1 rows)",
        "    ~ delay int64 → float64",
        "    + gate string",
    ]
    assert lines[lines.index("Code") + 1 : lines.index("Code") + 3] == ["  ~ own/a.py  +3 -1", "  - own/b.py"]
    assert lines[lines.index("Slices (test rmse)") + 1] == "  ~ origin v0 3.000 → 2.000 ▲ better"


def test_other_test_rows_are_said_beside_the_verdict() -> None:
    lines = shown(diff_view(compare(run(), run(split={"test": {"digest": "u" * 64}}))))
    assert lines[0] == "not comparable: the test sides differ"
    assert lines[2] == "Test rows: tttttttttt and uuuuuuuuuu, which are not the same"


def test_code_that_moved_and_cannot_be_read_or_has_the_same_files_is_said_so() -> None:
    moved = run(components={"code": "C"})
    assert "  it differs; the files cannot be read here" in shown(diff_view(compare(run(), moved)))
    same = (Source(files={}), Source(files={}))
    assert "  the files are the same; which paths count, or their modes, differ" in shown(
        diff_view(compare(run(), moved, 0.0, same))
    )


def test_many_files_and_many_slices_are_cut_and_counted() -> None:
    sources = (Source(files={}), Source(files={f"own/{number:02}.py": "1" for number in range(25)}))
    lines = shown(diff_view(compare(run(slices=sliced(3.0, 30)), run(slices=sliced(2.0, 30)), 0.0, sources)))
    assert "  5 more files (`--name-only` lists them)" in lines
    assert "  20 more slices (`--json` has them)" in lines


def test_several_runs_are_a_column_each_with_marks_that_say_better_and_worse() -> None:
    worse = run(id="r" + "3" * 20, metrics={"test": {"rmse": 10.5}}, params={"model": {"alpha": None}})
    lines = shown(contrast_view(contrast([run(), CHALLENGER, worse]), ["main", "exp/deeper", "exp/wide"]))
    wanted = [
        "                   main               exp/deeper         exp/wide",
        "                   r111111111         r222222222         r333333333",
        "Metrics",
        "  validation rmse  11.00              11.00 =            –",
        "  test rmse        10.00              9.500 ▲            10.50 ▼",
        "  test r2          –                  0.9000             –",
        "",
        "Configuration",
        '  model.alpha      1                  "1"                null',
        "  model.depth      –                  6                  –",
        "",
        "Data",
        "  flights          dddddddddd         eeeeeeeeee         dddddddddd",
        "                   336,776 rows       330,000 rows       336,776 rows",
        "",
        "Environment",
        "  numpy            2.4.6              –                  2.4.6",
        "  scipy            –                  1.17.1             –",
        "",
        "▲ better than the first, ▼ worse, = equal",
        "exp/deeper: better: rmse on the test side is better",
        "exp/wide: worse: rmse on the test side is worse",
        "By the numbers alone: `cd4ml report BRANCH` says whether it is more than chance",
    ]
    assert [line.split() for line in lines] == [line.split() for line in wanted]


def test_a_patch_is_shown_as_it_is_with_nothing_hidden_and_long_lines_cut() -> None:
    text = "diff --git a/x b/x\n@@ -1 +1 @@\n-\told\n+new\x1b[31m\u202e\r\n+" + "y" * 500 + "\n"
    lines = shown(patch_view(text))
    assert lines[:4] == ["diff --git a/x b/x", "@@ -1 +1 @@", "-       old", "+new\\x1b[31m\\u202e\\x0d"]
    assert "".join(lines[4:]) == f"+{'y' * 399}… (501 characters)"
    assert shown(patch_view("")) == []


def board(*bodies: dict[str, Any]) -> Any:
    return leaderboard(History.of(entry(one, number) for number, one in enumerate(bodies, start=1)).runs)


def measured(label: object, rmse: float, **changed: Any) -> dict[str, Any]:
    return run_body(label, **{"metrics": {"validation": {"rmse": rmse}}, "branch": f"exp/{label}", **changed})


def test_a_list_says_what_it_is_measured_on_and_marks_what_was_discarded() -> None:
    made = [measured("a", 3.0), measured("b", 2.0), measured("b", 1.0, threads=2)]
    found = board(*made)
    standings = {made[0]["id"]: ("exp/a", "discarded"), made[1]["id"]: ("exp/b", "open")}
    assert shown(leaderboard_view(found, standings, 10)) == [
        "rmse on validation, lower is better: 2 runs",
        f"1 rows {hexes('validation')[:10]} of flights",
        "Branch  #  Value  Run         Lifecycle  Again",
        f"exp/b   1  2.000  {made[1]['id'][:10]}  open          1×",
        f"exp/a   2  3.000  {made[0]['id'][:10]}  discarded",
        "",
    ]
    assert "1 more run (`--limit`)" in shown(leaderboard_view(found, standings, 1))


def test_several_lists_are_said_not_to_compare() -> None:
    elsewhere = {"validation": {"rows": 1, "digest": hexes("elsewhere")}}
    made = [measured("a", 3.0), measured("b", 2.0, split=elsewhere), measured("c", 1.0, metrics={})]
    lines = shown(leaderboard_view(board(*made), {one["id"]: ("exp/x", "open") for one in made}, 10))
    assert lines[:2] == [
        "2 lists: each was measured otherwise, or on other rows, than the others.",
        "Numbers of two lists do not compare.",
    ]
    assert sum(line.startswith("rmse on validation") for line in lines) == 2
    assert lines[-1] == "1 run without such a number, not ranked."
    assert shown(leaderboard_view(board(), {}, 10)) == ["No run has a place."]


def tree(record: RunRecord, text: str = "exp/b", **changed: Any) -> RenderableType:
    pin = Pin(text, "d", 1, (), "s", "m", 1, "n", "csv", f"https://ada:key@host/{text}", text)
    given: dict[str, Any] = {
        "relation": "made",
        "role": "result",
        "result_commit": "c" * 40,
        "let_go": "",
        "whole": True,
    }
    given |= {"pins": dict.fromkeys(record.body["data"], pin), "answers": [Answer(text, "c" * 40, "merge")]}
    return run_tree(record, **{**given, **changed})


def test_a_run_is_told_with_what_it_was_made_from_and_what_it_made_and_no_password() -> None:
    record = RunRecord(run_body("x", judge={"commit": hexes("judge", 40), "code": "abc"}))
    text = " ".join(" ".join(shown(tree(record))).split())
    for told in (
        f"made by {record.id}",
        f"from data flights {hexes('rows')[:12]}, 3 rows, of",
        "host/exp/b",
        f"from code {hexes('code x')[:12]} of commit",
        "from the judge's code abc of commit",
        "python 3.11.7, numpy 2.4.6",
        f"made model {hexes('model')[:12]}",
        "answers exp/b at cccccccccccc, merged with the base branch",
    ):
        assert told in text.replace("│ ", ""), told
    assert "key" not in text
    assert len(shown(tree(record, whole=False))) < len(shown(tree(record)))


def test_a_failed_run_says_where_it_failed_and_one_that_was_let_go_says_so() -> None:
    text = "\n".join(shown(tree(RunRecord(run_body("x", failed=True)), let_go="artefacts let go: old")))
    assert "failed at validate: 2 rows" in text
    assert "artefacts let go: old" in text


def test_models_of_a_row_are_counted_once_and_what_is_unknown_is_not_counted_as_absent() -> None:
    one, other, third = (ModelRun.of(RunRecord(run_body(label))) for label in "abc")
    nowhere = {"train": 0, "validation": 0, "test": 0}
    looks = [
        ("train", {**nowhere, "train": 2}, "", [one, other]),
        ("unknown", None, "its table cannot be had", [third]),
    ]
    lines = shown(rows_view(looks, {}))
    assert lines[-1] == "1 model was trained on it; of 1 run it is not known."
    assert "  its table cannot be had" in lines
    marked = shown(rows_view(looks, {other.id: "erased on 2026-11-03 by Bo: old"}))
    (place,) = (number for number, line in enumerate(marked) if other.id in line)
    assert marked[place + 1] == "  erased on 2026-11-03 by Bo: old"
    assert shown(rows_view([("absent", nowhere, "", [one])], {}))[-1] == "0 models were trained on it."
    assert shown(rows_view([], {})) == ["No run has a model."]


def everything(text: str) -> list[RenderableType]:
    """Every view with ``text`` wherever text from outside can stand."""
    odd = run(
        id=text,
        outcome="failed",
        reason={"stage": text, "message": text},
        params={text: {text: text}},
        metrics={text: {text: 1.0}},
        data={text: {"digest": text, "rows": 1}},
        environment={"python": text, "packages": {text: text}},
        split={"test": {"digest": text}},
        components={"code": text},
    )
    plain = run(data={text: {"digest": "d", "rows": 1}})
    old, new = (Source(columns={text: ((text, kind),)}, files={text: kind}) for kind in (text, "x"))
    made = RunRecord(run_body("x", branch=text, name=text, data={text: {"digest": hexes("x"), "rows": 1}}))
    declared = {"evaluation": {"own": {text: {"direction": "minimize"}}, "task": text}, "data": {"target": text}}
    ranked: dict[str, Any] = {"metrics": {"validation": {text: 1.0}}, "primary": {"metric": text}, "params": declared}
    listed = board(run_body("x", data={text: {"digest": hexes("x"), "rows": 1}}, **ranked))
    assert listed.boards
    standings = {place.id: (text, "open") for each in listed.boards for place in each.places}
    return [
        diff_view(compare(plain, odd, 0.0, (old, new))),
        diff_view(compare(odd, plain, 0.0, (old, new))),
        contrast_view(contrast([plain, odd, plain], 0.0, [old, new, old]), [text] * 3),
        patch_view(f"+{text}"),
        leaderboard_view(listed, standings, 10),
        heading(text, [text], 1, 0),
        tree(made, text, let_go=f"gone: {text}"[:20]),
        rows_view([("unknown", None, text, [ModelRun.of(made)])], {}),
    ]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("view", range(8))
def test_no_text_from_a_branch_moves_the_cursor_or_leaves_the_80_columns(text: str, view: int) -> None:
    lines = shown(everything(text)[view])
    assert all(cell_len(line) <= 80 for line in lines)
    assert not any(character in line for line in lines for character in "\x1b\u202e\u200b\r")
