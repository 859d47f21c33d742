"""The seams: everything an extension may implement.

Stores are in `nas.core.stores`, model families in `searchspaces`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nas.core.candidate import Candidate, Genotypes
from nas.core.profile import Profile
from nas.core.trial import Fidelity, Task, Trial

CostTable = Mapping[str, NDArray[np.float64]]
"""`(n,)` column per closed-form cost (`macs`, `weight_bytes`, …), one entry a candidate."""

Report = Callable[[str], None]
"""Takes one line of progress for people."""


class SearchStrategy(ABC):
    """Proposes tasks. A pure function of its arguments and of the events told to it.

    `ask` draws from `default_rng((seed, number))`, where `number` is the next trial's number
    (started trials told so far), so a fresh strategy told the stored log continues with the
    identical next trial. Not thread-safe; one driver owns it.

        tasks = strategy.ask(1)
        strategy.tell([store.create(task) for task in tasks])   # started
        strategy.tell(executor.poll(1.0))                       # finished
    """

    @abstractmethod
    def ask(self, n: int) -> Sequence[Task]:
        """At most `n` next tasks, never an evaluation told before; [] is wait, or finished.

        Asking twice without telling gives the same tasks twice: `ask` changes nothing. With
        nothing running, [] means that the search is finished.
        """

    @abstractmethod
    def tell(self, trials: Sequence[Trial]) -> None:
        """Take trials, started (running) or finished, in the order of the job's events."""

    @abstractmethod
    def recall(self, trials: Sequence[Trial]) -> None:
        """Take completed trials of earlier jobs whose scores mean the same; before any `tell`.

        They count as measured, and never as asked: their numbers are of no account.
        """

    def learn_from(self, trials: Sequence[Trial]) -> None:  # noqa: B027 (most ignore it)
        """Take completed trials of one earlier job whose scores mean something else; before `tell`.

        Other data, another fidelity, other shared weights: they may guide what is asked, and are
        never results. Ignored, unless a strategy says otherwise.
        """


@dataclass(frozen=True)
class Prediction:
    """Mean and standard deviation, both `(n, m)`."""

    mean: NDArray[np.float64]
    std: NDArray[np.float64]


class Predictor(ABC):
    """Regression of `(n, m)` targets on `(n, d)` features, with uncertainty."""

    @abstractmethod
    def fit(self, x: NDArray[np.float32], y: NDArray[np.float64]) -> Self:
        """Learn from `x (n, d)` and `y (n, m)`, forgetting earlier fits. Returns self."""

    @abstractmethod
    def predict(self, x: NDArray[np.float32]) -> Prediction:
        """Predict for `x (n, d)`.

        Raises:
            ConflictError: not fitted.
        """


class TransferPredictor(Predictor):
    """A predictor that a related task with the same features can teach beforehand."""

    @abstractmethod
    def pretrain(self, x: NDArray[np.float32], y: NDArray[np.float64]) -> Self:
        """Learn a related task from `x (n, d)` and `y (n, m)`; later fits start from it.

        Targets are column by column akin to those of `fit`; nan where one was not measured.
        """


class DifferentiablePredictor(Predictor):
    """A predictor that knows how its prediction changes with the features."""

    @abstractmethod
    def slope(
        self, x: NDArray[np.float32], weights: NDArray[np.float64], beta: float
    ) -> NDArray[np.float64]:
        """`(n, d)` gradient of `sum_j weights_j (mean_j - beta std_j)` at `x (n, d)`.

        Args:
            x: features, fractional ones included.
            weights: `(m,)` of the targets, or `(n, m)`, for every row its own.
            beta: standard deviations of optimism; targets are losses.

        Raises:
            ConflictError: not fitted, or on too few rows to tell.
        """


@dataclass(frozen=True)
class Learner:
    """What a predictor sees of candidates, and the predictor.

    Attributes:
        featurize: `(n, d)` rows to `(n, f)` features.
        predictor: makes a fresh one, for these features.
    """

    featurize: Callable[[Genotypes], NDArray[np.float32]]
    predictor: Callable[[], Predictor]


@dataclass(frozen=True)
class Evaluation:
    """What an evaluator found; the fields are those of `Trial`."""

    metrics: Mapping[str, float]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    artifacts: Mapping[str, str] = field(default_factory=dict)


class Evaluator(ABC):
    """Scores one candidate; runs in worker processes, so it must survive being shipped there."""

    @abstractmethod
    def evaluate(
        self, candidate: Candidate, fidelity: Fidelity, report: Report, effort: float = 1.0
    ) -> Evaluation:
        """Score `candidate` at `fidelity`, with `effort` of its epochs where there are any.

        The same call gives the same accuracy.

        Raises:
            EvaluationError: the candidate cannot be scored; becomes the trial's error.
        """


class SharedTrainer(ABC):
    """Trains weights that many candidates share; an evaluator may be one, too."""

    @abstractmethod
    def train_shared(self, method: str, epochs: int, report: Report) -> Evaluation:
        """Train until the shared weights have had `epochs` epochs in all, keeping each.

        Called again after a death it goes on from the last epoch kept; where all epochs are there
        it returns at once.

        Raises:
            EvaluationError: another method than the one whose weights these are.
        """


class Executor(ABC):
    """Runs trials somewhere. Every trial submitted comes back from `poll` once, finished.

    Single-threaded use. A context manager: leaving it cancels what runs and frees resources.
    """

    @abstractmethod
    def capacity(self) -> int:
        """How many more trials may be submitted now."""

    @abstractmethod
    def limit(self, n: int | None) -> None:
        """From now on run at most `n` trials at once; None for as many as were there at first.

        What runs already goes on; with 0 nothing new is started.
        """

    @abstractmethod
    def submit(self, trial: Trial) -> None:
        """Start a running trial."""

    @abstractmethod
    def poll(self, timeout: float) -> Sequence[Trial]:
        """Finished trials, waiting at most `timeout` seconds for the first."""

    @abstractmethod
    def cancel(self, number: int) -> None:
        """Stop a submitted trial; it does not come back from `poll`."""

    @abstractmethod
    def close(self) -> None:
        """Cancel everything submitted and free what was taken. Closing twice is fine."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Profiler(ABC):
    """Times exported artifacts on a device."""

    @abstractmethod
    def profile(self, artifact: Path) -> Profile:
        """Load and time `artifact`.

        Raises:
            EvaluationError: the device's runtime cannot load or run it.
        """
