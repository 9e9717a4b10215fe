"""The ways in which a project can be damaged.

A ``Fault`` damages one thing, says which names a finding may know it by, and can be undone. Nothing here is random but
by the seed.
"""

from __future__ import annotations

import hashlib
import random
import subprocess
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from cd4ml.index.record import RECORD_PATH, encode
from tests.controller.verify_world import INDEX, LANDING, Fold, World, envelope_bytes, path_of, resealed


@dataclass(frozen=True)
class Fault:
    """One damage: ``inject`` does it and gives the names that a finding may say it by; ``undo`` takes it back.

    ``healed`` says whether the very bytes are back by themselves: a fetch brings an object that it misses.
    """

    family: str
    inject: Callable[[], tuple[str, ...]]
    undo: Callable[[], None]
    keeps_memory: bool = False
    healed: Callable[[], bool] = lambda: False


class FileFault:
    """Damage to a file, and its undoing."""

    def __init__(self, path: Path, damage: str, rng: random.Random, other: Path | None = None) -> None:
        self.path, self.damage, self.rng, self.other = path, damage, rng, other
        self._kept: dict[Path, tuple[bytes, int]] = {}

    def inject(self) -> None:
        for path in filter(None, (self.path, self.other)):
            self._kept[path] = (path.read_bytes(), path.stat().st_mode)
            path.chmod(0o644)
        data = self._kept[self.path][0]
        if self.damage == "deleted":
            self.path.unlink()
        elif self.damage == "truncated":
            self.path.write_bytes(data[: self.rng.randrange(len(data))])
        elif self.damage == "swapped":
            assert self.other is not None
            self.path.write_bytes(self._kept[self.other][0])
            self.other.write_bytes(data)
        else:
            self.path.write_bytes(
                flipped(data, self.rng, loose="/objects/" in str(self.path) and len(self.path.name) == 38)
            )

    def undo(self) -> None:
        for path, (data, mode) in self._kept.items():
            path.parent.mkdir(exist_ok=True)
            path.unlink(missing_ok=True)
            path.write_bytes(data)
            path.chmod(mode)


def flipped(data: bytes, rng: random.Random, *, loose: bool) -> bytes:
    """One byte changed. Of a loose object one that changes what it says: zlib leaves a few bits without a meaning."""
    while True:
        place = rng.randrange(len(data))
        changed = data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :]
        if not loose or _inflated(changed) != _inflated(data):
            return changed


def _inflated(data: bytes) -> bytes | None:
    try:
        unpack = zlib.decompressobj()
        return unpack.decompress(data) + unpack.unused_data
    except zlib.error:
        return None


DAMAGES = ("deleted", "truncated", "flipped", "swapped")


