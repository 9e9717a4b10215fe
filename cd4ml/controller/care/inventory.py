"""What is stored, here and on the DVC remote, and everything that needs it, as values for ``index/retention``."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from cd4ml.controller.landing import trust
from cd4ml.controller.landing.landed import read_history
from cd4ml.controller.project import Project
from cd4ml.controller.reconciling.lifecycles import lifecycles
from cd4ml.controller.reconciling.observe import Observation, observe_state
from cd4ml.errors import ConfigError, RepositoryError
from cd4ml.gateways.dvc import RemoteObjects, Storage
from cd4ml.gateways.files import write_atomically
from cd4ml.gateways.git import RemoteState
from cd4ml.gateways.store import QueryCache
from cd4ml.index.history import History, RemovalEntry, RunEntry
from cd4ml.index.retention import FOLDER, OBJECT_NAME, OUTPUTS, Holding, Inventory, Stored, Where, needed
from cd4ml.index.rows import rows
from cd4ml.index.sql import compile_filter
from cd4ml.plan.standing import Evidence, PlanPolicy, stand
from cd4ml.spec.pin import Pin, parse_pin
from cd4ml.spec.pipeline import LOCK_FILE, pin_path

ERASED = "erased"
"""The folder of cd4ml's own where a clone remembers what it erased: a file for each run, with names of objects."""

_LARGEST_PIN = 4 << 20
_MD5 = re.compile(rb"(?<![0-9a-f])[0-9a-f]{32}(?:\.dir)?(?![0-9a-f])")
_SOURCE = re.compile(r"[A-Za-z0-9_-]{1,100}")
_TRACKING = (".dvc", ".lock.json")
"""How the names of files end that track or pin data; that some others end so, too, only keeps more."""

_WORK_TREE_FILES = ("*.dvc", LOCK_FILE, "data/*.lock.json")


@dataclass(frozen=True)
class Found:
    """One look at everything. ``history`` counts in drafts; ``landed`` are the ids of the runs that others see too.

    ``pins`` are those of each run, as far as its commit is here.
    """

    state: RemoteState
    observation: Observation
    history: History
    landed: frozenset[str]
    storage: Storage
    inventory: Inventory
    pins: Mapping[str, tuple[Pin, ...]]


def take_inventory(project: Project) -> Found:
    """Fetch, and find out what every object is needed for.

    Raises RemoteError, ConfigError for the base branch's conf, RepositoryError, also for a shallow clone: it does not
    know what earlier commits pin.
    """
    if project.repository.is_shallow:
        raise RepositoryError(f"{project.root}: its history is cut off: run `git fetch --unshallow` first")
    state = trust.fetch(project)
    observation = observe_state(project, state)
    history = _at_hand(read_history(project, state))
    landed = frozenset(run.run.id for run in read_history(project, state, drafts=False).runs)
    storage = project.storage(observation.base_commit)
    pins = _pins_of_runs(project, history)
    gone = _gone(history)
    rules = matching_rules(project, state, history, observation.policy.index.let_go)
    here = {run: names for run, names in erased_here(project).items() if run in gone and _is_erased(gone[run])}
    needed_by = {**_drafts(history, landed), **_live(project, observation, history), **_released(project, history)}
    holdings = tuple(
        Holding(
            run.run.id,
            objects_of(run),
            frozenset(pin.raw_md5 for pin in pins.get(run.run.id, ())),
            needed_by.get(run.run.id, ""),
            rules.get(run.run.id, ""),
            gone[run.run.id].removal.what if run.run.id in gone else "",
            _told(gone[run.run.id]) if run.run.id in gone else "",
            run.run.id in here,
        )
        for run in history.runs
    )
    erased = {
        str(one["md5"]): _told(entry)
        for entry in history.removals
        if _is_erased(entry)
        for one in entry.removal.body["objects"]
    }
    ever, now = _pinned(project, state)
    own = frozenset(name for names in here.values() for name in names)
    inventory = _with_folders(storage, Inventory(holdings, ever, {}, erased, now, own))
    return Found(state, observation, history, landed, storage, inventory, pins)


def _at_hand(history: History) -> History:
    """The same, read once: everything is looked at several times."""
    groups = (history.runs, history.experiments, history.removals, history.imports)
    return History.of([one.entry for group in groups for one in group])


