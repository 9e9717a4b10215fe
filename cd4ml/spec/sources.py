"""The raw YAML files of ``conf/``: what they may contain, their digest, and the choices they offer.

A branch's files are hostile until they are checked, so the checks here read YAML as a stream of events:
size, depth and count are judged before any value is built, aliases and tags are refused where they stand,
and no library with a resolver, an importer or a recursive constructor sees a file that did not pass.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import yaml

from cd4ml.errors import Problem
from cd4ml.spec.canonical import digest
from cd4ml.spec.secrets import redacted

CONF = "conf/"
CONFIG = "conf/config.yaml"
MAX_BYTES = 1024 * 1024
MAX_DEPTH = 32
MAX_NODES = 10_000
MAX_INCLUDES = 100
"""How many files a file may pull in by its defaults list, those of the included files counted."""
MAX_REFERENCES = 8
"""How many ``${…}`` may follow one another before a value is reached."""
MAX_INTEGER = 2**63 - 1
"""Integers are those of 64 bits, as records, tables and other readers hold them."""
MAX_NAME = 200
"""Characters of one part of a path under ``conf/``."""
_SMALL = 4096
"""Bytes of a file that is remembered with what is in it."""
_REMEMBERED = 4096
"""So many of them."""
RENDERED_FROM = "rendered_from"
"""Key of ``params.yaml`` that holds the digest of the ``conf/`` it was rendered from."""

_FILE_NAME = re.compile(r"conf(/[A-Za-z0-9_][A-Za-z0-9._-]*)+")
_KEY = r"[A-Za-z0-9_-]+"
_REFERENCE = re.compile(rf"\$\{{({_KEY}(?:\.{_KEY})*)\}}")
_WHOLE_REFERENCE = re.compile(rf"{_REFERENCE.pattern}\Z")
_CHOICE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")
_PACKAGE_LINE = re.compile(r"^[ \t]*#[ \t]*@package\b", re.MULTILINE)
_SPECIAL = re.compile(r"\s*([A-Za-z_][\w-]*):\s+([,@`%|>?!&*\]}][^'\n]{0,30}?)\s*")
_HEADER_LINE = re.compile(r"#\s*@")
_HEADER_CHARACTERS = 512
"""How much of a file Hydra searches for its header."""
_OVERRIDES = re.compile(r"(?:optional\s+)?override\s")
_OLD_BOOLEAN = re.compile(r"(?:yes|no|on|off)\Z", re.IGNORECASE)
_BASE_60 = re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?\Z")
_OCTAL = re.compile(r"[-+]?0[0-9_]+\Z")


class ConfLoader(yaml.SafeLoader):
    """YAML as Hydra's files are read: YAML 1.1 with ``1e-3`` a number and dates left as text."""


class ConfDumper(yaml.SafeDumper):
    """Writes what ``ConfLoader``, and readers of YAML 1.2, read back as the same value."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002  # the signature of the class above
        """Equal lists are written out twice; an alias would be refused on the way in."""
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """Line separators other than LF do not survive YAML's other styles, so they are written as escapes."""
    style = None if text.replace("\n", "").isprintable() else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


ConfDumper.add_representer(str, _represent_text)
_EXPONENT_WITHOUT_POINT = re.compile(r"[-+]?[0-9]+(?:_[0-9]+)*[eE][-+]?[0-9]+\Z")
_EXPONENT_WITHOUT_SIGN = re.compile(r"[-+]?[0-9]+(?:_[0-9]+)*\.[0-9_]*[eE][0-9]+\Z")
_FLOAT_1_2 = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_OCTAL_1_2 = re.compile(r"[-+]?0o[0-7]+\Z")
_FLOAT_TAG, _INT_TAG = "tag:yaml.org,2002:float", "tag:yaml.org,2002:int"
for _pattern in (_EXPONENT_WITHOUT_POINT, _EXPONENT_WITHOUT_SIGN):
    ConfLoader.add_implicit_resolver(_FLOAT_TAG, _pattern, list("-+0123456789"))
    ConfDumper.add_implicit_resolver(_FLOAT_TAG, _pattern, list("-+0123456789"))
