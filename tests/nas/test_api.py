"""`nas.search` in process, and what can be done with the front it returns."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

import nas
from nas.core import InfeasibleError, InvalidInputError, NotFoundError
from nas.workspace import Workspace
from workers.datasets import load_dataset

SPACE = {"name": "mobilenet", "options": {"n_stages": 2, "depths": [1]}}
TRAINING = {"epochs": 3, "deployed_epochs": 1, "latency_runs": 30}


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> nas.Front:
    return nas.search(
        "digits",
        space=SPACE,
        objectives=["accuracy", "weight_bytes"],
        trials=6,
        finalists=3,
        training=TRAINING,
        home=tmp_path_factory.mktemp("api"),
        progress=False,
    )


def test_the_front_is_deployed_ordered_and_tabular(front: nas.Front) -> None:
    assert 1 <= len(front) <= 3
    accuracies = [model.metrics["accuracy"] for model in front]
    assert accuracies == sorted(accuracies, reverse=True)
    frame = front.to_frame()
    assert len(frame) == len(front)
    assert {"trial", "key", "accuracy", "latency_ms", "stage1.width"} <= set(frame.columns)
    assert front[0].metrics["accuracy"] > 0.5
    assert front.plot().data


def test_processes_find_the_same_scores_as_this_one(tmp_path: Path) -> None:
    found = [
        nas.search(
            "digits",
            space={"name": "mobilenet", "options": {"n_stages": 1, "depths": [1]}},
            strategy="random",
            objectives=["accuracy", "weight_bytes"],
            trials=3,
            finalists=1,
            training={**TRAINING, "epochs": 1, "deployed_epochs": 0},
            home=tmp_path / str(n_workers),
            n_workers=n_workers,
            progress=False,
        )
        for n_workers in (1, 2)
    ]
    alone, together = ([(t.number, t.metrics["accuracy"]) for t in f.trials] for f in found)
    assert alone == together and len(alone) == 4


def test_an_exported_file_alone_reproduces_the_reported_accuracy(
    front: nas.Front, tmp_path: Path
) -> None:
    data = load_dataset("digits")
    np.savez(tmp_path / "split.npz", x=data.x_test, y=data.y_test)
    for i, model in enumerate(front):
        folder = model.export(tmp_path / str(i))
        program = (
            "import sys, numpy, onnxruntime\n"
            "run = onnxruntime.InferenceSession(sys.argv[1] + '/model.onnx').run\n"
            "data = numpy.load(sys.argv[2])\n"
            "right = run(None, {'images': data['x']})[0].argmax(1) == data['y']\n"
            "print(repr(float(right.mean())))\n"
            "assert not {'torch', 'nas', 'searchspaces'} & set(sys.modules)\n"
        )
        command = [sys.executable, "-I", "-c", program, str(folder), str(tmp_path / "split.npz")]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert float(said) == model.metrics["test_accuracy"]
        card = json.loads((folder / "card.json").read_text())
        assert card["metrics"]["test_accuracy"] == model.metrics["test_accuracy"]
        assert card["provenance"]["test_accuracy"]["kind"] == "measured"


def test_the_torch_network_is_plain_and_agrees_with_the_file(
    front: nas.Front, tmp_path: Path
) -> None:
    data = load_dataset("digits")
    for i, model in enumerate(front):
        network = model.to_torch()
        assert isinstance(network, torch.nn.Module)
        source = model.artifact("torch_source").read_text()
        imports = [line for line in source.splitlines() if line.startswith(("import ", "from "))]
        assert all(line.split()[1].split(".")[0] == "torch" for line in imports)
        with torch.no_grad():
            logits = network(torch.from_numpy(data.x_test)).numpy()
        as_written = onnxruntime.SessionOptions()
        as_written.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        as_written.log_severity_level = 3
        path = str(model.export(tmp_path / str(i)) / "model.onnx")
        told = onnxruntime.InferenceSession(path, as_written).run(None, {"images": data.x_test})[0]
        assert (told.argmax(1) == logits.argmax(1)).mean() > 0.995
        # fused integer kernels round biases to the product of the scales, which few bits feel
        gap = (logits.argmax(1) == data.y_test).mean() - model.metrics["test_accuracy"]
        assert abs(gap) < 0.03


def test_best_picks_by_constraint_and_names_the_nearest(front: nas.Front) -> None:
    largest = max(m.metrics["weight_bytes"] for m in front)
    smallest = min(m.metrics["weight_bytes"] for m in front)
    assert front.best().candidate == front[0].candidate
    assert front.best(f"weight_bytes<={largest}").candidate == front[0].candidate
    assert front.best(f"weight_bytes<={smallest}").metrics["weight_bytes"] == smallest
    with pytest.raises(InfeasibleError, match=f"weight_bytes={smallest:.4g}"):
        front.best(f"weight_bytes<={smallest - 1}")
    with pytest.raises(InvalidInputError, match="one of accuracy"):
        front.best("speed<=1")


def test_export_refuses_a_file_and_a_model_whose_files_are_gone(
    front: nas.Front, tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(InvalidInputError, match="a folder, or a new path"):
        front[0].export(tmp_path / "taken")
    moved = nas.Model(front[0].job, front[0].trial, tmp_path / "elsewhere")
    with pytest.raises(NotFoundError, match="file of trial"):
        moved.export(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_export_of_the_front_names_folders_by_rank(front: nas.Front, tmp_path: Path) -> None:
    folders = front.export(tmp_path)
    assert [f.name[:3] for f in folders] == [f"{i:02d}-" for i in range(1, len(front) + 1)]


def test_the_same_seed_gives_the_same_front(front: nas.Front, tmp_path: Path) -> None:
    again = nas.search(
        "digits", space=SPACE, objectives=["accuracy", "weight_bytes"], trials=6, finalists=3,
        training=TRAINING, home=tmp_path, progress=False,
    )  # fmt: skip
    assert [t.candidate for t in again.trials] == [t.candidate for t in front.trials]
    exact = ("accuracy", "test_accuracy", "weight_bytes")
    for a, b in zip(again, front, strict=True):
        assert [a.metrics[m] for m in exact] == [b.metrics[m] for m in exact]


def test_a_wrong_argument_leaves_nothing_behind(tmp_path: Path) -> None:
    home = tmp_path / "runs"
    with pytest.raises(InvalidInputError, match="constraint weight_bytes"):
        nas.search(constraints=["weight_bytes<=1"], home=home, progress=False)
    assert not home.exists()


def test_the_workspace_finds_the_job_again(front: nas.Front) -> None:
    workspace = Workspace.open(front[0].folder.parent)
    (job,) = workspace.store.jobs()
    assert [m.candidate for m in workspace.front(job)] == [m.candidate for m in front]
