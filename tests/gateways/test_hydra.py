"""The door to Hydra: real Hydra and OmegaConf, on the project's own configuration and on bad ones."""

from __future__ import annotations

import contextlib
import json
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.core.global_hydra import GlobalHydra
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from cd4ml.errors import ConfigError
from cd4ml.gateways import hydra
from cd4ml.gateways.hydra import compose, parse_overrides
from cd4ml.spec.override import new_experiment, unchanged
from cd4ml.spec.parse import parse
from cd4ml.spec.sources import check_conf_files, load_yaml

ROOT = Path(__file__).parents[2]
PROJECT = {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in (ROOT / "conf").rglob("*.yaml")}
CONFIG = PROJECT["conf/config.yaml"]
BASELINE = "conf/experiment/baseline.yaml"
SMALL = {
    "conf/config.yaml": b"defaults:\n  - data: a\n  - model: ridge\n  - _self_\n  - experiment: baseline\nseed: 1\n",
    BASELINE: b"# @package _global_\nname: baseline\n",
    "conf/data/a.yaml": b"sources: {a: {location: a.csv}}\n",
    "conf/model/ridge.yaml": b"name: ridge\nestimator: {alpha: 1.0, columns: '${data.sources}'}\n",
    "conf/model/xgboost.yaml": b"name: xgboost\nestimator: {max_depth: 6}\n",
}
"""The same in small, for the many examples of a property."""


def with_baseline(body: str) -> dict[str, bytes]:
    return {**PROJECT, BASELINE: f"# @package _global_\n{body}\n".encode()}


def problem_of(files: dict[str, bytes], *overrides: str) -> tuple[str, str, str]:
    with pytest.raises(ConfigError) as caught:
        compose(files, overrides)
    first = caught.value.problems[0]
    assert "\n" not in str(first)
    return first.file, first.key, f"{first.message} ({first.hint})"


def test_the_whole_configuration_is_plain_json_without_hydra_s_node() -> None:
    resolved = compose(PROJECT).resolved
    assert json.loads(json.dumps(resolved)) == resolved
    assert "hydra" not in resolved
    assert resolved["model"]["name"] == "ridge"
    steps = resolved["model"]["estimator"]["steps"]
    assert steps[0][1]["transformers"][0][2] == resolved["features"]["numeric"]


def test_the_experiment_wins_over_the_root_and_the_groups() -> None:
    composed = compose(with_baseline("seed: 7\nmodel: {estimator: {n_jobs: 1}}"))
    assert composed.resolved["seed"] == 7
    assert composed.resolved["model"]["estimator"]["n_jobs"] == 1


def test_each_value_has_the_file_it_is_written_in() -> None:
    files = with_baseline("defaults:\n  - override /model: xgboost\nmodel: {estimator: {max_depth: 3}}\nseed: 1")
    origin = compose(files, ("split.column=x", "+model.estimator.booster={a: 1}", "features=flights")).origin
    assert origin["model.estimator._target_"] == "conf/model/xgboost.yaml"
    assert origin["model.estimator.max_depth"] == BASELINE
    assert origin["seed"] == BASELINE
    assert origin["tags"] == "conf/config.yaml"
    assert origin["features.numeric"] == "conf/features/flights.yaml"
    assert origin["split.column"] == "override"
    assert origin["split.test_from"] == "conf/split/time.yaml"
    assert origin["model.estimator.booster.a"] == "override"


def test_an_interpolated_value_has_the_file_that_refers_to_it() -> None:
    origin = compose(with_baseline("split: {column: '${data.target}'}\nextra: '${data.sources}'")).origin
    assert origin["split.column"] == BASELINE
    assert origin["extra.flights.location"] == BASELINE
    assert origin["data.sources.flights.location"] == "conf/data/flights.yaml"


def test_a_file_that_includes_another_keeps_them_apart() -> None:
    files = {**PROJECT, "conf/model/deep.yaml": b"defaults: [xgboost, _self_]\nname: deep\n"}
    composed = compose(files, ("model=deep",))
    assert composed.resolved["model"]["name"] == "deep"
    assert composed.origin["model.name"] == "conf/model/deep.yaml"
    assert composed.origin["model.estimator.max_depth"] == "conf/model/xgboost.yaml"


