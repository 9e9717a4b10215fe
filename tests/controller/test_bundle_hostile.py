"""A bundle comes from where code of an experiment ran: whatever it holds, nothing but an honest answer lands."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cd4ml.controller.ci.bundle import BUNDLE, Bundle, parse_bundle
from cd4ml.controller.ci.bundles import Limits, read_bundles, unpack
from cd4ml.errors import IntegrityError, UsageError
from cd4ml.gateways.files import digest_file
from cd4ml.spec.pipeline import MODEL, MODEL_CARD, PREDICTIONS, Pipeline, pipeline_of
from tests.controller.controller_world import cd4ml, experiments, refs, remote
from tests.controller.parts_world import Parts, forge, only, records, retell, run_of, told

SOURCES = ("flights", "weather", "planes")
PIPELINE = Pipeline(SOURCES, timed=True)


@pytest.fixture
def bundle(executed_parts: Parts, tmp_path: Path) -> Path:
    """A copy of the bundle of a run that succeeded, in a folder of its own."""
    source = executed_parts.bundle("exp/x")
    target = tmp_path / "bundles" / source.name
    for path in source.rglob("*"):
        if path.is_file():
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    return target


def read(bundle: Path) -> Bundle:
    brought = read_bundles(bundle.parent)
    assert brought.refused == ()
    (one,) = brought.bundles
    return one


def refused(bundle: Path, limits: Limits = Limits(1 << 30, 1 << 30)) -> str:  # noqa: B008  # a frozen value
    """Why a bundle is not taken over; nothing of it is left."""
    target = bundle.parent.parent / "target"
    with pytest.raises(IntegrityError) as caught:
        unpack(read(bundle), PIPELINE, target, limits)
    assert not target.exists()
    return str(caught.value)


def test_an_honest_bundle_is_taken_over_byte_by_byte(bundle: Path, tmp_path: Path) -> None:
    execution = unpack(read(bundle), PIPELINE, tmp_path / "target")
    for path, known in told(bundle)["files"].items():
        assert vars(digest_file(execution.clone / path)) == known
    assert execution.seconds == told(bundle)["seconds"]
    assert (tmp_path / "target/log.txt").is_file()


# ── files ──


def replaced_by_link(file: Path) -> None:
    file.rename(file.with_name("elsewhere"))
    file.symlink_to(Path(file.parent / "elsewhere").absolute())


def replaced_by_hard_link(file: Path) -> None:
    twin = file.parents[6] / "twin"
    os.link(file, twin)


def replaced_by_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def replaced_by_socket(file: Path) -> None:
    file.unlink()
    here = Path.cwd()
    os.chdir(file.parent)  # the name of a socket may not be long
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(file.name)
    finally:
        os.chdir(here)


def replaced_by_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def removed(file: Path) -> None:
    file.unlink()


def grown(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"more")


def sparse(file: Path) -> None:
    os.truncate(file, 1 << 40)


def changed(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize(
    ("attack", "words"),
    [
        (replaced_by_hard_link, "is a hard link"),
        (replaced_by_pipe, "is a pipe, and no file"),
        (replaced_by_socket, "is a socket, and no file"),
        (replaced_by_folder, "is a folder, and no file"),
        (removed, "is missing"),
        (grown, "were promised"),
        (sparse, "has 1099511627776 bytes"),
        (changed, "does not hold the bytes that were promised"),
    ],
)
def test_a_file_that_is_not_the_plain_one_that_was_promised_is_refused(
    bundle: Path, attack: Callable[[Path], None], words: str
) -> None:
    attack(bundle / "files" / MODEL)
    assert words in refused(bundle)


def test_a_link_is_refused_and_not_followed_in_the_place_of_a_file_or_a_folder(bundle: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("token", "utf-8")
    file = bundle / "files" / MODEL
    file.unlink()
    file.symlink_to(secret)
    retell(bundle, lambda said: said["files"].update({MODEL: vars(digest_file(secret))}))
    assert f"files/{MODEL}: is a link, and no file" in refused(bundle)
    folder = bundle / "files/artifacts/train"
    elsewhere = tmp_path / "elsewhere"
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)
    assert "files/artifacts/train: is none of the files" in refused(bundle)


@pytest.mark.parametrize(
    "name",
    [
        b"files/artifacts/extra.bin",
        b"files/.git/config",
        b"files/artifacts/train/MODEL.skops",
        b"files/artifacts/train/model.skops ",
        b"files/artifacts/train/\xff\xfe",
        b"files/artifacts/train/new\nline",
        b"dvc.yaml",
    ],
)
def test_a_file_too_many_is_refused_whatever_its_name(bundle: Path, name: bytes) -> None:
    path = bundle / os.fsdecode(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    words = refused(bundle)
    assert "is none of the files that were to be here" in words
    assert words.isprintable()


@pytest.mark.parametrize(
    "path",
    [
        "../escaped",
        "artifacts/../../escaped",
        "/etc/escaped",
        "artifacts//train/model.skops",
        "artifacts/train/./model.skops",
        "ARTIFACTS/train/model.skops",
        "artifacts/evaluate/metrics.json",
        "dvc.lock",
        "\ud800",
        "a\0b",
        "",
    ],
)
def test_a_path_that_the_pipeline_does_not_write_is_refused_before_anything_is_looked_at(
    bundle: Path, path: str
) -> None:
    retell(bundle, lambda said: said["files"].update({path: said["files"][MODEL]}))
    assert "is none of the outputs of its commit's pipeline" in refused(bundle)


def test_an_output_that_is_left_out_is_missed(bundle: Path) -> None:
    retell(bundle, lambda said: said["files"].pop(PREDICTIONS))
    assert f"files: {PREDICTIONS}: is missing" in refused(bundle)


def test_sizes_are_bounded_each_and_together_before_a_byte_is_read(bundle: Path) -> None:
    sizes = [known["bytes"] for known in told(bundle)["files"].values()]
    assert "more than" in refused(bundle, Limits(max(sizes) - 1, 1 << 40))
    assert "more than" in refused(bundle, Limits(1 << 40, sum(sizes) - 1))
    retell(bundle, lambda said: said["files"][MODEL].update(bytes=1 << 62))
    os.truncate(bundle / "files" / MODEL, 1 << 40)
    assert "more than" in refused(bundle)


def test_a_bundle_that_is_a_link_or_not_named_by_its_fingerprint_is_refused(bundle: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    bundle.rename(elsewhere)
    bundle.symlink_to(elsewhere)
    other = bundle.with_name("0" * 64)
    other.mkdir()
    (other / BUNDLE).write_bytes((elsewhere / BUNDLE).read_bytes())
    (bundle.parent / "notes.txt").write_text("x", "utf-8")
    brought = read_bundles(bundle.parent)
    assert brought.bundles == ()
    assert [line.partition(": ")[2] for line in sorted(brought.refused)] == [
        "bundle.json: fingerprint: is not the one that its folder is named by",
        "is no bundle",
        "is no bundle",
    ]


def test_too_many_bundles_are_no_folder_of_bundles(tmp_path: Path) -> None:
    for number in range(1001):
        (tmp_path / f"{number:064x}").mkdir()
    with pytest.raises(UsageError, match="more than 1000"):
        read_bundles(tmp_path)


# ── what it says ──


def said_wrongly(bundle: Path, data: bytes) -> str:
    (bundle / BUNDLE).write_bytes(data)
    (line,) = read_bundles(bundle.parent).refused
    assert "\n" not in line
    return line


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe{}",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"1" * 100_000,
        b"null",
        b"[]",
        b'{"schema": 1, "schema": 1}',
        b'{"schema": NaN}',
        b"{}" + b" " * (1 << 20),
        b'{"schema": 99}',
    ],
    ids=range(11),
)
def test_json_that_is_a_bomb_or_none_is_refused_in_one_line(bundle: Path, data: bytes) -> None:
    assert bundle.name in said_wrongly(bundle, data)


LIES: dict[str, Any] = {
    "schema": 2,
    "kind": "release",
    "fingerprint": "../../etc",
    "side": "base",
    "commit": "main",
    "tree": "--upload-pack=touch /tmp/x",
    "head": "HEAD",
    "base": None,
    "started": "yesterday",
    "finished": "2001-01-01T00:00:00Z",
    "seconds": {"train": 1e300},
    "peak_bytes": {"train": 1.5},
    "prediction_seconds_per_row": -1.0,
    "environment": {"python": "$(id)", "platform": "x", "packages": {}},
    "failure": {"stage": "../x", "message": "m", "kind": "deterministic"},
    "files": {"x": {"sha256": "0" * 64, "md5": "0" * 32, "bytes": -1}},
    "log": {"sha256": "0" * 64, "md5": "0" * 32, "bytes": True},
    "metrics": {"test": {"rmse": 0.0}},
    "extra": 1,
}


@pytest.mark.parametrize("key", sorted(LIES))
def test_each_key_is_held_against_its_form_and_named(bundle: Path, key: str) -> None:
    said = told(bundle) | {key: LIES[key]}
    assert f"bundle.json: {key}" in said_wrongly(bundle, json.dumps(said).encode())


def test_a_run_that_is_yet_to_come_is_refused(bundle: Path) -> None:
    said = told(bundle) | {"finished": "2999-01-01T00:00:00Z"}
    assert "finished: is yet to come" in said_wrongly(bundle, json.dumps(said).encode())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)


HONEST: dict[str, Any] = {
    "schema": 1,
    "kind": "run",
    "fingerprint": "0" * 64,
    "branch": "exp/x",
    "side": "head",
    "commit": "0" * 40,
    "tree": "0" * 40,
    "head": "0" * 40,
    "base": "0" * 40,
    "started": "2026-01-01T00:00:00Z",
    "finished": "2026-01-01T00:00:00Z",
    "seconds": {},
    "peak_bytes": {},
    "prediction_seconds_per_row": None,
    "environment": {"python": "3", "platform": "x", "packages": {}},
    "failure": None,
    "files": {},
    "log": None,
    "metrics": {},
}


@given(value=JSON, key=st.sampled_from(["", *sorted(set(LIES) - {"extra"}), "branch"]))
def test_no_json_whatever_makes_parsing_raise_anything_else(value: Any, key: str) -> None:
    told = value if key == "" else HONEST | {key: value}
    try:
        bundle = parse_bundle(json.dumps(told).encode(), Path("x"))
    except IntegrityError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017  # either way it must hold
    else:
        assert parse_bundle(json.dumps(bundle.as_json()).encode(), Path("x")).as_json() == bundle.as_json()


# ── what lands ──


def test_a_damaged_bundle_stops_its_own_branch_and_no_other(parts: Parts) -> None:
    changed(parts.bundle("exp/x") / "files" / MODEL)
    done = cd4ml(parts.lander, "land", str(parts.bundles), code=1)
    fingerprint = told(parts.bundle("exp/x"))["fingerprint"]
    assert f"cd4ml: exp/x: bundle {fingerprint[:12]}: files/{MODEL}: does not hold the bytes" in done.err
    assert run_of(parts.project, "exp/bad")["outcome"] == "failed"
    assert not [one for one in records(parts.project).values() if one["branch"] == "exp/x"]


def test_a_bundle_of_another_commit_is_dropped(parts: Parts) -> None:
    bundle = only(parts, "exp/x")
    retell(bundle, lambda said: said.update(commit="1" * 40))
    done = cd4ml(parts.lander, "land", str(parts.bundles))
    assert "dropped, since nobody asks for it at 111111111111" in done.err
    assert not [one for one in records(parts.project).values() if one["branch"] == "exp/x"]


def test_a_bundle_with_the_right_commit_and_another_tree_is_refused(parts: Parts) -> None:
    retell(only(parts, "exp/x"), lambda said: said.update(tree="1" * 40))
    assert "names another tree" in cd4ml(parts.lander, "land", str(parts.bundles), code=1).err


def test_a_strangers_bundle_is_never_recorded(parts: Parts) -> None:
    retell(only(parts, "exp/x"), lambda said: said.update(kind="unverified"))
    done = cd4ml(parts.lander, "land", str(parts.bundles), code=1)
    assert "is of a commit that nobody here vouches for" in done.err
    assert not [one for one in records(parts.project).values() if one["branch"] == "exp/x"]


def test_edited_predictions_are_refused_by_the_judge_and_land_as_a_failure(parts: Parts) -> None:
    bundle = only(parts, "exp/x")
    file = bundle / "files" / PREDICTIONS
    frame = pd.read_parquet(file)
    frame.iloc[: len(frame) // 2].to_parquet(file)
    forge(bundle, PREDICTIONS, file.read_bytes())
    cd4ml(parts.lander, "land", str(parts.bundles))
    run = run_of(parts.project, "exp/x")
    assert run["outcome"] == "failed"
    assert run["metrics"] == {}
    assert experiments(parts.lander)["exp/x"]["health"] == "Degraded"


def test_a_model_that_is_not_the_one_of_its_card_does_not_land(parts: Parts) -> None:
    bundle = only(parts, "exp/x")
    forge(bundle, MODEL, b"another model")
    cd4ml(parts.lander, "land", str(parts.bundles))
    run = run_of(parts.project, "exp/x")
    assert run["outcome"] == "failed"
    assert f"{MODEL_CARD}: is no card of the model" in run["reason"]["message"]
    name = hashlib.md5(b"another model", usedforsecurity=False).hexdigest()
    assert not list((parts.folder / "storage").rglob(name[2:]))


def test_a_table_that_is_not_what_the_pins_give_does_not_land(parts: Parts) -> None:
    bundle = only(parts, "exp/x")
    forge(bundle, "artifacts/split/proof.json", b"{}")
    cd4ml(parts.lander, "land", str(parts.bundles))
    assert "is not what the pins and the configuration give" in run_of(parts.project, "exp/x")["reason"]["message"]


def test_a_failure_says_nothing_that_a_log_or_a_page_would_act_on(parts: Parts) -> None:
    message = "\x1b[31m\n::set-output name=x::y\r\n::add-mask::z\u202e" + "x" * 10_000

    def shout(said: dict[str, Any]) -> None:
        said["failure"]["message"] = message

    retell(only(parts, "exp/bad"), shout)
    done = cd4ml(parts.lander, "land", str(parts.bundles))
    recorded = run_of(parts.project, "exp/bad")["reason"]["message"]
    assert recorded.startswith("[31m ::set-output")
    assert len(recorded) == 500
    assert not set("\x1b\n\r\u202e") & set(recorded)
    assert not [line for line in (done.out + done.err).splitlines() if line.startswith("::")]


def test_a_failure_that_brings_outputs_along_is_refused(parts: Parts) -> None:
    said = told(parts.bundle("exp/x"))["files"][MODEL]
    retell(only(parts, "exp/bad"), lambda bad: bad["files"].update({MODEL: said}))
    assert "is none of the outputs" in cd4ml(parts.lander, "land", str(parts.bundles), code=1).err


def test_after_every_refusal_the_remote_is_as_it_was(parts: Parts) -> None:
    before = refs(remote(parts.project))
    for path in parts.bundles.glob("*/bundle.json"):
        path.write_bytes(b"{}")
    done = cd4ml(parts.lander, "land", str(parts.bundles), code=1)
    assert done.err.count("bundle.json: schema: is missing") == 2
    assert refs(remote(parts.project)) == before


def test_the_pipeline_of_these_tests_is_the_one_that_was_executed(executed_parts: Parts) -> None:
    from cd4ml.controller.desired.specs import spec_of
    from cd4ml.controller.project import open_project

    project = open_project(executed_parts.lander.folder)
    spec, _ = spec_of(project, told(executed_parts.bundle("exp/x"))["tree"])
    assert pipeline_of(spec) == PIPELINE
