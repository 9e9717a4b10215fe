"""What a check says, and what it looks at."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cd4ml.controller.landing.trust import Look
from cd4ml.controller.project import Project


class Level(StrEnum):
    """How much a finding matters: a problem stops work or loses it, a warning may, a note is good to know."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """One thing found by a check, in a line; ``cure`` is a command to paste, or what to do (may be empty)."""

    level: Level
    check: str
    message: str
    cure: str = ""


@dataclass(frozen=True)
class Subject:
    """The project, and what one fetch saw; nothing when the remote could not be reached, and why."""

    project: Project
    look: Look | None
    unreachable: str = ""

    @property
    def base_commit(self) -> str | None:
        """The base branch's head on the remote."""
        return self.look.state.heads.get(self.project.base) if self.look else None

    @property
    def remote_name(self) -> str:
        """The remote, as messages say it."""
        return self.project.remote if self.project.has_remote else "this repository"
