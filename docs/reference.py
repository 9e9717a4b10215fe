"""Write the reference pages from the code: ``python -m docs.reference``, or see that they are current: ``--check``.

``configuration.md`` lists every key that ``cd4ml.spec.parse`` asks for, ``commands.md`` every verb of the command
line with its arguments and options.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from cd4ml.spec.fingerprint import NOT_IN_SPEC
from cd4ml.spec.keys import BASE_ONLY, GROUPS, MEANINGS
from cd4ml.spec.metrics import TASKS, metrics_of
from cd4ml.spec.parse import asked_of
from cd4ml.spec.reading import Asked

ROOT = Path(__file__).parents[1]
CONFIGURATION = ROOT / "docs/configuration.md"
COMMANDS = ROOT / "docs/commands.md"
_GENERATED = "<!-- Made by `make reference` from the code: change it there. -->\n"

_INTRODUCTION = """
# Configuration

Everything that a commit asks for is under `conf/`, composed by Hydra: `conf/config.yaml` chooses one file of each
group, and ends with `experiment: NAME`, whose file wins over all others. `cd4ml config` prints the outcome, with the
file of each value; `cd4ml config exp/deeper` that of a branch. Unknown, missing and mistyped keys are refused, all at
once, by file and key.

`conf/` is data, and never code: no resolvers but `${another.key}`, no `hydra:` node, no YAML tags, anchors or
aliases; at most 1 MiB, 32 levels and 10,000 nodes.

The column *counts in* names the component of the fingerprint that a value is part of. A change there makes a new
fingerprint, so the experiment runs again; a change of a value that counts in nothing runs nothing. *Only main's
counts* means that the base branch's value is used for every experiment. A key without a default must be given; `NAME`
stands for a name that you choose, `[]` for each entry of a list.
"""

_AFTERWORD = """
## Settings of a clone

| `git config` key | default | meaning |
|---|---|---|
| `cd4ml.remote` | `origin`, else the only remote, else the repository itself | whose branches count; `--remote` wins |
| `cd4ml.base` | the remote's HEAD | the base branch |

## Environment variables

| variable | meaning |
|---|---|
| `CD4ML_SOURCE_<NAME>_URL` | replaces a source's location while `cd4ml data update` reads it; may hold credentials |
| `CD4ML_WARM_MINUTES` | how long the warm process of `cd4ml run` stays without work (default 15; 0: it does not) |
| `NO_COLOR` | no colours |
"""


def configurations() -> Iterator[dict[str, Any]]:
    """Configurations that between them use every key: this repository's own, and what it leaves out."""
    from cd4ml.gateways.hydra import compose

    files = {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in (ROOT / "conf").rglob("*.yaml")}
    own = dict(compose(files).resolved)
    yield own
    shares = {"validation": 0.2, "test": 0.2}
    words = {side: [side] for side in ("train", "validation", "test")}
    for split in (
        {"method": "random", **shares},
        {"method": "stratified", "column": "carrier", **shares},
        {"method": "group", "column": "tailnum", **shares},
        {"method": "predefined", "column": "side", "values": words},
    ):
        yield {**own, "split": split}
    other = deepcopy(own)
    other["data"]["sources"]["flights"] = {"location": "sqlite:///flights.db", "format": "sql", "query": "SELECT 1"}
    other["data"]["time_formats"] = {"time_hour": "%Y"}
    other["evaluation"]["own"] = {"cost": {"function": "shop.metrics.cost", "direction": "minimize"}}
    other["index"]["erasers"] = [{"name": "Ada <ada@example.org>", "key": "ssh-ed25519 AAAA"}]
    other["promotion"]["max_worsening"] = {"mae": 0.5}
    other["ci"]["labels"] = {"better": "model: better"}
    run = {"_target_": "shop.stages.Embed"}
    other["stages"] = {"embed": {"run": run, "deps": ["artifacts/featurize/train.parquet"], "outs": ["a.csv"]}}
    yield other


def asked() -> dict[str, Asked]:
    """Every key of the configuration that is a value, or a mapping of the project's own names."""
    found: dict[str, Asked] = {}
    for resolved in configurations():
        found.update(asked_of(resolved))
    groups = [place for place in found if place in GROUPS and any(key.startswith(f"{place}.") for key in found)]
    return {place: one for place, one in found.items() if place not in groups}


def configuration_page() -> str:
    """The text of ``docs/configuration.md``. Raises KeyError for a key without a meaning, and the reverse."""
    keys = asked()
    unknown = {place for place in set(MEANINGS) ^ set(keys) if MEANINGS.get(place, "x")}
    if unknown:
        raise KeyError(f"cd4ml/spec/keys.py and cd4ml/spec/parse.py disagree on {', '.join(sorted(unknown))}")
    parts = [_GENERATED, _INTRODUCTION.lstrip()]
    for group, about in GROUPS.items():
        rows = [_row(place, keys[place]) for place in MEANINGS if place in keys and _group(place) == group]
        title, words = (about, "") if not group else (group, f"{about}\n\n")
        head = "| key | type | default | counts in | meaning |\n|---|---|---|---|---|\n"
        parts.append(f"\n## {title}\n\n{words}{head}{''.join(row for row in rows if row)}")
    return "".join(parts) + _AFTERWORD


