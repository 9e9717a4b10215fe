"""What ``cd4ml new NAME [OVERRIDE…]`` does to the files of ``conf/``.

The base branch's selected experiment file is copied, never inherited from: an inherited value for another
model would survive inside the new one. The overrides are then written into the copy, so that the commit
alone says everything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from cd4ml.errors import ConfigError, Problem
from cd4ml.spec import sources
from cd4ml.spec.canonical import canonical_json
from cd4ml.spec.secrets import redacted

OVERRIDE = "override"
"""What stands for a file's name where a value comes from the command line."""

EXPERIMENTS = "experiment"
"""The group whose choice is the last entry of ``conf/config.yaml``'s defaults list."""

Operation = Literal["change", "add", "delete"]

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}(/[a-z0-9][a-z0-9._-]{0,99})*")


@dataclass(frozen=True)
class Override:
    """One override, as the gateway to Hydra parses it.

    ``key`` is a dotted path or a group (with ``/`` inside a nested one), ``value`` plain JSON values (nothing
    for ``delete``), ``text`` what the person wrote.
    """

    text: str
    operation: Operation
    key: str
    value: Any

    @property
    def path(self) -> tuple[str, ...]:
        return tuple(self.key.split("."))


def name_problem(name: str) -> str | None:
    """Why a name is not one for an experiment, or nothing."""
    if len(name) > 200 or not _NAME.fullmatch(name) or ".." in name or name.endswith((".", ".lock", ".yaml")):
        return "must be lower-case letters, digits, . _ and -, begin with a letter or digit, / between parts"
    return None


def check_name(files: Mapping[str, bytes], name: str) -> None:
    """Raises ConfigError for a name that ``new_experiment`` would refuse, before anything is composed."""
    if problems := list(_name_problems(files, name, selected_experiment(files))):
        raise ConfigError(problems)


def experiment_file(name: str) -> str:
    """``conf/experiment/<name>.yaml``"""
    return f"{sources.CONF}{EXPERIMENTS}/{name}.yaml"


def selected_experiment(files: Mapping[str, bytes]) -> str:
    """The name that the defaults list of ``conf/config.yaml`` ends with. Raises ConfigError where it does not."""
    defaults = sources.defaults_of(sources.CONFIG, files[sources.CONFIG]) if sources.CONFIG in files else ()
    if not defaults or defaults[-1][0] != EXPERIMENTS:
        raise ConfigError(
            [sources.problem(sources.CONFIG, "defaults", f"must end with `- {EXPERIMENTS}: NAME`, after `- _self_`")]
        )
    return defaults[-1][1]


def new_experiment(
    files: Mapping[str, bytes], name: str, overrides: tuple[Override, ...], hypothesis: str
) -> dict[str, bytes]:
    """The files that change when a new experiment starts from ``files`` (all of ``conf/`` on the base branch).

    ``conf/experiment/<name>.yaml`` is new; in ``conf/config.yaml`` one word changes. A group that gets another
    choice loses the values that the copied file had under it. Raises ConfigError for a bad or taken name and for
    overrides that no experiment file can express. Unknown keys are for Hydra to find: compose ``files`` with the
    same overrides first, and the changed files afterwards; both must give the same value.
    """
    source = selected_experiment(files)
    problems = list(_name_problems(files, name, source))
    if "${" in hypothesis:
        problems.append(sources.problem(OVERRIDE, "hypothesis", "cannot hold ${, which Hydra would replace"))
    content = _overridden(files, source, overrides, problems)
    kept = {key: value for key, value in content.items() if key not in ("defaults", "name", "hypothesis")}
    entries = {"defaults": content["defaults"]} if "defaults" in content else {}
    header = f"# @package _global_\n# What this experiment changes; it began as a copy of {experiment_file(source)}.\n"
    return {
        experiment_file(name): experiment_text({**entries, "name": name, "hypothesis": hypothesis, **kept}, header),
        sources.CONFIG: select_experiment(files[sources.CONFIG].decode(), name).encode(),
    }


def overridden_experiment(files: Mapping[str, bytes], overrides: tuple[Override, ...]) -> dict[str, bytes]:
    """The selected experiment's file with the overrides written into it, by its path; nothing else changes.

    What ``new_experiment`` says of groups, of problems and of unknown keys goes for this too.
    """
    source = selected_experiment(files)
    problems = [] if experiment_file(source) in files else list(_name_problems(files, source, source))
    return {experiment_file(source): experiment_text(_overridden(files, source, overrides, problems))}


def experiment_text(content: Mapping[str, Any], header: str = "# @package _global_\n") -> bytes:
    """An experiment file with that content, whose keys are those of the whole configuration."""
    return (header + (sources.dump_yaml(dict(content)) if content else "")).encode()


def _overridden(
    files: Mapping[str, bytes], source: str, overrides: tuple[Override, ...], problems: list[Problem]
) -> dict[str, Any]:
    """The content of an experiment's file with overrides applied. Raises ConfigError, for ``problems`` too."""
    groups = sources.group_choices(files)
    problems.extend(problem for one in overrides if (problem := _cannot_express(one, groups)))
    if problems:
        raise ConfigError(problems)
    body = sources.load_yaml(files[experiment_file(source)].decode()) or {}
    entries = list(body.pop("defaults", None) or [])
    for one in overrides:
        if one.key in groups:
            entries = choose(entries, one.key, one.value)
            _drop(body, tuple(one.key.split("/")))
    for one in overrides:
        if one.key not in groups:
            body = _apply(body, one, files)
    return {"defaults": entries, **body} if entries else body


