"""What a specification means: its data loaded, its space built, its strategy made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

import searchspaces
from nas.core import (
    Constraint,
    CostTable,
    Evaluator,
    Fidelity,
    Genotypes,
    InvalidInputError,
    Learner,
    SearchStrategy,
    UnknownNameError,
)
from nas.core.goals import metric_and_device, on_device
from nas.core.trial import DIFFERENTIABLE
from nas.spec import N_PIECES, JobSpec
from nas.strategies import (
    Finalists,
    Given,
    SearchContext,
    Seeded,
    SharedFirst,
    handed_over,
    make_strategy,
    require_strategy,
)
from predictors.encoders import one_hot
from predictors.learners import learner
from predictors.narrowing import harmful_flags
from predictors.registry import default, surrogate
from predictors.warm_start import WarmStarted
from workers.datasets import Dataset, load_dataset
from workers.differentiable.settings import DifferentiableSettings
from workers.differentiable.shared import DifferentiableEvaluator
from workers.evaluation import CandidateEvaluator, EvaluationSettings
from workers.inherited import LATENCY_METRICS, SupernetEvaluator
from workers.inherited import METHOD as SUPERNET
from workers.remote import DEVICE_METRICS, RemoteDevices
from workers.simulated import NO_TABLES, SimulatedDevices
from workers.supernet import training_digest
from workers.supernet_settings import SupernetSettings

MEASURED = ("accuracy", "true_class_probability", "latency_ms", "latency_ratio", "file_bytes")
"""Metrics every search trial measures; a family's cost columns come on top."""


