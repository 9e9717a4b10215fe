"""What is stored, here and on the DVC remote, and everything that needs it, as values for ``index/retention``."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from sys import intern

from cd4ml.controller.history.search import cache_with_lifecycles
from cd4ml.controller.landing import trust
from cd4ml.controller.landing.landed import IndexHistory, current_cache
from cd4ml.controller.project import Project
from cd4ml.controller.reconciling.lifecycles import Lifecycles, lives_of_all
from cd4ml.controller.reconciling.observe import Observation, observe_state
from cd4ml.errors import ConfigError, RemoteError, RepositoryError
from cd4ml.gateways.dvc import RemoteObjects, Storage
from cd4ml.gateways.files import write_atomically
from cd4ml.gateways.git import RemoteState
from cd4ml.gateways.store import QueryCache, RowKey
from cd4ml.index.history import History, RemovalEntry, RunEntry
from cd4ml.index.removed import ERASED, counting
from cd4ml.index.retention import FOLDER, OBJECT_NAME, OUTPUTS, Holding, Inventory, Stored, Where, needed
from cd4ml.index.rows import rows
from cd4ml.index.sql import Where as Condition
from cd4ml.index.sql import compile_filter
from cd4ml.plan.standing import Evidence, PlanPolicy, stand
from cd4ml.spec.pin import Pin, parse_pin
from cd4ml.spec.pipeline import LOCK_FILE, MODEL, pin_path
from cd4ml.spec.text import listing

_ERASED_HERE = "erased"
"""The folder of cd4ml's own where a clone remembers what it erased: a file for each run, with names of objects."""

_JUDGED_AT_ONCE = 2000
"""So many fingerprints are judged by the rules together."""

_LEARNED = (MODEL,)
_LARGEST_PIN = 4 << 20
_MD5 = re.compile(rb"(?<![0-9a-f])[0-9a-f]{32}(?:\.dir)?(?![0-9a-f])")
_SOURCE = re.compile(r"[A-Za-z0-9_-]{1,100}")
_TRACKING = (".dvc", ".lock.json")
"""How the names of files end that track or pin data; that some others end so, too, only keeps more."""

_WORK_TREE_FILES = ("*.dvc", LOCK_FILE, "data/*.lock.json")


@dataclass(frozen=True)
class RunFacts:
    """What of a run counts here: so little that a hundred thousand of them fit into memory.

    ``objects`` are its stored outputs (bytes by name), ``learned`` those of them that hold what was learnt from the
    data; ``sources`` are the names of its data, and ``order`` is its place in fold order.
    """

    id: str
    fingerprint: str
    branch: str
    commit: str
    result_commit: str
    objects: Mapping[str, int]
    learned: frozenset[str]
    sources: tuple[str, ...]
    order: tuple[int, str]

    @classmethod
    def of(cls, one: RunEntry) -> RunFacts:
        """Of a run's entry."""
        files = one.run.body["files"]
        ours = (known for path, known in files.items() if path.startswith(OUTPUTS))
        objects = {intern(known["md5"]): known["bytes"] for known in ours if OBJECT_NAME.fullmatch(known["md5"])}
        learned = frozenset(intern(files[path]["md5"]) for path in _LEARNED if path in files)
        sources = tuple(map(intern, one.run.body["data"]))
        return cls(
            one.run.id,
            one.run.fingerprint,
            intern(one.run.branch),
            one.run.commit,
            one.entry.result_commit,
            objects,
            learned,
            sources,
            one.entry.order,
        )