def test_every_leaf_has_an_origin_that_is_a_file() -> None:
    composed = compose(PROJECT)
    assert set(composed.origin.values()) <= set(PROJECT)
    for key in composed.origin:
        value: Any = composed.resolved
        for step in key.split("."):
            value = value[step]
        assert not isinstance(value, dict) or not value


BAD_CONFIGS: dict[str, tuple[dict[str, bytes], tuple[str, str, str]]] = {
    "no root": ({BASELINE: b""}, ("conf/config.yaml", "", "is missing")),
    "root choice": (
        {**PROJECT, "conf/config.yaml": CONFIG.replace(b"model: ridge", b"model: rigde")},
        ("conf/config.yaml", "defaults.4", "did you mean ridge?"),
    ),
    "root group": (
        {**PROJECT, "conf/config.yaml": CONFIG.replace(b"model: ridge", b"modle: ridge")},
        ("conf/config.yaml", "defaults.4", "did you mean model"),
    ),
    "experiment choice": (
        with_baseline("defaults:\n  - override /model: xgbost"),
        (BASELINE, "defaults.0", "did you mean xgboost?"),
    ),
    "experiment group": (
        with_baseline("defaults:\n  - override /modle: xgboost"),
        (BASELINE, "defaults", "did you mean model?"),
    ),
    "selected experiment": (
        {**PROJECT, "conf/config.yaml": CONFIG.replace(b"experiment: baseline", b"experiment: basline")},
        ("conf/config.yaml", "defaults.11", "did you mean baseline?"),
    ),
    "missing interpolation": (
        with_baseline("split: {column: '${data.nope}'}"),
        (BASELINE, "split.column", "${data.nope} does not exist"),
    ),
    "cycle": (with_baseline("split: {column: '${split.column}'}"), (BASELINE, "split.column", "refers to itself")),
    "cycle of containers": (with_baseline("a: {b: {c: '${a.b}'}}"), (BASELINE, "a.b.c", "refers to itself")),
    "mandatory": (with_baseline("more: ???"), (BASELINE, "more", "must be given")),
    "resolver": (with_baseline("seed: ${oc.env:HOME}"), (BASELINE, "seed", "resolver")),
    "text over a mapping": (with_baseline("split: time\na: ${split.column}"), (BASELINE, "a", "does not exist")),
    "not YAML": (with_baseline("a: ["), (BASELINE, "", "not YAML")),
    "include that is not there": (
        {**PROJECT, "conf/model/ridge.yaml": b"defaults: [base, _self_]\n"},
        ("conf/model/ridge.yaml", "defaults.0", "no choice 'base'"),
    ),
    "without self": (
        {**PROJECT, "conf/config.yaml": CONFIG.replace(b"  - _self_\n", b"")},
        ("conf/config.yaml", "defaults", "_self_"),
    ),
    "the same group twice": (
        {**PROJECT, "conf/config.yaml": CONFIG.replace(b"  - _self_\n", b"  - model: ridge\n  - _self_\n")},
        ("conf/", "", "model"),
    ),
}


@pytest.mark.parametrize("name", BAD_CONFIGS)
def test_a_bad_configuration_is_one_line_with_its_file_and_key(name: str) -> None:
    files, (file, key, words) = BAD_CONFIGS[name]
    found = problem_of(files)
    assert found[:2] == (file, key), found
    assert words in found[2]
    assert not GlobalHydra.instance().is_initialized()


