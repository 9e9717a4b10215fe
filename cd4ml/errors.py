"""Every error that cd4ml raises on purpose, drawn as a tree.

::

    Cd4mlError            exit 1   something asked for could not be done
    ├── UsageError        exit 2   the request itself is wrong
    │   ├── ConfigError   exit 2   conf/, params.yaml, a pin or a lock is wrong: one Problem a line
    │   └── RepositoryError exit 2 the Git repository is not one that cd4ml can work in
    ├── StageFailed       exit 1   a stage ended without its result; says which, and whether to try again
    ├── IntegrityError    exit 1   bytes or records are not what their digest says
    ├── IndexLostError    exit 1   the remote's index is not what this clone remembers of it; `cd4ml restore` mends it
    ├── RemoteError       exit 1   a Git or DVC remote did not do what was asked; may work later
    └── ToolError         exit 1   an outside program failed; carries its command, exit code and output

Whatever is not a ``Cd4mlError`` is a defect of ours: the command line answers with exit 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FailureKind = Literal["deterministic", "transient"]


@dataclass(frozen=True)
class Problem:
    """One thing wrong with one input, in words that a scientist can act on.

    ``file`` is a path inside the repository (or the name of a record), ``key`` a dotted path inside
    it (empty when the whole file is meant), ``message`` one line, ``hint`` what to do (may be empty).
    """

    file: str
    key: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.file}: {self.key}" if self.key else self.file
        tail = f" ({self.hint})" if self.hint else ""
        return f"{place}: {self.message}{tail}"


class Cd4mlError(Exception):
    """Root of the tree. ``str(error)`` is one line fit for stderr."""

    exit_code = 1


class UsageError(Cd4mlError):
    """The arguments cannot be carried out as they stand."""

    exit_code = 2


class ConfigError(UsageError):
    """One or more inputs under version control are wrong; all problems are reported at once."""

    def __init__(self, problems: tuple[Problem, ...] | list[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class RepositoryError(UsageError):
    """Not a Git repository, no commit, a bare one where a work tree is needed, and the like."""


class StageFailed(Cd4mlError):  # noqa: N818  # an outcome of a run, and said so in records, not a mistake
    """A stage ended without its result.

    ``kind`` is ``deterministic`` when the same inputs would fail again (a rejected table, an estimator's
    error) and ``transient`` when another try may succeed (time, memory, a killed process).
    """

    def __init__(self, stage: str, message: str, kind: FailureKind = "deterministic") -> None:
        self.stage = stage
        self.message = message
        self.kind: FailureKind = kind
        super().__init__(f"{stage}: {message}")


class IntegrityError(Cd4mlError):
    """Bytes, a record or a commit do not carry the digest that was promised for them."""


class IndexLostError(Cd4mlError):
    """The remote's index or landed records were deleted, moved back, rewritten or forged.

    Nothing is recorded until they are put back.
    """


class RemoteError(Cd4mlError):
    """A remote refused, vanished or timed out. What was asked for may be asked for again."""


class ToolError(Cd4mlError):
    """An outside program ended with an exit code other than 0."""

    def __init__(self, command: tuple[str, ...], exit_code: int, stdout: str, stderr: str) -> None:
        self.command = command
        self.returncode = exit_code
        self.stdout = stdout
        self.stderr = stderr
        lines = [line.strip() for line in stderr.splitlines() if line.strip()]
        told = [line for line in lines if line.lower().startswith(("error:", "fatal:"))] or lines or ["no message"]
        super().__init__(f"{' '.join(_named(command)[:3])} … ended with {exit_code}: {told[-1]}")


def _named(command: tuple[str, ...]) -> list[str]:
    """A command without the settings (``-c key=value``) that only its caller cares about."""
    settings = {place for place, word in enumerate(command) if word == "-c"}
    return [word for place, word in enumerate(command) if place not in settings and place - 1 not in settings]