# Text that YAML 1.2 reads as a number is written in quotes too.
ConfDumper.add_implicit_resolver(_INT_TAG, _OCTAL_1_2, list("-+0"))
ConfDumper.add_implicit_resolver(_FLOAT_TAG, _FLOAT_1_2, list("-+.0123456789"))
ConfLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in ConfLoader.yaml_implicit_resolvers.items()
}


def load_yaml(text: str) -> Any:
    """The value of a checked file, as Hydra reads it (``None`` for an empty one). Raises yaml.YAMLError."""
    return yaml.load(text, Loader=ConfLoader)  # noqa: S506  # ConfLoader is a SafeLoader


def load_file(content: bytes) -> Any:
    """The same of a checked file's bytes, not to be changed: what is small is read once, since commits share most."""
    return _loaded(content) if len(content) <= _SMALL else load_yaml(content.decode())


@lru_cache(_REMEMBERED)
def _loaded(content: bytes) -> Any:
    return load_yaml(content.decode())


def dump_yaml(value: Any) -> str:
    """Block YAML that ``load_yaml`` reads back as an equal value, keys in the order given."""
    return yaml.dump(value, Dumper=ConfDumper, sort_keys=False, allow_unicode=True, width=110)


def conf_digest(files: Mapping[str, bytes]) -> str:
    """SHA-256 (64 hex digits) over every file's path, relative to the repository root, and its bytes."""
    return digest({path: hashlib.sha256(content).hexdigest() for path, content in files.items()})


def group_choices(files: Mapping[str, bytes]) -> dict[str, tuple[str, ...]]:
    """The choices of every group: ``{"model": ("ridge", "xgboost"), …}``, groups and choices sorted.

    A file in a folder of a folder is a choice of both: ``conf/a/b/c.yaml`` is ``b/c`` of ``a`` and ``c`` of ``a/b``.
    """
    found: dict[str, list[str]] = {}
    for path in files:
        if not (path.startswith(CONF) and path.endswith(".yaml")):
            continue
        parts = path[len(CONF) : -len(".yaml")].split("/")
        for cut in range(1, len(parts)):
            found.setdefault("/".join(parts[:cut]), []).append("/".join(parts[cut:]))
    return {group: tuple(sorted(found[group])) for group in sorted(found)}


def visible(text: str) -> str:
    """Text on one line, with escapes for what does not print: names come from files that anyone may write."""
    return text if text.isprintable() else repr(text)[1:-1]


def problem(file: str, key: str, message: str, hint: str = "") -> Problem:
    """A Problem fit to be printed and recorded: one line, and ``…`` for credentials wherever they stand."""
    return Problem(*(visible(redacted(part)) for part in (file, key, message, hint)))


def is_global(text: str) -> bool:
    """Whether a file's header says that its keys are those of the whole configuration."""
    return any(words == ["@package", "_global_"] for _, words in _header(text))


def _header(text: str) -> Iterator[tuple[int, list[str]]]:
    """The header as Hydra reads it: line from 1 and words of each ``# @…`` before anything else."""
    for number, raw in enumerate(text[:_HEADER_CHARACTERS].splitlines(), start=1):
        line = raw.strip()
        if line and not _HEADER_LINE.match(line):
            return
        if line:
            yield number, [word for word in line.lstrip("#").strip().split(" ") if word]


def defaults_of(path: str, content: bytes) -> tuple[tuple[str, str], ...]:
    """The (group, choice) of each entry in a checked file's defaults list, in order; a plain name is a choice
    of the file's own folder, and ``("", "_self_")`` the file itself."""
    if not path.endswith(".yaml"):
        return ()
    body = load_file(content)
    entries = body.get("defaults") or [] if isinstance(body, dict) else []
    own = path[len(CONF) :].rpartition("/")[0]
    found: list[tuple[str, str]] = []
    for entry in entries:
        if isinstance(entry, dict):
            ((group, choice),) = entry.items()
            found.append((group_name(group), str(choice)))
        else:
            name = str(entry).removeprefix("optional ")
            found.append(("", name) if name == "_self_" else ("" if name.startswith("/") else own, name.lstrip("/")))
    return tuple(found)


