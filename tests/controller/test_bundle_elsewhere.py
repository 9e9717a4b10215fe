"""Bundles that were executed with other libraries: the same tables in other bytes are the same, and only then."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.controller.controller_world import cd4ml
from tests.controller.parts_world import Parts, forge, only, retell, run_of

TABLE = "artifacts/featurize/test.parquet"


def put(bundle: Path, table: pa.Table) -> None:
    """A table of our own stages in a bundle, as another version of Arrow writes it: in other bytes."""
    file = bundle / "files" / TABLE
    before = file.read_bytes()
    pq.write_table(table, file, row_group_size=100, compression="zstd", store_schema=False, version="2.6")
    after = file.read_bytes()
    assert after != before
    forge(bundle, TABLE, after)


def read(bundle: Path) -> pa.Table:
    return pq.ParquetFile(bundle / "files" / TABLE).read()


def elsewhere(bundle: Path) -> None:
    retell(bundle, lambda said: said["environment"].update(platform="Darwin-arm64"))


def test_a_table_in_other_bytes_is_taken_from_another_machine(parts: Parts) -> None:
    bundle = only(parts, "exp/x")
    put(bundle, read(bundle))
    elsewhere(bundle)
    cd4ml(parts.lander, "land", str(parts.bundles))
    run = run_of(parts.project, "exp/x")
    assert (run["outcome"], run["environment"]["platform"]) == ("succeeded", "Darwin-arm64"), run["reason"]


def test_a_table_in_other_bytes_is_refused_from_a_machine_like_this_one(parts: Parts) -> None:
    bundle = only(parts, "exp/x")
    put(bundle, read(bundle))
    cd4ml(parts.lander, "land", str(parts.bundles))
    run = run_of(parts.project, "exp/x")
    assert run["outcome"] == "failed"
    assert f"{TABLE}: is not what the pins and the configuration give" in run["reason"]["message"]


def test_a_table_that_says_something_else_is_refused_wherever_it_comes_from(parts: Parts) -> None:
    bundle = only(parts, "exp/x")
    table = read(bundle)
    put(bundle, pa.concat_tables([table.slice(1, 1), table.slice(1)]))  # the first row is another
    elsewhere(bundle)
    cd4ml(parts.lander, "land", str(parts.bundles))
    run = run_of(parts.project, "exp/x")
    assert f"{TABLE}: is not what the pins and the configuration give" in run["reason"]["message"]
