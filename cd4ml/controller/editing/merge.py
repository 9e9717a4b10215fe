"""The files of ``conf/`` that say what a three-way merge of two configurations means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cd4ml.controller.desired.specs import compose_tree
from cd4ml.controller.project import CONF, Project
from cd4ml.errors import ConfigError, Problem
from cd4ml.spec import sources
from cd4ml.spec.merge import ABSENT, BothChanged, Path, differences, get, same, three_way
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


def merged_conf(
    project: Project, base: str, ours: str, theirs: str, as_git_merged: str
) -> tuple[dict[str, bytes] | None, tuple[BothChanged, ...]]:
    """The files of conf/ after ``theirs`` (the base branch) is taken into ``ours``, and what both changed.

    Nothing instead of the files where those of the tree ``as_git_merged`` (``""`` for none) say the same already.
    Raises ConfigError where a configuration cannot be read, or no experiment file can say what the merge gives.
    """
    sides = [_Side(project, commit) for commit in (base, ours, theirs)]
    choices = {
        group: tuple(side.choices.get(group) for side in sides)
        for group in sorted({group for side in sides for group in side.choices})
    }
    whole = {tuple(group.split("/")) for group, chosen in choices.items() if len(set(chosen)) > 1}
    before, mine, main = (side.resolved for side in sides)
    merged = three_way(before, mine, main, whole)
    both_changed = tuple(one for one in merged.both_changed if one.key.split(".")[0] not in _OWN)
    wanted = {**merged.value, **{key: mine[key] for key in _OWN if key in mine}}
    parse(wanted, {})
    if as_git_merged and _says(project, as_git_merged, wanted):
        return None, both_changed
    return _Rewritten(sides, choices, wanted).files(), both_changed


def _says(project: Project, tree: str, wanted: Mapping[str, Any]) -> bool:
    try:
        return same(compose_tree(project, tree)[0], wanted)
    except ConfigError:
        return False


class _Side:
    """One commit's configuration: its files, what they give, and what its experiment's file holds."""

    def __init__(self, project: Project, commit: str) -> None:
        self.resolved, _ = compose_tree(project, commit)
        self.files = project.repository.read_files(commit, CONF)
        self.name = selected_experiment(self.files)
        content = sources.load_yaml(self.files[experiment_file(self.name)].decode()) or {}
        self.defaults = list(content.pop("defaults", None) or [])
        self.body: dict[str, Any] = content
        rooted = sources.defaults_of(sources.CONFIG, self.files[sources.CONFIG])
        own = sources.defaults_of(experiment_file(self.name), self.files[experiment_file(self.name)])
        self.root_choices = {group: choice for group, choice in rooted if group and group != EXPERIMENTS}
        self.choices = {**self.root_choices, **{group: choice for group, choice in own if group in self.root_choices}}


class _Rewritten:
    """The base branch's files and the branch's experiment file, rewritten until they give what is wanted."""

    def __init__(
        self, sides: list[_Side], choices: Mapping[str, tuple[str | None, ...]], wanted: Mapping[str, Any]
    ) -> None:
        base, ours, theirs = sides
        self._wanted = wanted
        self._file = experiment_file(ours.name)
        config = select_experiment(theirs.files[sources.CONFIG].decode(), ours.name).encode()
        added = {path: data for path, data in ours.files.items() if path not in base.files}
        self._files = {**added, **theirs.files, sources.CONFIG: config}
        self._defaults, self._body = _written(base, ours, theirs, choices)

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
                _put(self._body, path, left[path])
        names = sorted(".".join(path) for path in (stuck or left))
        more = f" (+{len(names) - _SHOWN} more)" if len(names) > _SHOWN else ""
        message = "an experiment file cannot say what the merge gives here; change the group's file by hand"
        raise ConfigError([Problem(self._file, ", ".join(names[:_SHOWN]) + more, message)])

    def _text(self) -> bytes:
        content = {"defaults": self._defaults, **self._body} if self._defaults else self._body
        return experiment_text(content, _HEADER)

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


def _written(
    base: _Side, ours: _Side, theirs: _Side, choices: Mapping[str, tuple[str | None, ...]]
) -> tuple[list[Any], dict[str, Any]]:
    """Defaults and body of the experiment's file to begin with: what both files say, merged as they are written."""
    body = three_way(base.body, ours.body, theirs.body).value
    defaults = [one for one in ours.defaults if not _chooses(one, choices)]
    for group, (before, mine, main) in choices.items():
        chosen = mine if mine != before else main
        if len({before, mine, main}) > 1:
            side = ours if mine != before else theirs
            path = tuple(group.split("/"))
            _take(body, path)
            if get(side.body, path) is not ABSENT:
                _put(body, path, get(side.body, path))
        if chosen is not None and chosen != theirs.root_choices.get(group):
            defaults = choose(defaults, group, chosen)
    return defaults, {
        **{key: ours.body[key] for key in _OWN if key in ours.body},
        **{key: value for key, value in body.items() if key not in _OWN},
    }


def _chooses(entry: Any, choices: Mapping[str, tuple[str | None, ...]]) -> bool:
    return isinstance(entry, dict) and any(sources.group_name(key) in choices for key in entry)


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
