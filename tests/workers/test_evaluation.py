"""Real training, real export, real int8 execution of small candidates."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import searchspaces
from nas.core import Candidate, Evaluation, EvaluationError, Fidelity
from workers.datasets import Dataset, load_dataset
from workers.deployment import (
    export_onnx,
    onnx_logits,
)
from workers.evaluation import CandidateEvaluator, EvaluationSettings, executed
from workers.profiling import OnnxRuntimeProfiler
from workers.profiling.runtime import execution
from workers.quantizing import calibrate, prune_and_finetune, quantize_and_finetune
from workers.scoring import scores
from workers.training import TrainingSettings, logits_of, recalibrate_batch_norm, train

SMALL = EvaluationSettings(epochs=3, finetune_epochs=1, qat_epochs=1, deployed_epochs=1, n_runs=30)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


@pytest.fixture(scope="module")
def family(digits: Dataset) -> searchspaces.ModelFamily:
    options = {"n_stages": 2, "depths": [1, 2], "keep": [0.5, 1.0], "kernels": [3]}
    return searchspaces.family("mobilenet", digits.input_shape, digits.n_classes, options)


def candidate(
    family: searchspaces.ModelFamily, weight: int, activation: int, keep: float = 1.0
) -> Candidate:
    values: dict[str, object] = {}
    for i in (1, 2):
        values |= {
            f"stage{i}.depth": 2,
            f"stage{i}.width": 16,
            f"stage{i}.kernel": 3,
            f"stage{i}.expansion": 3,
            f"stage{i}.se": i == 2,
            f"stage{i}.keep": keep,
            f"stage{i}.weight_bits": weight,
        }
        if weight < 32:
            values[f"stage{i}.activation_bits"] = activation
            values[f"stage{i}.granularity"] = "per_channel"
    return family.space.candidate(family.space.row(values))  # type: ignore[arg-type]


def quiet(line: str) -> None:
    """Reports to nobody."""


@pytest.fixture(scope="module")
def deployed(
    digits: Dataset, family: searchspaces.ModelFamily, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Candidate, Evaluation, Evaluation]:
    """An int8, half-pruned candidate after a search trial and as a finalist."""
    folder = tmp_path_factory.mktemp("artifacts")
    evaluator = CandidateEvaluator(family, digits, folder, SMALL)
    chosen = candidate(family, 8, 8, keep=0.5)
    trained = evaluator.evaluate(chosen, Fidelity.TRAINED, quiet)
    return folder, chosen, trained, evaluator.evaluate(chosen, Fidelity.DEPLOYED, quiet)


def test_less_effort_is_fewer_epochs() -> None:
    settings = EvaluationSettings(epochs=9, finetune_epochs=1, qat_epochs=0, deployed_epochs=6)
    third = settings.scaled(1 / 3)
    assert (third.epochs, third.finetune_epochs, third.qat_epochs, third.deployed_epochs) == (
        3,
        1,
        0,
        2,
    )
    assert settings.scaled(1.0) == settings


def test_training_learns_and_repeats_exactly(
    digits: Dataset, family: searchspaces.ModelFamily
) -> None:
    logits = []
    for _ in range(2):
        torch.manual_seed(0)
        network = family.build(candidate(family, 32, 32))
        train(network, digits.x_train, digits.y_train, TrainingSettings(3), seed=1)
        logits.append(logits_of(network, digits.x_val))
    assert torch.equal(*logits)
    assert (logits[0].argmax(1).numpy() == digits.y_val).mean() > 0.85


def test_recalibration_repairs_wrong_batch_norm_statistics(
    digits: Dataset, family: searchspaces.ModelFamily
) -> None:
    torch.manual_seed(0)
    network = family.build(candidate(family, 32, 32))
    train(network, digits.x_train, digits.y_train, TrainingSettings(3), seed=1)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d) and module.running_mean is not None:
            module.running_mean += 3.0
    wrong = (logits_of(network, digits.x_val).argmax(1).numpy() == digits.y_val).mean()
    recalibrate_batch_norm(network, digits.x_train)
    right = (logits_of(network, digits.x_val).argmax(1).numpy() == digits.y_val).mean()
    assert wrong < 0.6 < 0.85 < right


def test_search_trial_and_finalist_report_their_metrics(
    deployed: tuple[Path, Candidate, Evaluation, Evaluation], family: searchspaces.ModelFamily
) -> None:
    _, chosen, trained, final = deployed
    for found in (trained, final):
        assert found.metrics["accuracy"] > 0.8
        assert 0.5 < found.metrics["true_class_probability"] < 1
        assert found.provenance["true_class_probability"] == found.provenance["accuracy"]
    assert "test_accuracy" not in trained.metrics
    assert final.metrics["test_accuracy"] > 0.8
    assert (
        0
        < final.metrics["latency_p10_ms"]
        <= final.metrics["latency_p50_ms"]
        <= final.metrics["latency_p99_ms"]
    )
    low, high = final.provenance["latency_ms"]["interval"]
    assert 0 < low <= final.metrics["latency_ms"] <= high
    costs = family.costs(family.space.row(chosen)[None])
    assert all(final.metrics[name] == column[0] for name, column in costs.items())
    assert final.provenance["accuracy"]["kind"] == "measured"
    assert trained.provenance["accuracy"]["kind"] == "simulated"
    assert final.provenance["latency_ms"]["executed"] == {
        "stage1": "int8 kernels",
        "stage2": "int8 kernels",
    }
    assert final.provenance["latency_ms"]["conditions"]["operators"]["QLinearConv"] >= 12


def test_exported_file_reproduces_its_accuracy_with_onnxruntime_alone(
    deployed: tuple[Path, Candidate, Evaluation, Evaluation], digits: Dataset, tmp_path: Path
) -> None:
    folder, _, _, final = deployed
    np.savez(tmp_path / "t.npz", x=digits.x_test, y=digits.y_test)
    code = (
        "import sys, numpy as np, onnxruntime as ort\n"
        "d = np.load(sys.argv[2])\n"
        "logits = ort.InferenceSession(sys.argv[1]).run(None, {'images': d['x']})[0]\n"
        "print(repr(float((logits.argmax(1) == d['y']).mean())))\n"
        "assert not {'nas', 'torch', 'searchspaces', 'workers'} & set(sys.modules)\n"
    )
    model = str(folder / final.artifacts["onnx"])
    command = [sys.executable, "-c", code, model, str(tmp_path / "t.npz")]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(shown.stdout) == final.metrics["test_accuracy"]


def test_a_finalists_probabilities_are_those_of_its_file(
    deployed: tuple[Path, Candidate, Evaluation, Evaluation], digits: Dataset
) -> None:
    folder, _, _, final = deployed
    told = scores(onnx_logits(folder / final.artifacts["onnx"], digits.x_val), digits.y_val)
    assert told == {name: final.metrics[name] for name in told}


def test_int8_weights_are_stored_as_integers(
    deployed: tuple[Path, Candidate, Evaluation, Evaluation],
) -> None:
    folder, _, _, final = deployed
    graph = onnx.load(folder / final.artifacts["onnx"]).graph
    large = [t for t in graph.initializer if np.prod(t.dims) >= 64]
    assert large
    assert all(t.data_type == onnx.TensorProto.INT8 for t in large)


def test_no_half_written_files_are_left(
    deployed: tuple[Path, Candidate, Evaluation, Evaluation],
) -> None:
    folder, chosen, _, _ = deployed
    names = sorted(p.name for p in (folder / chosen.key).iterdir())
    assert names == ["model.onnx", "model.py", "model.safetensors", "trained.safetensors"]


def test_finalist_whose_weights_are_gone_is_trained_anew(
    digits: Dataset,
    family: searchspaces.ModelFamily,
    tmp_path: Path,
    deployed: tuple[Path, Candidate, Evaluation, Evaluation],
) -> None:
    _, chosen, _, final = deployed
    fresh = CandidateEvaluator(family, digits, tmp_path, SMALL)
    again = fresh.evaluate(chosen, Fidelity.DEPLOYED, quiet)
    for metric in ("accuracy", "test_accuracy", "file_bytes"):
        assert again.metrics[metric] == final.metrics[metric]


def test_a_finalist_is_kept_where_the_profiler_cannot_tell_its_modules_apart(
    digits: Dataset,
    family: searchspaces.ModelFamily,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(path: Path, n_runs: int) -> dict[str, float]:
        raise EvaluationError(f"the profiler wrote nothing about {path.name}")

    monkeypatch.setattr("workers.evaluation.module_ms", fail)
    settings = replace(SMALL, epochs=1, finetune_epochs=0, qat_epochs=0)
    said: list[str] = []
    evaluator = CandidateEvaluator(family, digits, tmp_path, settings)
    final = evaluator.evaluate(candidate(family, 32, 32), Fidelity.DEPLOYED, said.append)
    assert {"latency_ms", "test_accuracy", "file_bytes"} <= set(final.metrics)
    assert "modules_ms" not in final.provenance["latency_ms"]
    line = "no times by module: the profiler wrote nothing about model.onnx"
    assert final.provenance["warnings"] == [line]
    assert f"warning: {line}" in said


@pytest.mark.parametrize(("weight", "activation"), [(32, 32), (8, 8), (4, 4), (4, 8), (8, 32)])
def test_onnx_computes_what_the_fake_quantized_network_computes(
    digits: Dataset, family: searchspaces.ModelFamily, tmp_path: Path, weight: int, activation: int
) -> None:
    torch.manual_seed(0)
    chosen = candidate(family, weight, activation)
    network = family.build(chosen)
    train(network, digits.x_train, digits.y_train, TrainingSettings(3), seed=0)
    family.quantize(network, chosen)
    calibrate(network, digits.x_train)
    path = tmp_path / "m.onnx"
    export_onnx(network, digits.input_shape, path)
    ours, theirs = logits_of(network, digits.x_val).numpy(), onnx_logits(path, digits.x_val)
    assert (ours.argmax(1) == theirs.argmax(1)).mean() > (0.8 if activation == 4 else 0.985)
    if activation == 32:
        np.testing.assert_allclose(ours, theirs, atol=1e-3)
    executed_types = execution(path).operators
    assert ("QLinearConv" in executed_types) == (activation < 32)


def test_inherited_scores_without_a_supernet_are_refused(
    digits: Dataset, family: searchspaces.ModelFamily, tmp_path: Path
) -> None:
    evaluator = CandidateEvaluator(family, digits, tmp_path, SMALL)
    with pytest.raises(EvaluationError, match="supernet"):
        evaluator.evaluate(candidate(family, 8, 8), Fidelity.INHERITED, quiet)
    proxy = evaluator.evaluate(candidate(family, 8, 8), Fidelity.PROXY, quiet)
    assert set(proxy.metrics) == set(family.costs(family.space.sample(1, np.random.default_rng(0))))


def test_profiling_a_broken_file_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(EvaluationError, match=r"cannot load broken\.onnx"):
        OnnxRuntimeProfiler(n_runs=30).profile(path)


@pytest.mark.parametrize(
    ("bits", "said"),
    [
        ("w32a32", "float32"),
        ("w8a8", "int8 kernels"),
        ("w4a8", "not executed"),
        ("w4a32", "widened"),
    ],
)
def test_what_is_executed_is_said_plainly(bits: str, said: str) -> None:
    assert said in executed(bits)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_training_on_a_gpu_learns_in_mixed_precision(
    digits: Dataset, family: searchspaces.ModelFamily
) -> None:
    torch.manual_seed(0)
    network = family.build(candidate(family, 32, 32))
    train(network, digits.x_train, digits.y_train, TrainingSettings(4), seed=1, device="cuda")
    assert (logits_of(network, digits.x_val).argmax(1).numpy() == digits.y_val).mean() > 0.85


def test_networks_without_bits_are_trained_on_for_as_many_epochs(
    digits: Dataset, family: searchspaces.ModelFamily
) -> None:
    chosen = candidate(family, 32, 32, keep=0.5)
    losses = []
    for epochs in (0, 3):
        torch.manual_seed(0)
        network = family.build(chosen)
        train(network, digits.x_train, digits.y_train, TrainingSettings(2), seed=1)
        prune_and_finetune(network, family, chosen, digits, 1, seed=2)
        before = logits_of(network, digits.x_val)
        quantize_and_finetune(network, family, chosen, digits, epochs, seed=3)
        assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules())
        after = logits_of(network, digits.x_val)
        if epochs == 0:
            torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)
        y = torch.from_numpy(digits.y_val)
        losses.append(torch.nn.functional.cross_entropy(after, y).item())
    assert losses[1] < 0.7 * losses[0]