def group_name(entry: str) -> str:
    """The group of a defaults entry's key: ``"override /model"`` and ``"model"`` are both ``"model"``."""
    return re.sub(r"^(?:(?:optional|override)\s+)*", "", entry).removeprefix("/")


def check_conf_files(files: Mapping[str, bytes]) -> tuple[Problem, ...]:
    """Everything in the raw files that Hydra must not see, or that would mean something else than it says.

    ``files`` are all files under ``conf/`` by path relative to the repository root. Files other than
    ``.yaml`` count by size and name only, since Hydra does not read them.
    """
    total = sum(len(content) for content in files.values())
    if total > MAX_BYTES:
        return (problem(CONF, "", f"{total} bytes in all; the limit is {MAX_BYTES}"),)
    problems: list[Problem] = []
    includes: dict[str, tuple[str, ...]] = {}
    nodes = 0
    for path in sorted(files):
        if message := _bad_name(path, files):
            problems.append(problem(CONF, repr(redacted(path)), message, "letters, digits, . _ - and /"))
        elif path.startswith("conf/hydra/") or path == "conf/hydra.yaml":
            problems.append(problem(path, "", "Hydra's own groups cannot be configured"))
        elif path.endswith(".yml"):
            problems.append(problem(path, "", "Hydra reads .yaml files only", "rename it to .yaml"))
        elif path.endswith(".yaml"):
            checked = _checked(path, files[path], MAX_NODES - nodes)
            problems.extend(checked.problems)
            nodes += checked.nodes
            includes[path] = tuple(checked.includes)
            if nodes > MAX_NODES:
                break
    return (*problems, *_check_includes(includes))


def _bad_name(path: str, files: Mapping[str, bytes]) -> str:
    """Why a path is not one that every file system takes, or nothing."""
    parts = path.split("/")
    if not _FILE_NAME.fullmatch(path) or ".." in path:
        return "not a name for a file here"
    if len(parts) > MAX_DEPTH or max(map(len, parts)) > MAX_NAME:
        return f"a name longer than {MAX_NAME} characters, or a path deeper than {MAX_DEPTH}"
    if any("/".join(parts[:cut]) in files for cut in range(1, len(parts))):
        return "lies in a folder that is a file too"
    return ""


def _check_includes(includes: Mapping[str, tuple[str, ...]]) -> Iterator[Problem]:
    """Files that include themselves, or so many that composing would not end in reasonable time."""
    counts: dict[str, int] = {}
    too_many = MAX_INCLUDES + 1

    def count(path: str, above: tuple[str, ...]) -> int:
        """How many files it pulls in, one as often as it is named; it is none of them."""
        if path in above or len(above) > MAX_DEPTH:
            return too_many
        if path not in counts:
            pulled = sum(1 + count(one, (*above, path)) for one in includes.get(path, ()))
            counts[path] = min(pulled, too_many)
        return counts[path]

    for path in sorted(includes):
        if count(path, ()) > MAX_INCLUDES:
            yield problem(path, "defaults", f"includes itself, or more than {MAX_INCLUDES} files")


# --- reading one file without building values -------------------------------------------------------


@dataclass(frozen=True)
class _Node:
    """One YAML node: text with its style for a scalar, pairs or items for the others; line from 1."""

    kind: Literal["scalar", "sequence", "mapping"]
    line: int
    text: str = ""
    plain: bool = False
    items: list[_Node] = field(default_factory=list)

    @property
    def pairs(self) -> Iterator[tuple[_Node, _Node]]:
        return zip(self.items[::2], self.items[1::2], strict=True)

    @property
    def tag(self) -> str:
        """What YAML makes of a scalar: ``str``, ``int``, ``bool``, …"""
        if not self.plain:
            return "str"
        return _tag_of_plain(self.text)


_RESOLVER = ConfLoader("")
_YAML_TAG = "tag:yaml.org,2002:"


