"""Runs in data/ are found again by the names that their settings give: where this fails, they would be run again."""

import json
import pathlib

import pytest

from engine import variants
from experiments.storage import first_version

DATA = pathlib.Path(__file__).parents[2] / "data"
RUNS = sorted(DATA.rglob("*.json"))


def test_runs_of_every_kind_are_there():
    folders = {"data", "sequential", "finetuning", "pruning", "repair", "retraining"}
    assert {path.parent.name for path in RUNS} >= folders


@pytest.mark.parametrize("path", RUNS, ids=lambda path: str(path.relative_to(DATA).with_suffix("")))
def test_the_name_is_that_of_the_files(path):
    about = json.loads(path.read_text(encoding="utf-8"))
    kind = about.get("kind", first_version.kind(about["settings"]))
    compared = {"calibration": ("calibrations", ["training"]), "repair": ("repairs", ["none", "bias"])}
    given = dict(varied for column, varied in compared.items() if column in about.get("key", []))
    if kind == "retraining":  # whose defaults need not go with the rest, and are no part of the name
        given |= {"learning_rates": [0.01], "protocols": ["one_shot"]}
    settings = variants.load("experiments", kind, "STUDY").SETTINGS(**about["settings"], **given)
    name = "name" if about.get("schema", 1) > 1 else "first_name"
    assert getattr(settings, name) == getattr(type(settings)(**settings.as_dict()), name) == path.stem
    assert path.with_suffix(".csv").exists() or path.with_suffix(".csv.gz").exists()
