"""Scoring candidates: closed-form costs, a short training, or the exported artifact itself."""

from __future__ import annotations

import copy
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, assert_never

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from nas.core import (
    Candidate,
    Evaluation,
    EvaluationError,
    Evaluator,
    Fidelity,
    Profile,
    Report,
)
from searchspaces import ModelFamily
from searchspaces.plain import WEIGHTS, plain_module_source
from workers.absent import KNOWN
from workers.comparison import compared, warnings
from workers.datasets import Dataset
from workers.deployment import export_onnx, onnx_logits
from workers.files import file_features
from workers.profiling import OnnxRuntimeProfiler
from workers.profiling.modules import module_ms
from workers.quantizing import prune_and_finetune, quantize_and_finetune
from workers.remote import Figures, RemoteDevices
from workers.scoring import expected_calibration_error, scores
from workers.simulated import NO_TABLES, SimulatedDevices
from workers.training import TrainingSettings, logits_of, recalibrate_batch_norm, train
from workers.writing import needing_space, written_whole

MODEL, SOURCE = "model.onnx", "model.py"
TRAINED_WEIGHTS = "trained.safetensors"
MODULE_RUNS = 60
"""Of a finalist's file under the runtime's profiler, to tell where its time goes."""


@dataclass(frozen=True)
class EvaluationSettings:
    """How much work each fidelity does.

    Attributes:
        epochs: float training.
        finetune_epochs: after pruning.
        qat_epochs: with fake quantization in the loop.
        deployed_epochs: more float fine-tuning for finalists.
        n_runs: timed runs of a finalist's file; search trials use a third.
        seed: of everything random, with the candidate's key.
    """

    epochs: int = 10
    finetune_epochs: int = 2
    qat_epochs: int = 2
    deployed_epochs: int = 6
    n_runs: int = 300
    seed: int = 0

    def scaled(self, effort: float) -> Self:
        """The same with `effort` of every number of epochs, at least one where there were any."""
        names = ("epochs", "finetune_epochs", "qat_epochs", "deployed_epochs")
        epochs = {name: getattr(self, name) for name in names}
        return replace(self, **{k: max(1, round(n * effort)) for k, n in epochs.items() if n})