BAD_OVERRIDES = {
    "model=rigde": ("model", "did you mean ridge?"),
    "modle=ridge": ("modle", "did you mean model?"),
    "model.estimatr.alpha=1": ("model.estimatr.alpha", "no such key"),
    "split.colum=x": ("split.colum", "did you mean split.column?"),
    "~nothing": ("nothing", "no such key"),
    "model=[ridge,rigde]": ("model", "no choice 'rigde'"),
    "experiment=../../etc/passwd": ("experiment", "no choice"),
    "split.column=${nope}": ("split.column", "does not exist"),
    "split.column=???": ("split.column", "must be given"),
    "+a=${oc.env:HOME}": ("+a=${oc.env:HOME}", "resolver"),
    "+a={b: [x, '${now:%Y}']}": ("+a={b: [x, '${now:%Y}']}", "resolver"),
    "hydra.run.dir=/tmp": ("hydra.run.dir=/tmp", "Hydra itself"),
    "+hydra/launcher=joblib": ("+hydra/launcher=joblib", "Hydra itself"),
    "hydra=x": ("hydra=x", "Hydra itself"),
    "model@other=ridge": ("model@other=ridge", "package"),
    "seed=1,2": ("seed=1,2", "several values"),
    "seed=range(1,3)": ("seed=range(1,3)", "several values"),
    "seed": ("seed", "not an override"),
    "": ("", "not an override"),
    "--multirun": ("--multirun", "not an override"),
    "seed=[1": ("seed=[1", "not an override"),
    "a\nb=1": ("a\\nb=1", "not an override"),
    "tags=[a=b,süß]": ("tags=[a=b,süß]", "\"tags=['a=b', 'süß']\""),
    "hypothesis=größer": ("hypothesis=größer", "\"hypothesis='größer'\""),
    "tags=[$(id)=b]": ("tags=[$(id)=b]", "not an override"),
    "+a=" + "[" * 5000: ("+a=" + "[" * 5000, "not an override"),
}


@pytest.mark.parametrize("override", BAD_OVERRIDES, ids=lambda text: text[:30])
def test_a_bad_override_is_one_line_that_names_it(override: str) -> None:
    key, words = BAD_OVERRIDES[override]
    found = problem_of(PROJECT, override)
    assert found[:2] == ("override", key)
    assert words in found[2]
    assert not GlobalHydra.instance().is_initialized()


def test_the_environment_never_reaches_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CD4ML_CANARY", "secret-canary")
    for text in ("${oc.env:CD4ML_CANARY}", "${oc.decode:${oc.env:CD4ML_CANARY}}", "\\${oc.env:CD4ML_CANARY}"):
        with pytest.raises(ConfigError) as caught:
            compose(with_baseline(f"seed: '{text}'"))
        assert "secret-canary" not in str(caught.value)
    assert "secret-canary" not in json.dumps(compose(PROJECT).resolved)


def test_composing_leaves_no_state_no_file_and_no_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compose(PROJECT, ("model=xgboost",))
    assert list(tmp_path.iterdir()) == []
    assert not GlobalHydra.instance().is_initialized()


def test_a_hydra_that_the_caller_had_open_stays_open(tmp_path: Path) -> None:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    (tmp_path / "mine.yaml").write_text("x: 1\n")
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        compose(PROJECT)
        assert hydra_compose("mine").x == 1


