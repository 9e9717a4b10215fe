"""The verb that tells a reviewer about a branch: report."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import typer

from cd4ml.cli.complete import complete_branch
from cd4ml.cli.context import Context, JsonFlag, json_text, say, show, warn
from cd4ml.cli.posting import Posting, exit_if_refused, post_everything, post_one, posted_json, tell
from cd4ml.errors import UsageError

if TYPE_CHECKING:
    from cd4ml.controller.project import Project
    from cd4ml.controller.reporting.post import Posted
    from cd4ml.controller.reporting.report import Reported
    from cd4ml.report.plots import Plot

_FORMATS = ("terminal", "markdown", "html", "json")
_ENDINGS: Mapping[str, str] = {
    ".md": "markdown",
    ".markdown": "markdown",
    ".html": "html",
    ".htm": "html",
    ".json": "json",
}


def register(app: typer.Typer) -> None:
    """Add this module's verbs."""
    app.command(
        epilog="Examples: cd4ml report · cd4ml report exp/deeper -o deeper.html · "
        "cd4ml report exp/deeper --format json --exit-code · cd4ml report exp/deeper --base v1.2 · "
        "cd4ml report exp/deeper --post"
    )(report)


def report(
    context: typer.Context,
    branch: Annotated[
        str,
        typer.Argument(
            metavar="[BRANCH]", help="What to report on (default: the current branch).", autocompletion=complete_branch
        ),
    ] = "",
    base: Annotated[
        str, typer.Option("--base", metavar="REV", help="Hold it against the result of this commit; asks no gate.")
    ] = "",
    form: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="terminal, markdown, html or json.", show_default=False)
    ] = "",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write it there; .md, .html and .json say the format."),
    ] = None,
    plots: Annotated[
        bool | None,
        typer.Option("--plots/--no-plots", help="Draw plots (default: for html alone).", show_default=False),
    ] = None,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit 1 unless the check would succeed: every gate passes.")
    ] = False,
    post: Annotated[
        bool, typer.Option("--post", help="Keep the comment, check and labels of its pull requests current.")
    ] = False,
    pull: Annotated[
        list[int] | None, typer.Option("--pull", metavar="N", help="Post on this pull request (default: all open).")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Post on every open pull request of a branch.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what --post would write, and write nothing.")] = False,
    unverified: Annotated[
        Path | None,
        typer.Option("--unverified", metavar="DIR", help="Report on what a fork's job left there; records nothing."),
    ] = None,
    head: Annotated[str, typer.Option("--head", metavar="SHA", help="The fork's commit, as the forge names it.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Tell what a branch changed, whether it is real, and what merging it would do. Trains nothing."""
    from cd4ml.controller.reporting.champions import tags_of_this_clone

    options: Context = context.obj
    if as_json and form not in ("", "json"):
        raise UsageError(f"--json and --format {form} exclude each other")
    wanted = _format("json" if as_json else form, output)
    posting = Posting(post, tuple(pull or ()), everything, dry_run)
    posting.check(branch, base, unverified, head)
    project = options.project()
    if everything:
        post_everything(project, posting, as_json=wanted == "json")
        return
    reported = _gathered(project, branch, base, unverified, head)
    done = (post_one(project, reported, posting),) if post else ()
    if not post or output is not None or wanted != "terminal":
        _render(reported, wanted, output, plots, done)
    if not post:
        for line in tags_of_this_clone(project):
            warn(line)
    if post:
        tell(done, aside=output is None and wanted != "terminal")
    exit_if_refused(done)
    if exit_code and not _may_merge(reported):
        raise typer.Exit(1)


def _may_merge(reported: Reported) -> bool:
    """As the check on a pull request has it."""
    from cd4ml.promotion.posting import conclusion_of

    return conclusion_of(reported.review) == "success"


def _gathered(project: Project, branch: str, base: str, unverified: Path | None, head: str) -> Reported:
    if unverified is not None:
        from cd4ml.controller.ci.unverified import unverified_report

        return unverified_report(project, unverified, head)
    from cd4ml.controller.reporting.report import report_on

    name = branch or project.repository.current_branch()
    if name is None:
        raise UsageError("no branch is checked out: say which one to report on")
    return report_on(project, name, base)


def _render(reported: Reported, wanted: str, output: Path | None, plots: bool | None, done: Sequence[Posted]) -> None:
    drawn = _drawn(reported, wanted, plots)
    if output is None and wanted == "terminal":
        from cd4ml.report.review import review_view

        show(review_view(reported.review))
    else:
        text = _json(reported, done) if wanted == "json" else _RENDERED[wanted](reported, drawn, output)
        _write(text, output)
    if output is not None:
        say(f"{reported.review.branch}: {reported.review.verdict}; the report is in {output}")


def _format(form: str, output: Path | None) -> str:
    """Which format is meant. Raises UsageError for one that there is not, or that a terminal alone can show."""
    from difflib import get_close_matches

    if not form:
        return "terminal" if output is None else _ENDINGS.get(output.suffix.lower(), "") or _unsaid(output)
    if form not in _FORMATS:
        near = get_close_matches(form, _FORMATS, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(f"--format {form}: is none of {', '.join(_FORMATS)}{hint}")
    if form == "terminal" and output is not None:
        raise UsageError("--format terminal: is for the terminal; for a file take markdown, html or json")
    return form


def _unsaid(output: Path) -> str:
    raise UsageError(f"-o {output}: its name does not say the format; end it in .md, .html or .json, or add --format")


def _drawn(reported: Reported, wanted: str, asked: bool | None) -> tuple[Plot, ...]:
    """The plots, where a format shows them: in an HTML page, and beside a Markdown file."""
    if asked is False or wanted in ("terminal", "json") or (asked is None and wanted != "html"):
        return ()
    from cd4ml.report.plots import draw

    return draw(reported.review, reported.paired, reported.story, reported.importance, reported.curves)


def _markdown(reported: Reported, plots: tuple[Plot, ...], output: Path | None) -> str:
    from cd4ml.report.markdown import PlotLink, markdown_report

    links = [PlotLink(plot.title, plot.alt, quote(name), plot.width) for plot, name in _beside(plots, output)]
    return markdown_report(reported.review, plots=links)


def _beside(plots: tuple[Plot, ...], output: Path | None) -> Iterator[tuple[Plot, str]]:
    """Plots that lie beside a file of Markdown, with their files' names. Side effect: writes them."""
    if output is None:
        return
    from cd4ml.gateways.files import hand_over

    for plot in plots:
        name = f"{output.stem}-{plot.name}.png"
        hand_over(output.with_name(name), plot.png)
        yield plot, name


def _html(reported: Reported, plots: tuple[Plot, ...], _: Path | None) -> str:
    from cd4ml.report.html_page import html_report

    return html_report(reported.review, plots)


def _json(reported: Reported, done: Sequence[Posted]) -> str:
    more = {"posted": posted_json(done)} if done else {}
    return json_text("reports", [dict(reported.review.as_json())], **more)


_RENDERED: Mapping[str, Callable[[Reported, tuple[Plot, ...], Path | None], str]] = {
    "markdown": _markdown,
    "html": _html,
}


def _write(text: str, output: Path | None) -> None:
    if output is None:
        sys.stdout.write(text if text.endswith("\n") else text + "\n")
        return
    from cd4ml.gateways.files import hand_over

    hand_over(output, text.encode("utf-8", "backslashreplace"))