@dataclass(frozen=True)
class CandidateEvaluator(Evaluator):
    """Trains, compresses, exports and measures candidates of one family on one data set.

    Files go to `artifact_folder/<candidate key>/`, whole or not at all. Exported files are timed
    here, and on `devices` where there are any; what `simulated` ones tell is added.
    """

    family: ModelFamily
    dataset: Dataset
    artifact_folder: Path
    settings: EvaluationSettings
    devices: RemoteDevices | None = None
    simulated: SimulatedDevices = NO_TABLES

    def evaluate(
        self, candidate: Candidate, fidelity: Fidelity, report: Report, effort: float = 1.0
    ) -> Evaluation:
        """Score `candidate` at `fidelity`, with `effort` of the epochs of a training.

        Raises:
            EvaluationError: the fidelity needs a supernet, or export or timing failed.
            OutOfSpaceError: the disk is full.
        """
        torch.set_num_threads(1)
        scaled = self if effort == 1.0 else replace(self, settings=self.settings.scaled(effort))
        with needing_space(self.artifact_folder):
            return scaled._at(fidelity, candidate, report)

    # ---------------------------------------------------------------- fidelities

    def _at(self, fidelity: Fidelity, candidate: Candidate, report: Report) -> Evaluation:
        match fidelity:
            case Fidelity.PROXY:
                return Evaluation(self.costs(candidate), {"costs": COMPUTED})
            case Fidelity.TRAINED:
                return self._trained(candidate, report)
            case Fidelity.DEPLOYED:
                return self._deployed(candidate, report)
            case Fidelity.INHERITED:
                raise EvaluationError("inherited scores need a supernet, and this job has none")
            case _:
                assert_never(fidelity)

    def _trained(self, candidate: Candidate, report: Report) -> Evaluation:
        network = self._train(candidate, report)
        self._quantize(network, candidate, report)
        data = self.dataset
        onnx_path = self._path(candidate, "search.onnx")
        export_onnx(network, data.input_shape, onnx_path)
        n_runs = max(30, self.settings.n_runs // 3)
        profile = OnnxRuntimeProfiler(n_runs).profile(onnx_path)
        elsewhere = self.on_devices(onnx_path, candidate, profile, n_runs, report)
        metrics = {
            **scores(logits_of(network, data.x_val).numpy(), data.y_val),
            "latency_ms": profile.calm_ms,
            "latency_ratio": profile.latency_ratio,
            "file_bytes": float(onnx_path.stat().st_size),
            **self.costs(candidate),
            **elsewhere.metrics,
        }
        onnx_path.unlink()
        provenance = {**self._provenance(candidate, profile), **elsewhere.provenance}
        simulated = {"kind": "simulated", "on": "fake-quantized network, validation"}
        provenance |= {"accuracy": simulated, "true_class_probability": simulated}
        weights = {"weights": f"{candidate.key}/{TRAINED_WEIGHTS}"}
        return Evaluation(metrics, provenance, weights)

    def _deployed(self, candidate: Candidate, report: Report) -> Evaluation:
        network = self._trained_network(candidate, report)
        data, settings = self.dataset, self.settings
        report("fine-tuning the finalist")
        schedule = TrainingSettings(settings.deployed_epochs, learning_rate=4e-3)
        train(network, data.x_train, data.y_train, schedule, self._seed(candidate, 3))
        recalibrate_batch_norm(network, data.x_train)
        self._quantize(network, candidate, report)
        path = self._path(candidate, MODEL)
        report("exporting and measuring")
        export_onnx(network, data.input_shape, path)
        profile = OnnxRuntimeProfiler(settings.n_runs, measures_memory=True).profile(path)
        compression = self._compared(candidate, profile, report)
        elsewhere = self.on_devices(path, candidate, profile, settings.n_runs, report)
        logits, test_logits = onnx_logits(path, data.x_val), onnx_logits(path, data.x_test)
        metrics = {
            **scores(logits, data.y_val),
            "test_accuracy": float((test_logits.argmax(1) == data.y_test).mean()),
            "ece": expected_calibration_error(logits, data.y_val),
            **profile.metrics,
            "file_bytes": float(path.stat().st_size),
            **self.costs(candidate),
            **elsewhere.metrics,
        }
        artifacts = {
            "onnx": f"{candidate.key}/{MODEL}",
            **self._write_source(network, candidate),
        }
        provenance = {
            **self._provenance(candidate, profile),
            **compression,
            **elsewhere.provenance,
        }
        _add_modules(provenance, path, report)
        return Evaluation(metrics, provenance, artifacts)

    # ---------------------------------------------------------------- steps

    def _train(self, candidate: Candidate, report: Report) -> nn.Module:
        """Train, prune and fine-tune from scratch; keeps the float weights for finalists."""
        torch.manual_seed(self._seed(candidate, 0))
        network = self.family.build(candidate)
        report("training")
        data, settings = self.dataset, self.settings
        schedule = TrainingSettings(settings.epochs)
        train(network, data.x_train, data.y_train, schedule, self._seed(candidate, 1))
        prune_and_finetune(
            network,
            self.family,
            candidate,
            data,
            settings.finetune_epochs,
            self._seed(candidate, 2),
        )
        self.keep_weights(candidate, network)
        return network

    def keep_weights(self, candidate: Candidate, network: nn.Module) -> None:
        """Keep the float weights of a pruned network, from which its finalist will start."""
        with written_whole(self._path(candidate, TRAINED_WEIGHTS)) as temporary:
            save_file(network.state_dict(), temporary)

    def _trained_network(self, candidate: Candidate, report: Report) -> nn.Module:
        """The pruned float network as the search left it; trained anew where its file is gone."""
        path = self._path(candidate, TRAINED_WEIGHTS)
        if not path.is_file():
            return self._train(candidate, report)
        network = self.family.build(candidate)
        self.family.prune(network, candidate)
        network.load_state_dict(load_file(path))
        return network

    def _quantize(self, network: nn.Module, candidate: Candidate, report: Report) -> None:
        report("training with quantization in the loop")
        epochs, seed = self.settings.qat_epochs, self._seed(candidate, 4)
        quantize_and_finetune(network, self.family, candidate, self.dataset, epochs, seed)

    def _write_source(self, network: nn.Module, candidate: Candidate) -> dict[str, str]:
        """Write the plain PyTorch module beside the ONNX file; artifact names by role."""
        example = torch.from_numpy(self.dataset.x_val[:2])
        title = f"Candidate {candidate.key}, generated by nas: weights at their quantized values."
        source, state = plain_module_source(copy.deepcopy(network), example, title)
        with written_whole(self._path(candidate, WEIGHTS)) as temporary:
            save_file(state, temporary)
        with written_whole(self._path(candidate, SOURCE)) as temporary:
            temporary.write_text(source)
        return {
            "torch_source": f"{candidate.key}/{SOURCE}",
            "torch_weights": f"{candidate.key}/{WEIGHTS}",
        }

    def _compared(self, candidate: Candidate, profile: Profile, report: Report) -> dict[str, Any]:
        """How the file fares against its plain forms, for provenance; warnings are reported."""
        profiler = OnnxRuntimeProfiler(max(30, self.settings.n_runs // 3))
        found = compared(self.family, candidate, profile, profiler)
        said = warnings(self.family.bits(candidate), profile, found)
        for line in said:
            report(f"warning: {line}")
        return {"compared": {c.form: c.to_json() for c in found}, "warnings": said}

    # ---------------------------------------------------------------- facts

    def _path(self, candidate: Candidate, name: str) -> Path:
        folder = self.artifact_folder / candidate.key
        folder.mkdir(parents=True, exist_ok=True)
        return folder / name

    def _seed(self, candidate: Candidate, stage: int) -> int:
        return zlib.crc32(f"{self.settings.seed}/{candidate.key}/{stage}".encode())

    def costs(self, candidate: Candidate) -> dict[str, float]:
        """Closed-form costs."""
        table = self.family.costs(self.family.space.row(candidate)[None])
        return {name: float(column[0]) for name, column in table.items()}

    def on_devices(
        self, path: Path, candidate: Candidate, profile: Profile, n_runs: int, report: Report
    ) -> Figures:
        """Time an exported file on the job's devices, too, and ask those that are simulated.

        Raises:
            EvaluationError: a device could not.
        """
        told = self.simulated.figures(self.family, candidate)
        if self.devices is None:
            return told
        features = {
            **self.costs(candidate),
            **file_features(path),
            KNOWN: profile.latency_ratio,
        }
        timed = self.devices.measure(path, candidate.key, n_runs, features, report)
        return Figures({**timed.metrics, **told.metrics}, {**timed.provenance, **told.provenance})

    def timing(self, candidate: Candidate, profile: Profile) -> dict[str, Any]:
        """How a file was timed, and what of the candidate's bits was executed."""
        bits = {name: f"w{w}a{a}" for name, (w, a) in self.family.bits(candidate).items()}
        return {
            **profile.source("exported ONNX file, batch 1"),
            "asked": bits,
            "executed": {name: executed(text) for name, text in bits.items()},
        }

    def _provenance(self, candidate: Candidate, profile: Profile) -> dict[str, Any]:
        on_file = {"kind": "measured", "on": "exported ONNX file, validation split"}
        return {
            "accuracy": on_file,
            "true_class_probability": on_file,
            "test_accuracy": {"kind": "measured", "on": "exported ONNX file, test split, once"},
            "latency_ms": self.timing(candidate, profile),
            "file_bytes": {"kind": "measured", "on": "exported ONNX file"},
            "costs": COMPUTED,
        }


COMPUTED: Mapping[str, str] = {"kind": "computed", "on": "closed form"}


def executed(bits: str) -> str:
    """What this runtime does with a stage of these bits (`w8a8`), said plainly."""
    weight, activation = (int(part) for part in bits[1:].split("a"))
    if weight == 32:
        return "float32 kernels"
    if activation == 32:
        return f"float32 kernels; {weight}-bit weights are widened while running"
    if min(weight, activation) == 8:
        return "int8 kernels"
    return f"{min(weight, activation)}-bit codes not executed as such: they run in int8 kernels"


def _add_modules(provenance: dict[str, Any], path: Path, report: Report) -> None:
    """Where the file's time goes. It only explains: no finalist is lost because nobody can tell."""
    try:
        provenance["latency_ms"]["modules_ms"] = module_ms(path, MODULE_RUNS)
    except EvaluationError as error:
        line = f"no times by module: {error}"
        report(f"warning: {line}")
        provenance["warnings"].append(line)