def _tag_of_plain(text: str) -> str:
    tag = _RESOLVER.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]  # so in the stubs
    return str(tag).rpartition(":")[2]


class _StopError(Exception):
    """The rest of the file is not worth reading."""

    def __init__(self, message: str, line: int, hint: str = "") -> None:
        self.message, self.line, self.hint = message, line, hint
        super().__init__(message)


@dataclass
class _Checked:
    path: str
    problems: list[Problem] = field(default_factory=list)
    nodes: int = 0
    includes: list[str] = field(default_factory=list)

    def add(self, key: str, line: int, message: str, hint: str = "") -> None:
        where = f"line {line}: " if line else ""
        self.problems.append(problem(self.path, key, where + message, hint))


def _checked(path: str, content: bytes, budget: int) -> _Checked:
    """The same as ``_check_file``, not to be changed; of what is small, once."""
    if len(content) <= _SMALL:
        checked = _checked_alone(path, content)
        if checked.nodes <= budget:
            return checked
    return _check_file(path, content, budget)


@lru_cache(_REMEMBERED)
def _checked_alone(path: str, content: bytes) -> _Checked:
    return _check_file(path, content, MAX_NODES)


def _check_file(path: str, content: bytes, budget: int) -> _Checked:
    checked = _Checked(path)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        checked.add("", 0, f"not UTF-8 (byte {error.start})")
        return checked
    if text.startswith("\ufeff"):
        checked.add("", 1, "begins with a byte order mark", "save it as UTF-8 without BOM")
        return checked
    _check_header(text, checked)
    try:
        root = _read(text, checked, budget)
    except _StopError as stop:
        checked.add("", stop.line, stop.message, stop.hint)
        return checked
    except yaml.YAMLError as error:
        checked.add("", _line(error), f"not YAML: {_reason(error)}", _to_quote(text, _line(error)))
        return checked
    if root is not None:
        _check_root(root, checked)
    return checked


def _check_header(text: str, checked: _Checked) -> None:
    packages = 0
    for number, words in _header(text):
        packages += words[0] == "@package"
        if (words[0] == "@package" and words[1:] != ["_global_"]) or len(words) != 2:
            shown = redacted(" ".join(words))[:80]
            checked.add("@package", number, f"the header {shown!r} is not supported", "only # @package _global_")
    if len(_PACKAGE_LINE.findall(text)) > packages:
        checked.add("@package", 0, "stands where Hydra does not read it", "write it in the first line")


def _line(error: yaml.YAMLError) -> int:
    mark = getattr(error, "problem_mark", None)
    return mark.line + 1 if mark is not None else 0


def _reason(error: yaml.YAMLError) -> str:
    reason = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be read"
    return " ".join(str(reason).split())


def _to_quote(text: str, line: int) -> str:
    """What may mend the line where YAML ends: a value begins there with a character that YAML keeps for itself."""
    found = next((_SPECIAL.fullmatch(one) for number, one in enumerate(text.split("\n"), 1) if number == line), None)
    return f"quote the value: {found[1]}: '{found[2]}'" if found else ""


def _read(text: str, checked: _Checked, budget: int) -> _Node | None:
    """The tree of the one document, or nothing for an empty file."""
    documents: list[_Node] = []
    stack: list[_Node] = []
    for event in yaml.parse(text, Loader=ConfLoader):
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.CollectionEndEvent):
            stack.pop()
        elif isinstance(event, yaml.NodeEvent):
            checked.nodes += 1
            if checked.nodes > budget:
                hint = "files of experiments that were merged may go: the index keeps what they asked for"
                raise _StopError(f"conf/ holds more than {MAX_NODES} values", line, hint)
            node = _node(event, line)
            (stack[-1].items if stack else documents).append(node)
            if len(documents) > 1:
                raise _StopError("a second YAML document", line, "one document a file")
            if node.kind != "scalar":
                stack.append(node)
                if len(stack) > MAX_DEPTH:
                    raise _StopError(f"nested deeper than {MAX_DEPTH}", line)
    return documents[0] if documents else None


