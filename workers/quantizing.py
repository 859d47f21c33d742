"""From a trained float network to a quantized one: prune, fold, calibrate, train again."""

from __future__ import annotations

from torch import nn

from nas.core import Candidate
from searchspaces import ModelFamily
from searchspaces.compression import write_zeros
from searchspaces.layers import FLOAT_BITS, set_observing
from workers.datasets import Dataset, Images
from workers.training import TrainingSettings, logits_of, recalibrate_batch_norm, train

N_CALIBRATION = 512
FINETUNE_RATE = 2e-3
QAT_RATE = 1e-2


def prune_and_finetune(
    network: nn.Module,
    family: ModelFamily,
    candidate: Candidate,
    data: Dataset,
    epochs: int,
    seed: int,
) -> None:
    """Prune a trained network in place, train it on, and refresh its batch-norm statistics."""
    family.prune(network, candidate)
    settings = TrainingSettings(epochs, learning_rate=FINETUNE_RATE)
    train(network, data.x_train, data.y_train, settings, seed)
    recalibrate_batch_norm(network, data.x_train)


def quantize_and_finetune(
    network: nn.Module,
    family: ModelFamily,
    candidate: Candidate,
    data: Dataset,
    epochs: int,
    seed: int,
) -> None:
    """Quantize a pruned float network in place and train it with fake quantization in the loop.

    Networks without a quantized stage train on for as many epochs, before their norms are folded:
    candidates are compared after equal training.
    """
    settings = TrainingSettings(epochs, learning_rate=QAT_RATE, weight_decay=0.0)
    x, y = data.x_train, data.y_train
    quantized = any(min(bits) < FLOAT_BITS for bits in family.bits(candidate).values())
    if not quantized:
        train(network, x, y, settings, seed)
        recalibrate_batch_norm(network, x)
    family.quantize(network, candidate)
    if quantized:
        calibrate(network, x[:N_CALIBRATION])
        train(network, x, y, settings, seed)
    write_zeros(network)


def calibrate(network: nn.Module, x: Images) -> None:
    """Set every activation range from `x (n, C, H, W)`."""
    set_observing(network, True)
    logits_of(network, x)
    set_observing(network, False)
