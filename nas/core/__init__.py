"""The vocabulary every other package speaks: spaces, candidates, trials, goals, seams, errors.

Needs numpy and moocore only, so that an edge device, a notebook and the server can all import it.
"""

from nas.core.candidate import Candidate, Genotypes, Value
from nas.core.cell import Cell
from nas.core.decision import Condition, Decision
from nas.core.descent import descend
from nas.core.errors import (
    ConflictError,
    EvaluationError,
    InfeasibleError,
    InvalidInputError,
    NasError,
    NotFoundError,
    StoreError,
    UnknownNameError,
    WorkerLostError,
)
from nas.core.goals import Constraint, Direction, Goals, Objective, Relation
from nas.core.interfaces import (
    CostTable,
    DifferentiablePredictor,
    Evaluation,
    Evaluator,
    Executor,
    JobStore,
    LatencyQuantiles,
    Learner,
    Prediction,
    Predictor,
    Profile,
    Profiler,
    Report,
    SearchStrategy,
    SharedTrainer,
    TransferPredictor,
    TrialStore,
)
from nas.core.job import Job, JobState
from nas.core.pareto import Front, front_of, hypervolume, non_dominated, reference_point
from nas.core.space import SearchSpace
from nas.core.trial import (
    Evaluate,
    Event,
    EventKind,
    Fidelity,
    Task,
    TrainShared,
    Trial,
    TrialState,
)

__all__ = [
    "Candidate",
    "Cell",
    "Condition",
    "ConflictError",
    "Constraint",
    "CostTable",
    "Decision",
    "DifferentiablePredictor",
    "Direction",
    "Evaluate",
    "Evaluation",
    "EvaluationError",
    "Evaluator",
    "Event",
    "EventKind",
    "Executor",
    "Fidelity",
    "Front",
    "Genotypes",
    "Goals",
    "InfeasibleError",
    "InvalidInputError",
    "Job",
    "JobState",
    "JobStore",
    "LatencyQuantiles",
    "Learner",
    "NasError",
    "NotFoundError",
    "Objective",
    "Prediction",
    "Predictor",
    "Profile",
    "Profiler",
    "Relation",
    "Report",
    "SearchSpace",
    "SearchStrategy",
    "SharedTrainer",
    "StoreError",
    "Task",
    "TrainShared",
    "TransferPredictor",
    "Trial",
    "TrialState",
    "TrialStore",
    "UnknownNameError",
    "Value",
    "WorkerLostError",
    "descend",
    "front_of",
    "hypervolume",
    "non_dominated",
    "reference_point",
]