def _node(event: yaml.NodeEvent, line: int) -> _Node:
    if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
        raise _StopError("anchors and aliases are not allowed", line, "write the value out, or refer to it as ${a.b}")
    assert isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent)  # noqa: S101  # what is left
    if event.tag is not None:
        raise _StopError(f"the tag {event.tag} is not allowed", line, "plain YAML values only")
    if isinstance(event, yaml.ScalarEvent):
        return _Node("scalar", line, event.value, plain=event.style is None)
    return _Node("mapping" if isinstance(event, yaml.MappingStartEvent) else "sequence", line)


# --- what the tree says -----------------------------------------------------------------------------


def _check_root(root: _Node, checked: _Checked) -> None:
    if root.kind != "mapping":
        checked.add("", root.line, "the top level must be a mapping of keys to values")
        return
    for key, value in root.pairs:
        if key.text == "hydra":
            checked.add("hydra", key.line, "Hydra itself cannot be configured here")
        elif key.text == "defaults":
            _check_defaults(value, checked)
    _check_values(root, "", checked)


def _check_values(node: _Node, path: str, checked: _Checked) -> None:
    """Keys and scalars of the tree; recursion is bounded by ``MAX_DEPTH``."""
    if node.kind == "scalar":
        _check_scalar(node, path, checked)
    elif node.kind == "sequence":
        for index, item in enumerate(node.items):
            _check_values(item, f"{path}.{index}" if path else str(index), checked)
    else:
        seen: set[str] = set()
        for key, value in node.pairs:
            here = f"{path}.{key.text}" if path else key.text
            if key.kind != "scalar":
                checked.add(path, key.line, "a key must be plain text")
                continue
            _check_key(key, here, seen, checked)
            _check_values(value, here, checked)


def _check_key(key: _Node, path: str, seen: set[str], checked: _Checked) -> None:
    if key.tag != "str":
        meaning = "a merge" if key.tag == "merge" else f"{key.tag} to YAML 1.1"
        checked.add(path, key.line, f"the key {key.text} is {meaning}, not text", f'quote it: "{key.text}"')
    if key.text in seen:
        checked.add(path, key.line, "the key is there twice")
    if key.text == "searchpath":
        checked.add(path, key.line, "a search path cannot be set")
    if "${" in key.text:
        checked.add(path, key.line, "a key cannot be interpolated")
    seen.add(key.text)


def _check_scalar(node: _Node, path: str, checked: _Checked) -> None:
    if node.plain:
        _check_surprise(node, path, checked)
        if message := _value_problem(node):
            checked.add(path, node.line, message, "quote it if text is meant")
    message = reference_problem(node.text) if node.tag == "str" else None
    if message:
        checked.add(path, node.line, message, "only plain paths such as ${features.numeric}")


def _value_problem(node: _Node) -> str | None:
    """Why a plain scalar stands for no value, or for none that can be recorded; some look like numbers only."""
    try:
        value = _RESOLVER.construct_object(yaml.ScalarNode(_YAML_TAG + node.tag, node.text))
    except Exception:  # noqa: BLE001  # whatever a constructor stumbles over, Hydra's would too
        return f"cannot be read as {node.tag}"
    if isinstance(value, int) and not -MAX_INTEGER - 1 <= value <= MAX_INTEGER:
        return "is an integer of more than 64 bits"
    return None


def _check_surprise(node: _Node, path: str, checked: _Checked) -> None:
    """Plain scalars that YAML 1.1 reads as something else than people, or YAML 1.2, do."""
    if node.tag == "bool" and _OLD_BOOLEAN.match(node.text):
        checked.add(path, node.line, f"YAML 1.1 reads {node.text} as true or false", f'true, false or "{node.text}"')
    elif node.tag in ("int", "float") and _BASE_60.match(node.text):
        checked.add(path, node.line, f"YAML 1.1 reads {node.text} as a number of base 60", f'quote it: "{node.text}"')
    elif node.tag == "int" and _OCTAL.match(node.text):
        checked.add(path, node.line, f"YAML 1.1 reads {node.text} as octal", "drop the leading zero or quote it")


