"""The vocabulary every other package speaks: spaces, candidates, trials, goals, seams, errors.

Needs numpy and moocore only, so that an edge device, a notebook and the server can all import it.
"""

from nas.core.account import Role, Token
from nas.core.candidate import Candidate, Genotypes, Value
from nas.core.cell import Cell
from nas.core.decision import Condition, Decision
from nas.core.descent import descend
from nas.core.device import Device, Work, WorkState
from nas.core.errors import (
    ClusterLostError,
    ConflictError,
    EvaluationError,
    InfeasibleError,
    InvalidInputError,
    NasError,
    NotFoundError,
    OutOfSpaceError,
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
    Learner,
    Prediction,
    Predictor,
    Profiler,
    Report,
    SearchStrategy,
    SharedTrainer,
    TransferPredictor,
)
from nas.core.job import Job, JobQuery, JobState, Lease
from nas.core.pareto import (
    Front,
    Standing,
    front_of,
    front_rows,
    hypervolume,
    non_dominated,
    reference_point,
    standing_of,
)
from nas.core.profile import LatencyQuantiles, Profile
from nas.core.space import SearchSpace
from nas.core.stores import AccountStore, DeviceStore, JobStore, TrialStore
from nas.core.trial import (
    Evaluate,
    Event,
    EventKind,
    Fidelity,
    Task,
    TrainShared,
    Trial,
    TrialQuery,
    TrialState,
)

__all__ = [
    "AccountStore",
    "Candidate",
    "Cell",
    "ClusterLostError",
    "Condition",
    "ConflictError",
    "Constraint",
    "CostTable",
    "Decision",
    "Device",
    "DeviceStore",
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
    "JobQuery",
    "JobState",
    "JobStore",
    "LatencyQuantiles",
    "Learner",
    "Lease",
    "NasError",
    "NotFoundError",
    "Objective",
    "OutOfSpaceError",
    "Prediction",
    "Predictor",
    "Profile",
    "Profiler",
    "Relation",
    "Report",
    "Role",
    "SearchSpace",
    "SearchStrategy",
    "SharedTrainer",
    "Standing",
    "StoreError",
    "Task",
    "Token",
    "TrainShared",
    "TransferPredictor",
    "Trial",
    "TrialQuery",
    "TrialState",
    "TrialStore",
    "UnknownNameError",
    "Value",
    "Work",
    "WorkState",
    "WorkerLostError",
    "descend",
    "front_of",
    "front_rows",
    "hypervolume",
    "non_dominated",
    "reference_point",
    "standing_of",
]