@dataclass(frozen=True)
class Found:
    """One look at everything. ``history`` counts in drafts, and so do ``runs``, which come in fold order.

    ``landed`` are the ids of the runs that others see too; ``pins`` are those of each run, as far as its commit is
    here.
    """

    state: RemoteState
    observation: Observation
    history: History
    runs: tuple[RunFacts, ...]
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
    cache = current_cache(project, state)
    history = IndexHistory(cache, drafts=True)
    runs = tuple(sorted(map(RunFacts.of, history.each_run()), key=lambda run: run.order))
    landed = frozenset(cache.values("id", "kind = 'run'", drafts=False))
    storage = project.storage(observation.base_commit)
    pins = _pins_of_runs(project, runs)
    removals = history.removals
    gone = counting(removals)
    rules = _matching_rules(project, observation, history, runs)
    here = {run: names for run, names in erased_here(project).items() if run in gone and _is_erased(gone[run])}
    needed_by = _together(
        _live(project, observation, history, runs),
        _released(project, runs),
        {run.id: "is a draft" for run in runs if run.id not in landed},
    )
    holdings = tuple(
        Holding(
            run.id,
            run.objects,
            frozenset(pin.raw_md5 for pin in pins.get(run.id, ())),
            needed_by.get(run.id, ""),
            rules.get(run.id, ""),
            gone[run.id].removal.what if run.id in gone else "",
            _told(gone[run.id]) if run.id in gone else "",
            run.id in here,
        )
        for run in runs
    )
    erased = {
        str(one["md5"]): _told(entry)
        for entry in removals
        if _is_erased(entry)
        for one in entry.removal.body["objects"]
    }
    ever, now = _pinned(project, state)
    own = frozenset(name for names in here.values() for name in names)
    inventory = _with_folders(storage, Inventory(holdings, ever, {}, erased, now, own))
    return Found(state, observation, history, runs, landed, storage, inventory, pins)


def _is_erased(one: RemovalEntry) -> bool:
    return one.removal.what == ERASED


def _told(one: RemovalEntry) -> str:
    what = "erased" if _is_erased(one) else "let go"
    return f"{what}, says record {one.removal.id} by {one.entry.landed_by}"


# ── what this clone erased itself ──


def note_erased(project: Project, runs: Iterable[str], objects: Iterable[str]) -> None:
    """Remember that this clone erases these objects with these runs: for them, it needs nobody's word but its own."""
    lines = "".join(f"{name}\n" for name in sorted(objects))
    for run in runs:
        write_atomically(project.private / _ERASED_HERE / run, lines.encode())


def erased_here(project: Project) -> dict[str, frozenset[str]]:
    """The objects that this clone has erased, by run."""
    folder = project.private / _ERASED_HERE
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    return {path.name: frozenset(path.read_text("utf-8").split()) for path in paths}


def stored_objects(storage: Storage, places: Collection[Where], *, expected: bool = False) -> tuple[Stored, ...]:
    """What lies in the cache and on the remote, as asked. Raises RemoteError.

    That is also where something is ``expected`` on the remote and its folder is not there: then nothing is known.
    """
    found: list[Stored] = list(storage.list_cached()) if "local" in places else []
    if "remote" in places and storage.remote:
        with storage.open_remote() as remote:
            if expected and not remote.is_there():
                raise RemoteError(f"DVC remote {storage.remote!r}: its folder is not there: is it mounted?")
            found += remote.list()
    return tuple(found)


# ── rules ──


def _matching_rules(
    project: Project, observation: Observation, history: History, runs: Iterable[RunFacts]
) -> dict[str, str]:
    """The first rule that lets a run go, by its id: every branch that the run answers must match one.

    The query cache says which may match. What goes is judged by the records themselves, some at a time: a cache that
    is damaged keeps more, and lets nothing go.
    """
    from cd4ml.index.query import parse

    now = datetime.now(UTC)
    wheres = {rule: compile_filter(parse(rule), now) for rule in observation.policy.index.let_go}
    if not wheres:
        return {}
    cache = cache_with_lifecycles(project, observation.remote)
    likely = {key[0] for where in wheres.values() for key in cache.keys(where)}
    fingerprints = sorted({run.fingerprint for run in runs if run.id in likely})
    if not fingerprints:
        return {}
    asked = tuple(one.entry for group in (history.experiments, history.removals) for one in group)
    lives = Lifecycles(lives_of_all(observation.desired, history))
    found: dict[str, str] = {}
    for start in range(0, len(fingerprints), _JUDGED_AT_ONCE):
        part = fingerprints[start : start + _JUDGED_AT_ONCE]
        known = history.looked_up((), part)
        same = [one.entry for fingerprint in part for one in known.runs_of(fingerprint)]
        found |= _matching(History.of([*same, *asked]), lives, wheres)
    return found