def _gone(history: History) -> dict[str, RemovalEntry]:
    """The removal record of each run that has one: of two, the erasure counts, and of two of a kind the first."""
    ordered = sorted(history.removals, key=lambda one: one.removal.what != "run")
    found: dict[str, RemovalEntry] = {}
    for one in ordered:
        found.setdefault(one.removal.run, one)
    return found


def _is_erased(one: RemovalEntry) -> bool:
    return one.removal.what == "run"


def _told(one: RemovalEntry) -> str:
    what = "erased" if _is_erased(one) else "let go"
    return f"{what}, says record {one.removal.id} by {one.entry.landed_by}"


# ── what this clone erased itself ──


def note_erased(project: Project, runs: Iterable[str], objects: Iterable[str]) -> None:
    """Remember that this clone erases these objects with these runs: for them, it needs nobody's word but its own."""
    lines = "".join(f"{name}\n" for name in sorted(objects))
    for run in runs:
        write_atomically(project.private / ERASED / run, lines.encode())


def erased_here(project: Project) -> dict[str, frozenset[str]]:
    """The objects that this clone has erased, by run."""
    folder = project.private / ERASED
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    return {path.name: frozenset(path.read_text("utf-8").split()) for path in paths}


def objects_of(run: RunEntry) -> dict[str, int]:
    """The stored outputs of a run: bytes by name."""
    files = run.run.body["files"].items()
    ours = [known for path, known in files if path.startswith(OUTPUTS)]
    return {known["md5"]: known["bytes"] for known in ours if OBJECT_NAME.fullmatch(known["md5"])}


def stored_objects(storage: Storage, places: Collection[Where]) -> tuple[Stored, ...]:
    """What lies in the cache and on the remote, as asked. Raises RemoteError."""
    found: list[Stored] = list(storage.list_cached()) if "local" in places else []
    if "remote" in places and storage.remote:
        with storage.open_remote() as remote:
            found += remote.list()
    return tuple(found)


# ── rules ──


def matching_rules(project: Project, state: RemoteState, history: History, rules: Iterable[str]) -> dict[str, str]:
    """The first rule that lets a run go, by its id: every branch that the run answers must match one."""
    found = tuple(rules)
    if not found:
        return {}
    from cd4ml.index.query import parse

    cache = QueryCache.of(rows(history, lifecycles(project, state, history)))
    matched: dict[tuple[str, ...], str] = {}
    for rule in found:
        for row in cache.search(compile_filter(parse(rule), datetime.now(UTC))):
            matched.setdefault(_key(row), rule)
    every: dict[str, list[str]] = {}
    for row in cache.search() if matched else ():
        every.setdefault(row["id"], []).append(matched.get(_key(row), ""))
    return {run: names[0] for run, names in every.items() if all(names)}