@dataclass(frozen=True)
class Problem:
    """A job's data, space and goals, checked against each other.

    Attributes:
        spec: where it comes from.
        dataset: images and labels, split.
        family: builds the networks of the space.
    """

    spec: JobSpec
    dataset: Dataset
    family: searchspaces.ModelFamily

    @classmethod
    def load(cls, spec: JobSpec, uploads: Path | None = None) -> Self:
        """Load the data, build the space, and check every name and setting.

        Args:
            spec: what is wanted.
            uploads: folder of data sets named `upload:<digest>`.

        Raises:
            InvalidInputError: anything in the specification that cannot work.
        """
        require_strategy("strategy", spec.strategy.name)
        dataset = load_dataset(spec.data, limit=spec.data_limit, uploads=uploads)
        family = searchspaces.family(
            spec.space.name, dataset.input_shape, dataset.n_classes, spec.space.options
        )
        problem = cls(spec, dataset, family)
        if problem.supernet_settings is not None:
            family.supernet()  # refuses where the family has none
        if problem.differentiable_settings is not None:
            family.relaxed()
        problem._check_metrics()
        problem._check_resources()
        problem.strategy()
        return problem

    @cached_property
    def cost_names(self) -> tuple[str, ...]:
        """Columns of the family's closed-form costs."""
        row = self.family.space.sample(1, np.random.default_rng(0))
        return tuple(self.family.costs(row))

    @property
    def cost_constraints(self) -> tuple[Constraint, ...]:
        """Constraints on closed-form costs."""
        return tuple(c for c in self.spec.goals.constraints if c.metric in self.cost_names)

    def admissible(self, rows: Genotypes) -> NDArray[np.bool_]:
        """`(n,)` which of `(n, d)` rows are connected and meet the constraints on known costs."""
        found = self.family.connected(rows)
        if self.cost_constraints:
            found &= self.violations(self.family.costs(rows), len(rows)) == 0.0
        return found

    def violations(self, costs: CostTable, n: int) -> NDArray[np.float64]:
        """`(n,)` relative excess over the constraints on closed-form costs."""
        return self.spec.goals.violations(costs, n)

    def strategy(self) -> SearchStrategy:
        """A fresh strategy for this job: the search, then its finalists.

        Raises:
            InvalidInputError: a strategy setting that does not exist or is out of range.
        """
        search, learned, settings = self._search(), None, self.differentiable_settings
        if settings is not None:
            search = learned = Seeded(
                search,
                self.family.space,
                settings.candidates,
                self.spec.seed,
                self.search_fidelity,
                self.admissible,
                spread=len(self.spec.goals.objectives) > 1,
            )
        if self.spec.candidates:
            search = Given(search, self.family.space, self._given_rows(), self.search_fidelity)
        budget = self.spec.budget
        search = Finalists(
            search,
            self.spec.goals,
            n_trials=budget.trials,
            n_finalists=budget.finalists,
            max_worker_seconds=budget.worker_seconds,
        )
        if settings is not None and learned is not None:
            piece = -(-settings.epochs // N_PIECES)
            listener = partial(handed_over, learned)
            search = SharedFirst(search, DIFFERENTIABLE, settings.epochs, piece, listener)
        if self.supernet_settings is not None:
            epochs = self.supernet_settings.epochs
            search = SharedFirst(search, SUPERNET, epochs, -(-epochs // N_PIECES))
        return search

    @cached_property
    def supernet_settings(self) -> SupernetSettings | None:
        """How the supernet is trained; None where every candidate is trained by itself.

        Raises:
            InvalidInputError: a setting that does not exist, or a value it cannot have.
        """
        options = self.spec.supernet
        return None if options is None else SupernetSettings.parse(options)

    @cached_property
    def differentiable_settings(self) -> DifferentiableSettings | None:
        """How a distribution over candidates is learned first; None where none is.

        Raises:
            InvalidInputError: a setting that does not exist, or a value it cannot have.
        """
        options = self.spec.differentiable
        return None if options is None else DifferentiableSettings.parse(options)

    @cached_property
    def supernet_version(self) -> str | None:
        """Name of the fully trained supernet by which candidates are scored."""
        settings = self.supernet_settings
        if settings is None:
            return None
        digest = training_digest(self.family, self.dataset.digest, settings, self.spec.seed)
        return f"{digest}-e{settings.epochs}"

    @property
    def search_fidelity(self) -> Fidelity:
        """How search trials are scored."""
        return Fidelity.TRAINED if self.spec.supernet is None else Fidelity.INHERITED

    @property
    def evaluation(self) -> EvaluationSettings:
        """How much work each fidelity does."""
        training = self.spec.training
        return EvaluationSettings(
            epochs=training.epochs,
            finetune_epochs=training.finetune_epochs,
            qat_epochs=training.qat_epochs,
            deployed_epochs=training.deployed_epochs,
            n_runs=training.latency_runs,
            seed=self.spec.seed,
        )

    def evaluator(
        self,
        artifact_folder: Path,
        supernet_folder: Path,
        devices: RemoteDevices | None = None,
        simulated: SimulatedDevices = NO_TABLES,
    ) -> Evaluator:
        """Scores candidates of this job.

        Args:
            artifact_folder: for the files of candidates.
            supernet_folder: for supernets, which jobs share.
            devices: with agents, where files are timed, too.
            simulated: that are tables, which are asked, too.
        """
        trained = CandidateEvaluator(
            self.family, self.dataset, artifact_folder, self.evaluation, devices, simulated
        )
        evaluator: Evaluator = trained
        if self.supernet_settings is not None:
            named = [metric_and_device(metric) for metric in self.spec.goals.metrics]
            told = {table.device for table in simulated.tables}
            timed = any(of not in told if of else m in LATENCY_METRICS for m, of in named)
            evaluator = SupernetEvaluator(trained, supernet_folder, self.supernet_settings, timed)
        if self.differentiable_settings is not None:
            evaluator = DifferentiableEvaluator(
                evaluator,
                self.family,
                self.dataset,
                self.spec.goals,
                self.differentiable_settings,
                self.spec.seed,
                artifact_folder,
            )
        return evaluator

    def _search(self) -> SearchStrategy:
        context = SearchContext(
            space=self.family.space,
            goals=self.spec.goals,
            seed=self.spec.seed,
            n_trials=self.spec.budget.trials,
            fidelity=self.search_fidelity,
            admissible=self.admissible,
            costs=self.family.costs,
            learner=self._learner,
            default_predictor=default(len(self.spec.goals.objectives)),
            one_hot=partial(one_hot, self.family.space),
            surrogate=partial(surrogate, self.spec.seed % 2**31),
            narrow=partial(harmful_flags, self.family.space, self.spec.seed % 2**31),
        )
        options = self.spec.strategy.options
        rungs = options.get("rungs", 1)
        if self.spec.supernet is not None and rungs != 1:
            raise InvalidInputError(
                "strategy.options.rungs", rungs, "1 with a supernet: its scores need no training"
            )
        return make_strategy(self.spec.strategy.name, context, options)

    def _given_rows(self) -> Genotypes:
        """`(n, d)` candidates to try first.

        Raises:
            InvalidInputError: a decision missing, unknown or without that option, or a candidate
                whose output does not follow its input.
        """
        rows = np.stack([self.family.space.row(values) for values in self.spec.candidates])
        for values, is_connected in zip(
            self.spec.candidates, self.family.connected(rows), strict=True
        ):
            if not is_connected:
                raise InvalidInputError("candidates", values, "a network that reads its input")
        return rows

    def _learner(self, name: str) -> Learner:
        """A predictor by name that earlier jobs may teach."""
        seed = self.spec.seed % 2**31
        plain = learner(name, seed, self.family.space, self.family.costs)
        return replace(plain, predictor=partial(WarmStarted, plain.predictor, seed))

    def _check_resources(self) -> None:
        settings = self.differentiable_settings
        if settings is None or settings.resources == "none" or self.cost_constraints:
            return
        names = ", ".join(self.cost_names)
        raise InvalidInputError(
            "differentiable.resources", settings.resources, f"none, or a constraint on {names}"
        )

    def _check_metrics(self) -> None:
        elsewhere = [on_device(m, d) for d in self.spec.remote_devices for m in DEVICE_METRICS]
        known = (*MEASURED, *self.cost_names, *elsewhere)
        goals = self.spec.goals
        for field, metrics in (
            ("objectives", [o.metric for o in goals.objectives]),
            ("constraints", [c.metric for c in goals.constraints]),
        ):
            for metric in metrics:
                if metric == "test_accuracy":
                    raise InvalidInputError(
                        field, metric, "the test split is read once, at the end; use accuracy"
                    )
                if metric not in known:
                    raise UnknownNameError(field, metric, known)