class Faults:
    """All faults of a world, drawn family by family."""

    def __init__(self, world: World, seed: int) -> None:
        self.world, self.rng = world, random.Random(seed)  # noqa: S311  # what is drawn guards nothing
        report = world.verify()
        assert report.findings == (), report.findings
        self.objects = sorted(report.needed)
        self.kept_refs = {place: world.refs(place) for place in (world.local, world.remote)}
        self.families: dict[str, Callable[[], Fault]] = {}
        for damage in DAMAGES:
            for place in ("cache", "storage"):
                self._add(f"DVC {place} object {damage}", self._stored, place, damage)
            for repository in (world.local, world.remote):
                self._add(f"Git loose object {damage} ({repository.name})", self._loose, repository, damage)
        for damage in ("deleted", "truncated", "flipped"):
            for suffix in ("pack", "idx"):
                self._add(f"Git {suffix} {damage} (project)", self._pack, world.local, suffix, damage)
            self._add(f"Git pack {damage} (remote.git)", self._pack, world.remote, "pack", damage)
        for name in sorted(vars(type(self))):
            if name.startswith("record_"):
                self._add(name.removeprefix("record_").replace("_", " "), self._forged, getattr(self, name))
        for name in sorted(vars(type(self))):
            if name.startswith("remembered_"):
                self._add(name.removeprefix("remembered_").replace("_", " "), self._forged, getattr(self, name), True)

    def _add(self, family: str, make: Callable[..., Fault], *arguments: Any) -> None:
        self.families[family] = lambda: make(family, *arguments)

    def drawn(self, count: int) -> Iterator[Fault]:
        """So many faults, each family in turn."""
        names = list(self.families)
        for number in range(count):
            yield self.families[names[number % len(names)]]()

    # ── bytes ──

    def _file(self, family: str, path: Path, damage: str, names: tuple[str, ...], other: Path | None = None) -> Fault:
        fault = FileFault(path, damage, self.rng, other)

        def inject() -> tuple[str, ...]:
            fault.inject()
            return names

        return Fault(family, inject, fault.undo)

    def _stored(self, family: str, place: str, damage: str) -> Fault:
        folder = self.world.local / ".dvc/cache" if place == "cache" else self.world.folder / "storage"
        one, other = self.rng.sample(self.objects, 2)
        paths = [folder / "files/md5" / md5[:2] / md5[2:] for md5 in (one, other)]
        return self._file(family, paths[0], damage, (one,), paths[1] if damage == "swapped" else None)

    def _loose(self, family: str, repository: Path, damage: str) -> Fault:
        objects = (repository / ".git" if (repository / ".git").is_dir() else repository) / "objects"
        present = sorted(one for one in self.world.reachable if (objects / one[:2] / one[2:]).is_file())
        one, other = self.rng.sample(present, 2)
        paths = [objects / name[:2] / name[2:] for name in (one, other)]
        names = (one, other) if damage == "swapped" else (one,)
        fault = self._file(family, paths[0], damage, names, paths[1] if damage == "swapped" else None)
        command = ["git", "-C", str(repository), "cat-file", "-e", one]
        if damage != "deleted":
            return fault
        return replace(fault, healed=lambda: subprocess.run(command, capture_output=True).returncode == 0)

    def _pack(self, family: str, repository: Path, suffix: str, damage: str) -> Fault:
        objects = (repository / ".git" if (repository / ".git").is_dir() else repository) / "objects"
        (path,) = (objects / "pack").glob(f"*.{suffix}")
        # without its index or its end a pack gives nothing: what is missing is then told by the first that is missed
        names = (path.stem, *sorted(self.world.reachable))
        return self._file(family, path, damage, names)

    @cached_property
    def _landed(self) -> tuple[str, ...]:
        return tuple(envelope["result_commit"] for envelope in self.world.entries.values())

    # ── records ──

    def _forged(self, family: str, change: Callable[[], tuple[str, ...]], keeps_memory: bool = False) -> Fault:
        def undo() -> None:
            for place, refs in self.kept_refs.items():
                self.world.set_refs(place, refs)

        return Fault(family, change, undo, keeps_memory)

    def _entry(self, kind: str = "", *, succeeded: bool = False) -> tuple[str, dict[str, Any], int]:
        """Path, envelope and place in the chain of some entry."""
        fits = [
            path
            for path, envelope in self.world.entries.items()
            if path.startswith(kind) and (not succeeded or envelope["record"].get("outcome") == "succeeded")
        ]
        path = self.rng.choice(sorted(fits))
        return path, self.world.entries[path], next(n for n, fold in enumerate(self.world.folds) if path in fold.files)

    def _put(self, place: int, old: str, new: str, data: bytes | None, landed: Mapping[str, str] | None = None) -> None:
        """The chain with an entry of one fold replaced, and landed commits as well."""
        folds = list(self.world.folds)
        files = {path: value for path, value in folds[place].files.items() if path != old}
        if data is not None:
            files[new] = data
        parents = tuple((landed or {}).get(commit, commit) for commit in folds[place].landed)
        folds[place] = replace(folds[place], files=files, landed=parents)
        self.world.rewrite(folds)

    def _relanded(
        self, commit_of: dict[str, Any], place: int, path: str, commit: str, **changed: Any
    ) -> tuple[str, ...]:
        envelope = {**commit_of, "result_commit": commit, **changed}
        self._put(place, path, path, envelope_bytes(envelope), {commit_of["result_commit"]: commit})
        return (path,)

    def record_byte_changed(self) -> tuple[str, ...]:
        path, envelope, place = self._entry()
        self._put(place, path, path, flipped(envelope_bytes(envelope), self.rng, loose=False))
        return (path,)

    def record_truncated(self) -> tuple[str, ...]:
        path, envelope, place = self._entry()
        data = envelope_bytes(envelope)
        self._put(place, path, path, data[: self.rng.randrange(len(data))])
        return (path,)

    def record_edited(self) -> tuple[str, ...]:
        path, envelope, place = self._entry()
        body = {**envelope["record"], "branch": "exp/forged"}
        self._put(place, path, path, envelope_bytes({**envelope, "record": body}))
        return (path,)

    def record_edited_with_its_digest(self) -> tuple[str, ...]:
        path, envelope, place = self._entry()
        body = {**envelope["record"], "branch": "exp/forged"}
        sha256 = hashlib.sha256(encode(body)).hexdigest()
        self._put(place, path, path, envelope_bytes({**envelope, "record": body, "record_sha256": sha256}))
        return (path,)

    def record_edited_and_named_anew(self) -> tuple[str, ...]:
        path, envelope, place = self._entry()
        made = resealed(envelope, branch="exp/forged")
        self._put(place, path, path_of(made), envelope_bytes(made))
        return (path_of(made),)

    def record_edited_and_landed_anew(self) -> tuple[str, ...]:
        """The forger rewrites everything that names the record, and forgets what the commit holds besides."""
        path, envelope, place = self._entry("runs/", succeeded=True)
        record = envelope["record"]
        ways: list[dict[str, Any]] = [
            {"metrics": {**record["metrics"], "test": {**record["metrics"]["test"], "rmse": 0.001}}},
            {"model": {**record["model"], "digest": "0" * 64}},
            {"tree": "1" * 40},
            {"params": {**record["params"], "seed": 99}},
            {"data": {name: {**one, "digest": "2" * 64} for name, one in record["data"].items()}},
            {"data": {name: {**one, "rows": one["rows"] + 1} for name, one in record["data"].items()}},
            {"files": {name: {**one, "md5": "3" * 32} for name, one in record["files"].items()}},
            {"files": {name: {**one, "bytes": one["bytes"] + 1} for name, one in record["files"].items()}},
            {"files": {name: one for name, one in record["files"].items() if not name.endswith("metrics.json")}},
        ]
        changed = self.rng.choice(ways)
        made = resealed(envelope, **changed)
        data = encode(made["record"])
        commit = self.world.land_again(envelope["result_commit"], {RECORD_PATH: data})
        made["result_commit"] = commit
        self._put(place, path, path_of(made), envelope_bytes(made), {envelope["result_commit"]: commit})
        return (path_of(made),)

    def record_in_its_commit_edited(self) -> tuple[str, ...]:
        path, envelope, place = self._entry()
        body = {**envelope["record"], "branch": "exp/forged"}
        commit = self.world.land_again(envelope["result_commit"], {RECORD_PATH: encode(body)})
        return self._relanded(envelope, place, path, commit)

    def record_files_of_its_commit_edited(self) -> tuple[str, ...]:
        path, envelope, place = self._entry("runs/", succeeded=True)
        commit = envelope["result_commit"]
        name = self.rng.choice(["params.yaml", "dvc.lock", "artifacts/evaluate/metrics.json"])
        data = self.world.read(f"{commit}:{name}")
        edited = {
            "params.yaml": data.replace(b"seed:", b"seed: 1#"),
            "dvc.lock": data.replace(b"size: ", b"size: 1", 1),
            "artifacts/evaluate/metrics.json": data.replace(b"0.", b"0.9", 1),
        }[name]
        assert edited != data
        return self._relanded(envelope, place, path, self.world.land_again(commit, {name: edited}))

    def record_source_of_its_commit_edited(self) -> tuple[str, ...]:
        path, envelope, place = self._entry()
        name = self.rng.choice(["conf/config.yaml", "data/flights.lock.json", "src/new.py", ".github/workflows/x.yml"])
        commit = self.world.land_again(envelope["result_commit"], {name: b"x: 1\n"})
        return self._relanded(envelope, place, path, commit)

    def record_commit_with_another_parent(self) -> tuple[str, ...]:
        path, envelope, place = self._entry()
        other = self.rng.choice([[self.world.tip], [], [envelope["record"]["commit"], self.world.tip]])
        return self._relanded(envelope, place, path, self.world.land_again(envelope["result_commit"], {}, other))

    def record_commit_by_somebody_else(self) -> tuple[str, ...]:
        path, envelope, place = self._entry()
        commit = self.world.land_again(envelope["result_commit"], {}, who="Mallory")
        return self._relanded(envelope, place, path, commit)

    def record_landed_by_changed(self) -> tuple[str, ...]:
        path, envelope, place = self._entry()
        self._put(place, path, path, envelope_bytes({**envelope, "landed_by": "Mallory <m@localhost>"}))
        return (path,)

    def record_result_commit_of_another(self) -> tuple[str, ...]:
        path, envelope, place = self._entry()
        other = self.rng.choice(sorted(set(self._landed) - {envelope["result_commit"]}))
        return self._relanded(envelope, place, path, other)

    def record_fold_number_changed(self) -> tuple[str, ...]:
        path, envelope, place = self._entry()
        number = self.rng.choice([n for n in range(1, 20) if n != envelope["fold"]])
        self._put(place, path, path, envelope_bytes({**envelope, "fold": number}))
        return (path,)

    def record_dropped_later(self) -> tuple[str, ...]:
        path, _, _ = self._entry()
        self.world.rewrite([*self.world.folds, Fold({path: None}, ())])
        return (path,)

    def record_rewritten_later(self) -> tuple[str, ...]:
        path, envelope, _ = self._entry()
        self.world.rewrite([*self.world.folds, Fold({path: envelope_bytes({**envelope, "fold": 99})}, ())])
        return (path,)

    def record_dropped_from_its_fold(self) -> tuple[str, ...]:
        path, envelope, place = self._entry()
        self._put(place, path, path, None)
        return (envelope["result_commit"],)

    def record_dropped_with_its_fold(self) -> tuple[str, ...]:
        """The folds that follow bear numbers that are one too high."""
        folds = list(self.world.folds)
        gone = self.rng.randrange(len(folds) - 1)
        del folds[gone]
        self.world.rewrite(folds)
        return tuple(path for path in folds[gone].files if "/" in path)

    def record_dropped_whole_while_an_answer_names_it(self) -> tuple[str, ...]:
        path, envelope, place = self._entry("runs/")
        folds = list(self.world.folds)
        files = {name: data for name, data in folds[place].files.items() if name != path}
        parents = tuple(commit for commit in folds[place].landed if commit != envelope["result_commit"])
        folds[place] = replace(folds[place], files=files, landed=parents)
        self.world.rewrite(folds)
        return (envelope["record"]["id"],)

    def record_put_elsewhere(self) -> tuple[str, ...]:
        path, envelope, place = self._entry()
        moved = "experiments/zz/" + path.rsplit("/", 1)[1]
        self._put(place, path, moved, envelope_bytes(envelope))
        return (moved,)

    def record_taken_in_twice(self) -> tuple[str, ...]:
        path, envelope, _ = self._entry()
        again = "experiments/00/" + path.rsplit("/", 1)[1]
        fold = Fold(
            {again: envelope_bytes({**envelope, "fold": len(self.world.folds) + 1})}, (envelope["result_commit"],)
        )
        self.world.rewrite([*self.world.folds, fold])
        return (again,)

    def record_swapped_with_another(self) -> tuple[str, ...]:
        (one, first, place), (two, second, _) = self._entry("runs/"), self._entry("experiments/")
        self._put(place, one, one, envelope_bytes(second))
        assert first != second
        return (one, two)

    def record_folds_reordered(self) -> tuple[str, ...]:
        folds = list(self.world.folds)
        one, two = self.rng.sample(range(len(folds)), 2)
        folds[one], folds[two] = folds[two], folds[one]
        self.world.rewrite(folds)
        return tuple(path for fold in (folds[one], folds[two]) for path in fold.files if "/" in path)

    def record_parents_reordered(self) -> tuple[str, ...]:
        folds = list(self.world.folds)
        place = max(range(len(folds)), key=lambda number: len(folds[number].landed))
        assert len(folds[place].landed) > 1
        folds[place] = replace(folds[place], landed=tuple(reversed(folds[place].landed)))
        tip = self.world.rewrite(folds)
        return tuple(self.world.git("rev-list", "--first-parent", tip).splitlines())

    def record_parent_left_out(self) -> tuple[str, ...]:
        folds = list(self.world.folds)
        place = self.rng.randrange(1, len(folds))
        gone = folds[place].landed[0]
        folds[place] = replace(folds[place], landed=folds[place].landed[1:])
        self.world.rewrite(folds)
        return (gone,)

    def record_foreign_parent(self) -> tuple[str, ...]:
        folds = list(self.world.folds)
        place = self.rng.randrange(1, len(folds))
        other = self.world.git("rev-parse", "main")
        folds[place] = replace(folds[place], landed=(*folds[place].landed, other))
        self.world.rewrite(folds)
        return (other,)

    def record_chain_squashed(self) -> tuple[str, ...]:
        files = {path: data for fold in self.world.folds for path, data in fold.files.items()}
        landed = tuple(commit for fold in self.world.folds for commit in fold.landed)
        self.world.rewrite([Fold(files, landed)])
        return tuple(self.world.entries)

    def record_epoch_that_nobody_sanctioned(self) -> tuple[str, ...]:
        message = f"cd4ml: epoch 2\n\n1 record erased\n\nEpoch: 2\nReplaces: {self.world.tip}\n"
        gone = self.rng.choice(sorted(path for path in self.world.entries if path.startswith("runs/")))
        files = {path: data for fold in self.world.folds for path, data in fold.files.items() if path != gone}
        order = sorted(
            (envelope["fold"], envelope["record"]["id"], envelope["result_commit"])
            for path, envelope in self.world.entries.items()
            if path != gone
        )
        return (self.world.rewrite([Fold(files, tuple(commit for _, _, commit in order), message)]),)

    def record_no_plain_file(self) -> tuple[str, ...]:
        path, _, place = self._entry()
        folds = list(self.world.folds)
        folds[place] = replace(folds[place], mode=self.rng.choice(["100755", "120000"]))
        self.world.rewrite(folds)
        return tuple(one for one in folds[place].files if "/" in one) or (path,)

    def record_foreign_file_in_the_index(self) -> tuple[str, ...]:
        name = self.rng.choice(["x.txt", "conf/config.yaml", ".github/workflows/x.yml"])
        self.world.rewrite([*self.world.folds, Fold({name: b"x"}, ())])
        return (name,)

    def record_summary_edited(self) -> tuple[str, ...]:
        data = self.world.files(self.world.tip)["summary.json"]
        edited = data.replace(b'"folds": ', b'"folds": 1', 1)
        self.world.rewrite([*self.world.folds, Fold({"summary.json": edited}, ())])
        return ("summary.json",)

    def record_landed_under_another_ref(self) -> tuple[str, ...]:
        ref = LANDING + "r" + "0" * 20
        self.world.git("update-ref", ref, self.rng.choice(self._landed))
        return (ref,)

    def record_landed_and_none(self) -> tuple[str, ...]:
        ref = LANDING + "e" + "1" * 20
        self.world.git("update-ref", ref, self.world.git("rev-parse", "main"))
        return (ref,)

    # ── what only memory tells ──

    def remembered_index_moved_back(self) -> tuple[str, ...]:
        self.world.git("update-ref", INDEX, f"{self.world.tip}~{self.rng.randrange(1, len(self.world.folds))}")
        return ("cd4ml/index",)

    def remembered_index_deleted(self) -> tuple[str, ...]:
        self.world.git("update-ref", "-d", INDEX)
        return ("cd4ml/index",)

    def remembered_last_fold_written_anew(self) -> tuple[str, ...]:
        self.world.rewrite([*self.world.folds[:-1], replace(self.world.folds[-1], message="cd4ml: another\n")])
        return ("cd4ml/index",)


def run_faults(faults: Faults, count: int, tell: Callable[[str], None] = lambda _: None) -> list[str]:
    """Inject, verify, and undo, one fault after the other; gives a line for each that was not found."""
    lost = []
    for number, fault in enumerate(faults.drawn(count), 1):
        if not fault.keeps_memory:
            faults.world.forget()
        try:
            names = fault.inject()
            report = faults.world.verify()
            healed = fault.healed()
        finally:
            fault.undo()
        told = [f"{finding.where} {finding.message}" for finding in report.findings]
        if not healed and not any(name in line for line in told for name in names):
            lost.append(f"{number} {fault.family}: {names[:3]} is not named by {told[:5]}")
            tell(lost[-1])
        tell(f"{number - len(lost)} of {number} found ({fault.family})")
    return lost