def _group(place: str) -> str:
    first = place.partition(".")[0].partition("[")[0]
    return first if first in GROUPS else ""


def _row(place: str, one: Asked) -> str:
    meaning = MEANINGS[place]
    if not meaning:
        return ""
    if meaning == "METRICS":
        offered = " · ".join(f"{task}: {', '.join(f'`{name}`' for name in metrics_of(task))}" for task in TASKS)
        meaning = f"of {offered}; and those of `evaluation.own`"
    only = " Only main's counts." if place.partition(".")[0] in BASE_ONLY and _group(place) == "" else ""
    default = f"`{_yaml(one.default)}`" if one.optional else "–"
    return f"| `{place}` | {one.what} | {default} | {_counted(place)} | {meaning}{'.' * bool(only)}{only} |\n"


def _yaml(value: Any) -> str:
    from cd4ml.spec.sources import dump_yaml

    if value is None or value in ("", [], {}):
        return str(value) if isinstance(value, list | dict) else "null" if value is None else '""'
    return dump_yaml(value).removesuffix("\n...\n").strip()


def _counted(place: str) -> str:
    elsewhere = {"code": "code", "environment.lock": "env"}
    return elsewhere.get(place, "–" if place.partition(".")[0] in NOT_IN_SPEC else "spec")


def commands_page() -> str:
    """The text of ``docs/commands.md``."""
    import typer.main

    from cd4ml.cli.app import app

    root = typer.main.get_command(app)
    parts = [_GENERATED, "# Commands\n\n", _sentences(root.help), "\n\nBefore the verb:\n\n", _options(root)]
    for words, command in _verbs(root, ("cd4ml",)):
        parts += [f"\n## {' '.join(words)}\n\n", _usage(words, command), _sentences(command.help), "\n"]
        arguments = [one for one in command.params if not _is_option(one)]
        if arguments:
            parts += ["\n", *(f"- `{_metavar(one)}`: {_sentences(one.help)}\n" for one in arguments)]
        if any(_is_shown(one) for one in command.params):
            parts += ["\n", _options(command)]
        if command.epilog:
            parts += [f"\n{_examples(command.epilog)}\n"]
    return "".join(parts)


def _verbs(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, inner in command.commands.items():
        if hasattr(inner, "commands"):
            yield from _verbs(inner, (*words, name))
        else:
            yield (*words, name), inner


def _usage(words: tuple[str, ...], command: Any) -> str:
    arguments = [_metavar(one) for one in command.params if not _is_option(one)]
    return f"```\n{' '.join([*words, '[OPTIONS]', *arguments])}\n```\n\n"


def _metavar(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    if argument.required or name.startswith("["):
        return str(name)
    return f"[{name}]" + "..." * (argument.nargs == -1)


def _is_option(parameter: Any) -> bool:
    return all(str(name).startswith("-") for name in parameter.opts)


def _is_shown(parameter: Any) -> bool:
    return _is_option(parameter) and not parameter.hidden and parameter.name != "help"


def _options(command: Any) -> str:
    lines = ["| option | meaning |\n|---|---|\n"]
    for one in command.params:
        if _is_shown(one):
            spelt = [f"`{text}`" for text in (*one.opts, *one.secondary_opts)]
            value = "" if one.is_flag else f" `{one.metavar or _kind(one)}`"
            lines.append(f"| {', '.join(spelt)}{value} | {_sentences(one.help)} |\n")
    return "".join(lines)


def _kind(option: Any) -> str:
    """What a value of the option is called."""
    name = getattr(option.type_descriptor.annotation, "__name__", "")
    return {"int": "NUMBER", "float": "NUMBER", "Path": "PATH"}.get(name, "TEXT")


def _sentences(text: str | None) -> str:
    return "\n\n".join(" ".join(part.split()) for part in re.split(r"\n\s*\n", text or "")).strip()


def _examples(epilog: str) -> str:
    label, _, rest = epilog.partition(": ")
    shown = [f"`{one.strip()}`" if one.strip().startswith("cd4ml") else one for one in rest.split(" · ")]
    return f"{label}: {' · '.join(shown)}"


PAGES: Mapping[Path, Any] = {CONFIGURATION: configuration_page, COMMANDS: commands_page}


def main() -> int:
    """Write both pages, or with ``--check`` name those that are not current and give 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    stale = [(path, text) for path, text in ((path, make()) for path, make in PAGES.items()) if _read(path) != text]
    for path, text in stale:
        sys.stderr.write(
            f"{path.relative_to(ROOT)}: {'is not current; run `make reference`' if check else 'written'}\n"
        )
        if not check:
            path.write_text(text, "utf-8")
    return 1 if check and stale else 0


def _read(path: Path) -> str:
    return path.read_text("utf-8") if path.is_file() else ""


if __name__ == "__main__":
    sys.exit(main())