def unchanged(before: Mapping[str, Any], after: Mapping[str, Any], overrides: tuple[Override, ...]) -> tuple[str, ...]:
    """The overrides (as written) that changed nothing between two resolved configurations."""
    return tuple(
        one.text
        for one in overrides
        if _same(_get(before, path := tuple(re.split(r"[./]", one.key))), _get(after, path))
    )


# --- the parts --------------------------------------------------------------------------------------


def _name_problems(files: Mapping[str, bytes], name: str, source: str) -> Iterator[Problem]:
    if message := name_problem(name):
        yield sources.problem("NAME", "", f"{redacted(name)!r} {message}")
    elif experiment_file(name) in files:
        yield sources.problem(experiment_file(name), "", "exists already", "choose another name")
    if experiment_file(source) not in files:
        yield sources.problem(
            sources.CONFIG, "defaults", f"the experiment {source!r} has no file {experiment_file(source)}"
        )


def _cannot_express(one: Override, groups: Mapping[str, tuple[str, ...]]) -> Problem | None:
    message = ""
    if one.key in (EXPERIMENTS, "name", "hypothesis", "defaults"):
        message = "is no override: `cd4ml new` sets it"
    elif one.key in groups and (one.operation != "change" or not isinstance(one.value, str)):
        message = "takes the name of one choice"
    elif one.key in groups and one.value not in groups[one.key]:
        message = f"has no choice {redacted(str(one.value))!r}; there are {', '.join(groups[one.key])}"
    elif one.key not in groups and "/" in one.key:
        message = "is not a group"
    elif any(step.isdecimal() for step in one.path):
        message = "is an item of a list, which a file cannot change alone; give the whole list"
    return sources.problem(OVERRIDE, one.key, message) if message else None


def choose(entries: list[Any], group: str, choice: str) -> list[Any]:
    """The defaults list with one ``override /group: choice`` for the group."""
    others = [
        entry
        for entry in entries
        if not (isinstance(entry, dict) and any(sources.group_name(key) == group for key in entry))
    ]
    return [*others, {f"override /{group}": choice}]


def _drop(body: dict[str, Any], path: tuple[str, ...]) -> None:
    parent = _get(body, path[:-1])
    if isinstance(parent, dict):
        parent.pop(path[-1], None)


def _apply(body: dict[str, Any], one: Override, files: Mapping[str, bytes]) -> dict[str, Any]:
    if one.operation == "delete":
        if _get(body, one.path) is _ABSENT or _elsewhere(one.path, files):
            raise ConfigError(
                [sources.problem(OVERRIDE, one.text, "an experiment file cannot take away a value of another file")]
            )
        changed = deepcopy(body)
        _drop(changed, one.path)
        return changed
    for cut in range(1, len(one.path)):
        if not isinstance(_get(body, one.path[:cut]), Mapping | _Absent):
            whole = ".".join(one.path[:cut])
            raise ConfigError(
                [sources.problem(OVERRIDE, one.key, f"the experiment file sets {whole} as a whole; do so too")]
            )
    nested = deepcopy(one.value)
    for step in reversed(one.path):
        nested = {step: nested}
    merged: dict[str, Any] = _merged(body, nested)
    return merged


def _elsewhere(path: tuple[str, ...], files: Mapping[str, bytes]) -> bool:
    """Whether the root file or a file of the group may give the value too."""
    for name, content in files.items():
        if not name.endswith(".yaml") or name.startswith(f"{sources.CONF}{EXPERIMENTS}/"):
            continue
        body = sources.load_yaml(content.decode()) or {}
        folder = tuple(name[len(sources.CONF) :].split("/")[:-1])
        inside = path[len(folder) :] if path[: len(folder)] == folder else None
        if inside is not None and _get(body, inside) is not _ABSENT:
            return True
    return False


def _merged(below: Any, above: Any) -> Any:
    """Mappings merge key by key, everything else is replaced, as Hydra merges files."""
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    changed = dict(below)
    for key, value in above.items():
        changed[key] = _merged(below[key], value) if key in below else value
    return changed


def select_experiment(text: str, name: str) -> str:
    """The root file with another experiment chosen: one scalar of one line changes, comments stay."""
    root = yaml.compose(text, Loader=sources.ConfLoader)
    assert isinstance(root, yaml.MappingNode)  # noqa: S101  # selected_experiment has read it
    (defaults,) = (value for key, value in root.value if key.value == "defaults")
    ((_, choice),) = defaults.value[-1].value
    word = yaml.dump(name, Dumper=sources.ConfDumper, width=1000).removesuffix("\n").removesuffix("\n...")
    return text[: choice.start_mark.index] + word + text[choice.end_mark.index :]


class _Absent:
    pass


_ABSENT = _Absent()


def _get(value: Any, path: tuple[str, ...]) -> Any:
    for step in path:
        if not isinstance(value, Mapping) or step not in value:
            return _ABSENT
        value = value[step]
    return value


def _same(left: Any, right: Any) -> bool:
    if left is _ABSENT or right is _ABSENT:
        return left is right
    return canonical_json(left) == canonical_json(right)
