"""Layers that networks of every family are made of."""

from searchspaces.layers.quantizers import ActivationQuantizer, WeightQuantizer, set_observing
from searchspaces.layers.units import ConvUnit, LinearUnit

__all__ = ["ActivationQuantizer", "ConvUnit", "LinearUnit", "WeightQuantizer", "set_observing"]
