"""What the server works out for people: what a job teaches, what a candidate is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nas import analysis
from nas.core import Candidate, InvalidInputError, Job, Trial
from nas.service.outcomes import Outcomes
from nas.service.thinning import evenly
from nas.service.views import kinds_of
from nas.workspace import Workspace, spec_of
from searchspaces import ModelFamily, Part

MOST_TRIALS = 1000


def analysis_of(workspace: Workspace, job: Job, found: Outcomes) -> dict[str, Any]:
    """Importance by metric and decision, predictions by metric, harmful options."""
    body: dict[str, Any] = {"n_trials": 0, "importance": {}, "prediction": {}, "harmful": []}
    if found.searched is None:
        return body
    at, trials = _looked_at(found)
    body["n_trials"] = len(trials)
    if len(trials) < analysis.MIN_TRIALS:
        return body
    problem = workspace.problem(spec_of(job))
    names = [*(o.metric for o in problem.spec.goals.objectives), "constraints"]
    for metric, quality in analysis.predictor_quality(problem, trials).items():
        body["prediction"][metric] = {
            "number": [t.number for t in trials],
            "kinds": kinds_of(metric, at, workspace.store.trial_store(job.job_id), found),
            "predicted": quality.predicted.tolist(),
            "measured": quality.measured.tolist(),
            "tau": None if np.isnan(quality.tau) else quality.tau,
        }
    body["importance"] = analysis.importances(problem, trials)
    body["harmful"] = [
        {
            "decision": h.decision,
            "option": h.option,
            "harms": names[h.objective],
            "mean_harm": h.harm,
            "trials": h.support,
        }
        for h in analysis.harmful(problem, trials)
    ]
    return body


def tau_of(workspace: Workspace, job: Job, found: Outcomes) -> dict[str, Any]:
    """How well the predictor ranked the first trials, by metric: `n` of them and `tau`."""
    if found.searched is None:
        return {"metrics": {}}
    at, trials = _looked_at(found)
    places = np.searchsorted(found.scored(found.searched), at) + 1
    told = analysis.tau_over_time(workspace.problem(spec_of(job)), trials)
    return {
        "metrics": {
            metric: {
                "n": [int(places[n - 1]) for n, _ in pairs],
                "tau": [None if np.isnan(tau) else tau for _, tau in pairs],
            }
            for metric, pairs in told.items()
        }
    }


def _looked_at(found: Outcomes) -> tuple[NDArray[np.int64], list[Trial]]:
    """Positions of search trials, at most 1,000, evenly; and these trials."""
    assert found.searched is not None
    at = found.scored(found.searched)
    at = at[evenly(len(at), MOST_TRIALS)]
    return at, [found.trial(int(i)) for i in at]


def layers_of(workspace: Workspace, job: Job, trial: Trial) -> list[dict[str, Any]]:
    """Convolutions and linear layers in the order they run, after pruning.

    Raises:
        InvalidInputError: the trial evaluates no candidate, or one of another space.
    """
    if trial.candidate is None:
        raise InvalidInputError("number", trial.number, "a trial that evaluates a candidate")
    family = workspace.problem(spec_of(job)).family
    family.space.row(trial.candidate)
    network = family.build(trial.candidate)
    family.prune(network, trial.candidate)
    found = _layers(network.eval(), family, trial.candidate)
    times = trial.source("latency_ms").get("modules_ms", {})
    return [{**layer, "ms": _ms(layer["name"], times)} for layer in found]


def _ms(name: str, times: Mapping[str, float]) -> float | None:
    """What a layer takes with its quantizers and activation; None where nobody timed it."""
    unit = name.rpartition(".")[0]
    own = [ms for module, ms in times.items() if f"{module}.".startswith(f"{unit}.")]
    return sum(own) if own else None


def _layers(network: nn.Module, family: ModelFamily, candidate: Candidate) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    names = {module: name for name, module in network.named_modules()}
    parts = {
        module: part
        for name, part in family.parts(network, candidate).items()
        for module in network.get_submodule(name).modules()
    }

    def note(module: nn.Module, _: object, out: torch.Tensor) -> None:
        assert isinstance(module, (nn.Conv2d, nn.Linear))
        name = names[module]
        owner = network.get_submodule(name.rpartition(".")[0])
        found.append({"name": name, **_layer(module, owner, parts[module], out)})

    hooks = [
        module.register_forward_hook(note)
        for module in network.modules()
        if isinstance(module, (nn.Conv2d, nn.Linear))
    ]
    with torch.no_grad():
        network(torch.zeros(1, *family.input_shape))
    for hook in hooks:
        hook.remove()
    return found


def _layer(
    module: nn.Conv2d | nn.Linear, owner: nn.Module, part: Part, out: torch.Tensor
) -> dict[str, Any]:
    """What a layer does; `owner` knows which of its weights are pruned."""
    sparsity = getattr(owner, "sparsity", None)
    n_weights, n_out = module.weight.numel(), module.weight.shape[0]
    left = int((sparsity.mask(module.weight) if sparsity else module.weight != 0).sum())
    return {
        "part": part.name,
        **_shape(module, out),
        "n_out": n_out,
        "params": n_weights + n_out,
        "macs": round(out.numel() * left / n_out),
        "zeros": 1 - left / n_weights,
        "weight_bits": part.bits.weight,
        "activation_bits": part.bits.activation,
    }


def _shape(module: nn.Conv2d | nn.Linear, out: torch.Tensor) -> dict[str, Any]:
    if isinstance(module, nn.Linear):
        about = {"kind": "linear", "n_in": module.in_features, "kernel": 1, "stride": 1}
        return {**about, "height": 1, "width": 1}
    kind = "pointwise" if module.kernel_size == (1, 1) else "convolution"
    return {
        "kind": "depthwise" if module.groups == module.in_channels > 1 else kind,
        "n_in": module.in_channels,
        "kernel": module.kernel_size[0],
        "stride": module.stride[0],
        "height": out.shape[2],
        "width": out.shape[3],
    }
