"""What a user may set of the training of shared weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from searchspaces import Importance
from workers.distillation import Distillation
from workers.settings import Settings


@dataclass(frozen=True)
class SupernetSettings(Settings):
    """How shared weights are trained. Each switch stands alone.

    Defaults train one uniform candidate a step. On small images of MNIST (40 candidates, five
    seeds) Kendall's tau to the mean of three stand-alone trainings of each, which agree to 0.72 to
    0.82, was 0.56 to 0.67 by accuracy and 0.59 to 0.72 by the mean probability of the true class.
    PA&DA, at equal work, had 0.52 to 0.74 and 0.56 to 0.76, the sandwich rule 0.57 to 0.67 and 0.54
    to 0.65 with accuracies 11 points below stand-alone ones, where uniform ones are 4 below:
    `tests/benchmarks/supernet.py --seeds 5 --truths 3`. On digits no recipe was ahead either. The
    recipe of larger data is `n_random=2, max_dropout=0.1`; PA&DA is `paths="importance",
    images="importance"`.

    Attributes:
        epochs: passes over the data in all.
        batch_size: images a step.
        learning_rate: peak; a linear warm-up over a tenth of the steps, then a cosine to zero.
        weight_decay: of AdamW, on convolution and linear weights.
        n_random: random candidates a step beside largest and smallest (Yu and Huang 2019,
            sandwich rule: 2); 0 trains one uniform candidate a step (Guo et al. 2020, SPOS), a
            third to a quarter of the work.
        distillation: `none`, `kl`, or `alpha`, how smaller candidates learn from their teacher,
            where a step has one.
        teacher: `largest` (in-place distillation), or `previous`: largest, random, smallest, each
            from the one before (Xu et al. 2023, EQ-Net, progressive guidance).
        label_share: share of the true labels in a student's loss (EQ-Net: 0.5).
        max_dropout: dropout of the largest candidate; a smaller one has it in proportion to its
            parameters (Shangguan et al. 2023, TODM).
        shrinking: kernels vary first, then depths, then the rest; channels are put in order of
            importance before widths vary (Cai et al. 2020).
        importance: by which channels are ordered then: `l1`, `norm` or `taylor`.
        paths: `uniform`, or `importance`: options with larger gradients oftener (Lu et al. 2023,
            PA&DA, equation 12).
        images: `uniform`, or `importance`: images with larger errors oftener (PA&DA, equation 15).
        float_share: share of the epochs before bits are in the loop.
        kurtosis_weight: of the pull of weight kurtosis to 1.8 (EQ-Net: 0.015).
        skewness_weight: of the pull of weight skewness to 0 (EQ-Net: 1.0).
        max_gradient: norm to which gradients are clipped.
        n_workers: processes that share every batch; more than one are tasks on Ray.
    """

    owner = "supernet"

    epochs: int = 200
    batch_size: int = 64
    learning_rate: float = 5e-3
    weight_decay: float = 1e-3
    n_random: int = 0
    distillation: Distillation = "kl"
    teacher: Literal["largest", "previous"] = "largest"
    label_share: float = 0.5
    max_dropout: float = 0.0
    shrinking: bool = False
    importance: Importance = "l1"
    paths: Literal["uniform", "importance"] = "uniform"
    images: Literal["uniform", "importance"] = "uniform"
    float_share: float = 0.25
    kurtosis_weight: float = 0.0
    skewness_weight: float = 0.0
    max_gradient: float = 1.0
    n_workers: int = 1

    def __post_init__(self) -> None:
        for name, least in {"epochs": 1, "batch_size": 2, "n_random": 0, "n_workers": 1}.items():
            self._require([name], least, 1_000_000)
        self._require(["label_share", "max_dropout", "float_share"], 0.0, 1.0)
        self._require(["weight_decay", "kurtosis_weight", "skewness_weight"], 0.0, 1e6)
        self._require(["learning_rate", "max_gradient"], 1e-9, 1e6)
        self._require_words()
