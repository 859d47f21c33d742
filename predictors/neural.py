"""A small neural predictor whose weights carry over from task to task."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nas.core import ConflictError, DifferentiablePredictor, Prediction, TransferPredictor
from predictors._nets import descend, new_linear
from predictors._targets import MIN_ROWS, NOT_FITTED, TargetScale


@dataclass
class NeuralEnsemble(TransferPredictor, DifferentiablePredictor):
    """Fully connected nets, one hidden width, three layers; their disagreement is the uncertainty.

    `pretrain` may be called several times, each starting from the weights the last one left: first
    on free statistics (MACs, parameters), then on many cheap scores. `fit` starts from there each
    time, so it forgets earlier fits but not the pre-training. With fewer than 4 rows it predicts
    their mean.

    Attributes:
        n_members: nets, from different random weights.
        width: of the hidden layers (APQ: 400).
        n_steps: full-batch AdamW steps of a fit.
        learning_rate: of AdamW.
        weight_decay: of AdamW; strong, since nets outgrow the few rows they learn from.
        seed: of the weights.

    Reference: Wang et al. 2020 (APQ), section 3.3 (weight transfer); Dai et al. 2021 (FBNetV3),
    section 3.2 (pre-training on statistics); Lakshminarayanan et al. 2017 (deep ensembles),
    section 2.4 (all rows for every net).
    """

    n_members: int = 4
    width: int = 128
    n_steps: int = 300
    learning_rate: float = 3e-3
    weight_decay: float = 1.0
    seed: int = 0
    _bodies: list[nn.Sequential] = field(default_factory=list, init=False, repr=False)
    _heads: list[nn.Linear] = field(default_factory=list, init=False, repr=False)
    _shift: Tensor = field(default_factory=lambda: torch.zeros(0), init=False, repr=False)
    _scale: Tensor = field(default_factory=lambda: torch.ones(0), init=False, repr=False)
    _fitted: list[nn.Sequential] = field(default_factory=list, init=False, repr=False)
    _targets: TargetScale | None = field(default=None, init=False, repr=False)

    def pretrain(self, x: NDArray[np.float32], y: NDArray[np.float64]) -> Self:
        """Learn a related task from `x (n, d)` and `y (n, m)`; heads carry over if `m` stays."""
        if not self._bodies:
            self._start(x)
        networks = self._networks(y.shape[1])
        self._train(networks, x, y)
        self._bodies = [_body(network) for network in networks]
        self._heads = [_head(network) for network in networks]
        return self

    def fit(self, x: NDArray[np.float32], y: NDArray[np.float64]) -> Self:
        """Learn from `x (n, d)` and `y (n, m)`, starting from the pre-training. Returns self."""
        self._targets, self._fitted = TargetScale.of(y), []
        if len(y) < MIN_ROWS:
            return self
        alone = not self._bodies
        if alone:
            self._start(x)
        self._fitted = self._networks(y.shape[1])
        self._train(self._fitted, x, y)
        if alone:
            self._bodies = []  # the next fit starts anew, too
        return self

    @torch.no_grad()
    def predict(self, x: NDArray[np.float32]) -> Prediction:
        """Predict for `x (n, d)`.

        Raises:
            ConflictError: not fitted.
        """
        if self._targets is None:
            raise ConflictError(NOT_FITTED)
        if not self._fitted:
            return self._targets.uninformed(len(x))
        scaled = self._scaled(x)
        votes = np.stack([network(scaled).double().numpy() for network in self._fitted])
        return self._targets.restored(votes.mean(axis=0), votes.std(axis=0))

    def slope(
        self, x: NDArray[np.float32], weights: NDArray[np.float64], beta: float
    ) -> NDArray[np.float64]:
        """`(n, d)` gradient of `sum_j weights_j (mean_j - beta std_j)` at `x (n, d)`.

        Raises:
            ConflictError: not fitted, or on fewer than 4 rows.
        """
        if self._targets is None or not self._fitted:
            raise ConflictError("the predictor is not fitted on enough rows yet")
        inputs = torch.from_numpy(x).requires_grad_()
        scaled = (inputs - self._shift) / self._scale
        votes = torch.stack([network(scaled) for network in self._fitted])  # (members, n, m)
        spread = (votes.var(dim=0, correction=0) + 1e-12).sqrt()
        units = torch.from_numpy((weights * self._targets.deviation).astype(np.float32))
        total = ((votes.mean(dim=0) - beta * spread) * units).sum()
        return torch.autograd.grad(total, inputs)[0].double().numpy()

    # ---------------------------------------------------------------- inside

    def _start(self, x: NDArray[np.float32]) -> None:
        features = torch.from_numpy(x)
        self._shift = features.mean(0)
        spread = features.std(0, correction=0)
        self._scale = torch.where(spread > 1e-6, spread, 1.0)
        self._bodies = []
        for member in range(self.n_members):
            generator = torch.Generator().manual_seed(self.seed * 1000 + member)
            self._bodies.append(_new_body(x.shape[1], self.width, generator))

    def _networks(self, n_targets: int) -> list[nn.Sequential]:
        """Copies of the pre-trained nets, with new heads where the number of targets differs."""
        networks = []
        for member, body in enumerate(self._bodies):
            kept = self._heads[member] if self._heads else None
            if kept is None or kept.out_features != n_targets:
                generator = torch.Generator().manual_seed(self.seed * 1000 + 500 + member)
                kept = new_linear(self.width, n_targets, generator)
            networks.append(nn.Sequential(copy.deepcopy(body), copy.deepcopy(kept)))
        return networks

    def _train(
        self, networks: list[nn.Sequential], x: NDArray[np.float32], y: NDArray[np.float64]
    ) -> None:
        scaled = self._scaled(x)
        targets = torch.from_numpy(TargetScale.of(y).standard(y).astype(np.float32))
        for network in networks:
            descend(
                network, (scaled,), targets, self.n_steps, self.learning_rate, self.weight_decay
            )

    def _scaled(self, x: NDArray[np.float32]) -> Tensor:
        return (torch.from_numpy(x) - self._shift) / self._scale


def _new_body(n_in: int, width: int, generator: torch.Generator) -> nn.Sequential:
    layers: list[nn.Module] = []
    for size in (n_in, width, width):
        layers += [new_linear(size, width, generator), nn.ReLU()]
    return nn.Sequential(*layers)


def _body(network: nn.Sequential) -> nn.Sequential:
    body = network[0]
    assert isinstance(body, nn.Sequential)
    return body


def _head(network: nn.Sequential) -> nn.Linear:
    head = network[1]
    assert isinstance(head, nn.Linear)
    return head
