"""ONNX Runtime: sessions, and what they really execute. Needs no torch and no onnx."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from nas.core import EvaluationError
from workers.profiling.layer_times import calm_layers

NUMPY_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
}
WEIGHTED = ("Conv", "Gemm", "MatMul")
"""What the names of operators with weights contain, whatever the runtime fused them into."""
Provider = str | tuple[str, Mapping[str, str]]
"""Name of one of ONNX Runtime's execution providers, with its options where it has any."""
CPU_ALONE: tuple[Provider, ...] = ("CPUExecutionProvider",)
CONVERSIONS = ("QuantizeLinear", "DequantizeLinear", "Cast")


@dataclass(frozen=True)
class Execution:
    """What one run of a file really executed, by the runtime's own profile.

    Attributes:
        operators: how often each operator type ran, after the runtime's fusions.
        weighted: how many operators with weights ran in each precision: `int8`, `float32` …
        shares: share of the profiled time by precision, `conversion` among them.
        providers: how many operators each of the runtime's providers ran.
    """

    operators: Mapping[str, int]
    weighted: Mapping[str, int]
    shares: Mapping[str, float]
    providers: Mapping[str, int]


def session(
    model: Path | bytes, n_threads: int = 1, providers: Sequence[Provider] = CPU_ALONE
) -> ort.InferenceSession:
    """The runtime's session with its default optimisations.

    Raises:
        EvaluationError: the runtime cannot load the file.
    """
    return _opened(model, ort.SessionOptions(), n_threads, providers)


def single_run(runner: ort.InferenceSession) -> Callable[[], object]:
    """Runs once per call, always with the same made-up inputs.

    Raises:
        EvaluationError: an input of a type nobody knows how to make up.
    """
    feed = made_up_inputs(runner)
    return lambda: runner.run(None, feed)


def made_up_inputs(runner: ort.InferenceSession) -> dict[str, NDArray[Any]]:
    """Normal random values by input, the same every time; 1 where a size is free.

    Raises:
        EvaluationError: an input of a type nobody knows how to make up.
    """
    rng = np.random.default_rng(0)
    feed: dict[str, NDArray[Any]] = {}
    for spec in runner.get_inputs():
        if spec.type not in NUMPY_TYPES:
            raise EvaluationError(f"input {spec.name} has type {spec.type}, which is not supported")
        shape = [d if isinstance(d, int) else 1 for d in spec.shape]
        values: NDArray[Any] = rng.normal(size=shape)
        feed[spec.name] = values.astype(NUMPY_TYPES[spec.type])
    return feed


def execution(
    path: Path, n_threads: int = 1, providers: Sequence[Provider] = CPU_ALONE
) -> Execution:
    """Run `path` twice under the runtime's profiler, and read the second run.

    Times are whole microseconds and include the profiler's own (about a quarter more): shares only.

    Raises:
        EvaluationError: the runtime cannot load or run it.
    """
    return _summary(_profiled(path, n_threads, 2, providers)[1])


def layer_ms(path: Path, n_runs: int, n_threads: int = 1) -> dict[str, float]:
    """Undisturbed milliseconds by layer; what the runtime puts between layers has other names.

    Raises:
        EvaluationError: the runtime cannot load or run it.
    """
    runs = _profiled(path, n_threads, n_runs)
    return calm_layers([[(node["name"], node["dur"]) for node in nodes] for nodes in runs])


def _profiled(
    path: Path, n_threads: int, n_runs: int, providers: Sequence[Provider] = CPU_ALONE
) -> list[list[dict[str, Any]]]:
    """The profiler's events of nodes, by run."""
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        runner = _opened(path, options, n_threads, providers)
        try:
            run = single_run(runner)
            for _ in range(n_runs):
                run()
        except EvaluationError:
            raise
        except Exception as error:  # the runtime's errors share no other base
            raise EvaluationError(f"ONNX Runtime cannot run {path.name}: {error}") from error
        finally:
            written = Path(runner.end_profiling())
        events = json.loads(written.read_text())
    nodes = [e for e in events if e.get("cat") == "Node" and "op_name" in e["args"]]
    size = len(nodes) // n_runs
    return [nodes[i * size : (i + 1) * size] for i in range(n_runs)]


def _summary(nodes: list[dict[str, Any]]) -> Execution:
    kinds = [(node["args"]["op_name"], precision(node["args"])) for node in nodes]
    times: Counter[str] = Counter()
    for (_, kind), node in zip(kinds, nodes, strict=True):
        times[kind] += node["dur"]
    total = max(1, times.total())
    weighted = Counter(k for name, k in kinds if any(part in name for part in WEIGHTED))
    return Execution(
        dict(sorted(Counter(name for name, _ in kinds).items())),
        dict(sorted(weighted.items())),
        {kind: time / total for kind, time in sorted(times.items())},
        dict(Counter(node["args"].get("provider", "") for node in nodes)),
    )


def precision(arguments: Mapping[str, Any]) -> str:
    """The precision of a profiled node: `int8`, `conversion`, or the type of its first input."""
    if arguments["op_name"] in CONVERSIONS:
        return "conversion"
    types = [name for entry in arguments.get("input_type_shape", ()) for name in entry]
    if any(name in ("int8", "uint8") for name in types):
        return "int8"
    return {"float": "float32", "": "other"}.get(first := types[0] if types else "", first)


def _opened(
    model: Path | bytes,
    options: ort.SessionOptions,
    n_threads: int,
    providers: Sequence[Provider],
) -> ort.InferenceSession:
    options.intra_op_num_threads = n_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        given = model if isinstance(model, bytes) else str(model)
        return ort.InferenceSession(given, options, providers=list(providers))
    except Exception as error:  # the runtime's errors share no other base
        name = "the model" if isinstance(model, bytes) else model.name
        raise EvaluationError(f"ONNX Runtime cannot load {name}: {error}") from error