def reference_problem(text: str) -> str | None:
    """Why the ``${…}`` in a text are not all plain paths into the configuration, or nothing."""
    rest = _REFERENCE.sub("", text)
    if "${" not in rest:
        return None
    start = rest.index("${")
    inner = rest[start + 2 :].partition("}")[0]
    if ":" in inner:
        return f"the resolver {redacted(inner.partition(':')[0])[:40].strip()!r} is not allowed"
    return f"the interpolation {redacted(rest[start:])[:40]!r} is not a plain path"


def _check_defaults(node: _Node, checked: _Checked) -> None:
    if node.kind != "sequence":
        checked.add("defaults", node.line, "must be a list")
        return
    merged = [entry.text for entry in node.items if entry.kind == "scalar" or not _is_override(entry)]
    if merged and merged.count("_self_") != 1:
        checked.add("defaults", node.line, "must hold `_self_` once", "what stands after it wins over this file")
    for index, entry in enumerate(node.items):
        key = f"defaults.{index}"
        if _is_text(entry):
            _check_config_name(entry, key, checked)
        elif entry.kind == "mapping" and len(entry.items) == 2 and all(map(_is_text, entry.items)):
            _check_group_choice(entry.items[0], entry.items[1], key, checked)
        else:
            checked.add(key, entry.line, "must be a name or one `group: choice`, both of them text")


def _is_text(node: _Node) -> bool:
    """Whether YAML reads a node as text: the choices ``5`` and ``null`` are none, ``"5"`` is."""
    return node.kind == "scalar" and node.tag == "str"


def _is_override(entry: _Node) -> bool:
    """Whether an entry only changes a choice made elsewhere, and so merges nothing of its own."""
    return entry.kind == "mapping" and bool(entry.items) and bool(_OVERRIDES.match(entry.items[0].text))


def _check_config_name(entry: _Node, key: str, checked: _Checked) -> None:
    if entry.text == "_self_":
        return
    name = entry.text.removeprefix("optional ")
    _check_safe(name.removeprefix("/"), entry.line, key, checked)
    folder = CONF if name.startswith("/") else checked.path.rpartition("/")[0] + "/"
    checked.includes.append(f"{folder}{name.removeprefix('/')}.yaml")


def _check_group_choice(group: _Node, choice: _Node, key: str, checked: _Checked) -> None:
    name = group_name(group.text)
    _check_safe(name, group.line, key, checked)
    if checked.path != CONFIG and not _OVERRIDES.match(group.text):
        checked.add(key, group.line, f"only {CONFIG} may pull in a group", f"`override /{name}: …` changes its choice")
    _check_safe(choice.text, choice.line, key, checked)


def _check_safe(name: str, line: int, key: str, checked: _Checked) -> None:
    if name == "hydra" or name.startswith("hydra/"):
        checked.add(key, line, "Hydra's own groups cannot be chosen")
    elif "@" in name:
        checked.add(key, line, f"a package cannot be named in {redacted(name)!r}", "write `group: choice`")
    elif ".." in name or len(name) > MAX_NAME or not _CHOICE.fullmatch(name):
        shown = redacted(name)[:80]
        checked.add(key, line, f"{shown!r} is not the name of a group or choice", "no .., no absolute path, no ${…}")


# --- interpolation over the composed value ----------------------------------------------------------


def check_references(raw: Mapping[str, Any]) -> tuple[tuple[str, str, str], ...]:
    """Problems of the ``${a.b}`` in a composed, not yet resolved value, as (dotted key, message, hint).

    Names what is missing, cycles, chains longer than ``MAX_REFERENCES``, and a value that grows past
    ``MAX_BYTES`` characters or ``MAX_NODES`` values when it is written out: a few lines that repeat one
    another double with each, so size is computed before anything is built. Also texts that are not plain
    paths (an override may carry one) and mandatory values (``???``) that nobody gave.
    """
    return _References(raw).problems()


