"""Layers that networks of every family are made of."""

from searchspaces.layers.elastic import (
    Calibration,
    ElasticActivationQuantizer,
    ElasticConvUnit,
    ElasticLinearUnit,
)
from searchspaces.layers.quantizers import (
    FLOAT_BITS,
    ActivationQuantizer,
    WeightGrid,
    WeightQuantizer,
    set_observing,
)
from searchspaces.layers.sparsity import DENSE, Sparsity
from searchspaces.layers.units import ConvUnit, LinearUnit, Rounded, Rounding

__all__ = [
    "DENSE",
    "FLOAT_BITS",
    "ActivationQuantizer",
    "Calibration",
    "ConvUnit",
    "ElasticActivationQuantizer",
    "ElasticConvUnit",
    "ElasticLinearUnit",
    "LinearUnit",
    "Rounded",
    "Rounding",
    "Sparsity",
    "WeightGrid",
    "WeightQuantizer",
    "set_observing",
]
