"""Scoring candidates by shared weights, a second each, and handing those weights to finalists."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import safe_open

from nas.core import (
    Candidate,
    Evaluation,
    EvaluationError,
    Evaluator,
    Fidelity,
    Report,
    SharedTrainer,
)
from searchspaces import ModelFamily, Supernet
from workers.checkpoints import alone_with, read_about
from workers.datasets import Dataset
from workers.deployment import export_onnx
from workers.evaluation import COMPUTED, CandidateEvaluator
from workers.profiling import OnnxRuntimeProfiler
from workers.replicas import Replicas, train_together
from workers.scoring import scores
from workers.supernet import SupernetTrainer, training_digest
from workers.supernet_settings import SupernetSettings
from workers.training import logits_of
from workers.writing import needing_space

METHOD = "supernet"
N_CALIBRATION = 512
LATENCY_METRICS = ("latency_ms", "latency_ratio", "file_bytes")

_loaded: dict[str, tuple[int, Supernet]] = {}
"""The supernet this process used last, by file, with the file's time: loading it costs more than
scoring a candidate by it."""


@dataclass(frozen=True)
class SupernetEvaluator(Evaluator, SharedTrainer):
    """Scores candidates by a supernet; all other fidelities are the trained evaluator's.

    Attributes:
        trained: evaluates finalists, which start from the supernet's weights.
        folder: of supernets, shared by all jobs; each training has a file of its own.
        settings: of the training.
        measures_latency: whether scores include the latency of the exported file.
    """

    trained: CandidateEvaluator
    folder: Path
    settings: SupernetSettings
    measures_latency: bool

    @property
    def checkpoint(self) -> Path:
        """The supernet's file."""
        return self.folder / f"{self._digest}.safetensors"

    def train_shared(self, method: str, epochs: int, report: Report) -> Evaluation:
        """Train the supernet to `epochs` epochs, or find that it has had them.

        The provenance of `supernet` holds the losses of every epoch.

        Raises:
            EvaluationError: a method other than `supernet`.
        """
        if method != METHOD:
            raise EvaluationError(f"the shared weights of this job are a {METHOD}, not {method}")
        torch.set_num_threads(1)
        inner = self.trained
        self.folder.mkdir(parents=True, exist_ok=True)
        with needing_space(self.folder), alone_with(self.checkpoint):
            found = epochs_of(self.checkpoint)
            if found < epochs:
                arguments = (inner.family, inner.dataset, self.settings, inner.settings.seed)
                n_workers = self.settings.n_workers
                train_together(
                    n_workers, _train, *arguments, epochs, self.checkpoint, report=report
                )
        history = read_about(self.checkpoint).get("history", ())
        about = {
            "version": self._version,
            "reused_epochs": min(found, epochs),
            "history": [epoch for epoch in history if epoch["epoch"] <= epochs],
        }
        return Evaluation({"epochs": float(epochs)}, {"supernet": about})

    def evaluate(
        self, candidate: Candidate, fidelity: Fidelity, report: Report, effort: float = 1.0
    ) -> Evaluation:
        """Score `candidate` at `fidelity`; shared weights know no other effort than the whole.

        Raises:
            EvaluationError: the supernet is not trained, or export or timing failed.
        """
        torch.set_num_threads(1)
        match fidelity:
            case Fidelity.INHERITED:
                return self._inherited(candidate, report)
            case Fidelity.DEPLOYED:
                supernet = self._calibrated(candidate, quantized=False)
                self.trained.keep_weights(candidate, supernet.extract(candidate, quantized=False))
                return self.trained.evaluate(candidate, fidelity, report, effort)
            case _:
                return self.trained.evaluate(candidate, fidelity, report, effort)

    # ---------------------------------------------------------------- inside

    def _inherited(self, candidate: Candidate, report: Report) -> Evaluation:
        inner, data = self.trained, self.trained.dataset
        supernet = self._calibrated(candidate, quantized=True)
        metrics = scores(logits_of(supernet, data.x_val).numpy(), data.y_val)
        on = "supernet weights, recalibrated, fake-quantized, validation split"
        simulated = {"kind": "simulated", "on": on}
        provenance: dict[str, Any] = {
            **dict.fromkeys(metrics, simulated),
            "supernet": {"version": self._version},
            "costs": COMPUTED,
        }
        if self.measures_latency:
            with TemporaryDirectory() as folder:
                path = Path(folder) / "model.onnx"
                export_onnx(supernet.extract(candidate), data.input_shape, path)
                n_runs = max(30, inner.settings.n_runs // 3)
                profile = OnnxRuntimeProfiler(n_runs=n_runs).profile(path)
                elsewhere = inner.on_devices(path, candidate, profile, n_runs, report)
                metrics |= {
                    "latency_ms": profile.calm_ms,
                    "latency_ratio": profile.latency_ratio,
                    "file_bytes": float(path.stat().st_size),
                    **elsewhere.metrics,
                }
                provenance |= {"latency_ms": inner.timing(candidate, profile)}
                provenance |= elsewhere.provenance
        else:
            told = inner.simulated.figures(inner.family, candidate)
            metrics |= told.metrics
            provenance |= told.provenance
        return Evaluation({**metrics, **inner.costs(candidate)}, provenance)

    def _calibrated(self, candidate: Candidate, quantized: bool) -> Supernet:
        supernet = self._supernet()
        supernet.activate(candidate, quantized)
        supernet.calibrate(torch.from_numpy(self.trained.dataset.x_train[:N_CALIBRATION]))
        return supernet

    def _supernet(self) -> Supernet:
        path = self.checkpoint
        if not path.is_file():
            raise EvaluationError("the supernet is not trained yet")
        changed = path.stat().st_mtime_ns
        known = _loaded.get(str(path))
        if known is None or known[0] != changed:
            _loaded.clear()
            supernet = self.trained.family.supernet()
            with safe_open(path, framework="pt") as archive:
                names = [name for name in archive.keys() if name.startswith("weights.")]  # noqa: SIM118
                state = {n.removeprefix("weights."): archive.get_tensor(n) for n in names}
            supernet.load_state_dict(state)
            _loaded[str(path)] = (changed, supernet.eval())
        return _loaded[str(path)][1]

    @property
    def _digest(self) -> str:
        inner = self.trained
        return training_digest(
            inner.family, inner.dataset.digest, self.settings, inner.settings.seed
        )

    @property
    def _version(self) -> str:
        return f"{self._digest}-e{epochs_of(self.checkpoint)}"


def _train(
    replicas: Replicas,
    family: ModelFamily,
    dataset: Dataset,
    settings: SupernetSettings,
    seed: int,
    epochs: int,
    checkpoint: Path,
    report: Report,
) -> None:
    device = "cuda" if torch.cuda.is_available() and replicas.count == 1 else "cpu"
    trainer = SupernetTrainer(family, dataset, settings, seed, device, replicas)
    trainer.train(epochs, checkpoint, report)


def epochs_of(checkpoint: Path) -> int:
    """Epochs a supernet's file has had; 0 where there is none."""
    if not checkpoint.is_file():
        return 0
    return int(read_about(checkpoint)["epoch"])