def test_plain_hydra_reads_the_same_value(tmp_path: Path) -> None:
    """Without cd4ml, anybody's Hydra gets what cd4ml works with."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    for path, content in PROJECT.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    with initialize_config_dir(str(tmp_path / "conf"), version_base="1.3"):
        plain = OmegaConf.to_container(hydra_compose("config", overrides=["model=xgboost"]), resolve=True)
    assert plain == compose(PROJECT, ("model=xgboost",)).resolved


def test_overrides_are_parsed_into_plain_values() -> None:
    parsed = parse_overrides(("a.b=1e-3", "+c=[x,'y z',null]", "~d.e", "model=ridge", "++f={g: yes}"))
    assert [(one.operation, one.key, one.value) for one in parsed] == [
        ("change", "a.b", 0.001),
        ("add", "c", ["x", "y z", None]),
        ("delete", "d.e", None),
        ("change", "model", "ridge"),
        ("add", "f", {"g": "yes"}),
    ]


def test_a_value_is_told_by_who_wrote_it_and_not_by_an_empty_mapping_or_a_demand_above_it() -> None:
    origin = compose(with_baseline("split: {}\nmodel: {name: '???'}")).origin
    assert origin["split.column"] == "conf/split/time.yaml"
    assert origin["model.name"] == "conf/model/ridge.yaml"


def test_a_value_that_was_replaced_as_a_whole_and_written_anew_has_the_last_file() -> None:
    files = {**PROJECT, "conf/model/deep.yaml": b"defaults: [xgboost, _self_]\nestimator: null\n"}
    body = "defaults:\n  - override /model: deep\nmodel: {estimator: {max_depth: 9}}"
    composed = compose({**files, BASELINE: with_baseline(body)[BASELINE]})
    assert composed.resolved["model"]["estimator"] == {"max_depth": 9}
    assert composed.origin["model.estimator.max_depth"] == BASELINE


def test_a_mapping_is_deleted_when_it_is_the_one_that_was_given() -> None:
    """Nothing of how origins are found is in what Hydra compares, or in what it says."""
    files = with_baseline("extra: {a: 1, b: {c: 2}}\nmore: 1")
    composed = compose(files, ("~extra={a: 1, b: {c: 2}}",))
    assert "extra" not in composed.resolved
    assert composed.origin["more"] == BASELINE
    said = problem_of(files, "~extra={a: 2}")[2]
    assert said == "Could not delete from config. The value of 'extra' is {'a': 1, 'b': {'c': 2}} and not {'a': 2}. ()"


def test_what_else_a_program_has_registered_takes_no_part(monkeypatch: pytest.MonkeyPatch) -> None:
    from hydra.core.config_store import ConfigStore

    registered = {**ConfigStore.instance().repo}
    monkeypatch.setattr(ConfigStore.instance(), "repo", registered)
    ConfigStore.instance().store("theirs", {"name": "theirs"}, group="model")
    theirs = registered["model"]["theirs.yaml"].node
    assert "no choice 'theirs'" in problem_of(with_baseline("seed: 4003"), "model=theirs")[2]
    assert ConfigStore.instance().repo["model"]["theirs.yaml"].node == theirs


# --- what was composed is remembered ------------------------------------------------------------------


@pytest.fixture
def composed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The overrides of each composition that Hydra makes."""
    import hydra as real_hydra

    made: list[tuple[str, ...]] = []
    real = real_hydra.compose

    def compose_and_count(name: str, overrides: list[str]) -> object:
        made.append(tuple(overrides))
        return real(name, overrides=overrides)

    monkeypatch.setattr("hydra.compose", compose_and_count)
    return made


def test_equal_files_and_overrides_are_composed_once(composed: list[tuple[str, ...]]) -> None:
    files = with_baseline("seed: 4004")
    first = compose(files, ("tags=[a]",))
    assert compose(dict(reversed(files.items())), ("tags=[a]",)) == first
    assert composed == [("tags=[a]",)]


def test_a_changed_byte_in_any_file_is_composed_anew(composed: list[tuple[str, ...]]) -> None:
    files = {**with_baseline("seed: 4005"), "conf/README.md": b"words"}
    compose(files)
    for path in (BASELINE, "conf/config.yaml", "conf/model/xgboost.yaml", "conf/README.md"):
        before = len(composed)
        compose({**files, path: files[path] + b"\n"})
        assert len(composed) == before + 1, path


def test_other_overrides_are_composed_anew_in_another_order_too(composed: list[tuple[str, ...]]) -> None:
    files, asked = with_baseline("seed: 4006"), ("seed=1", "seed=2")
    found = [compose(files, one).resolved["seed"] for one in (asked, asked[::-1], asked[:1], ())]
    assert found == [2, 1, 1, 4006]
    assert len(composed) == 4


def test_an_answer_that_was_changed_changes_no_other() -> None:
    files = with_baseline("seed: 4007")
    first, untouched = compose(files), compose(files)
    first.resolved["model"]["estimator"]["steps"].clear()
    first.resolved["features"].clear()
    first.origin.clear()
    assert compose(files) == untouched


@pytest.mark.parametrize("body", ["a: [", "seed: ${nope}", "defaults:\n  - override /model: xgbost"])
def test_what_is_wrong_is_told_again_the_same(body: str, composed: list[tuple[str, ...]]) -> None:
    files = with_baseline(f"# 4008\n{body}")
    first = problem_of(files)
    before = list(composed)
    assert problem_of(files) == first
    assert composed == before


