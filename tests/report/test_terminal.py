"""What a person reads: every table fits 80 columns, says its words without colour, and cannot be forged."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console, RenderableType

from cd4ml.index.record import RunRecord
from cd4ml.plan.action import Plan, PlanItem, RecordExperiment, Run
from cd4ml.plan.state import Experiment, Health, Lifecycle, SyncStatus, Target
from cd4ml.promotion.compare import compare
from cd4ml.report.compare import diff_view
from cd4ml.report.terminal import plan_view, runs_table, status_table
from cd4ml.spec.fingerprint import Components

ESC = "\x1b"
FORGED = f"exp/{ESC}[2K{ESC}[1Amain\u202e\u200b[bold red]x[/]"
HOSTILE = [FORGED, "exp/" + "long" * 40, "[red]exp/a[/red]", "exp/日本語" * 12, "exp/:skull:"]


def shown(renderable: RenderableType) -> list[str]:
    """The lines as printed to 80 columns, without styles."""
    console = Console(record=True, width=80, file=io.StringIO(), color_system="truecolor", force_terminal=True)
    console.print(renderable)
    return [line.rstrip() for line in console.export_text().splitlines()]


def item(branch: str = "exp/a", **others: Any) -> PlanItem:
    given = PlanItem(
        branch=branch,
        commit="c" * 40,
        sync=SyncStatus.SYNCED,
        health=Health.HEALTHY,
        lifecycle=Lifecycle.OPEN,
        fingerprint="f" * 64,
        merge_fingerprint=None,
        reason="up to date: result r0123456789abcdef0123",
        metrics={"validation": {"rmse": 12.3456}},
    )
    return replace(given, **others)


def row(branch: str = "exp/a", **others: Any) -> dict[str, Any]:
    return {
        "id": "r" + "0" * 20,
        "fingerprint": "abcdef0123" + "0" * 54,
        "branch": branch,
        "health": "Healthy",
        "lifecycle": "open",
        "params": {"evaluation": {"primary": "rmse"}},
        "metrics": {"validation": {"rmse": 12.3456}, "test": {"rmse": 1234.5}},
        "reason": "succeeded",
        **others,
    }


def run(**changed: Any) -> RunRecord:
    body: dict[str, Any] = {
        "id": "r" + "1" * 20,
        "components": {"spec": "s"},
        "outcome": "succeeded",
        "params": {"model": {"alpha": 1}},
        "primary": {"metric": "rmse"},
        "metrics": {"validation": {"rmse": 11.0}, "test": {"rmse": 10.0}},
        "data": {"flights": {"digest": "d" * 64, "rows": 336776}},
        "split": {"test": {"digest": "t" * 64}},
        "environment": {"python": "3.11.7", "packages": {"numpy": "2.4.6"}},
    }
    return RunRecord({**body, **changed})


CHALLENGER = run(
    id="r" + "2" * 20,
    components={"spec": "S"},
    params={"model": {"alpha": "1", "depth": 6}},
    metrics={"validation": {"rmse": 11.0}, "test": {"rmse": 9.5, "r2": 0.9}},
    data={"flights": {"digest": "e" * 64, "rows": 330000}},
    environment={"python": "3.11.7", "packages": {"scipy": "1.17.1"}},
)


def plan(branch: str) -> Plan:
    head = Target("head", "c" * 40, "t" * 40, Components(*"scdpe"))
    asked = Experiment(branch, "c" * 40, False, "Ada", "a", "", (), head, committed="2026-01-01T00:00:00Z")
    first = item(branch, actions=(Run(branch, head, "never run"),))
    second = item("exp/b", actions=(RecordExperiment("exp/b", asked, {"head": None}, "configuration refused"),))
    return Plan((item("main"), first, second))


def test_status_says_sync_health_lifecycle_and_reason_in_words() -> None:
    failed = item(
        "exp/b", sync=SyncStatus.OUT_OF_SYNC, health=Health.DEGRADED, reason="failed at train: no", metrics={}
    )
    assert shown(status_table([item("main"), failed], "rmse")) == [
        "Branch  Sync       Health    Lifecycle  validation rmse",
        "main    Synced     Healthy   open                 12.35",
        "  up to date: result r0123456789abcdef0123",
        "exp/b   OutOfSync  Degraded  open                     –",
        "  failed at train: no",
    ]


def test_runs_show_their_primary_metric_and_why_they_failed() -> None:
    failed = row("exp/b", health="Degraded", metrics={}, reason="failed at validate: no")
    assert shown(runs_table([row(), failed])) == [
        "Branch  Run         Health    Lifecycle  valid. rmse  test rmse",
        "exp/a   r000000000  Healthy   open             12.35      1,234",
        "exp/b   r000000000  Degraded  open                 –          –",
        "  failed at validate: no",
    ]


def test_runs_of_several_commits_of_a_branch_say_which_they_are_of() -> None:
    later = row("exp/a", commit="f" * 40, health="Degraded", metrics={}, reason="failed at train: no")
    lines = shown(runs_table([row("exp/a", commit="e" * 40), later, row("exp/b", commit="f" * 40)]))
    assert [line for line in lines if line.startswith("  ")] == [
        "  commit eeeeeee",
        "  commit fffffff; failed at train: no",
    ]


def test_imported_runs_say_what_they_were_called_and_measured() -> None:
    measured = {"test": {f"m{number}": number / 8 for number in range(5)}}
    imported = row("mlflow:0", role="imported", name="first try", metrics=measured)
    assert shown(runs_table([imported]))[-1] == "  first try; m0 0, m1 0.1250, m2 0.2500, 2 more metrics"
    both = row("mlflow:0", role="imported", name="", metrics={"validation": {"f1": 0.5}, "test": {"f1": 0.25}})
    assert shown(runs_table([both]))[-1] == "  validation f1 0.5000, test f1 0.2500"


def test_runs_show_the_metrics_that_are_asked_for() -> None:
    assert "test mae" in shown(runs_table([row()], ["mae"]))[0]


def test_a_class_that_was_changed_for_another_hides_the_parameters_of_both() -> None:
    steps = [["x", {"_target_": "a.Scaler", "mean": True}]]
    old = {"estimator": {"_target_": "a.Pipeline", "steps": steps}, "name": "a"}
    new = {"estimator": {"_target_": "b.Trees", "depth": 6, "seed": 1}, "name": "b"}
    lines = shown(diff_view(compare(run(params={"model": old}), run(params={"model": new}))))
    assert [line for line in lines if line.startswith("  ")] == [
        '  ~ model.name "a" → "b"',
        '  ~ model.estimator._target_ "a.Pipeline" → "b.Trees" (and 5 parameters)',
    ]


def test_a_comparison_that_finds_nothing_says_so() -> None:
    lines = shown(diff_view(compare(run(), run())))
    assert "no difference: rmse on the test side is equal" in lines
    assert lines[-1] == "Moved: nothing"


def test_a_plan_lists_its_actions_and_counts_them() -> None:
    assert shown(plan_view(plan("exp/a"))) == [
        "exp/a",
        "  + run head ccccccc: never run",
        "exp/b",
        "  + record ccccccc: configuration refused",
        "To do: 1 run, 1 record to write.",
    ]


def test_an_empty_plan_says_that_there_is_nothing_to_do() -> None:
    assert shown(plan_view(Plan((item("main"), item())))) == ["Nothing to do: 2 experiments looked at."]


def test_no_rows_are_said_in_words() -> None:
    assert shown(status_table([])) == ["No experiments."]
    assert shown(runs_table([])) == ["No runs."]


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
    )
    return [
        status_table([item(text, reason=text), item("exp/z")], "rmse"),
        runs_table([row(text, fingerprint=text, health=text[:8], lifecycle=text[:8], reason=text)]),
        diff_view(compare(run(), odd)),
        diff_view(compare(odd, run())),
        plan_view(plan(text)),
    ]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("view", range(5))
def test_no_text_from_a_branch_moves_the_cursor_or_leaves_the_80_columns(text: str, view: int) -> None:
    lines = shown(everything(text)[view])
    assert all(cell_len(line) <= 80 for line in lines)
    assert not any(character in line for line in lines for character in "\x1b\u202e\u200b\r")


@pytest.mark.parametrize("view", range(5))
def test_markup_and_emoji_codes_are_shown_as_typed(view: int) -> None:
    text = "[red]:skull:[/red]"
    folded = "".join("".join(shown(everything(text)[view])).split())
    assert text[:8] in folded
    assert "💀" not in folded


def test_an_escape_in_a_branch_name_reaches_the_terminal_as_text() -> None:
    """The raw bytes of a colour terminal hold no escape sequence but rich's own colours."""
    stream = io.StringIO()
    Console(file=stream, width=80, force_terminal=True, color_system="truecolor").print(status_table([item(FORGED)]))
    written = stream.getvalue()
    assert "\\x1b[2K" in written
    assert f"{ESC}[2K" not in written
    assert f"{ESC}[1A" not in written


def test_colour_is_an_addition_to_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def written() -> str:
        stream = io.StringIO()
        Console(file=stream, width=80, force_terminal=True, color_system="truecolor").print(status_table([item()]))
        return stream.getvalue()

    monkeypatch.delenv("NO_COLOR", raising=False)
    assert f"{ESC}[32mSynced" in written()
    monkeypatch.setenv("NO_COLOR", "1")
    assert f"{ESC}[32m" not in written()
    assert "Synced" in written()
