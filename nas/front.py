"""What a search returns: deployable models, best trade-offs only."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import nas
from nas.core import (
    Candidate,
    Constraint,
    Direction,
    Goals,
    InfeasibleError,
    InvalidInputError,
    Job,
    NotFoundError,
    Trial,
    front_of,
)

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go
    from torch import nn

CARD = "card.json"
CARD_VERSION = 1


@dataclass(frozen=True)
class Model:
    """One member of a front: a candidate with its metrics and, once deployed, its files.

    Attributes:
        job: the job that found it.
        trial: the trial that measured it.
        folder: the job's artifact folder.
    """

    job: Job
    trial: Trial
    folder: Path

    @property
    def candidate(self) -> Candidate:
        """The point of the space it is."""
        assert self.trial.candidate is not None
        return self.trial.candidate

    @property
    def metrics(self) -> Mapping[str, float]:
        """Metric values; `card()["provenance"]` tells how each was measured."""
        return self.trial.metrics

    def artifact(self, role: str) -> Path:
        """The file of a role: `onnx`, `torch_source` or `torch_weights`.

        Raises:
            NotFoundError: this model was not deployed, or the file is gone.
        """
        name = self.trial.artifacts.get(role)
        path = self.folder / name if name else None
        if path is None or not path.is_file():
            raise NotFoundError(f"{role} file of trial", self.trial.number)
        return path

    def to_torch(self) -> nn.Module:
        """The network as a plain `torch.nn.Module` whose source imports torch alone.

        It computes what the ONNX file says; runtimes that fuse it into integer kernels also round
        biases, so with few bits the reported accuracy, measured there, differs by a little.

        Raises:
            NotFoundError: this model was not deployed.
        """
        from safetensors.torch import load_file

        source = self.artifact("torch_source")
        module_spec = importlib.util.spec_from_file_location(f"model_{self.candidate.key}", source)
        assert module_spec is not None and module_spec.loader is not None
        module = importlib.util.module_from_spec(module_spec)
        module_spec.loader.exec_module(module)
        network: nn.Module = module.Network()
        network.load_state_dict(load_file(self.artifact("torch_weights")))
        return network.eval()

    def card(self) -> dict[str, Any]:
        """The model card: what it is, what it scored, and how each figure was measured."""
        return {
            "version": CARD_VERSION,
            "generator": f"nas {nas.__version__}",
            "job": {"id": self.job.job_id, "name": self.job.name, "spec": dict(self.job.spec)},
            "trial": self.trial.number,
            "fidelity": self.trial.fidelity,
            "candidate": {"key": self.candidate.key, "values": dict(self.candidate.values)},
            "metrics": dict(self.trial.metrics),
            "provenance": dict(self.trial.provenance),
        }

    def export(self, folder: str | Path) -> Path:
        """Copy the model's files and its card into `folder` (made if need be); returns it.

        Raises:
            NotFoundError: this model was not deployed.
            InvalidInputError: `folder` is a file.
        """
        target = Path(folder)
        if target.exists() and not target.is_dir():
            raise InvalidInputError("export folder", str(target), "a folder, or a new path")
        sources = {role: self.artifact(role) for role in self.trial.artifacts if role != "weights"}
        if "onnx" not in sources:
            raise NotFoundError("onnx file of trial", self.trial.number)
        target.mkdir(parents=True, exist_ok=True)
        for source in sources.values():
            shutil.copyfile(source, target / source.name)
        card = json.dumps(self.card(), indent=2, sort_keys=True)
        (target / CARD).write_text(card + "\n")
        (target / "genotype.json").write_text(
            json.dumps(dict(self.candidate.values), indent=2) + "\n"
        )
        return target


@dataclass(frozen=True, repr=False)
class Front(Sequence[Model]):
    """The Pareto front of a job, best first by its first objective.

    Attributes:
        job: the job.
        goals: its objectives and constraints.
        models: the members.
        trials: every trial of the job, for plots and reports.
    """

    job: Job
    goals: Goals
    models: tuple[Model, ...]
    trials: tuple[Trial, ...]

    @classmethod
    def of(cls, job: Job, goals: Goals, trials: Sequence[Trial], folder: Path) -> Front:
        """The front of a job's trials; files are looked up below `folder`."""
        members = front_of(trials, goals).trials
        return cls(job, goals, tuple(Model(job, t, folder) for t in members), tuple(trials))

    def __len__(self) -> int:
        return len(self.models)

    @overload
    def __getitem__(self, index: int) -> Model: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Model]: ...
    def __getitem__(self, index: int | slice) -> Model | Sequence[Model]:
        return self.models[index]

    def __iter__(self) -> Iterator[Model]:
        return iter(self.models)

    def best(self, *constraints: str) -> Model:
        """The best model by the first objective among those that meet `constraints`.

            front.best("latency_ms<=0.3", "weight_bytes<=20000")

        Raises:
            InvalidInputError: a constraint that cannot be read, or on an unknown metric.
            InfeasibleError: no member meets them; says the nearest value there is.
        """
        if not self.models:
            raise NotFoundError("completed trial in job", self.job.job_id)
        parsed = [Constraint.parse(text) for text in constraints]
        for constraint in parsed:
            if constraint.metric not in self.models[0].metrics:
                raise InvalidInputError(
                    "constraint", str(constraint), f"one of {', '.join(self.models[0].metrics)}"
                )
        fitting = [m for m in self.models if all(c.met([m.metrics[c.metric]])[0] for c in parsed)]
        if not fitting:
            raise self._nothing_meets(parsed)
        first = self.goals.objectives[0]
        sign = max if first.direction is Direction.MAXIMIZE else min
        return sign(fitting, key=lambda m: m.metrics[first.metric])

    def _nothing_meets(self, constraints: Sequence[Constraint]) -> InfeasibleError:
        def excess(model: Model) -> float:
            return float(sum(c.excess([model.metrics[c.metric]])[0] for c in constraints))

        nearest = min(self.models, key=excess)
        values = ", ".join(f"{c.metric}={nearest.metrics[c.metric]:.4g}" for c in constraints)
        wanted = " and ".join(str(c) for c in constraints)
        return InfeasibleError("best", wanted, f"the nearest of {len(self)} models has {values}")

    def to_frame(self) -> pd.DataFrame:
        """One row a member: trial, key, every metric, every decision."""
        import pandas as pd

        return pd.DataFrame(
            [
                {"trial": m.trial.number, "key": m.candidate.key, **m.metrics, **m.candidate.values}
                for m in self.models
            ]
        )

    def export(self, folder: str | Path) -> list[Path]:
        """Export every member below `folder`, one sub-folder each, named by rank and key."""
        root = Path(folder)
        return [m.export(root / f"{i:02d}-{m.candidate.key}") for i, m in enumerate(self.models, 1)]

    def plot(self) -> go.Figure:
        """The interactive Pareto plot of the first two objectives."""
        from dashboard.figures import pareto_figure

        metrics = [o.metric for o in self.goals.objectives]
        x, y = (metrics[1], metrics[0]) if len(metrics) > 1 else ("macs", metrics[0])
        return pareto_figure(self.trials, self.goals, x=x, y=y)

    def _repr_html_(self) -> str:
        html: str = self.to_frame().to_html(index=False)
        return html

    def __repr__(self) -> str:
        return f"<Front of job {self.job.job_id}: {len(self)} models>"
