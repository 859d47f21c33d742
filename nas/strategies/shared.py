"""Shared weights first, then a search that uses them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nas.core import EvaluationError, SearchStrategy, Task, TrainShared, Trial, TrialState

MAX_FAILURES = 3


class SharedFirst(SearchStrategy):
    """Asks for the training of shared weights piece by piece; then it is `search`.

    `search` is told of everything but these pieces.

    Args:
        search: asked once the weights are trained.
        method: of the training.
        epochs: in all.
        piece: epochs of one task, so that a death loses little and progress is seen.
        trained: called with every completed piece.
    """

    def __init__(
        self,
        search: SearchStrategy,
        method: str,
        epochs: int,
        piece: int,
        trained: Callable[[Trial], None] | None = None,
    ) -> None:
        self._search = search
        self._method = method
        self._epochs = epochs
        self._piece = piece
        self._listener = trained
        self._trained = 0
        self._running = False
        self._failures = 0

    def ask(self, n: int) -> Sequence[Task]:
        """The next piece of training, alone; after the last one, what the search asks.

        Raises:
            EvaluationError: a piece failed three times.
        """
        if self._trained >= self._epochs:
            return self._search.ask(n)
        if self._running:
            return []
        if self._failures >= MAX_FAILURES:
            raise EvaluationError(f"training the shared weights failed {self._failures} times")
        return [TrainShared(self._method, min(self._trained + self._piece, self._epochs))]

    def recall(self, trials: Sequence[Trial]) -> None:
        """Take completed trials of earlier jobs."""
        self._search.recall(trials)

    def learn_from(self, trials: Sequence[Trial]) -> None:
        """Take trials of an earlier job as guidance."""
        self._search.learn_from(trials)

    def tell(self, trials: Sequence[Trial]) -> None:
        """Take trials in event order."""
        for trial in trials:
            if not isinstance(trial.task, TrainShared) or trial.task.method != self._method:
                self._search.tell([trial])
                continue
            self._running = trial.state is TrialState.RUNNING
            self._failures += trial.state is TrialState.FAILED
            if trial.state is TrialState.COMPLETED:
                self._trained = max(self._trained, trial.task.epochs)
                if self._listener is not None:
                    self._listener(trial)
