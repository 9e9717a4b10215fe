"""The raw files of conf/: what is refused before any value is built, and the digest over them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cd4ml.spec.sources import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_NODES,
    check_conf_files,
    check_references,
    conf_digest,
    defaults_of,
    dump_yaml,
    group_choices,
    group_name,
    is_global,
    load_yaml,
    reference_problem,
)
from tests.growth import TIMES, grows_linearly

ROOT = Path(__file__).parents[2]
PROJECT = {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in (ROOT / "conf").rglob("*.yaml")}

GROUP = "conf/model/m.yaml"
HOSTILE = MAX_BYTES - 100
REFUSED: dict[str, tuple[str, str, str]] = {
    # name: (content of conf/model/m.yaml, key of the problem, words of the message)
    "alias": ("a: &x 1\nb: *x\n", "", "anchors and aliases"),
    "alias bomb": ("a: &a [1]\nb: &b [*a, *a]\nc: [*b, *b]\n", "", "anchors and aliases"),
    "recursive alias": ("a: &a [*a]\n", "", "anchors and aliases"),
    "python tag": ("a: !!python/object/apply:os.system [id]\n", "", "tag"),
    "standard tag": ("a: !!binary aGk=\n", "", "tag"),
    "own tag": ("a: !mine 1\n", "", "tag"),
    "tag on the document": ("!!map\na: 1\n", "", "tag"),
    "two documents": ("a: 1\n---\nb: 2\n", "", "second YAML document"),
    "broken": ("a: [1\n", "", "not YAML"),
    "control character": ("a: \x07\n", "", "not YAML"),
    "list at the top": ("- a\n", "", "top level"),
    "text at the top": ("hello\n", "", "top level"),
    "null at the top": ("---\n...\n", "", "top level"),
    "duplicate key": ("a: 1\na: 2\n", "a", "twice"),
    "nested duplicate key": ("a:\n  b: {c: 1, c: 2}\n", "a.b.c", "twice"),
    "on as a key": ("a:\n  on: [x]\n", "a.on", "bool"),
    "no as a key": ("no: 1\n", "no", "bool"),
    "number as a key": ("a: {1: x}\n", "a.1", "int"),
    "null as a key": ("a: {~: x}\n", "a.~", "null"),
    "list as a key": ("a: {[x]: y}\n", "a", "plain text"),
    "merge key": ("a: {<<: {b: 1}}\n", "a.<<", "merge"),
    "Norway": ("a: [se, no]\n", "a.1", "true or false"),
    "base 60": ("a: 12:30:45\n", "a", "base 60"),
    "octal": ("a: 0755\n", "a", "octal"),
    "hydra node": ("hydra:\n  run: {dir: /}\n", "hydra", "Hydra itself"),
    "search path": ("a:\n  searchpath: [file:///etc]\n", "a.searchpath", "search path"),
    "environment": ("a: ${oc.env:HOME}\n", "a", "resolver 'oc.env'"),
    "resolver in a text": ('a: "x ${oc.decode:y} z"\n', "a", "resolver"),
    "resolver in a list": ("a: [{b: '${python_version:}'}]\n", "a.0.b", "resolver"),
    "nested interpolation": ("a: '${b.${c}}'\n", "a", "not a plain path"),
    "relative interpolation": ("a: ${.b}\n", "a", "not a plain path"),
    "escaped interpolation": ("a: '\\${oc.env:HOME}'\n", "a", "resolver"),
    "unclosed interpolation": ("a: '${b'\n", "a", "not a plain path"),
    "interpolated key": ("a: {'${b}': 1}\n", "a.${b}", "interpolated"),
    "hydra group": ("defaults: [override hydra/launcher: basic]\n", "defaults.0", "Hydra's own"),
    "hydra group, absolute": ("defaults: [/hydra/job_logging, _self_]\n", "defaults.0", "Hydra's own"),
    "override of a hydra group": ("defaults:\n  - override /hydra/launcher: x\n", "defaults.0", "Hydra's own"),
    "package": ("defaults:\n  - override /model@hydra: x\n", "defaults.0", "package"),
    "way out": ("defaults: [../../etc/x, _self_]\n", "defaults.0", "not the name"),
    "way out by choice": ("defaults:\n  - override /model: ../x\n", "defaults.0", "not the name"),
    "absolute choice": ("defaults:\n  - override /model: /etc/x\n", "defaults.0", "not the name"),
    "interpolated choice": ("defaults:\n  - override /model: ${data}\n", "defaults.0", "not the name"),
    "group inside a group": ("defaults:\n  - /data: flights\n  - _self_\n", "defaults.0", "only conf/config.yaml"),
    "defaults as a mapping": ("defaults: {model: x}\n", "defaults", "list"),
    "defaults with two keys": ("defaults:\n  - {a: x, b: y}\n  - _self_\n", "defaults.0", "group: choice"),
    "choice as a mapping": ("defaults:\n  - override /model: {a: b}\n", "defaults.0", "a name"),
    "includes itself": ("defaults: [m, _self_]\n", "defaults", "includes itself"),
    "null as an entry": ("defaults: [null, _self_]\n", "defaults.0", "text"),
    "number as an entry": ("defaults: [5, _self_]\n", "defaults.0", "text"),
    "truth value as an entry": ("defaults: [true, _self_]\n", "defaults.0", "text"),
    "list as an entry": ("defaults: [[a], _self_]\n", "defaults.0", "text"),
    "number as a choice": ("defaults:\n  - override /data: 5\n", "defaults.0", "text"),
    "null as a choice": ("defaults:\n  - override /data: null\n", "defaults.0", "text"),
    "list as a choice": ("defaults:\n  - override /data: [a]\n", "defaults.0", "text"),
    "number as a group": ("defaults:\n  - {5: a}\n  - _self_\n", "defaults.0", "text"),
    "binary without digits": ("foo: 0b_\n", "foo", "cannot be read as int"),
    "hexadecimal without digits": ("a: [0x_]\n", "a.0", "cannot be read as int"),
    "endless integer": ("foo: " + "9" * 5000 + "\n", "foo", "cannot be read as int"),
    "endless hexadecimal": ("foo: 0x" + "f" * 5000 + "\n", "foo", "64 bits"),
    "integer of 65 bits": ("foo: 9223372036854775808\n", "foo", "64 bits"),
    "default value": ("a: =\n", "a", "cannot be read as value"),
    "header that Hydra cannot read": ("# @alice: why not?\na: 1\n", "@package", "not supported"),
    "header cut off": ("#" + " " * 497 + "@package _global_\na: 1\n", "@package", "not supported"),
    "header too late": ("a: 1\n# @package _global_\n", "@package", "does not read it"),
    "no self": ("defaults: [n]\n", "defaults", "_self_"),
    "self twice": ("defaults: [_self_, _self_]\n", "defaults", "_self_"),
    "package of hydra": ("# @package hydra\nrun: {dir: /}\n", "@package", "not supported"),
    "package below hydra": ("#  @package   hydra.job \nname: x\n", "@package", "not supported"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_hostile_or_surprising_file_is_refused_with_its_name_and_key(name: str) -> None:
    content, key, words = REFUSED[name]
    problems = check_conf_files({**PROJECT, GROUP: content.encode()})
    assert [(problem.file, problem.key) for problem in problems][:1] == [(GROUP, key)], problems
    assert words in problems[0].message


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("a:\n  decimal: ,\n", "quote the value: decimal: ','"),
        ("a: @x  \n", "quote the value: a: '@x'"),
        ("a: [1\n", ""),
        ("a: '\n", ""),
    ],
)
def test_a_value_that_begins_with_what_yaml_keeps_for_itself_is_shown_as_it_is_to_be_written(
    text: str, hint: str
) -> None:
    (problem,) = check_conf_files({**PROJECT, GROUP: text.encode()})
    assert problem.hint == hint


def test_a_file_is_global_when_hydra_reads_its_header_so() -> None:
    assert is_global("\n  #   @package   _global_ \na: 1\n")
    assert not is_global("# why\n# @package _global_\n")
    assert not is_global("a: 1\n")


def test_the_project_s_own_files_pass() -> None:
    assert check_conf_files(PROJECT) == ()


@pytest.mark.parametrize(
    "content", ["", "# nothing\n", "a: ${b.c-d.0}\n", 'a: "yes"\n"on": [x]\n', "a: true\nb: null\nc: 1e-3\n"]
)
def test_harmless_files_pass(content: str) -> None:
    assert check_conf_files({GROUP: content.encode()}) == ()


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"a: \xff\n", "not UTF-8"), (b"\xef\xbb\xbfa: 1\n", "byte order mark"), ("a: 1\n".encode("utf-16"), "not UTF-8")],
)
def test_only_plain_utf_8_is_read(content: bytes, words: str) -> None:
    (problem,) = check_conf_files({GROUP: content})
    assert problem.file == GROUP
    assert words in problem.message


@pytest.mark.parametrize(
    "name",
    ["conf/../x.yaml", "/etc/x.yaml", "conf/a\\b.yaml", "conf/a\nb.yaml", "x.yaml", "conf/.x.yaml", "conf/m/x y.yaml"],
)
def test_a_file_name_that_could_lead_elsewhere_is_refused(name: str) -> None:
    (problem,) = check_conf_files({name: b"a: 1\n"})
    assert "not a name" in problem.message
    assert "\n" not in str(problem)


@pytest.mark.parametrize("name", [f"conf/{'x' * 300}.yaml", "conf" + "/a" * 40 + ".yaml", "conf/model/m.yaml/x.yaml"])
def test_a_file_name_that_no_file_system_takes_is_refused(name: str) -> None:
    (problem,) = check_conf_files({GROUP: b"a: 1\n", name: b"a: 1\n"})
    assert problem.file == "conf/"


@pytest.mark.parametrize(
    ("head", "unit", "tail"),
    [
        ("", "\n", ""),
        ("a: '", "\n", "'\n"),
        ("", "\t\n", ""),
        ("# @package x", " ", "y\n"),
        ("a: '", "${a.", "'\n"),
        ("defaults: ['", "optional ", "']\n"),
    ],
    ids=["newlines", "quoted newlines", "blank lines", "spaces in the header", "open references", "keywords"],
)
def test_the_work_grows_linearly_with_hostile_text(head: str, unit: str, tail: str) -> None:
    small, large = (head + unit * (length // len(unit)) + tail for length in (HOSTILE // TIMES, HOSTILE))
    assert grows_linearly(_looked_at, small, large)
    small, large = (head + unit * (length // len(unit)) + tail for length in (2**13, 2**13 * TIMES))
    assert grows_linearly(lambda text: check_conf_files({GROUP: text.encode()}), small, large)


def _looked_at(text: str) -> None:
    is_global(text)
    reference_problem(text)
    group_name(text)


def test_no_problem_of_a_file_repeats_a_credential() -> None:
    token = "ghp_" + "a1" * 18
    url = f"https://me:{token}@host"
    for text in (
        f"a: ${{{token}:x}}\n",
        f"a: '${{ {'x' * 20}{token}'\n",
        f"a: !{token} 1\n",
        f"{token}: 1\n{token}: 2\n",
        f"'{url}': {{no: 1}}\n",
        f'"a\\n{token}": 0b_\n',
        f"defaults: [_self_, '{url}']\n",
        f"defaults: [_self_, 'x@{token}']\n",
        f"defaults: [_self_, '{'-' * 60}{token}']\n",
        f"# @package {token}\n",
    ):
        problems = check_conf_files({GROUP: text.encode()})
        assert problems, text
        assert not any(token[:12] in str(problem) for problem in problems), problems
    (problem,) = check_conf_files({f"conf/{token}.yml": b""})
    assert token not in str(problem)


@pytest.mark.parametrize("name", ["conf/hydra/launcher/x.yaml", "conf/hydra.yaml", "conf/model/x.yml"])
def test_hydra_s_own_groups_and_files_that_hydra_skips_are_refused(name: str) -> None:
    (problem,) = check_conf_files({name: b"a: 1\n"})
    assert problem.file == name


def test_size_depth_and_count_are_limited() -> None:
    deep = "a: " + "[" * (MAX_DEPTH + 5) + "]" * (MAX_DEPTH + 5) + "\n"
    very_deep = "a: " + "[" * 300_000
    many = "a: [" + "1, " * (MAX_NODES + 5) + "]\n"
    huge = "a: '" + "x" * MAX_BYTES + "'\n"
    for content, words in ((deep, "deeper"), (very_deep, "deeper"), (many, "values"), (huge, "limit")):
        (problem,) = check_conf_files({GROUP: content.encode()})
        assert words in problem.message


def test_the_count_is_over_all_files() -> None:
    half = ("a: [" + "1, " * (MAX_NODES // 2 + 5) + "]\n").encode()
    problems = check_conf_files({"conf/a/1.yaml": half, "conf/a/2.yaml": half, "conf/a/3.yaml": half})
    assert [problem.file for problem in problems] == ["conf/a/2.yaml"]


def test_includes_that_double_with_each_file_are_refused() -> None:
    files = {f"conf/g/f{n}.yaml": f"defaults: [f{n + 1}, /g/f{n + 1}, _self_]\n".encode() for n in range(30)}
    problems = check_conf_files({**files, "conf/g/f30.yaml": b"a: 1\n"})
    assert problems
    assert all("includes" in problem.message for problem in problems)


def including(many: int) -> dict[str, bytes]:
    """A file that includes so many others, each of which holds next to nothing."""
    names = [f"f{number}" for number in range(many)]
    root = f"defaults: [{', '.join(names)}, _self_]\n".encode()
    return {"conf/g/root.yaml": root, **{f"conf/g/{name}.yaml": b"a: 1\n" for name in names}}


def test_a_file_that_includes_more_files_than_may_be_is_refused_however_small_they_are() -> None:
    (problem,) = check_conf_files(including(101))
    assert (problem.file, problem.key) == ("conf/g/root.yaml", "defaults")
    assert problem.message.endswith("more than 100 files")


def test_a_file_that_includes_as_many_files_as_it_may_passes() -> None:
    assert check_conf_files(including(100)) == ()


def test_problems_of_all_files_are_reported_at_once() -> None:
    problems = check_conf_files({"conf/a.yaml": b"hydra: {}\nb: 1\nb: 2\n", "conf/c.yaml": b"- 1\n"})
    assert [(problem.file, problem.key) for problem in problems] == [
        ("conf/a.yaml", "hydra"),
        ("conf/a.yaml", "b"),
        ("conf/c.yaml", ""),
    ]


@given(st.binary(max_size=300))
def test_any_bytes_are_judged_without_an_exception(content: bytes) -> None:
    check_conf_files({GROUP: content})


_YAML_LIKE = st.text(alphabet="ab:- \n[]{}#&*!|>'\"%@`$,0.?~", max_size=80)


@given(_YAML_LIKE)
def test_what_passes_is_one_mapping_of_text_keys_without_aliases(text: str) -> None:
    if check_conf_files({GROUP: text.encode()}):
        return
    value = load_yaml(text)
    assert value is None or (isinstance(value, dict) and all(isinstance(key, str) for key in value))
    assert not any(
        isinstance(event, yaml.AliasEvent) or getattr(event, "tag", None) for event in yaml.parse(text, yaml.SafeLoader)
    )


_NAMES = st.text(alphabet="ab/._-", min_size=1, max_size=6).map(lambda name: f"conf/{name}.yaml")
_FILES = st.dictionaries(_NAMES, st.binary(max_size=6), min_size=1, max_size=4)


@given(_FILES, _FILES)
def test_the_digest_tells_all_sets_of_files_apart_and_ignores_their_order(
    one: dict[str, bytes], other: dict[str, bytes]
) -> None:
    assert (conf_digest(one) == conf_digest(other)) is (one == other)
    assert conf_digest(dict(reversed(one.items()))) == conf_digest(one)


def test_the_digest_is_fixed() -> None:
    """Other machines and later versions must get the same digest for the same files."""
    assert conf_digest({"conf/config.yaml": b"a: 1\n"}) == (
        "3098a47bc9d94f1fb977ae24eaeb496ad451a5105782010cea185134e0e70a45"
    )


def test_choices_are_the_yaml_files_of_each_folder() -> None:
    choices = group_choices(PROJECT)
    for group, found in choices.items():
        assert list(found) == sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml"))
    assert group_choices({"conf/a/b/c.yaml": b"", "conf/x.yaml": b"", "conf/a/d.md": b""}) == {
        "a": ("b/c",),
        "a/b": ("c",),
    }


def test_the_defaults_list_is_read_with_groups_without_their_keywords() -> None:
    content = b"defaults:\n  - base\n  - /root\n  - override /model: x\n  - optional data: y\n  - _self_\n"
    assert defaults_of("conf/experiment/e.yaml", content) == (
        ("experiment", "base"),
        ("", "root"),
        ("model", "x"),
        ("data", "y"),
        ("", "_self_"),
    )


# --- interpolation ----------------------------------------------------------------------------------


def keys_of(raw: dict[str, Any]) -> list[str]:
    return [key for key, _, _ in check_references(raw)]


def test_references_that_can_be_followed_are_no_problem() -> None:
    raw = {"a": {"b": [1, {"c": "x"}]}, "d": "${a.b}", "e": "${d.1.c} and ${a.b.0}", "f": {"g": "${e}"}, "h": "${a}"}
    assert keys_of(raw) == []


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        ({"a": "${b}"}, "a"),
        ({"a": {"b": "${a.c}"}}, "a.b"),
        ({"a": [1], "b": "${a.1}"}, "b"),
        ({"a": "${a}"}, "a"),
        ({"a": "${b}", "b": "x${a}"}, "b"),
        ({"a": {"b": "${a}"}}, "a.b"),
        ({"a": {"b": "???"}}, "a.b"),
        ({"a": "${oc.env:X}"}, "a"),
        ({"a": "${b.c}", "b": "${a.c}"}, "a"),
    ],
)
def test_missing_cyclic_and_mandatory_values_are_reported_where_they_stand(raw: dict[str, Any], key: str) -> None:
    assert key in keys_of(raw)


def test_a_long_chain_of_references_is_refused_in_either_order() -> None:
    chain: dict[str, Any] = {f"a{n}": f"${{a{n + 1}}}" for n in range(400)}
    chain["a400"] = 1
    assert keys_of(chain)
    assert keys_of(dict(reversed(chain.items())))


def test_values_that_double_with_each_reference_are_refused_before_they_are_built() -> None:
    text = {"a0": "x" * 1000, **{f"a{n}": f"${{a{n - 1}}}" * 20 for n in range(1, 8)}}
    nodes: dict[str, Any] = {"a0": [1] * 10, **{f"a{n}": [f"${{a{n - 1}}}"] * 20 for n in range(1, 8)}}
    assert keys_of(text) == [""]
    assert keys_of(nodes) == [""]  # built, they would be 10^10 and more


_LEAF = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(max_size=12),
    st.sampled_from(
        ["yes", "1e3", "1.e5", "0o7", "010", "12:30", "2013-09-01", "~", "-", "null", "=", "<<", ".inf", "1_0"]
    ),
)
_VALUE = st.recursive(
    _LEAF,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=8), _VALUE, max_size=4))
def test_what_is_dumped_is_read_back_equal(value: dict[str, Any]) -> None:
    assert repr(load_yaml(dump_yaml(value))) == repr(value)


def test_equal_lists_are_dumped_without_aliases() -> None:
    shared = [1, 2]
    text = dump_yaml({"a": shared, "b": shared})
    assert check_conf_files({GROUP: text.encode()}) == ()
