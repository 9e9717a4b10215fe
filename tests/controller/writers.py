"""Writers as processes of their own: ``python -m tests.controller.writers SPEC`` starts them, each in its own group.

One process pays for the imports and forks the rest. A writer does one task in one clone and writes what it has
finished, line by line, to a log that outlives it.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from cd4ml.controller.landing.fold import fold_landed
from cd4ml.controller.landing.land import land_record
from cd4ml.controller.landing.landed import read_history
from cd4ml.controller.project import Project
from cd4ml.controller.reconciling.claims import Claims, interval
from cd4ml.errors import Cd4mlError
from cd4ml.gateways.git import open_repository

PATIENCE = 3600.0


class Writer:
    """One worker: ``spec`` names its ``clone``, ``log``, ``task``, ``records`` and ``stop`` file."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.project = Project(open_repository(Path(spec["clone"])), "origin", "main")
        self._elsewhere: Mapping[str, object] = {}
        self._log = os.open(spec["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def say(self, *words: object) -> None:
        """One line, whole or not at all."""
        os.write(self._log, (" ".join(map(str, words)) + "\n").encode())

    def attempt(self, what: str, action: Callable[[], object]) -> bool:
        """Do it; a refusal of the remote is said, and left to a later reconcile."""
        began = time.monotonic()
        try:
            action()
        except Cd4mlError as error:
            self.say("refused", what, str(error).replace("\n", " "))
            return False
        self.say("done", what, f"{time.monotonic() - began:.4f}")
        return True

    def fold(self) -> None:
        self.attempt("fold", self._fold)

    def _fold(self) -> None:
        for line in fold_landed(self.project, self.project.repository.fetch("origin")):
            self.say("refused", "fold", line)

    def land(self) -> None:
        """Every record, one after the other; a fold after every so many."""
        for number, body in enumerate(self.spec["records"], 1):
            self.attempt(f"land {body['id']}", partial(land_record, self.project, body))
            if self.spec.get("folds") and number % self.spec["folds"] == 0:
                self.fold()

    def reconcile(self) -> None:
        """As a reconcile goes about it: look, leave what is claimed or recorded, claim, land, drop, fold.

        What somebody claims who may be dead is looked at again.
        """
        with Claims(self.project) as claims:
            left = self.spec["records"]
            while left:
                for body in left:
                    self.attempt(f"run {body['id']}", partial(self._reconcile, claims, body))
                left = [body for body in left if body["fingerprint"] in self._elsewhere]
                left = [body for body in left if claims.is_undecided(body["fingerprint"])]
                time.sleep(interval() if left else 0)
            self.fold()

    def _reconcile(self, claims: Claims, body: dict[str, Any]) -> None:
        state = self.project.repository.fetch("origin")
        fingerprint = body["fingerprint"]
        history = read_history(self.project, state, drafts=False)
        self._elsewhere = elsewhere = claims.look(state, PATIENCE)
        claims.tidy(state, PATIENCE, lambda one: history.result(one) is not None)
        if history.result(fingerprint) is not None or fingerprint in elsewhere:
            return
        if not claims.take(fingerprint, body["branch"], state):
            return
        self.say("runs", fingerprint)
        try:
            self.attempt(f"land {body['id']}", lambda: land_record(self.project, body))
        finally:
            claims.finish(fingerprint)
        claims.drop()

    def folding(self) -> None:
        """Fold until told to stop."""
        while not self._stopped():
            self.fold()
            time.sleep(0.05)

    def reading(self) -> None:
        """Read until told to stop: whatever was seen, or said to be landed before the look, must be seen again."""
        seen: set[str] = set()
        while not self._stopped():
            seen |= finished(Path(self.spec["log"]).parent)
            self.attempt("read", partial(self._read, seen))

    def _read(self, seen: set[str]) -> None:
        state = self.project.repository.fetch("origin")
        history = read_history(self.project, state, drafts=False)
        found = {entry.run.id for entry in history.runs}
        if seen - found:
            self.say("vanished", *sorted(seen - found))
        self.say("saw", len(found))
        seen |= found

    def _stopped(self) -> bool:
        return Path(self.spec["stop"]).exists()


def finished(logs: Path) -> set[str]:
    """The ids of records that some writer was told to be landed."""
    lines = (line.split() for path in logs.glob("*.log") for line in path.read_text("utf-8").splitlines())
    return {words[2] for words in lines if words[:2] == ["done", "land"]}


def _child(spec: dict[str, Any], gate: int) -> None:
    os.setsid()
    os.read(gate, 1)  # until all are there
    os.environ.update(spec.get("environment", {}))
    writer = Writer(spec)
    getattr(writer, spec["task"])()
    writer.say("end")
    writer.project.repository.close()


def main(specs: Sequence[dict[str, Any]]) -> None:
    """Start all at once; print each one's process id, then how each ended."""
    importlib.import_module("git")  # which is brought in late, and would be by each one for itself
    gate, open_gate = os.pipe()
    pids = []
    for spec in specs:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.close(open_gate)
                _child(spec, gate)
                code = 0
            except Exception as error:  # noqa: BLE001  # a defect: said, and seen by the test
                sys.stderr.write(f"{type(error).__name__}: {error}\n")
            finally:
                os._exit(code)
        pids.append(pid)
    os.close(gate)
    sys.stdout.write(json.dumps(pids) + "\n")
    sys.stdout.flush()
    os.close(open_gate)
    ended = dict(os.waitpid(pid, 0) for pid in pids)
    sys.stdout.write(json.dumps([os.waitstatus_to_exitcode(ended[pid]) for pid in pids]) + "\n")


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text("utf-8")))