@dataclass(frozen=True)
class _Size:
    """How large a value is once written out: characters, values, and references followed to reach it."""

    characters: int = 0
    nodes: int = 1
    height: int = 0

    def __add__(self, other: _Size) -> _Size:
        return _Size(self.characters + other.characters, self.nodes + other.nodes, max(self.height, other.height))


class _BrokenError(Exception):
    """A reference that cannot be followed; the place where it stands is reported once."""


@dataclass
class _References:
    raw: Mapping[str, Any]
    sizes: dict[tuple[str, ...], _Size] = field(default_factory=dict)
    open: list[tuple[str, ...]] = field(default_factory=list)
    found: dict[str, tuple[str, str]] = field(default_factory=dict)

    def problems(self) -> tuple[tuple[str, str, str], ...]:
        total = self._size((), self.raw, 0)
        if not self.found and (total.characters > MAX_BYTES or total.nodes > MAX_NODES):
            self.found[""] = (f"written out, the interpolations give more than {MAX_NODES} values or 1 MiB", "")
        return tuple((key, *what) for key, what in self.found.items())

    def _report(self, path: tuple[str, ...], message: str, hint: str = "") -> None:
        self.found.setdefault(".".join(path), (message, hint))

    def _size(self, path: tuple[str, ...], value: Any, hops: int) -> _Size:
        if path in self.sizes:
            return self.sizes[path]
        if path in self.open:
            cycle = " → ".join(".".join(step) for step in (*self.open[self.open.index(path) :], path) if step)
            self._report(self.open[-1], f"the interpolation refers to itself: {cycle}")
            return _Size()
        self.open.append(path)
        try:
            size = self._measure(path, value, hops)
        finally:
            self.open.pop()
        self.sizes[path] = size
        return size

    def _measure(self, path: tuple[str, ...], value: Any, hops: int) -> _Size:
        if isinstance(value, str):
            return self._measure_text(path, value, hops)
        if not isinstance(value, Mapping | list):
            return _Size(len(repr(value)))
        size = _Size()
        if len(path) > MAX_DEPTH:
            self._report(path, f"nested deeper than {MAX_DEPTH}")
            return size
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            size = size + self._size((*path, str(key)), item, hops)
        return size

    def _measure_text(self, path: tuple[str, ...], text: str, hops: int) -> _Size:
        size = _Size(len(text))
        if text == "???":
            self._report(path, "a value must be given here (it is ???)")
            return size
        message = reference_problem(text)
        if message:
            self._report(path, message, "only plain paths such as ${features.numeric}")
            return size
        for target in _REFERENCE.findall(text):
            size = size + self._follow(path, target, hops)
        return size

    def _follow(self, path: tuple[str, ...], target: str, hops: int) -> _Size:
        if hops >= MAX_REFERENCES:
            self._report(path, f"more than {MAX_REFERENCES} interpolations follow one another")
            return _Size()
        try:
            where, value = self._select(tuple(target.split(".")), 0)
        except _BrokenError:
            self._report(path, f"${{{target}}} does not exist in the configuration")
            return _Size()
        size = self._size(where, value, hops + 1)
        if size.height >= MAX_REFERENCES:
            self._report(path, f"more than {MAX_REFERENCES} interpolations follow one another")
        return _Size(size.characters, size.nodes, size.height + 1)

    def _select(self, target: tuple[str, ...], hops: int) -> tuple[tuple[str, ...], Any]:
        """The place and value that a path names, through references met on the way."""
        if hops > MAX_REFERENCES:
            raise _BrokenError
        value: Any = self.raw
        where: tuple[str, ...] = ()
        for step in target:
            if isinstance(value, str) and (whole := _WHOLE_REFERENCE.match(value)):
                where, value = self._select(tuple(whole[1].split(".")), hops + 1)
            value, where = _child(value, step), (*where, step)
        return where, value


def _child(value: Any, step: str) -> Any:
    if isinstance(value, Mapping) and step in value:
        return value[step]
    if isinstance(value, list) and step.isdecimal() and int(step) < len(value):
        return value[int(step)]
    raise _BrokenError