def test_threads_that_ask_at_once_get_what_they_asked_for() -> None:
    asked = [with_baseline(f"seed: {4100 + number % 3}") for number in range(12)]
    with ThreadPoolExecutor(4) as threads:
        found = [one.resolved["seed"] for one in threads.map(compose, asked)]
    assert found == [4100 + number % 3 for number in range(12)]


# --- new experiments say to Hydra what the overrides said --------------------------------------------

_VALUES = st.one_of(
    st.integers(-(10**6), 10**6).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(
        ["true", "false", "null", "yes", "off", "010", "1_0", "0x1f", "12:30", "2013-09-01", "a b", "~", "''"]
    ),
    st.text(alphabet="abz '\"\\:#-{}[],&*!|>%@`?=\u00e9\u2028\t", max_size=10).map(
        lambda text: "'" + text.replace("\\", "").replace("'", "\\'") + "'"
    ),
    st.sampled_from(["[1,two,[3]]", "{a: 1, b: [x]}", "[]", "{}", "[{_target_: a.B, c: null}]"]),
    st.just("${seed}"),
)
_CHANGES = st.tuples(
    st.sampled_from(
        [
            "seed=",
            "tags=",
            "split.column=",
            "+model.estimator.new=",
            "++executor.threads=",
            "evaluation.primary=",
            "+extra.deep.er=",
            "model.estimator=",
            "data.sources.flights.format=",
        ]
    ),
    _VALUES,
).map("".join)
_CHOICES = st.sampled_from(["model=xgboost", "model=hist_gradient_boosting", "validation=gusts"])


