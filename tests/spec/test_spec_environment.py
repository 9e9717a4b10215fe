"""Hash-locked requirements: what they pin, and how an installed environment differs."""

from __future__ import annotations

import contextlib
import importlib.metadata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.markers import default_environment

from cd4ml.errors import ConfigError
from cd4ml.spec.environment import differences, lock_entries

ROOT = Path(__file__).parents[2]
HASH = "--hash=sha256:" + "0" * 64
HERE = {key: str(value) for key, value in default_environment().items()}


def test_the_project_s_own_lock_is_read_and_nearly_all_of_it_is_installed() -> None:
    entries = lock_entries((ROOT / "requirements.lock").read_text(), "requirements.lock")
    assert len(entries) > 50
    assert list(entries) == sorted(entries)
    assert not any(entry.startswith("cd4ml==") for entry in entries)
    installed = {one.name: one.version for one in importlib.metadata.distributions()}
    assert len(differences(entries, installed, HERE)) < len(entries) / 10


def test_names_versions_markers_comments_and_continuations_are_made_normal() -> None:
    text = f"""
# a comment
--index-url https://example.invalid/simple
Foo.Bar[extra]==1.0 ; python_version>='3.9' \\
    {HASH} \\
    --hash=sha256:{"a" * 64}
    # via something
b==2.0.0RC1 {HASH}  # trailing
cd4ml==0.1.0 {HASH}
z==1+CPU \\
    {HASH}
"""
    assert lock_entries(text, "x.lock") == (
        "b==2.0.0rc1",
        'foo-bar==1.0 ; python_version >= "3.9"',
        "z==1+cpu",
    )


BAD = {
    f"a>=1 {HASH}": "not pinned",
    f"a {HASH}": "not pinned",
    f"a==1.* {HASH}": "not pinned",
    f"a==1,<2 {HASH}": "not pinned",
    f"a===1 {HASH}": "not pinned",
    f"a @ https://h.invalid/a.whl {HASH}": "not pinned",
    "a==1 --hash=md5:00": "malformed hash",
    "a==1 --hash=sha256:00": "malformed hash",
    "-r other.txt": "-r is not allowed",
    "-e .": "-e is not allowed",
    "./a.whl": "not a requirement",
    f"a==1 ; nonsense {HASH}": "not a requirement",
    f"a==1 {HASH}\na==2 {HASH}": "two versions",
    'a==1 ; os_name ~= "x"': "a has a marker that cannot be evaluated",
    'a==1 ; os_name == "nt" or (python_version > "3" and sys_platform ~= "y")': "cannot be evaluated",
    "a==1 ; " + "(" * 5000: "not a requirement",
    "a==" + "9" * 5000: "limit",
}


@pytest.mark.parametrize("text", BAD)
def test_a_line_that_is_not_locked_is_a_problem_with_its_file_and_line(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        lock_entries(f"ok==1 {HASH}\n{text}\n", "my.lock")
    (problem,) = caught.value.problems
    assert problem.file == "my.lock"
    assert problem.key == f"line {len(text.splitlines()) + 1}"
    assert BAD[text] in problem.message


def test_a_marker_that_has_no_meaning_here_is_a_problem_that_names_the_entry() -> None:
    (entry,) = lock_entries('a==1 ; "1.0" ~= python_version', "x")
    assert differences((entry,), {"a": "1"}, HERE) == ()
    with pytest.raises(ConfigError) as caught:
        differences((entry,), {"a": "1"}, {**HERE, "python_version": "none"})
    (problem,) = caught.value.problems
    assert "a==1" in problem.key


def test_a_credential_in_a_lock_is_not_repeated() -> None:
    token = "tok3n-tok3n"
    for line in (
        f"https://user:{token}@h.invalid/a.whl",
        f"--foo=https://user:{token}@h",
        f"{'x' * 40} https://{token}@h",
    ):
        with pytest.raises(ConfigError) as caught:
            lock_entries(line, "x")
        assert token[:5] not in str(caught.value)


def test_a_lock_without_hashes_is_read_too() -> None:
    assert lock_entries("b==2\na==1.0\n", "x") == ("a==1.0", "b==2")


def test_all_bad_lines_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        lock_entries("a\n\nb\nc==1 \\\n  --hash=x\n", "my.lock")
    assert [problem.key for problem in caught.value.problems] == ["line 1", "line 3", "line 4"]


def test_differences_say_what_the_lock_says_and_what_is_installed() -> None:
    entries = ("a-b==1.0", "c==2", 'd==3 ; sys_platform == "win32"', "e==1.0")
    installed = {"A_b": "1.0.0", "c": "2.1", "e": "not a version", "extra": "1"}
    assert differences(entries, installed, {**HERE, "sys_platform": "linux"}) == (
        "c: lock says 2, 2.1 is installed",
        "e: lock says 1.0, not a version is installed",
    )
    assert (
        differences(entries, installed, {**HERE, "sys_platform": "win32"})[1] == "d: lock says 3, it is not installed"
    )


_NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9]{0,5}([._-][A-Za-z0-9]{1,3})?", fullmatch=True)
_PINS = st.dictionaries(
    _NAMES.map(str.lower), st.from_regex(r"[0-9]{1,2}(\.[0-9]{1,2}){0,2}", fullmatch=True), max_size=6
)


@given(_PINS, st.randoms(use_true_random=False), st.sampled_from(["", " \\\n    ", "   "]))
def test_layout_order_and_comments_do_not_change_the_entries(pins: dict[str, str], random: object, space: str) -> None:
    lines = [f"{name}=={version} {HASH}" for name, version in pins.items()]
    other = [f"# c\n{name.upper()}=={version}{space or ' '}{HASH}  # via x\n" for name, version in pins.items()]
    random.shuffle(other)  # type: ignore[attr-defined]  # hypothesis gives a random.Random
    try:
        entries = lock_entries("\n".join(lines), "a")
    except ConfigError:  # two spellings of one name
        return
    assert lock_entries("\n".join(other), "b") == entries
    assert differences(entries, pins, HERE) == ()


@given(st.text(max_size=80))
def test_any_text_gives_entries_or_problems_and_no_other_error(text: str) -> None:
    with contextlib.suppress(ConfigError):
        assert all("==" in entry for entry in lock_entries(text, "x"))
