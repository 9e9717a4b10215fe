"""What DVC must see change though no configuration does."""

from __future__ import annotations

import pytest

from cd4ml.spec.checks import database
from cd4ml.spec.experiment import OwnStageSpec
from cd4ml.spec.pipeline import Pipeline, derived_params, stages

ONE, TWO = (OwnStageSpec(name, {}, ("artifacts/featurize/train.parquet",), (), "features") for name in ("one", "two"))


def test_the_order_of_own_stages_and_the_environment_are_params_of_what_depends_on_them() -> None:
    there, swapped = (Pipeline(("a",), own=own) for own in ((ONE, TWO), (TWO, ONE)))
    assert derived_params(there, "", "") != derived_params(swapped, "", "")
    assert derived_params(there, "", "x") != derived_params(there, "", "y")
    params = {stage.name: stage.params for stage in stages(there)}
    assert all("pipeline.env" in listed for listed in params.values())
    assert "pipeline.own" in params["train"]
    assert "pipeline.own" in params["predict"]


@pytest.mark.parametrize("option", ["host=elsewhere", "service=mine", "passfile=x", "user=me", "local_infile=1"])
def test_a_database_url_takes_no_option_that_leads_elsewhere(option: str) -> None:
    assert database(f"postgresql+psycopg://here/shop?{option}")
    assert database("postgresql+psycopg://here/shop?sslmode=require") is None
