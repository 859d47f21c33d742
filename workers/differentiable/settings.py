"""What a user may set of differentiable search: one trainer, switches that stand alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from nas.core import InvalidInputError
from workers.differentiable.health import APART, CURVATURE_EPOCHS
from workers.settings import Settings

TRAVEL = 3.0
"""Sum of the logits' learning rates over all steps, unless a rate is given."""

N_SCORED = 4
"""Candidates a step of the score-function gradient."""


@dataclass(frozen=True)
class DifferentiableSettings(Settings):
    """How a relaxed network and the distribution over its candidates are trained.

    Defaults score single candidates: each batch is divided among four drawn ones, whose losses
    train the shared weights and tell the logits which options were better (score function, one
    level). Half of the epochs the weights learn alone. DARTS descends a mixture of the options
    instead, but the weights learn to work as a mixture and then do not tell what a candidate would
    do; `tests/benchmarks/differentiable.py` and `differentiable_joint.py` compare. DARTS is
    `levels=2, gradient="first", sampling="softmax", warm_up=0, architecture_rate=3e-4,
    learning_rate=0.025, epochs=50, cost_weight=0`, DropNAS `levels=1, gradient="first",
    sampling="softmax", drop=3e-5`.

    Attributes:
        epochs: passes over the images.
        batch_size: of both kinds of step.
        learning_rate: of the weights at first, SGD with momentum 0.9 (DARTS: 0.025).
        least_rate: of the weights at the end (DARTS: 0.001).
        annealing_order: 1 is a cosine; the larger, the earlier the rate falls (sharpDARTS: 10).
        weight_decay: of the weights (DARTS: 3e-4).
        max_gradient: norm at which the weights' gradient is clipped (DARTS: 5).
        architecture_rate: of the distribution's logits, Adam (DARTS: 3e-4); 0 is 3 over the number
            of steps in which they learn. Shared weights rank candidates coarsely, so logits should
            not follow them to the end, however many batches there are.
        architecture_decay: of the logits (DARTS: 1e-3).
        warm_up: share of the epochs in which only the weights learn (QuantNAS: 0.45; DARTS: 0).
        levels: 2 trains weights on one half of the images and logits on the other (DARTS); 1 both
            on all of them, by the same loss (DropNAS).
        gradient: of the loss by the logits. `first` leaves out how the weights would follow;
            `second` looks one step ahead (DARTS, equation 7); `amended` adds a term that replaces
            the inverse Hessian of the exact one (Bi et al. 2019, equation 6); `score-function`
            is that of the expected loss of single candidates, from 4 drawn ones a step
            (ProxylessNAS); with one level they divide a batch, and train the weights, too.
        amended_rate: step of the amended term (published: 0.1).
        sampling: of mixtures: `softmax` of all options, `gumbel` noise on the logits, or
            `straight-through`: one option, gradients as if it were the mixture (GDAS).
        temperature: by which logits are divided at first.
        least_temperature: at the end; 1 with schedule `constant` is plain DARTS.
        schedule: `exponential` falls evenly on a logarithmic scale; `entropy` falls as far as makes
            the distribution's entropy fall evenly to 0.
        noise_share: of the logits that get normal noise in a step (sparse-noisy softmax).
        drop: DropNAS' r, the probability that a whole group of options is dropped (3e-5); 0 is off.
        max_weight: Max-W of sharpDARTS: the likeliest option keeps weight 1.
        teachers: earlier states that vote on soft labels (SD-DARTS: 3); 0 is off.
        teacher_epochs: between two teachers.
        teacher_weight: of their loss.
        entropy_weight: of the distribution's mean entropy in the loss (QuantNAS: 1e-3).
        resources: what limits on costs do: a `penalty` on the expected excess, or `projection`
            onto distributions whose expected costs keep them (RC-DARTS).
        penalty_weight: of the relative excess, with `penalty`.
        cost_weight: of the logarithms of the expected costs that are objectives (QuantNAS' hardware
            penalty); 0.05 makes halving a cost worth 0.035 of cross-entropy.
        cost_spread: trade-offs from this part of `cost_weight` to this multiple of it are learned
            at once, as distributions that follow a preference, and seeds come from all of them
            (QuantNAS trains anew for weights from 1e-4 to 1e-2); 1 is one trade-off.
        curvature: of the held-out loss by the logits: `monitor` measures it every second epoch
            once they learn, `stop` ends where its average over 5 has grown 1.3-fold within 4
            (R-DARTS), `adapt` goes back to before it grew and on from there with a larger
            `weight_decay`, until that is at its bound (DARTS-ADA).
        decay_growth: factor of the weight decay each time, with `adapt` (R-DARTS' scripts: 10).
        max_decay: its bound (R-DARTS' scripts: 0.03).
        quantization_noise: weights get noise as wide as a step instead of being rounded (QuantNAS).
        candidates: that the learned distribution proposes before the job's strategy goes on.
    """

    owner = "differentiable"

    epochs: int = 20
    batch_size: int = 64
    learning_rate: float = 0.05
    least_rate: float = 0.001
    annealing_order: float = 1.0
    weight_decay: float = 3e-4
    max_gradient: float = 5.0
    architecture_rate: float = 0.0
    architecture_decay: float = 1e-3
    warm_up: float = 0.5
    levels: int = 1
    gradient: Literal["first", "second", "amended", "score-function"] = "score-function"
    amended_rate: float = 0.1
    sampling: Literal["softmax", "gumbel", "straight-through"] = "straight-through"
    temperature: float = 1.0
    least_temperature: float = 1.0
    schedule: Literal["constant", "exponential", "entropy"] = "constant"
    noise_share: float = 0.0
    drop: float = 0.0
    max_weight: bool = False
    teachers: int = 0
    teacher_epochs: int = 5
    teacher_weight: float = 1.0
    entropy_weight: float = 0.0
    resources: Literal["none", "penalty", "projection"] = "none"
    penalty_weight: float = 1.0
    cost_weight: float = 0.05
    cost_spread: float = 10.0
    curvature: Literal["off", "monitor", "stop", "adapt"] = "off"
    decay_growth: float = 10.0
    max_decay: float = 0.03
    quantization_noise: bool = False
    candidates: int = 10

    def __post_init__(self) -> None:
        self._require(["teachers"], 0, 1_000_000)
        self._require(["levels"], 1, 2)
        self._require(["epochs", "teacher_epochs", "candidates"], 1, 1_000_000)
        self._require(["batch_size"], 2, 1_000_000)
        self._require(["noise_share", "drop", "warm_up"], 0.0, 1.0)
        self._require(["learning_rate", "amended_rate", "max_gradient"], 1e-9, 1e6)
        self._require(["temperature", "least_temperature"], 1e-3, 1e3)
        self._require(["annealing_order"], 1.0, 1e6)
        self._require(["cost_spread"], 1.0, 1e6)
        self._require(["decay_growth"], 1.5, 1e6)
        decays = ["least_rate", "weight_decay", "max_decay", "architecture_decay"]
        decays.append("architecture_rate")
        weights = ["teacher_weight", "entropy_weight", "penalty_weight", "cost_weight"]
        self._require([*decays, *weights], 0.0, 1e6)
        self._require_words()
        self._refuse_nonsense()

    @property
    def is_one_level(self) -> bool:
        """Whether weights and distribution learn from the same images."""
        return self.levels == 1

    @property
    def scores_parts(self) -> bool:
        """Whether a batch is divided among candidates that move weights and logits at once."""
        return self.is_one_level and self.gradient == "score-function"

    @property
    def has_tradeoffs(self) -> bool:
        """Whether costs that are objectives have more than one price."""
        return self.cost_weight > 0 and self.cost_spread > 1

    def price_at(self, preference: float) -> float:
        """Weight of the costs at a preference from -1, accurate, to 1, cheap."""
        return float(self.cost_weight * self.cost_spread**preference)

    @property
    def max_rollbacks(self) -> int:
        """Times that a training may go back, each with a larger weight decay than before."""
        if self.curvature != "adapt":
            return 0
        growth = math.log(self.max_decay / self.weight_decay, self.decay_growth)
        return math.ceil(growth - 1e-9)

    @property
    def max_epochs(self) -> int:
        """Epochs at most, with those done again."""
        return self.epochs + self.max_rollbacks * APART * CURVATURE_EPOCHS

    def learns_in(self, epoch: int) -> bool:
        """Whether logits learn in the epoch after `epoch` ones."""
        return epoch >= self.warm_up * self.epochs

    def rate_of_logits(self, n_batches: int) -> float:
        """Their learning rate, with so many batches an epoch."""
        n_epochs = sum(self.learns_in(epoch) for epoch in range(self.epochs))
        return self.architecture_rate or TRAVEL / max(1, n_batches * n_epochs)

    def decay_after(self, rollbacks: int) -> float:
        """Weight decay after going back so often."""
        if rollbacks == 0:
            return self.weight_decay
        if rollbacks >= self.max_rollbacks:
            return self.max_decay
        return self.weight_decay * self.decay_growth**rollbacks

    def _refuse_nonsense(self) -> None:
        one_hot = self.sampling == "straight-through"
        reasons = {
            "warm_up": (self.warm_up == 1, "below 1, or the logits never learn"),
            "least_rate": (self.least_rate > self.learning_rate, "at most the learning rate"),
            "max_weight": (
                self.max_weight and one_hot,
                "false with straight-through sampling, which leaves one option at weight 1",
            ),
            "drop": (
                self.drop > 0 and self.sampling != "softmax",
                "0 unless sampling is softmax: drawn options are dropped already",
            ),
            "gradient": (
                self.gradient == "score-function" and not one_hot,
                "another one unless sampling is straight-through: it scores single candidates",
            ),
            "temperature": (
                self.gradient == "score-function"
                and (self.temperature != 1 or self.schedule != "constant"),
                "1 and constant with the score-function gradient, whose draws have none",
            ),
            "levels": (
                self.is_one_level and self.gradient in ("second", "amended"),
                "2 with this gradient: it is of images that the weights do not learn from",
            ),
            "batch_size": (
                self.scores_parts and self.batch_size < 4 * N_SCORED,
                f"at least {4 * N_SCORED} with one level and the score-function gradient, which "
                f"divide it among {N_SCORED} candidates",
            ),
            "noise_share": (
                self.noise_share > 0 and self.sampling != "softmax",
                "0 unless sampling is softmax: Gumbel noise is noise already",
            ),
            "least_temperature": (
                (self.least_temperature != self.temperature and self.schedule == "constant")
                or self.least_temperature > self.temperature,
                "the temperature with schedule constant, else at most it",
            ),
            "curvature": (
                self.curvature in ("stop", "adapt") and self.is_one_level,
                "off or monitor with one level: R-DARTS looks at held-out images",
            ),
            "weight_decay": (
                self.curvature == "adapt" and not 1e-9 <= self.weight_decay < self.max_decay,
                "from 1e-9 and below max_decay with curvature adapt, or it cannot grow",
            ),
        }  # fmt: skip
        for name, (nonsense, expected) in reasons.items():
            if nonsense:
                raise InvalidInputError(f"{self.owner}.{name}", getattr(self, name), expected)