@settings(max_examples=8, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(
    st.lists(_CHOICES, max_size=2),
    st.lists(_CHANGES, max_size=6),
    st.text(max_size=20).filter(lambda text: "${" not in text),
)
def test_the_files_of_a_new_experiment_compose_to_what_the_overrides_say(
    choices: list[str], changes: list[str], hypothesis: str
) -> None:
    overrides = (*choices, *changes)
    try:
        asked = compose(PROJECT, overrides).resolved
    except ConfigError:
        return
    try:
        changed = new_experiment(PROJECT, "new", parse_overrides(overrides), hypothesis)
    except ConfigError as error:
        assume("as a whole" not in str(error))
        raise
    assert set(changed) == {"conf/experiment/new.yaml", "conf/config.yaml"}
    files = {**PROJECT, **changed}
    assert check_conf_files(files) == ()
    try:
        got = compose(files).resolved
    except ConfigError as error:
        # Text may take a mapping's place and a list the text's; a file cannot put a list over a mapping at once.
        assume("ConfigTypeError" not in str(error))
        raise
    assert (got["name"], got["hypothesis"]) == ("new", hypothesis)
    for resolved in (asked, got):
        resolved.pop("name")
        resolved.pop("hypothesis")
    assert repr(sorted(got.items())) == repr(sorted(asked.items()))


def test_an_experiment_that_is_started_from_an_experiment_keeps_its_changes() -> None:
    first = {**PROJECT, **new_experiment(PROJECT, "one", parse_overrides(("model=xgboost", "seed=5")), "first")}
    second = {**first, **new_experiment(first, "two", parse_overrides(("model.estimator.max_depth=3",)), "second")}
    resolved = compose(second).resolved
    assert (resolved["name"], resolved["hypothesis"], resolved["seed"]) == ("two", "second", 5)
    assert resolved["model"]["estimator"]["max_depth"] == 3


def test_another_choice_drops_what_was_set_for_the_old_one() -> None:
    first = {**PROJECT, **new_experiment(PROJECT, "one", parse_overrides(("+model.estimator.tol=1",)), "")}
    second = {**first, **new_experiment(first, "two", parse_overrides(("model=xgboost",)), "")}
    assert "tol" not in compose(second).resolved["model"]["estimator"]


def test_what_changed_nothing_is_named() -> None:
    overrides = ("model=ridge", "seed=20130101", "split.column=other", "validation=gusts")
    before, after = compose(PROJECT).resolved, compose(PROJECT, overrides).resolved
    assert unchanged(before, after, parse_overrides(overrides)) == ("model=ridge", "seed=20130101")


# --- one branch ends no verb ---------------------------------------------------------------------------

_ODD = st.one_of(
    st.sampled_from(
        ["0b_", "0x_", "0b", "-0x", "=", "<<", "._", "+._", "1_", "0o9", "-", "?", "!", "1e999", "-.inf", ".nan", "~"]
    ),
    st.sampled_from(["9" * 5000, "0x" + "f" * 5000, "1:2:3", "${a}", "${a.}", "'${a.b}'", "'???'", "''", "_self_"]),
    st.sampled_from(["null", "true", "5", "[]", "{}", "[null]", "{a: b}", "{null: b}", "{data: 5}", "{data: null}"]),
    st.sampled_from(["override /model: xgboost", "override /data: 5", "override model: ~", "/model@: x", "_here_: x"]),
    st.sampled_from(["{_self_: data}", "{experiment: baseline}", "{override /experiment: baseline}", "optional data"]),
    st.sampled_from(["{optional /model: ''}", "{override override /model: ridge}", "{'/': x}", "{/model/: ridge}"]),
    st.text(alphabet="01xb_o.:eE+-=~<'\"!&*#@ab{}[], /$\n\\%", max_size=8),
    st.text(max_size=5),
)
_HEADERS = st.sampled_from(
    ["", "# @package _global_\n", "# @a\n", "# @a b c\n", "#@\n", "# why\n# @package _global_\n"]
)


@settings(max_examples=60, deadline=None)
@given(_HEADERS, st.lists(_ODD, max_size=3), _ODD, _ODD)
def test_any_scalar_and_any_defaults_list_composes_or_is_a_config_error(
    header: str, entries: list[str], key: str, value: str
) -> None:
    defaults = "".join(f"  - {entry}\n" for entry in entries)
    for body in (
        f"{header}defaults:\n{defaults}a: {value}\n",
        f"{header}a: {value}\n{key}: 1\n",
    ):
        for path in (BASELINE, "conf/model/ridge.yaml"):
            try:
                resolved = compose({**SMALL, path: body.encode()}).resolved
            except ConfigError:
                continue
            assert "hydra" not in resolved


@settings(max_examples=60, deadline=None)
@given(st.lists(_ODD, max_size=3))
def test_any_entry_of_the_root_s_defaults_list_composes_or_is_a_config_error(entries: list[str]) -> None:
    body = b"".join(f"  - {entry}\n".encode() for entry in entries)
    with contextlib.suppress(ConfigError):
        compose(
            {**SMALL, "conf/config.yaml": SMALL["conf/config.yaml"].replace(b"  - _self_\n", body + b"  - _self_\n")}
        )


MERGED = {f"conf/experiment/e{number}.yaml": b"# @package _global_\nname: e\n" for number in range(50)}
"""What experiments leave that were merged."""


def test_what_nothing_names_is_not_given_to_hydra(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[set[str]] = []
    real = hydra._compose

    def told(files: list[Any], overrides: tuple[str, ...]) -> Any:
        given.append({one.path for one in files})
        return real(files, overrides)

    monkeypatch.setattr(hydra, "_compose", told)
    files = {**SMALL, **MERGED, "conf/model/ridge.yaml": b"name: ridge\nseed: 4010\n"}
    assert compose(files, ("model=ridge",)).resolved["name"] == "baseline"
    assert given == [set(SMALL)]
    assert compose(files, ("experiment=e7",)).resolved["name"] == "e"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                "model: xgboost",
                "optional model: none",
                "optional model: xgboost.yaml",
                "optional /model: x/deep",
                "/other: one",
            ]
        )
        | _ODD,
        max_size=3,
    ),
    st.sampled_from(
        [(), ("model=xgboost",), ("experiment=e7",), ("+other=one",), ("other=one",), ("~model",), ("model=none",)]
    ),
)
def test_files_that_nothing_names_change_no_answer(entries: list[str], overrides: tuple[str, ...]) -> None:
    """Neither what is composed, nor what is told of what cannot be."""
    lines = b"".join(f"  - {entry}\n".encode("utf-8", "surrogatepass") for entry in entries)
    root = SMALL["conf/config.yaml"].replace(b"  - _self_\n", lines + b"  - _self_\n")
    more = {"conf/other/one.yaml": b"b: 2\n", "conf/model/x/deep.yaml": b"c: 3\n"}
    files = {**SMALL, **dict(list(MERGED.items())[:9]), **more, "conf/config.yaml": root}
    with pytest.MonkeyPatch.context() as patch:
        found = answer_of(files, overrides)
        patch.setattr(hydra, "_named", lambda files, _: dict(files))
        assert answer_of(files, overrides) == found


