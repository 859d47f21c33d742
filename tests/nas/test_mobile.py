"""Exported models as programs for phones."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import nas
from nas.core import EvaluationError, InvalidInputError
from nas.mobile import add_program, dataset_of, require_executorch

SPACE = {"name": "mobilenet", "options": {"n_stages": 1, "depths": [1]}}
TRAINING = {"epochs": 2, "deployed_epochs": 1, "latency_runs": 30}


@pytest.fixture(scope="module")
def executorch() -> None:
    """Skips where it is not installed, saying so."""
    try:
        require_executorch()
    except EvaluationError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> nas.Model:
    front = nas.search(
        "digits",
        space=SPACE,
        objectives=["accuracy", "weight_bytes"],
        trials=2,
        finalists=1,
        training=TRAINING,
        home=tmp_path_factory.mktemp("mobile"),
        progress=False,
    )
    return front[0]


@pytest.mark.slow
@pytest.mark.usefixtures("executorch")
def test_a_program_lies_beside_the_file_and_the_card_tells_of_both(
    model: nas.Model, tmp_path: Path
) -> None:
    folder, dataset = model.export(tmp_path / "mine"), dataset_of(model.job, None)
    before = json.loads((folder / "card.json").read_text())
    told = add_program(folder, dataset, n_runs=30)
    card = json.loads((folder / "card.json").read_text())
    assert card == {**before, "executorch": json.loads(json.dumps(told))}
    metrics = card["executorch"]["metrics"]
    assert metrics["onnx_test_accuracy"] == card["metrics"]["test_accuracy"]
    assert abs(metrics["test_accuracy"] - metrics["onnx_test_accuracy"]) <= 0.02
    assert metrics["equal_top1"] >= 0.98
    assert metrics["file_bytes"] == (folder / "model.pte").stat().st_size
    assert metrics["latency_ms"] > 0.0 and metrics["load_ms"] > 0.0
    conditions = card["executorch"]["provenance"]["latency_ms"]["conditions"]
    assert conditions["runtime"].startswith("executorch") and sum(conditions["weighted"].values())


@pytest.mark.slow
@pytest.mark.usefixtures("executorch")
def test_what_cannot_be_measured_is_refused_before_it_is_converted(
    model: nas.Model, tmp_path: Path
) -> None:
    dataset = dataset_of(model.job, None)
    with pytest.raises(InvalidInputError, match=r"an exported model, with a model\.onnx"):
        add_program(tmp_path, dataset)
    folder = model.export(tmp_path / "mine")
    other = replace(dataset, x_train=np.zeros((4, 3, 8, 8), np.float32))
    with pytest.raises(InvalidInputError, match=r"dataset: \(3, 8, 8\).*images \(1, 8, 8\)"):
        add_program(folder, other)
    assert not (folder / "model.pte").exists()


def test_data_that_are_elsewhere_are_refused(model: nas.Model) -> None:
    spec = {**model.job.spec, "data": f"upload:{'0' * 64}"}
    with pytest.raises(InvalidInputError, match="uploaded to this server"):
        dataset_of(replace(model.job, spec=spec), None)
