"""The files of ``conf/`` that say what a three-way merge of two configurations means."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cd4ml.controller.desired.specs import compose_tree
from cd4ml.controller.project import CONF, Project
from cd4ml.errors import ConfigError, Problem
from cd4ml.spec import sources
from cd4ml.spec.merge import ABSENT, TARGET, BothChanged, Path, differences, get, same, settled, three_way
from cd4ml.spec.override import (
    EXPERIMENTS,
    choose,
    experiment_file,
    experiment_text,
    select_experiment,
    selected_experiment,
)
from cd4ml.spec.parse import parse

_OWN = ("name", "hypothesis", "tags")
"""What an experiment says of itself: the branch's, whatever the base branch's now says."""

_MOST_STEPS = 200
_SHOWN = 5
_HEADER = "# @package _global_\n# What this experiment changes; the base branch was taken in by `cd4ml update`.\n"
_COPIED = "# An experiment copies and never inherits: what {} asks for stands here too.\n"

_MARK = "\ue000{".encode()
"""What stands for ``${`` while files are composed with their references left as they are."""


def merged_conf(
    project: Project, branch: str, base: str, ours: str, theirs: str, as_git_merged: str
) -> tuple[dict[str, bytes] | None, tuple[BothChanged, ...]]:
    """The files of conf/ after ``theirs`` (the base branch) is taken into ``ours``, and what both changed.

    Merged is what is written, with its references: a model that uses a list of features is not changed by another
    list. Nothing instead of the files where those of the tree ``as_git_merged`` (``""`` for none) say the same
    already. ``branch`` is the name that messages give to ours. Raises ConfigError where a configuration cannot be
    read, the branch's values belong to a group that the base branch gave up, or no experiment file can say what
    the merge gives.
    """
    before, mine, main = sides = [_Side(project, commit) for commit in (base, ours, theirs)]
    _write_out(before, mine, main)
    choices = _choices(before, mine, main)
    if problems := [problem for one in choices for problem in one.problems(branch, project.base, mine)]:
        raise ConfigError(problems)
    kept = [one for one in choices if one.kept]
    parted = dict(before.written)
    for one in kept:
        if same(get(before.written, one.path), get(mine.written, one.path)):
            _take(parted, one.path)  # chosen anew, and so the branch's though it is what there was
    merged = three_way(parted, mine.written, main.written, {one.path for one in kept})
    written = {**merged.value, **{key: mine.written[key] for key in _OWN if key in mine.written}}
    wanted = _resolved_merge(project, written, mine, main)
    parse(wanted, {**main.origin, **mine.origin})
    both_changed = tuple(_told(merged.both_changed, kept, sides))
    if as_git_merged and _says(project, as_git_merged, wanted):
        return None, both_changed
    return _Rewritten(sides, choices, written, wanted).files(), both_changed


def _says(project: Project, tree: str, wanted: Mapping[str, Any]) -> bool:
    try:
        return same(compose_tree(project, tree)[0], wanted)
    except ConfigError:
        return False


def _told(both_changed: tuple[BothChanged, ...], kept: list[_Choice], sides: list[_Side]) -> Iterator[BothChanged]:
    """What both changed, as it resolves; a group for which both chose is one, by the names of the choices."""
    chosen = {one.path: one for one in kept if one.main not in (one.before, one.mine)}
    for one in chosen.values():
        names = (ABSENT if name is None else name for name in (one.before, one.mine, one.main))
        yield BothChanged(".".join(one.path), *names)
    for changed in both_changed:
        path = tuple(changed.key.split("."))
        if path[0] in _OWN or any(path[: len(group)] == group for group in chosen):
            continue
        then, stays, now = (get(side.resolved, path) for side in sides)
        if stays is ABSENT and now is ABSENT:  # a key with a dot in it
            yield changed
        elif not same(stays, now):
            yield BothChanged(changed.key, then, stays, now)


class _Side:
    """One commit's configuration: its files, what they give, and what its experiment's file holds."""

    def __init__(self, project: Project, commit: str) -> None:
        self.resolved, self.origin = compose_tree(project, commit)
        self.written = self.resolved
        self.files = project.repository.read_files(commit, CONF)
        self.name = selected_experiment(self.files)
        content = sources.load_yaml(self.files[experiment_file(self.name)].decode()) or {}
        self.defaults = list(content.pop("defaults", None) or [])
        self.body: dict[str, Any] = content
        rooted = sources.defaults_of(sources.CONFIG, self.files[sources.CONFIG])
        own = sources.defaults_of(experiment_file(self.name), self.files[experiment_file(self.name)])
        self.root_choices = {group: choice for group, choice in rooted if group and group != EXPERIMENTS}
        self.own_choices = {group: choice for group, choice in own if group in self.root_choices}
        self.choices = {**self.root_choices, **self.own_choices}


def _write_out(before: _Side, *others: _Side) -> None:
    """Give each side its configuration with the references that it is written with, where that can be had."""
    unresolved = [_unresolved(side) for side in (before, *others)]
    if None in unresolved:
        return
    parted, *changed = (one or {} for one in unresolved)
    for side, raw in zip(others, changed, strict=True):
        side.written = settled(parted, raw, before.resolved, side.resolved)
    before.written = parted


def _unresolved(side: _Side) -> dict[str, Any] | None:
    """The composed configuration with its ``${…}``; nothing where they say otherwise there than in the files."""
    from cd4ml.gateways.hydra import compose

    if any(_MARK in data for data in side.files.values()):
        return None
    try:
        marked = {path: data.replace(b"${", _MARK) for path, data in side.files.items()}
        raw: dict[str, Any] = _unmarked(compose(marked).resolved)
        return raw if same(_resolved(raw), side.resolved) else None
    except ConfigError:
        return None


def _unmarked(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _unmarked(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_unmarked(item) for item in value]
    return value.replace(_MARK.decode(), "${") if isinstance(value, str) else value


def _resolved(written: Mapping[str, Any]) -> dict[str, Any]:
    from cd4ml.gateways.hydra import compose

    return compose({sources.CONFIG: sources.dump_yaml(dict(written)).encode()}).resolved


def _resolved_merge(project: Project, written: Mapping[str, Any], mine: _Side, main: _Side) -> dict[str, Any]:
    """The merged configuration without references. Raises ConfigError for one whose place the other side took away."""
    try:
        return _resolved(written)
    except ConfigError as error:
        hint = f"so it would be with {project.base} taken in: change it here, commit, then update again"
        raise ConfigError(
            [
                Problem(mine.origin.get(one.key) or main.origin.get(one.key) or one.file, one.key, one.message, hint)
                for one in error.problems
            ]
        ) from error


@dataclass(frozen=True)
class _Choice:
    """What a group is chosen to be: when the sides parted, by the branch, and by the base branch.

    ``kept``: the branch chose, so its choice stands with all values. ``lost``: paths inside the group that the
    branch changed, and that mean nothing in the base branch's new choice.
    """

    group: str
    before: str | None
    mine: str | None
    main: str | None
    kept: bool
    lost: tuple[Path, ...]

    @property
    def path(self) -> Path:
        return tuple(self.group.split("/"))

    def problems(self, branch: str, base: str, mine: _Side) -> Iterator[Problem]:
        """One for values that would be lost, unless the branch says which choice it wants."""
        if self.kept or not self.lost:
            return
        keys = [".".join((*self.path, *inside)) for inside in self.lost]
        file = mine.origin.get(keys[0], experiment_file(mine.name))
        named = _named(keys)
        yield Problem(
            file,
            named,
            f"{branch} sets this in {self.group} {self.mine}, and {base} now has {self.group} {self.main}",
            f"to keep {self.mine}, add `- override /{self.group}: {self.mine}` to the defaults of "
            f"{experiment_file(mine.name)}; to have {self.main}, undo {named} in {file}; commit, then update again",
        )


def _choices(before: _Side, mine: _Side, main: _Side) -> list[_Choice]:
    groups = sorted({group for side in (before, mine, main) for group in side.choices})
    return [_choice(group, before, mine, main) for group in groups]


def _choice(group: str, before: _Side, mine: _Side, main: _Side) -> _Choice:
    """The branch chose where it has another choice than there was, or names its own and main's is another now.

    A name that was copied from the base branch's experiment counts only with values that the branch set beside it.
    """
    then, own, new = (side.choices.get(group) for side in (before, mine, main))
    path = tuple(group.split("/"))
    was, has, other = (get(side.written, path) for side in (before, mine, main))
    changed = differences({"": was}, {"": has})
    names = group in mine.own_choices and (mine.own_choices[group] != before.own_choices.get(group) or bool(changed))
    another_class = _classes(was) != _classes(other)
    lost = tuple(
        inside[1:]
        for inside, value in sorted(changed.items())
        if another_class or (value is not ABSENT and get(other, inside[1:]) is ABSENT)
    )
    return _Choice(group, then, own, new, own != then or (new != then and names), lost if new != then else ())


def _classes(value: Any) -> list[str]:
    """Every class that is named in a value: a parameter of one means nothing to another."""
    if isinstance(value, Mapping):
        here = [repr(value[TARGET])] if TARGET in value else []
        return here + [one for item in value.values() for one in _classes(item)]
    return [one for item in value for one in _classes(item)] if isinstance(value, list) else []


def _named(keys: list[str]) -> str:
    more = f" (+{len(keys) - _SHOWN} more)" if len(keys) > _SHOWN else ""
    return ", ".join(keys[:_SHOWN]) + more


class _Rewritten:
    """The base branch's files and the branch's experiment file, rewritten until they give what is wanted."""

    def __init__(
        self, sides: list[_Side], choices: list[_Choice], written: Mapping[str, Any], wanted: Mapping[str, Any]
    ) -> None:
        base, ours, theirs = sides
        self._written, self._wanted = written, wanted
        self._put_as_written: set[Path] = set()
        self._file = experiment_file(ours.name)
        config = select_experiment(theirs.files[sources.CONFIG].decode(), ours.name).encode()
        added = {path: data for path, data in ours.files.items() if path not in base.files}
        self._files = {**added, **theirs.files, sources.CONFIG: config}
        self._defaults, self._body = _written(base, ours, theirs, choices)
        copied = theirs.name != ours.name and (theirs.own_choices or theirs.body.keys() - set(_OWN))
        self._header = _HEADER + (_COPIED.format(experiment_file(theirs.name)) if copied else "")

    def files(self) -> dict[str, bytes]:
        """All files of conf/. Raises ConfigError for what an experiment's file cannot say."""
        from cd4ml.gateways.hydra import compose

        for _ in range(_MOST_STEPS):
            files = {**self._files, self._file: self._text()}
            composed = compose(files)
            left = differences(composed.resolved, self._wanted)
            if not left:
                return files
            gone = [path for path, value in left.items() if value is ABSENT]
            stuck = [path for path in gone if get(self._body, path) is ABSENT]
            if stuck:
                break
            if gone:
                _take(self._body, gone[0])
            else:
                path = min(left, key=lambda one: self._rank(one, left[one], composed.origin))
                _put(self._body, path, self._value(path, left[path]))
        names = sorted(".".join(path) for path in (stuck or left))
        message = "an experiment file cannot say what the merge gives here; change the group's file by hand"
        raise ConfigError([Problem(self._file, _named(names), message)])

    def _value(self, path: Path, resolved: Any) -> Any:
        """What to write there: with its references, unless that was tried and gave something else."""
        if path in self._put_as_written or get(self._written, path) is ABSENT:
            return resolved
        self._put_as_written.add(path)
        return get(self._written, path)

    def _text(self) -> bytes:
        content = {"defaults": self._defaults, **self._body} if self._defaults else self._body
        return experiment_text(content, self._header)

    def _rank(self, path: Path, value: Any, origin: Mapping[str, str]) -> tuple[bool, bool, int, Path]:
        """Values that others refer to first: setting them sets the others, and no reference is cut."""
        return self._is_reference(path, origin), isinstance(value, list), len(repr(value)), path

    def _is_reference(self, path: Path, origin: Mapping[str, str]) -> bool:
        """Does the file that gives the value now hold ``${…}`` there?"""
        file = origin.get(".".join(path), "")
        if file == self._file:
            content, inside = self._body, path
        elif file in self._files:
            text = self._files[file].decode()
            folder = () if sources.is_global(text) else tuple(file[len(sources.CONF) :].split("/")[:-1])
            content, inside = sources.load_yaml(text) or {}, path[len(folder) :]
        else:
            return False
        return "${" in repr(get(content, inside))


def _written(base: _Side, ours: _Side, theirs: _Side, choices: list[_Choice]) -> tuple[list[Any], dict[str, Any]]:
    """Defaults and body of the experiment's file to begin with: what both files say, merged as they are written."""
    body = three_way(base.body, ours.body, theirs.body).value
    groups = {one.group for one in choices}
    defaults = [one for one in ours.defaults if not _chooses(one, groups)]
    for one in choices:
        if one.kept:
            _take(body, one.path)
            if get(ours.body, one.path) is not ABSENT:
                _put(body, one.path, get(ours.body, one.path))
        chosen = one.mine if one.kept else one.main
        if chosen is not None and chosen != theirs.root_choices.get(one.group):
            defaults = choose(defaults, one.group, chosen)
    return defaults, {
        **{key: ours.body[key] for key in _OWN if key in ours.body},
        **{key: value for key, value in body.items() if key not in _OWN},
    }


def _chooses(entry: Any, groups: Collection[str]) -> bool:
    return isinstance(entry, dict) and any(sources.group_name(key) in groups for key in entry)


def _put(body: dict[str, Any], path: Path, value: Any) -> None:
    for step in path[:-1]:
        inner = body.get(step)
        body[step] = dict(inner) if isinstance(inner, dict) else {}
        body = body[step]
    body[path[-1]] = value


def _take(body: dict[str, Any], path: Path) -> None:
    for step in path[:-1]:
        inner = body.get(step)
        if not isinstance(inner, dict):
            return
        body[step] = dict(inner)
        body = body[step]
    body.pop(path[-1], None)