def answer_of(files: dict[str, bytes], overrides: tuple[str, ...]) -> object:
    """What is composed, or what is wrong; not remembered."""
    try:
        return hydra._composed(files, overrides)
    except ConfigError as error:
        return error.problems


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(["seed", "+a", "model", "~model", "a.b", "model.estimator", ""]), _ODD)
def test_any_override_is_one_or_a_config_error(key: str, value: str) -> None:
    with contextlib.suppress(ConfigError):
        compose(SMALL, (f"{key}={value}",))


@pytest.mark.parametrize("error", [ValueError, KeyError, AttributeError, yaml.YAMLError, AssertionError])
def test_whatever_else_hydra_raises_is_one_problem_without_its_text(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error("secret-canary\nsecond line")

    monkeypatch.setattr("hydra.compose", fail)
    never_asked = with_baseline(f"seed: 4001\ntags: [{error.__name__}]")
    assert problem_of(never_asked) == ("conf/", "", f"Hydra cannot compose this ({error.__name__}) ()")
    monkeypatch.undo()
    assert compose(never_asked).resolved["seed"] == 4001, "what may be of the moment is not remembered"


def test_a_full_disk_is_not_the_branch_s_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hydra.compose", fail)
    with pytest.raises(OSError, match="No space"):
        compose(with_baseline("seed: 4002"))


@pytest.mark.parametrize(
    "override",
    [
        "seed={token}",
        "{token}=1",
        "model={token}",
        "~{token}",
        "split.column=${{{token}}}",
        "+a=${{{token}:x}}",
        "seed=https://me:{token}@h",
        "seed=[https://me:{token}@h",
        "+{token}=???",
        "{token}\n=1",
        "+seed={token}",
    ],
)
def test_no_problem_of_an_override_repeats_a_credential(override: str) -> None:
    token = "ghp_" + "a1" * 18
    with pytest.raises(ConfigError) as caught:
        parse(compose(PROJECT, (override.format(token=token),)).resolved)
    assert token[:12] not in str(caught.value)


# --- our YAML and OmegaConf's are the same ------------------------------------------------------------

_SCALARS = st.one_of(
    st.from_regex(r"[-+]?[0-9]{0,3}(\.[0-9]{0,2})?([eE][-+]?[0-9]{1,2})?", fullmatch=True),
    st.sampled_from(
        ["true", "True", "null", "~", "", ".inf", "-.inf", "2013-09-01", "2013-09-01T00:00:00Z", "0x1F", "0b1"]
    ),
    st.sampled_from(["1_000", "1e5", "1.0e5", "1.e+5", ".5", "+.5e-3", "0o17", "1__0", "_1", "0.", "."]),
)


@settings(max_examples=100, deadline=None)
@given(_SCALARS)
def test_a_scalar_means_to_us_what_it_means_to_omegaconf(scalar: str) -> None:
    text = f"a: {scalar}\n"
    try:
        theirs = OmegaConf.to_container(OmegaConf.create(text))
    except yaml.YAMLError:
        return
    assert repr(load_yaml(text)) == repr(theirs)


def test_home_is_not_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert compose(PROJECT).resolved["name"] == "baseline"
    assert list(tmp_path.iterdir()) == []
