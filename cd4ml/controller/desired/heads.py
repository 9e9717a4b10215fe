"""What heads ask for, worked out once.

What a head asks for follows from its commit, the base branch's commit and this version of cd4ml. So it is remembered
under exactly these (``gateways/memo``), and a plan over a thousand branches of which one changed looks at one. What
is not remembered is worked out for all heads together, in as few commands as it takes.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import cd4ml
from cd4ml.controller.desired import specs
from cd4ml.controller.desired.specs import Base, asked_of, python_minor
from cd4ml.controller.project import Project
from cd4ml.errors import ConfigError, IntegrityError, Problem, RepositoryError, ToolError
from cd4ml.gateways.git import Authorship, CommitInfo
from cd4ml.gateways.memo import Memo
from cd4ml.spec import canonical
from cd4ml.spec.canonical import digest
from cd4ml.spec.fingerprint import Components

MEMORY = "memory.sqlite"
"""In cd4ml's private folder."""
FIRST_PARENTS = 500
"""Commits of the base branch among which squash merges are looked for."""
_MEANING = 1
"""Raised when what is remembered is worked out otherwise."""
_MERGE_MESSAGE = "Merge result, made by cd4ml to be run before the merge\n"
_MERGER = "cd4ml <cd4ml@localhost>"

Key = TypeVar("Key")
Merged = tuple[str | None, tuple[str, ...]]
"""The tree of a merge and no files, or no tree and the files that conflict."""