def _matching(history: History, lives: Lifecycles, wheres: Mapping[str, Condition | None]) -> dict[str, str]:
    """The same, of these records."""
    cache = QueryCache.of(rows(history, lives))
    matched: dict[RowKey, str] = {}
    for rule, where in wheres.items():
        for key in cache.keys(where):
            matched.setdefault(key, rule)
    every: dict[str, list[str]] = {}
    for key in cache.keys() if matched else ():
        every.setdefault(key[0], []).append(matched.get(key, ""))
    return {run: names[0] for run, names in every.items() if all(names)}


# ── who needs a run ──


def _together(*told: Mapping[str, str]) -> dict[str, str]:
    """By run all that is said of it."""
    found: dict[str, list[str]] = {}
    for run, words in (item for one in told for item in one.items()):
        found.setdefault(run, []).append(words)
    return {run: "; ".join(words) for run, words in found.items()}


def _live(project: Project, observation: Observation, history: History, runs: Iterable[RunFacts]) -> dict[str, str]:
    """The runs that answer what a branch asks for now, or is recorded to have asked for last."""
    asking = _answering(observation, history)
    branches = sorted({*observation.remote.heads, *project.repository.local_heads()})
    recorded = history.looked_up(branches, ())
    asked: dict[str, dict[str, None]] = {}
    for branch in branches:
        records = recorded.of_branch(branch)
        for answer in records[-1].experiment.answer.values() if records else ():
            if answer is not None and branch not in asking.get(answer, ()):
                asked.setdefault(answer, {})[branch] = None
    wanted = _together(
        {run: f"{listing(names)} {'asks' if len(names) == 1 else 'ask'} for it" for run, names in asking.items()},
        {run: f"{listing(names)} asked for it last" for run, names in asked.items()},
    )
    for run in runs:  # of a branch that cannot be read nobody knows what it asks for
        if run.branch in observation.unreadable:
            wanted.setdefault(run.id, f"{run.branch} cannot be read")
    return wanted


def _answering(observation: Observation, history: History) -> dict[str, dict[str, None]]:
    """The runs by which the plan answers what branches ask for now, and the names of these branches.

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
    names, fingerprints = {one.branch for one, _ in targets}, {target.fingerprint for _, target in targets}
    at_hand = history.looked_up(names, [one for one in fingerprints if one is not None])
    found: dict[str, dict[str, None]] = {}
    for known in (observation.history, at_hand):
        for one, target in targets:
            answer = stand(one, target, Evidence(known), policy).run
            if answer is not None:
                found.setdefault(answer.id, {})[one.branch] = None
    return found


def _released(project: Project, runs: Iterable[RunFacts]) -> dict[str, str]:
    """The runs whose result commit a tag names: a release."""
    by_commit: dict[str, list[str]] = {}
    for name, commit in sorted(project.repository.tagged(project.remote).items()):
        by_commit.setdefault(commit, []).append(name)
    tags = {run.id: by_commit[run.result_commit] for run in runs if run.result_commit in by_commit}
    return {run: f"{'tag' if len(names) == 1 else 'tags'} {listing(names)}" for run, names in tags.items()}


# ── what commits pin ──


def _pins_of_runs(project: Project, runs: Collection[RunFacts]) -> dict[str, tuple[Pin, ...]]:
    places = {(run.commit, pin_path(source)) for run in runs for source in run.sources if _SOURCE.fullmatch(source)}
    at = project.repository.objects_at(sorted(places))
    texts = project.repository.small_objects(at.values(), _LARGEST_PIN)
    by_blob: dict[tuple[str, str], Pin | None] = {}
    for (_, path), blob in at.items():
        if (blob, path) not in by_blob:
            by_blob[blob, path] = _pin(texts.get(blob, b""), path)
    found: dict[str, tuple[Pin, ...]] = {}
    for run in runs:
        paths = map(pin_path, run.sources)
        pins = (by_blob.get((at.get((run.commit, path), ""), path)) for path in paths)
        found[run.id] = tuple(pin for pin in pins if pin is not None)
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
    texts = repository.small_objects([*ever, *now], _LARGEST_PIN)
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
