"""Search strategies behind ask and tell."""

from nas.strategies.cross_entropy import CrossEntropy
from nas.strategies.differential_evolution import DifferentialEvolution
from nas.strategies.evolution import RegularizedEvolution
from nas.strategies.finalists import Finalists
from nas.strategies.given import Given
from nas.strategies.gradient_guided import GradientGuided
from nas.strategies.local_search import LocalSearch
from nas.strategies.nsga import NSGA2, NSGA3
from nas.strategies.optuna import OptunaSearch, Sampler
from nas.strategies.predictor_guided import PredictorGuided
from nas.strategies.random import RandomSearch
from nas.strategies.registry import (
    STRATEGIES,
    SearchContext,
    Setting,
    Word,
    checked_options,
    make_strategy,
    require_strategy,
)
from nas.strategies.seeded import Seeded, handed_over
from nas.strategies.shared import SharedFirst
from nas.strategies.successive_halving import SuccessiveHalving

__all__ = [
    "NSGA2",
    "NSGA3",
    "STRATEGIES",
    "CrossEntropy",
    "DifferentialEvolution",
    "Finalists",
    "GradientGuided",
    "LocalSearch",
    "OptunaSearch",
    "PredictorGuided",
    "RandomSearch",
    "RegularizedEvolution",
    "Sampler",
    "SearchContext",
    "Given",
    "Seeded",
    "Setting",
    "SharedFirst",
    "SuccessiveHalving",
    "Word",
    "checked_options",
    "handed_over",
    "make_strategy",
    "require_strategy",
]
