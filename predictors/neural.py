"""A small neural predictor whose weights carry over from task to task."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nas.core import ConflictError, Prediction, Predictor


@dataclass
class NeuralEnsemble(Predictor):
    """Fully connected nets, one hidden width, three layers; their disagreement is the uncertainty.

    `pretrain` may be called several times, each starting from the weights the last one left: first
    on free statistics (MACs, parameters), then on many cheap scores. `fit` starts from there each
    time, so it forgets earlier fits but not the pre-training.

    Attributes:
        n_members: nets, from different random weights and different bootstrap samples.
        width: of the hidden layers (APQ: 400).
        n_steps: full-batch AdamW steps of a fit.
        learning_rate: of AdamW.
        seed: of weights and samples.

    Reference: Wang et al. 2020 (APQ), section 3.3 (weight transfer); Dai et al. 2021 (FBNetV3),
    section 3.2 (pre-training on statistics).
    """

    n_members: int = 4
    width: int = 128
    n_steps: int = 300
    learning_rate: float = 3e-3
    seed: int = 0
    _bodies: list[nn.Sequential] = field(default_factory=list, init=False, repr=False)
    _heads: list[nn.Linear] = field(default_factory=list, init=False, repr=False)
    _shift: Tensor = field(default_factory=lambda: torch.zeros(0), init=False, repr=False)
    _scale: Tensor = field(default_factory=lambda: torch.ones(0), init=False, repr=False)
    _fitted: list[nn.Sequential] = field(default_factory=list, init=False, repr=False)
    _center: NDArray[np.float64] | None = field(default=None, init=False, repr=False)
    _spread: NDArray[np.float64] | None = field(default=None, init=False, repr=False)

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
        if not self._fitted or self._center is None or self._spread is None:
            raise ConflictError("the predictor is not fitted yet: call fit first")
        scaled = self._scaled(x)
        votes = np.stack([network(scaled).double().numpy() for network in self._fitted])
        mean = votes.mean(axis=0) * self._spread + self._center
        return Prediction(mean, votes.std(axis=0) * self._spread)

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
                kept = _new_linear(self.width, n_targets, generator)
            networks.append(nn.Sequential(copy.deepcopy(body), copy.deepcopy(kept)))
        return networks

    def _train(
        self, networks: list[nn.Sequential], x: NDArray[np.float32], y: NDArray[np.float64]
    ) -> None:
        self._center = y.mean(axis=0)
        spread = y.std(axis=0)
        self._spread = np.where(spread > 0, spread, 1.0)
        scaled = self._scaled(x)
        targets = torch.from_numpy(((y - self._center) / self._spread).astype(np.float32))
        for member, network in enumerate(networks):
            rng = np.random.default_rng((self.seed, member))
            drawn = torch.from_numpy(rng.integers(len(x), size=len(x)))
            _descend(network, scaled[drawn], targets[drawn], self.n_steps, self.learning_rate)

    def _scaled(self, x: NDArray[np.float32]) -> Tensor:
        return (torch.from_numpy(x) - self._shift) / self._scale


def _descend(network: nn.Module, x: Tensor, y: Tensor, n_steps: int, rate: float) -> None:
    optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    for _ in range(n_steps):
        loss = nn.functional.huber_loss(network(x), y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()


def _new_body(n_in: int, width: int, generator: torch.Generator) -> nn.Sequential:
    layers: list[nn.Module] = []
    for size in (n_in, width, width):
        layers += [_new_linear(size, width, generator), nn.ReLU()]
    return nn.Sequential(*layers)


def _new_linear(n_in: int, n_out: int, generator: torch.Generator) -> nn.Linear:
    linear = nn.Linear(n_in, n_out)
    nn.init.kaiming_uniform_(linear.weight, nonlinearity="relu", generator=generator)
    nn.init.zeros_(linear.bias)
    return linear


def _body(network: nn.Sequential) -> nn.Sequential:
    body = network[0]
    assert isinstance(body, nn.Sequential)
    return body


def _head(network: nn.Sequential) -> nn.Linear:
    head = network[1]
    assert isinstance(head, nn.Linear)
    return head