def _key(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (row["id"], row["branch"], row["commit"], row["side"])


# ── who needs a run ──


def _drafts(history: History, landed: frozenset[str]) -> dict[str, str]:
    return {run.run.id: "is a draft" for run in history.runs if run.run.id not in landed}


def _live(project: Project, observation: Observation, history: History) -> dict[str, str]:
    """The runs that answer what a branch asks for now, or is recorded to have asked for last."""
    wanted = _answering(observation, history)
    for branch in sorted({*observation.remote.heads, *project.repository.local_heads()}):
        records = history.of_branch(branch)
        for answer in records[-1].experiment.answer.values() if records else ():
            if answer is not None:
                wanted.setdefault(answer, f"{branch} asked for it last")
    for run in history.runs:  # of a branch that cannot be read nobody knows what it asks for
        if run.run.branch in observation.unreadable:
            wanted.setdefault(run.run.id, f"{run.run.branch} cannot be read")
    return wanted


def _answering(observation: Observation, history: History) -> dict[str, str]:
    """The runs by which the plan answers what branches ask for now.

    Such a run may differ in what ``rerun_on`` leaves out. The plan leaves out drafts of what is pushed, so its own
    history and the one with all of them are both asked.
    """
    rules = observation.policy.experiments
    policy = PlanPolicy(rules.rerun_on, rules.retries)
    targets = [
        (one, target)
        for one in observation.desired.experiments
        for target in (one.head, one.merge)
        if target is not None
    ]
    found: dict[str, str] = {}
    for known in (observation.history, history):
        for one, target in targets:
            answer = stand(one, target, Evidence(known), policy).run
            if answer is not None:
                found[answer.id] = f"{one.branch} asks for it"
    return found


def _released(project: Project, history: History) -> dict[str, str]:
    """The runs whose result commit a tag names: a release."""
    by_commit = {commit: name for name, commit in project.repository.tagged(project.remote).items()}
    return {
        run.run.id: f"tag {by_commit[run.entry.result_commit]}"
        for run in history.runs
        if run.entry.result_commit in by_commit
    }


# ── what commits pin ──


def _pins_of_runs(project: Project, history: History) -> dict[str, tuple[Pin, ...]]:
    places = {
        (run.run.commit, pin_path(source)): (run.run.id, source)
        for run in history.runs
        for source in run.run.body["data"]
        if _SOURCE.fullmatch(source)
    }
    at = project.repository.objects_at(sorted(places))
    texts = project.repository.small_blobs(at.values(), _LARGEST_PIN)
    by_place = {place: _pin(texts.get(object_id, b""), place[1]) for place, object_id in at.items()}
    found: dict[str, tuple[Pin, ...]] = {}
    for run in history.runs:
        pins = (by_place.get((run.run.commit, pin_path(source))) for source in run.run.body["data"])
        found[run.run.id] = tuple(pin for pin in pins if pin is not None)
    return found


def _pin(data: bytes, path: str) -> Pin | None:
    try:
        return parse_pin(data.decode("utf-8", "replace"), path)
    except ConfigError:
        return None


def _pinned(project: Project, state: RemoteState) -> tuple[frozenset[str], frozenset[str]]:
    """Objects that any commit pins or tracks with DVC, and those of the ``dvc.lock`` that a head or a tag holds.

    Every commit that a branch, a tag, a draft or the index reaches counts, and so do the files of the work tree. The
    second are those that are pinned or tracked now: by a head, a tag or the work tree.
    """
    repository = project.repository
    tags = [commit for commit in repository.tagged(project.remote).values() if repository.resolve(commit)]
    heads = [*state.heads.values(), *repository.local_heads().values(), *tags]
    own = [commit for commit in (repository.resolve(name) for name in ("HEAD", "refs/stash")) if commit]
    more = [*state.landing.values(), *state.drafts.values(), *(commit for _, commit in state.vanished)]
    ever = repository.files_ever([*heads, *own, *more], _TRACKING)
    tips = [tip for tip in dict.fromkeys([*heads, *own]) if tip != state.index]
    now = {*repository.files_now(tips, _TRACKING), *repository.objects_at([(tip, LOCK_FILE) for tip in tips]).values()}
    texts = repository.small_blobs([*ever, *now], _LARGEST_PIN)
    named = {name: {match.decode() for match in _MD5.findall(text)} for name, text in texts.items()}
    lying = frozenset(_in_work_tree(project))
    return (
        lying.union(*named.values()),
        lying.union(*(names for name, names in named.items() if name in now)),
    )


def _in_work_tree(project: Project) -> Iterator[str]:
    """Objects that files of the work tree name, committed or not."""
    root = project.repository.work_tree
    if root is None:
        return
    listed = project.repository.git(
        "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *_WORK_TREE_FILES
    )
    for name in filter(None, listed.text.split("\0")):
        path = root / name
        if path.is_file() and not path.is_symlink():
            yield from (match.decode() for match in _MD5.findall(path.read_bytes()[:_LARGEST_PIN]))


def _with_folders(storage: Storage, inventory: Inventory) -> Inventory:
    """The same with what folders list, read from the cache or the remote."""
    held = (name for one in inventory.holdings for name in one.objects)
    names = sorted(name for name in {*needed(inventory), *held} if name.endswith(FOLDER))
    if not names:
        return inventory
    with ExitStack() as stack:
        remote: RemoteObjects | None = stack.enter_context(storage.open_remote()) if storage.remote else None
        lists = {name: storage.listed(name) or (remote.listed(name) if remote else None) for name in names}
    folders = {name: found for name, found in lists.items() if found is not None}
    return replace(inventory, folders=folders)
