"""What the server works out for people: what a job teaches, what a candidate is made of."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from nas import analysis
from nas.core import InvalidInputError, Job, Trial
from nas.jobs import Workspace, spec_of
from nas.service.columns import Outcomes
from searchspaces import ModelFamily

MOST_TRIALS = 1000


def analysis_of(workspace: Workspace, job: Job, found: Outcomes) -> dict[str, Any]:
    """Importance by metric and decision, predictions by metric, harmful options."""
    body: dict[str, Any] = {"n_trials": 0, "importance": {}, "prediction": {}, "harmful": []}
    if found.searched is None:
        return body
    at = found.scored(found.searched)
    at = at[np.unique(np.linspace(0, len(at) - 1, min(len(at), MOST_TRIALS)).astype(np.int64))]
    body["n_trials"] = len(at)
    if len(at) < analysis.MIN_TRIALS:
        return body
    problem = workspace.problem(spec_of(job))
    trials = [found.trial(int(i)) for i in at]
    names = [*(o.metric for o in problem.spec.goals.objectives), "constraints"]
    for metric, quality in analysis.predictor_quality(problem, trials).items():
        body["prediction"][metric] = {
            "number": [t.number for t in trials],
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
    return _layers(network.eval(), family, family.bits(trial.candidate))


def _layers(network: nn.Module, family: ModelFamily, bits: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    names = {module: name for name, module in network.named_modules()}
    stages = list(bits)

    def note(module: nn.Module, _: object, out: torch.Tensor) -> None:
        assert isinstance(module, (nn.Conv2d, nn.Linear))
        name = names[module]
        owner = network.get_submodule(name.rpartition(".")[0]) if "." in name else network
        sparsity = getattr(owner, "sparsity", None)
        stage = next((s for i, s in enumerate(stages) if f"stages.{i}." in f"{name}."), None)
        n_weights, n_out = module.weight.numel(), module.weight.shape[0]
        left = int((sparsity.mask(module.weight) if sparsity else module.weight != 0).sum())
        found.append(
            {
                "name": name,
                "stage": stage,
                **_shape(module, out),
                "n_out": n_out,
                "params": n_weights + n_out,
                "macs": round(out.numel() * left / n_out),
                "zeros": 1 - left / n_weights,
                "weight_bits": bits[stage][0] if stage else None,
                "activation_bits": bits[stage][1] if stage else None,
            }
        )

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
