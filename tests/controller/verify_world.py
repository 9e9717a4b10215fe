"""A small real project with several landed and folded records, whose index can be written anew."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cd4ml.controller.care.verify import Report, Scope, verify
from cd4ml.controller.project import Project, open_project
from cd4ml.index.fold import entry_path
from cd4ml.index.record import RECORD_PATH, as_record, encode, record_id
from tests.conftest import Shell
from tests.controller.controller_world import cd4ml, experiment, rejected

INDEX = "refs/heads/cd4ml/index"
LANDING = "refs/cd4ml/landing/"
MEMORY = ("refs/cd4ml/trusted/", "refs/cd4ml/remote/")


@dataclass(frozen=True)
class Fold:
    """A commit of the index as it could be written anew: files put in or (nothing) taken out, and landed parents."""

    files: Mapping[str, bytes | None]
    landed: tuple[str, ...]
    message: str = "cd4ml: fold\n"
    mode: str = "100644"


@dataclass
class World:
    """``folder`` holds ``project``, ``remote.git`` and ``storage``."""

    folder: Path

    def pack(self) -> None:
        """Put every object that is there into packs; what comes later is loose."""
        for place in (self.local, self.remote):
            self.git("repack", "-adq", at=place)

    @property
    def local(self) -> Path:
        return self.folder / "project"

    @property
    def remote(self) -> Path:
        return self.folder / "remote.git"

    @cached_property
    def project(self) -> Project:
        return open_project(self.local)

    def verify(self, *runs: str, quick: bool = False) -> Report:
        return verify(self.project, Scope(runs, quick), lambda _: None)

    def git(
        self, *arguments: str, at: Path | None = None, stdin: bytes = b"", env: Mapping[str, str] | None = None
    ) -> str:
        env = {**os.environ, **(env or {})}
        done = subprocess.run(
            ["git", *arguments], cwd=at or self.remote, env=env, input=stdin, capture_output=True, check=True
        )
        return done.stdout.decode("utf-8", "surrogateescape").strip()

    def read(self, name: str) -> bytes:
        """The bytes of an object of the remote."""
        return subprocess.run(
            ["git", "cat-file", "blob", name], cwd=self.remote, capture_output=True, check=True
        ).stdout

    # ── refs ──

    def refs(self, at: Path) -> dict[str, str]:
        listed = self.git("for-each-ref", "--format=%(refname) %(objectname)", at=at).splitlines()
        return dict(line.split(" ") for line in listed)

    def set_refs(self, at: Path, wanted: Mapping[str, str]) -> None:
        now = self.refs(at)
        lines = [f"delete {ref}\n" for ref in now if ref not in wanted]
        lines += [f"update {ref} {commit}\n" for ref, commit in wanted.items() if now.get(ref) != commit]
        self.git("update-ref", "--stdin", at=at, stdin="".join(lines).encode())

    def forget(self) -> None:
        """Let the clone know nothing of what it saw."""
        kept = {ref: commit for ref, commit in self.refs(self.local).items() if not ref.startswith(MEMORY)}
        self.set_refs(self.local, kept)

    # ── what there is ──

    @cached_property
    def tip(self) -> str:
        return self.git("rev-parse", INDEX)

    @cached_property
    def chain(self) -> tuple[str, ...]:
        """The commits of the index, oldest first."""
        listed = self.git("rev-list", "--first-parent", self.tip).splitlines()
        ends = next(place for place, commit in enumerate(listed) if self.git("ls-tree", commit, RECORD_PATH))
        return tuple(reversed(listed[:ends]))

    @cached_property
    def folds(self) -> tuple[Fold, ...]:
        """The chain as it stands, oldest first."""
        found = []
        for place, commit in enumerate(self.chain):
            before = self.files(self.chain[place - 1]) if place else {}
            added = {path: data for path, data in self.files(commit).items() if before.get(path) != data}
            parents = self.git("log", "-1", "--format=%P", commit).split()
            message = self.git("log", "-1", "--format=%B", commit) + "\n"
            found.append(Fold(added, tuple(parents[1:] if place else parents), message))
        return tuple(found)

    def files(self, commit: str) -> dict[str, bytes]:
        listed = self.git("ls-tree", "-r", commit).splitlines()
        parts = (line.split("\t") for line in listed)
        return {path: self.read(meta.split(" ")[2]) for meta, path in parts}

    @cached_property
    def entries(self) -> dict[str, dict[str, Any]]:
        """Envelopes by path."""
        files = self.files(self.tip)
        return {path: json.loads(data) for path, data in files.items() if "/" in path}

    @cached_property
    def reachable(self) -> frozenset[str]:
        tips = [commit for ref, commit in self.refs(self.remote).items() if ref == INDEX or ref.startswith(LANDING)]
        return frozenset(line.split(" ")[0] for line in self.git("rev-list", "--objects", *tips).splitlines())

    # ── writing the index anew ──

    def rewrite(self, folds: list[Fold]) -> str:
        """Put a chain of these folds in place of the remote's index; gives its tip. What stays is not made anew."""
        pairs = enumerate(zip(folds, self.folds, strict=False))
        kept = next((place for place, (one, old) in pairs if one != old), min(len(folds), len(self.folds)))
        parent = self.chain[kept - 1] if kept else ""
        with tempfile.TemporaryDirectory() as folder:
            index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
            if parent:
                self.git("read-tree", parent, env=index)
            for fold in folds[kept:]:
                lines = []
                for path, data in fold.files.items():
                    if data is None:
                        lines.append(f"0 {'0' * 40}\t{path}\0")
                    else:
                        blob = self.git("hash-object", "-w", "--stdin", "--no-filters", stdin=data)
                        lines.append(f"{fold.mode} {blob}\t{path}\0")
                self.git("update-index", "--replace", "-z", "--index-info", stdin="".join(lines).encode(), env=index)
                tree = self.git("write-tree", env=index)
                parents = [*([parent] if parent else []), *fold.landed]
                options = [word for one in parents for word in ("-p", one)]
                parent = self.git("commit-tree", tree, *options, stdin=fold.message.encode())
        self.git("update-ref", INDEX, parent)
        return parent

    def land_again(
        self, commit: str, files: Mapping[str, bytes], parents: list[str] | None = None, who: str = ""
    ) -> str:
        """A landed commit like another, with other files, parents or committer."""
        named = {f"GIT_{what}_NAME": who for what in ("AUTHOR", "COMMITTER")} if who else {}
        with tempfile.TemporaryDirectory() as folder:
            index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
            self.git("read-tree", commit, env=index)
            for path, data in files.items():
                blob = self.git("hash-object", "-w", "--stdin", "--no-filters", stdin=data)
                line = f"100644 {blob}\t{path}\0".encode()
                self.git("update-index", "--replace", "-z", "--index-info", stdin=line, env=index)
            tree = self.git("write-tree", env=index)
        over = parents if parents is not None else self.git("log", "-1", "--format=%P", commit).split()
        options = [word for one in over for word in ("-p", one)]
        return self.git("commit-tree", tree, *options, stdin=b"landed\n", env=named)


def envelope_bytes(envelope: Mapping[str, Any]) -> bytes:
    return encode(envelope)


def resealed(envelope: Mapping[str, Any], **changed: Any) -> dict[str, Any]:
    """The envelope of an edited record, with every digest in it made anew."""
    body = {**envelope["record"], **changed}
    body["id"] = record_id(body)
    return {**envelope, "record": body, "record_sha256": hashlib.sha256(encode(body)).hexdigest()}


def path_of(envelope: Mapping[str, Any]) -> str:
    return entry_path(as_record(envelope["record"]))


def add_records(shell: Shell) -> None:
    """Give a project that was reconciled once three more branches, of which one succeeds, and a note."""
    experiment(shell, "exp/deeper", seed=3)
    rejected(shell, "exp/gusty")
    rejected(shell, "exp/windy", seed=2)
    cd4ml(shell, "reconcile")
    cd4ml(shell, "note", "exp/deeper", "It helped")


def made_from(template: Path, folder: Path, environment: dict[str, str]) -> World:
    """A copy of a project that was reconciled once: what Git has is packed, and further records come loose."""
    shutil.copytree(template, folder, symlinks=True)
    world = World(folder)
    world.pack()
    add_records(Shell(world.local, environment))
    return world
