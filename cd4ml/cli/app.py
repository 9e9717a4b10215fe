"""The command line as a whole: the verbs, the global options, and what each kind of error looks like."""

from __future__ import annotations

import copy
import io
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from typer.models import CommandInfo

import cd4ml
from cd4ml.cli import (
    again,
    bring,
    care,
    compare,
    declare,
    edit,
    experiments,
    index,
    keep,
    parts,
    pipeline,
    report,
    search,
    start,
)
from cd4ml.cli.context import Context, telling
from cd4ml.cli.plain import taking_plainly
from cd4ml.cli.progress import showing_progress
from cd4ml.cli.signals import answering
from cd4ml.errors import Cd4mlError
from cd4ml.gateways.files import told
from cd4ml.gateways.process import scrub_git_variables, thread_environment

INTERRUPTED = 130
DEFECT = 3

app = typer.Typer(
    name="cd4ml",
    help="Declarative GitOps for machine learning: a branch is an experiment, a merge makes its model that of main.",
    epilog="Example: `cd4ml init`, then `cd4ml new NAME`, `git push` and `cd4ml reconcile`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"cd4ml {cd4ml.__version__}")
        raise typer.Exit


@app.callback()
def _global(
    context: typer.Context,
    directory: Annotated[Path, typer.Option("-C", metavar="DIR", help="Work in this folder.")] = Path(),
    remote: Annotated[
        str, typer.Option(help="Git remote to use (default: `git config cd4ml.remote`, then origin).")
    ] = "",
    debug: Annotated[bool, typer.Option(help="Show a traceback for every error.")] = False,
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    context.obj = Context(directory, remote, debug)


for module in (
    *(start, declare, edit, pipeline, experiments, parts, search, index),
    *(compare, report, keep, care, bring, again),
):
    module.register(app)


def run(arguments: list[str]) -> int:
    """Run one command line; gives its exit code. Never raises.

    0 done, 1 failed, 2 bad usage or configuration, 3 a defect of ours, 130 interrupted (SIGTERM 143, SIGHUP 129).
    """
    scrub_git_variables()
    for name, value in thread_environment(1).items():
        os.environ.setdefault(name, value)  # before anything imports a library that reads them
    debug = "--debug" in arguments or os.environ.get("CD4ML_DEBUG") == "1"
    _prepare_streams()
    if odd := next((number for number, one in enumerate(arguments, start=1) if _is_no_text(one)), 0):
        sys.stderr.write(f"cd4ml: argument {odd} is not text in UTF-8\n")
        return 2
    with answering() as heard, telling(), showing_progress():
        try:
            command = taking_plainly(typer.main.get_command(_with_verb(arguments)))
            code = command(arguments, prog_name="cd4ml", standalone_mode=False)
        except KeyboardInterrupt:
            code = INTERRUPTED
        except BaseException as error:  # noqa: BLE001  # the last place where a defect can be told from a mistake
            code = INTERRUPTED if heard.number else _failed(error, debug)
    if code != INTERRUPTED:  # typer answers an interrupt by itself, with no word
        return code if isinstance(code, int) else 0
    number = heard.number or signal.SIGINT
    sys.stderr.write(f"cd4ml: interrupted{'' if number == signal.SIGINT else f' by {number.name}'}\n")
    return 128 + number


def _prepare_streams() -> None:
    """Whatever is printed can be: to a terminal that lacks a character it goes by its number, to a closed one not."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  # for as long as we run
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _is_no_text(argument: str) -> bool:
    """Is it bytes that are no text, and no name of a file either?"""
    try:
        argument.encode()
    except UnicodeEncodeError:
        return not os.path.lexists(argument)
    return False


def _with_verb(arguments: list[str]) -> typer.Typer:
    """The command line, with the one verb that is asked for where that is plain: to set up all takes a while."""
    words = iter(arguments)
    verb = next((word for word in words if not (word.startswith("-") and _passed(word, words))), "")
    commands = [one for one in app.registered_commands if verb and _name_of(one) == verb]
    groups = [one for one in app.registered_groups if verb and one.name == verb]
    if len(commands) + len(groups) != 1 or any(name.endswith("_COMPLETE") for name in os.environ):
        return app
    narrow = copy.copy(app)
    narrow.registered_commands, narrow.registered_groups = commands, groups
    return narrow


def _passed(option: str, words: Iterator[str]) -> bool:
    """Pass over what an option takes; always true."""
    if option in ("-C", "--remote"):
        next(words, "")
    return True


def _name_of(command: CommandInfo) -> str:
    return command.name or getattr(command.callback, "__name__", "").lower().replace("_", "-")


def _failed(error: BaseException, debug: bool) -> int:
    """The exit code for an error, told in a line. One of the system (a full disk, no permission) is no defect."""
    if isinstance(error, Cd4mlError):
        return _expected(error, debug)
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, OSError):
        if debug:
            traceback.print_exc()
        sys.stderr.write(f"cd4ml: {_told_of_system(error)}\n")
        return 1
    return _misused(error) or _defect(debug)


def _told_of_system(error: OSError) -> str:
    if error.filename is None and isinstance(error, FileNotFoundError):
        try:
            Path.cwd()
        except FileNotFoundError:
            return "the folder that you are in is no longer there"
    return told(error)


def _misused(error: BaseException) -> int:
    """The exit code for arguments that make no sense, told in one line; 0 for any other error.

    typer brings its parser along under a name of its own, so its errors are known by what they can say.
    """
    code, context = getattr(error, "exit_code", 0), getattr(error, "ctx", None)
    if not (isinstance(code, int) and hasattr(error, "format_message")):
        return 0
    message = error.format_message()
    if context is not None and type(error).__name__ == "NoArgsIsHelpError":
        sys.stdout.write(context.get_help())
        return code
    from cd4ml.report.visible import visible

    place = context.command_path if context is not None else "cd4ml"
    sys.stderr.write(f"cd4ml: {visible(' '.join(message.split()))} (see `{place} --help`)\n")
    return code


def _expected(error: Cd4mlError, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    from cd4ml.report.visible import visible

    for line in str(error).splitlines() or [type(error).__name__]:
        sys.stderr.write(f"cd4ml: {visible(line)}\n")
    return error.exit_code


def _defect(debug: bool) -> int:
    text = f"cd4ml {cd4ml.__version__}, Python {sys.version.split()[0]}\n{traceback.format_exc()}"
    if debug:
        sys.stderr.write(text)
        return DEFECT
    last = traceback.format_exc().strip().splitlines()[-1]
    try:
        with tempfile.NamedTemporaryFile("w", prefix="cd4ml-report-", suffix=".txt", delete=False) as report:
            report.write(text)
        where = f"; a report to send lies in {report.name}"
    except OSError:
        where = ""
    sys.stderr.write(f"cd4ml: this is a defect of cd4ml, not of your project: {last}{where}\n")
    return DEFECT
