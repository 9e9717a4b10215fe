"""Every reason that a plan or a status can give, each one line, all in this one place.

A reason says why an experiment stands as it does, in words that tell its owner what to do next. Text
that comes from outside (a failure's message, a problem) is squeezed onto one line and cut; it is shown
as data and never interpreted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cd4ml.errors import Problem
from cd4ml.index.record import RemovalRecord
from cd4ml.index.removed import ERASED, words
from cd4ml.spec.secrets import redacted

NEVER_RUN = "never run"
NOT_PUSHED = "not pushed"
UNRECORDABLE = "the branch's name cannot be recorded (over 255 characters, or control characters in it): rename it"
GONE_DISCARDED = "branch gone: discarded"
GONE_UNRECORDED = "branch gone before it was ever recorded"

MESSAGE_LENGTH = 200
"""Characters of an outside message that a reason keeps."""

_WORDS = {"env": "environment"}


def moved(components: Iterable[str]) -> str:
    """The named components differ from what the branch's last answer was computed from."""
    return f"{_listed(components)} moved"


def environment_older(run_id: str) -> str:
    """A run answers whose lock alone is another one."""
    return f"environment older: run as {run_id} under another lock"


def tolerated(components: Iterable[str], run_id: str) -> str:
    """A run answers that differs in components which ``experiments.rerun_on`` does not name."""
    return f"run as {run_id}; another {_listed(components)}, which experiments.rerun_on leaves out"


def merge_differs(components: Iterable[str]) -> str:
    """The merge result asks for something else than the head, and nothing answers it yet."""
    return f"merge result differs from the head in {_listed(components)}"


def conflicts(base: str, paths: Sequence[str]) -> str:
    """The merge with the base branch conflicts in these files."""
    return f"conflicts with {base} in {_first_of([one_line(path) for path in paths])}: take {base} in"


def failed(stage: str, message: str) -> str:
    """The same inputs would fail again."""
    return f"failed at {one_line(stage)}: {one_line(message)}"


def failed_attempt(stage: str, message: str, attempt: int, allowed: int) -> str:
    """Another try may succeed; ``allowed`` counts the first try too."""
    return f"{failed(stage, message)} (attempt {attempt} of {allowed})"


def retry_asked(stage: str, message: str) -> str:
    """It failed for good, and a person asks for another try."""
    return f"{failed(stage, message)} (asked to try again)"


def already_run(run_id: str, branch: str) -> str:
    """Another branch's run answers."""
    return f"already run as {run_id} (branch {branch})"


def already_run_at(run_id: str, commit: str) -> str:
    """The run of another commit of the same branch answers."""
    return f"already run as {run_id} (commit {commit[:7]})"


def same_as(branch: str) -> str:
    """Another branch of this plan asks for the same fingerprint and is run first."""
    return f"runs as {branch}, which asks for the same"


def runs_elsewhere(since: str, by: str) -> str:
    """Another reconciler says that it runs the same just now; both texts are its own."""
    return f"runs elsewhere since {one_line(since)}" + (f" ({one_line(by)})" if by.strip() else "")


def local_ahead(commit: str) -> str:
    """Somebody went on with the branch here, and the remote has not seen it."""
    return f"local head {commit[:7]} is not pushed"


def refused(problems: Sequence[Problem]) -> str:
    """The configuration was refused: the first problem, and how many more there are."""
    return _first_of([one_line(str(problem)) for problem in problems])


def of_merge_result(reason: str) -> str:
    """Something that holds for the merge result and not for the head."""
    return f"merge result: {reason}"


def merged(base: str) -> str:
    """The base branch has what the experiment asked for."""
    return f"merged into {base}"


def gone_merged(base: str) -> str:
    """The same, and the branch is deleted."""
    return f"branch gone: merged into {base}"


def gone_renamed(branch: str) -> str:
    """The branch is gone, and another has its commit or went on from it."""
    return f"branch gone: renamed to {branch}"


def up_to_date(run_id: str) -> str:
    """Nothing to do."""
    return f"up to date: result {run_id}"


def removed(removal: RemovalRecord) -> str:
    """What a run stored was let go, so that only making it again gives it; or the run was erased, for good."""
    told = words(removal.body)
    return told if removal.what == ERASED else f"{told}: cd4ml reproduce {removal.run} --store makes them again"


def answered(run_ids: Sequence[str]) -> str:
    """Why an experiment record is written: these runs answer it."""
    return f"answered by {' and '.join(run_ids)}" if run_ids else "configuration refused"


UNANSWERED = "nothing answers it"


def joined(reasons: Iterable[str]) -> str:
    """Several reasons that hold together, as one line."""
    return "; ".join(reasons)


def one_line(text: str) -> str:
    """Without credentials, white space squeezed to single blanks, cut after ``MESSAGE_LENGTH`` characters."""
    line = " ".join(redacted(text).split())
    return line if len(line) <= MESSAGE_LENGTH else line[: MESSAGE_LENGTH - 1] + "…"


def _listed(components: Iterable[str]) -> str:
    names = [_WORDS.get(name, name) for name in components]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _first_of(texts: Sequence[str]) -> str:
    return texts[0] if len(texts) == 1 else f"{texts[0]} (+{len(texts) - 1} more)"
