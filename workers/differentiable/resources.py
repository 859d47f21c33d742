"""What candidates must be, and limits on their expected costs, as a loss or by projection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas.core import Constraint, CostTable, Direction, Genotypes, Goals, Relation, SearchSpace
from nas.core.expectation import expected
from workers.differentiable.distribution import Distribution

MAX_PROJECTIONS = 200
LEAST_SHARE = 1e-3
"""Of connected candidates, below which their expected costs are no longer divided by it."""

STEP = 0.05
"""Length of a projection step in the space of logits, per decision."""


Connected = Callable[[Genotypes], NDArray[np.bool_]]


def all_connected(rows: Genotypes) -> NDArray[np.bool_]:
    """`(n,)` True: of spaces without constant networks."""
    return np.ones(len(rows), dtype=np.bool_)


@dataclass(frozen=True)
class Limits:
    """Bounds on costs that can be told without training.

    Candidates that are not connected are never handed over, so an expected cost is one of those
    that are: `E[cost, connected] / P[connected]`. Else a constant network would be a bargain.

    Attributes:
        space: of the candidates.
        costs: columns of `(n, d)` rows: closed forms, tables, or a predictor's.
        connected: `(n,)` which of `(n, d)` rows are networks whose output follows their input.
        constraints: on columns of these costs.
        objectives: columns that should be small.
    """

    space: SearchSpace
    costs: Callable[[Genotypes], CostTable]
    connected: Connected = all_connected
    constraints: tuple[Constraint, ...] = ()
    objectives: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        space: SearchSpace,
        costs: Callable[[Genotypes], CostTable],
        goals: Goals,
        connected: Connected = all_connected,
    ) -> Limits:
        """The limits among `goals` that these costs can tell."""
        known = set(costs(space.sample(1, np.random.default_rng(0))))
        return cls(
            space,
            costs,
            connected,
            tuple(c for c in goals.constraints if c.metric in known),
            tuple(
                o.metric
                for o in goals.objectives
                if o.metric in known and o.direction is Direction.MINIMIZE
            ),
        )

    def excess(
        self, distribution: Distribution, temperature: float, rng: np.random.Generator
    ) -> Tensor:
        """`()` sum of the expected costs' relative excess over their bounds, with gradients."""
        if not self.constraints:
            return torch.zeros(())
        return self._expected(distribution, temperature, self._relative, rng).clamp_min(0).sum()

    def price(
        self, distribution: Distribution, temperature: float, rng: np.random.Generator
    ) -> Tensor:
        """`()` sum of the logarithms of the expected costs that are objectives, with gradients."""
        if not self.objectives:
            return torch.zeros(())
        names = list(self.objectives)
        values = self._expected(distribution, temperature, lambda rows: self._all(rows, names), rng)
        return values.clamp_min(1e-12).log().sum()

    def project(
        self, distribution: Distribution, temperature: float, rng: np.random.Generator
    ) -> int:
        """Move logits down the excess until there is none; returns the steps taken.

        Reference: Jin et al. 2019 (RC-DARTS), algorithm 1, lines 9 to 13.
        """
        logits = list(distribution.parameters())
        length = STEP * len(distribution.bases) ** 0.5
        for step in range(MAX_PROJECTIONS):
            loss = self.excess(distribution, temperature, rng)
            if loss.item() <= 0:
                return step
            gradients = torch.autograd.grad(loss, logits)
            norm = float(torch.stack([g.norm() for g in gradients]).norm())
            if norm == 0:
                break
            with torch.no_grad():
                for parameter, gradient in zip(logits, gradients, strict=True):
                    parameter.sub_(gradient, alpha=length / norm)
        return MAX_PROJECTIONS

    def met(self, rows: Genotypes) -> NDArray[np.bool_]:
        """`(n,)` which of `(n, d)` canonical rows are connected and keep all bounds."""
        found = self.connected(rows)
        if self.constraints:
            found = found & (self._relative(rows) <= 0.0).all(axis=1)
        return found

    @torch.no_grad()
    def expected_costs(
        self, distribution: Distribution, temperature: float, rng: np.random.Generator
    ) -> dict[str, float]:
        """Expectation of every cost there is, over connected candidates."""
        names = list(self.costs(self.space.sample(1, rng)))
        values = self._expected(distribution, temperature, lambda rows: self._all(rows, names), rng)
        return dict(zip(names, values.tolist(), strict=True))

    def _expected(
        self,
        distribution: Distribution,
        temperature: float,
        costs: Callable[[Genotypes], NDArray[np.float64]],
        rng: np.random.Generator,
    ) -> Tensor:
        """`(m,)` expectation of `(n, m)` costs of connected rows, with gradients by the logits."""

        def counted(rows: Genotypes) -> NDArray[np.float64]:
            connected = self.connected(rows)[:, None]
            return np.concatenate([costs(rows) * connected, connected], axis=1)

        probabilities = distribution.probabilities(temperature)
        numbers = [p.detach().double().cpu().numpy() for p in probabilities]
        values, slopes = expected(self.space, numbers, counted, rng)
        terms = [
            p.double() @ torch.from_numpy(slope).to(p.device)
            for p, slope in zip(probabilities, slopes, strict=True)
        ]
        linear = torch.stack(terms).sum(0)
        total = linear - linear.detach() + torch.from_numpy(values).to(linear)
        share = total[-1]
        missing = (LEAST_SHARE - share.detach()).clamp_min(0)  # keeps the slope where it is bounded
        return total[:-1] / (share + missing)

    def _relative(self, rows: Genotypes) -> NDArray[np.float64]:
        """`(n, constraints)` how far over its bound each is, in bounds; negative within it."""
        over = self._all(rows, [c.metric for c in self.constraints])
        bounds = np.array([c.bound for c in self.constraints])
        signs = np.array(
            [1.0 if c.relation is Relation.AT_MOST else -1.0 for c in self.constraints]
        )
        return signs * (over - bounds) / np.where(bounds == 0, 1.0, np.abs(bounds))

    def _all(self, rows: Genotypes, names: list[str]) -> NDArray[np.float64]:
        table = self.costs(rows)
        return np.stack([table[name] for name in names], axis=1)