@dataclass(frozen=True)
class Asks:
    """What one tree asks for; without components, ``problems`` says why it was refused."""

    components: Components | None
    problems: tuple[Problem, ...] = ()
    name: str = ""
    hypothesis: str = ""
    tags: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        problems = [[one.file, one.key, one.message, one.hint] for one in self.problems]
        parts = self.components.as_mapping() if self.components else None
        return {
            "components": parts,
            "problems": problems,
            "name": self.name,
            "hypothesis": self.hypothesis,
            "tags": [*self.tags],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Asks:
        parts = Components(**value["components"]) if value["components"] else None
        problems = tuple(Problem(*one) for one in value["problems"])
        return cls(parts, problems, value["name"], value["hypothesis"], tuple(value["tags"]))


@dataclass(frozen=True)
class Merge:
    """The result of merging a head into the base branch: decision 5 of the design.

    ``commit`` is the same for everyone: its dates and identity come from the head. It need not exist yet.
    """

    commit: str
    tree: str
    asks: Asks


@dataclass(frozen=True)
class Head:
    """Facts of one commit beside one commit of the base branch.

    ``landed_as`` is the commit of the base branch that holds exactly what merging the head there gives, or ``""``.
    """

    commit: str
    tree: str
    author: str
    committed: str
    asks: Asks
    merge: Merge | None
    conflicts: tuple[str, ...]
    in_base: bool
    landed_as: str

    def as_json(self) -> dict[str, Any]:
        merge = [self.merge.commit, self.merge.tree, self.merge.asks.as_json()] if self.merge else None
        facts = {name: getattr(self, name) for name in ("tree", "author", "committed", "in_base", "landed_as")}
        return {**facts, "asks": self.asks.as_json(), "merge": merge, "conflicts": [*self.conflicts]}

    @classmethod
    def from_json(cls, commit: str, value: Mapping[str, Any]) -> Head:
        told = value["merge"]
        return cls(
            commit=commit,
            tree=value["tree"],
            author=value["author"],
            committed=value["committed"],
            asks=Asks.from_json(value["asks"]),
            merge=Merge(told[0], told[1], Asks.from_json(told[2])) if told else None,
            conflicts=tuple(value["conflicts"]),
            in_base=value["in_base"],
            landed_as=value["landed_as"],
        )


class _CutOffError(IntegrityError):
    """What a head gives once it is merged lies below the cut of a shallow clone."""


@dataclass(frozen=True)
class _Ahead:
    """Where heads left the base branch: ``parents`` of the commits that it does not have."""

    parents: Mapping[str, tuple[str, ...]]

    def left_at(self, head: str) -> frozenset[str]:
        """The commits of the base branch that the head's own commits stand on."""
        found: set[str] = set()
        seen, left = {head}, [head]
        while left:
            for parent in self.parents[left.pop()]:
                if parent not in self.parents:
                    found.add(parent)
                elif parent not in seen:
                    seen.add(parent)
                    left.append(parent)
        return frozenset(found)


class HeadReader:
    """Reads heads beside one commit of the base branch.

    ``memory`` off, it remembers nothing and works everything out.
    """

    def __init__(self, project: Project, base: Base, *, memory: bool = True) -> None:
        self._project = project
        self.base = base
        self._memo = Memo(project.private / MEMORY) if memory else None

    @cached_property
    def base_chain(self) -> tuple[str, ...]:
        """The first-parent chain of the base branch's commit, the newest first."""
        return self._project.repository.first_parents(self.base.commit)

    def read(self, commits: Collection[str]) -> dict[str, Head | IntegrityError]:
        """What these commits ask for; an error for one whose objects cannot be read.

        Raises RepositoryError, ToolError for what is no commit here. Side effects: objects of merge results,
        remembered answers.
        """
        keys = {commit: self._key("head", self.base.commit, commit) for commit in commits}
        told = self._get(keys)
        found: dict[str, Head | IntegrityError] = {one: Head.from_json(one, value) for one, value in told.items()}
        missing = [commit for commit in keys if commit not in told]
        if missing:
            new = self._work_out(missing)
            found |= new.heads
            known = {one: head for one, head in new.heads.items() if isinstance(head, Head) and one in new.sure}
            self._put(keys, {one: head.as_json() for one, head in known.items()})
        return found

    def asks_alone(self, commits: Sequence[str]) -> dict[str, Asks]:
        """What commits of the base branch ask for under their own rules, by commit; unreadable ones are left out."""
        keys = {commit: self._key("alone", commit) for commit in commits}
        found = {commit: Asks.from_json(value) for commit, value in self._get(keys).items()}
        new: dict[str, Asks] = {}
        for commit in commits:
            if commit not in found:
                asks = self._asks(commit, None)
                if isinstance(asks, Asks):
                    new[commit] = asks
        self._put(keys, {commit: asks.as_json() for commit, asks in new.items()})
        return {**found, **new}

    def landed_as(self, commits: Collection[str]) -> dict[str, str]:
        """By commit of a branch, the commit of the base branch that holds exactly what merging it there gives."""
        keys = {commit: self._key("landed", self.base.commit, commit) for commit in commits}
        told = self._get(keys)
        infos = self._project.repository.commit_infos([commit for commit in keys if commit not in told])
        ahead = _Ahead(self._project.repository.commits_ahead(list(infos), self.base.commit))
        left_at = {one: ahead.left_at(one) for one in infos if one in ahead.parents}
        landed = self._landed(infos, left_at)
        new = {commit: landed.get(commit, "") for commit in infos}
        self._put(keys, new)
        return {commit: step for commit, step in {**told, **new}.items() if step}

    def signatures(self, commits: Collection[str]) -> dict[str, tuple[str, str]]:
        """Committer and time (ISO 8601 in UTC) of those of the commits that are here."""
        keys = {commit: self._key("signature", commit) for commit in commits}
        told = {commit: (str(by), str(when)) for commit, (by, when) in self._get(keys).items()}
        infos = self._project.repository.commit_infos([commit for commit in keys if commit not in told])
        new = {commit: (info.committer, info.committed) for commit, info in infos.items()}
        self._put(keys, new)
        return {**told, **new}

    def begun_anew(self, pairs: Collection[tuple[str, str]], chain: Container[str]) -> frozenset[tuple[str, str]]:
        """Pairs of commits of one branch, earlier and later, between which it was begun anew.

        Nothing joins them but the base branch (whose first-parent ``chain`` this is): the later one neither goes on
        from the earlier nor rewrites it, for a rebase or an amended commit keeps who wrote what and when.
        """
        keys = {pair: self._key("anew", *pair) for pair in pairs}
        told = {pair: bool(value) for pair, value in self._get(keys).items()}
        missing = [pair for pair in keys if pair not in told]
        if missing:
            written = self._project.repository.authorship(list(dict.fromkeys(one for pair in missing for one in pair)))
            own = {one: _own_history(one, written, chain) for pair in missing for one in pair}
            new = {pair: _is_anew(own[pair[0]], own[pair[1]], pair[0] in chain) for pair in missing}
            self._put(keys, new)
            told |= new
        return frozenset(pair for pair, anew in told.items() if anew)

    def are_ancestors(self, pairs: Collection[tuple[str, str]]) -> dict[tuple[str, str], bool]:
        """Does the history of the second commit of each pair hold the first?"""
        keys = {pair: self._key("ancestor", *pair) for pair in pairs}
        told = {pair: bool(value) for pair, value in self._get(keys).items()}
        new = {pair: self._project.repository.is_ancestor(*pair) for pair in keys if pair not in told}
        self._put(keys, new)
        return {**told, **new}

    def make_merge(self, head: Head) -> None:
        """See to it that the merge result's commit and tree exist here. Raises ToolError, RepositoryError."""
        if head.merge is None or head.merge.commit == head.commit:
            return
        repository = self._project.repository
        repository.merge_tree(self.base.commit, head.commit)  # its tree may have been collected as garbage
        _, data = _merge_commit(self._project, self.base.commit, head.commit, head.committed, head.merge.tree)
        repository.write_commit(data)

    # ── working out ──

    def _work_out(self, commits: Sequence[str]) -> _Worked:
        repository = self._project.repository
        infos = repository.commit_infos(commits)
        infos |= {one: repository.commit_info(one) for one in commits if one not in infos}
        ahead = _Ahead(repository.commits_ahead(commits, self.base.commit))
        left_at = {one: ahead.left_at(one) for one in commits if one in ahead.parents}
        merged, sure, failed = self._merged(infos, left_at)
        trees = {info.tree for info in infos.values()} | {tree for tree, _ in merged.values() if tree}
        asks = self._asks_of_trees(trees)
        landed = self._landed(infos, left_at)
        heads: dict[str, Head | IntegrityError] = {}
        for commit, info in infos.items():
            tree, conflicts = merged[commit]
            own, both = asks[info.tree], asks[tree] if tree else None
            broken = next((one for one in (own, both, failed.get(commit)) if isinstance(one, Exception)), None)
            if broken is not None or not isinstance(own, Asks):
                told = IntegrityError(f"{commit[:12]} cannot be read, see `git fsck`: {broken}")
                heads[commit] = broken if isinstance(broken, _CutOffError) else told
                continue
            heads[commit] = Head(
                commit=commit,
                tree=info.tree,
                author=info.author,
                committed=info.committed,
                asks=own,
                merge=self._merge(info, tree, both) if tree and isinstance(both, Asks) else None,
                conflicts=conflicts,
                in_base=commit not in left_at,
                landed_as=landed.get(commit, ""),
            )
        unsure = {tree for tree, one in asks.items() if isinstance(one, _Unsure)}
        sure = {one for one in sure if infos[one].tree not in unsure and merged[one][0] not in unsure}
        return _Worked(heads, sure)

    def _merge(self, info: CommitInfo, tree: str, asks: Asks) -> Merge:
        if tree == info.tree:
            return Merge(info.commit, tree, asks)
        commit, _ = _merge_commit(self._project, self.base.commit, info.commit, info.committed, tree)
        return Merge(commit, tree, asks)

    def _merged(
        self, infos: Mapping[str, CommitInfo], left_at: Mapping[str, frozenset[str]]
    ) -> tuple[dict[str, Merged], set[str], dict[str, Exception]]:
        """What merging each gives, for which that is sure to be so at the next look, and which could not be tried."""
        base = self.base.commit
        found: dict[str, Merged] = {}
        for commit, info in infos.items():
            if commit not in left_at:
                found[commit] = (self._base_tree, ())
            elif base in left_at[commit]:
                found[commit] = (info.tree, ())
        merged = self._merge_pairs([(base, commit) for commit in infos if commit not in found])
        found |= {theirs: one for (_, theirs), one in merged.items()}
        sure = set(found)
        failed: dict[str, Exception] = {}
        for commit in infos:
            if commit not in found:
                try:
                    found[commit] = self._project.repository.merge_tree(base, commit)
                except RepositoryError as error:
                    found[commit] = (None, (str(error),))
                    if self._share_history(base, commit):  # then it is Git that failed, and no conflict
                        failed[commit] = error
                    elif self._project.repository.is_shallow:  # where they parted may be below the cut
                        cure = f"git fetch --unshallow {self._project.remote}"
                        failed[commit] = _CutOffError(f"its history is cut off in this clone: run `{cure}`")
        return found, sure, failed

    def _share_history(self, base: str, commit: str) -> bool:
        try:
            return self._project.repository.merge_base(base, commit) is not None
        except ToolError:
            return True

    @cached_property
    def _base_tree(self) -> str:
        return self._project.repository.tree_of(self.base.commit)

    def _merge_pairs(self, pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Merged]:
        keys = {pair: self._key("merge", *pair) for pair in pairs}
        found: dict[tuple[str, str], Merged] = {
            pair: (tree, tuple(files)) for pair, (tree, files) in self._get(keys).items()
        }
        left = [pair for pair in keys if pair not in found]
        while left:  # a pair that cannot be merged at all ends the command: what follows it is asked for again
            new = self._project.repository.merge_trees(left)
            self._put(keys, {pair: [tree, [*files]] for pair, (tree, files) in new.items()})
            found |= new
            left = left[len(new) + 1 :]
        return found

    def _asks_of_trees(self, trees: Iterable[str]) -> dict[str, Asks | Exception]:
        """What trees ask for beside the base branch; an error for one that cannot be read."""
        rules = digest(sorted(self.base.policy.allowed_packages))
        keys = {tree: self._key("asks", rules, tree) for tree in trees}
        # where the project's own metrics count, the base branch's code does too
        own = {tree: self._key("asks", rules, self.base.commit, tree) for tree in keys}
        told = self._get(keys)
        told |= self._get({tree: own[tree] for tree, value in told.items() if value is None})
        found: dict[str, Asks | Exception] = {
            tree: Asks.from_json(value) for tree, value in told.items() if value is not None
        }
        new: dict[str, Any] = {}
        for tree in keys:
            if tree in found:
                continue
            found[tree] = asks = self._asks(tree, self.base)
            if isinstance(asks, _Owned):
                new |= {keys[tree]: None, own[tree]: asks.as_json()}
            elif isinstance(asks, Asks) and not isinstance(asks, _Unsure):
                new[keys[tree]] = asks.as_json()
        if self._memo is not None:
            self._memo.put_many(new)
        return found

    def _asks(self, tree: str, base: Base | None) -> Asks | Exception:
        try:
            asked = asked_of(self._project, tree, base)
        except ConfigError as error:
            # what was refused may have asked for metrics of its own, too
            return _Owned(None, error.problems)
        except (IntegrityError, ToolError, OSError, MemoryError) as error:  # this clone's or this machine's fault
            return error
        except Exception as error:  # noqa: BLE001  # whatever a branch brings, the others must still be seen
            return _Unsure(None, (Problem("conf/", "", f"cannot be read: {type(error).__name__}"),))
        spec = asked.spec
        kind = _Owned if spec.evaluation.own else Asks
        return kind(asked.components, (), spec.name, spec.hypothesis, spec.tags)

    # ── squash and rebase merges, told by content ──

    def _landed(
        self,
        infos: Mapping[str, CommitInfo],
        left_at: Mapping[str, frozenset[str]],
    ) -> dict[str, str]:
        """By head, the commit of the base branch that holds exactly what merging the head at that place gives."""
        open_ones = [one for one in left_at if left_at[one] and self.base.commit not in left_at[one]]
        if not open_ones:
            return {}
        chain = self._chain
        paths = self._own_paths(open_ones, left_at)
        asked: dict[tuple[str, str], tuple[str, str]] = {}
        for commit in open_ones:
            since = min((chain.position.get(one, FIRST_PARENTS) for one in left_at[commit]), default=0)
            for step in chain.steps[:since]:
                if step.committed >= infos[commit].committed and step.paths and step.paths <= paths[commit]:
                    asked[(step.parent, commit)] = (step.commit, step.tree)
        found = self._merge_pairs(list(asked))
        landed: dict[str, str] = {}
        for (_, commit), (step_commit, tree) in asked.items():
            pair = (_, commit)
            if pair in found and found[pair][0] == tree:
                landed[commit] = step_commit  # the steps come newest first: the oldest that fits stays
        return landed

    def _own_paths(self, heads: Sequence[str], left_at: Mapping[str, frozenset[str]]) -> dict[str, frozenset[str]]:
        """The paths that heads changed since they left the base branch."""
        repository = self._project.repository
        forks = {}
        for commit in heads:
            at = left_at[commit]
            fork = next(iter(at)) if len(at) == 1 else repository.merge_base(self.base.commit, commit)
            if fork is not None:
                forks[commit] = fork
        changed = repository.paths_changed(list(forks.items()))
        return {commit: changed.get(commit, frozenset()) for commit in heads}

    @cached_property
    def _chain(self) -> _Chain:
        repository = self._project.repository
        commits = self.base_chain[:FIRST_PARENTS]
        keys = {commit: self._key("step", commit) for commit in commits}
        told = self._get(keys)
        missing = [commit for commit in commits if commit not in told]
        infos = repository.commit_infos(missing)
        changed = repository.paths_changed([(one, infos[one].parents[0]) for one in infos if infos[one].parents])
        new = {
            one: [info.tree, info.parents[0] if info.parents else "", info.committed, sorted(changed.get(one, ()))]
            for one, info in infos.items()
        }
        self._put(keys, new)
        facts = {**new, **told}
        steps = [
            _Step(one, tree, parent, committed, frozenset(paths))
            for one in commits
            if one in facts
            for tree, parent, committed, paths in (facts[one],)
        ]
        return _Chain(steps, {step.commit: place for place, step in enumerate(steps)})

    # ── memory ──

    def _key(self, *parts: str) -> str:
        return digest([self._version, *parts])

    @cached_property
    def _version(self) -> str:
        """What every answer depends on: this version of cd4ml to the byte, of Python and of Git."""
        git = self._project.repository.git("version").text.strip() if self._memo is not None else ""
        return digest([_MEANING, cd4ml.__version__, _code_stamp(), python_minor(), git])

    def _get(self, keys: Mapping[Key, str]) -> dict[Key, Any]:
        if self._memo is None:
            return {}
        told = self._memo.get_many(keys.values())
        return {name: told[key] for name, key in keys.items() if key in told}

    def _put(self, keys: Mapping[Key, str], values: Mapping[Key, Any]) -> None:
        if self._memo is not None:
            self._memo.put_many({keys[name]: value for name, value in values.items()})


@dataclass(frozen=True)
class _Owned(Asks):
    """Depends on the base branch's code."""


@dataclass(frozen=True)
class _Unsure(Asks):
    """May be otherwise at the next look."""


@dataclass(frozen=True)
class _Worked:
    heads: Mapping[str, Head | IntegrityError]
    sure: Collection[str]


@dataclass(frozen=True)
class _Step:
    """One commit of the base branch's first-parent chain, and the paths that it changed."""

    commit: str
    tree: str
    parent: str
    committed: str
    paths: frozenset[str]


@dataclass(frozen=True)
class _Chain:
    """The newest steps, newest first, and the place of each."""

    steps: Sequence[_Step]
    position: Mapping[str, int]


@dataclass(frozen=True)
class _Own:
    """The commits of a branch back to the base branch's chain, and who wrote each when."""

    commits: frozenset[str]
    written: frozenset[str]


def _own_history(commit: str, written: Mapping[str, Authorship], chain: Container[str]) -> _Own:
    seen, left = {commit}, [commit]
    while left:
        here = written.get(left.pop())
        for parent in here.parents if here else ():
            if parent not in seen and parent not in chain:
                seen.add(parent)
                left.append(parent)
    return _Own(frozenset(seen), frozenset(written[one].stamp for one in seen if one in written))


def _is_anew(earlier: _Own, later: _Own, earlier_on_chain: bool) -> bool:
    """A branch that had nothing of its own yet (``earlier_on_chain``) goes on with whatever comes."""
    return not (earlier_on_chain or earlier.commits & later.commits or earlier.written & later.written)


def _merge_commit(project: Project, base: str, head: str, committed: str, tree: str) -> tuple[str, bytes]:
    return project.repository.commit_text(tree, (base, head), _MERGE_MESSAGE, _MERGER, committed)


def _code_stamp() -> str:
    """Tells one state of the code that decides what a commit asks for from another; changes when a file is written."""
    files = [*sorted(Path(canonical.__file__).parent.glob("*.py")), Path(specs.__file__), Path(__file__)]
    return digest([[path.name, (found := path.stat()).st_size, found.st_mtime_ns] for path in files])
