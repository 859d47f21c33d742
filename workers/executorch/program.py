"""ExecuTorch programs: loading them, and what they really execute. Needs the extra `executorch`."""

from __future__ import annotations

import logging
import re
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nas.core import EvaluationError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # deprecations within the package
    logging.disable(logging.WARNING)  # accelerators that it does not find
    from executorch.devtools import Inspector
    from executorch.extension.pybindings import portable_lib
    from executorch.runtime import Runtime

    logging.disable(logging.NOTSET)

Images = NDArray[np.float32]
METHOD = "forward"
N_PROFILED = 20
CUT_MS = 0.5e-3
TOTALS = ("DELEGATE_CALL", "OPERATOR_CALL", "Method::execute")
"""Events that hold others."""
PORTABLE = "native_call_"
"""Before the names of operators that no backend took."""
CONVERSIONS = ("Convert", "Transpose", f"{PORTABLE}quantize", f"{PORTABLE}dequantize")
WEIGHTED = ("convolution", "fully connected", "linear", "addmm", "mm.out")
"""What the names of operators with weights contain, in small letters."""


def program_logits(path: Path, x: Images) -> NDArray[np.float32]:
    """`(n, classes)` what the program computes for `x (n, C, H, W)`, one image after the other.

    Raises:
        EvaluationError: ExecuTorch cannot load it.
    """
    method = _method(_loaded(path), 1, path.name)
    images = torch.from_numpy(np.ascontiguousarray(x))
    return np.concatenate([method.execute((image[None],))[0].numpy() for image in images])


def single_run(model: Path | bytes, n_threads: int = 1) -> Callable[[], object]:
    """Runs a program once per call, always with the same random image.

    Raises:
        EvaluationError: ExecuTorch cannot load it.
    """
    name = "the model" if isinstance(model, bytes) else model.name
    program = _loaded(model)
    method = _method(program, n_threads, name)
    feed = _made_up_inputs(method)

    def run() -> object:
        return method.execute(feed), program  # which must outlive its method

    return run


def execution(path: Path, n_threads: int = 1) -> Mapping[str, Any]:
    """What runs of `path` really executed, by the runtime's own event tracer.

    XNNPACK cuts durations to whole microseconds: half of one is added to each kernel's, so shares
    of networks whose kernels take less are those of their numbers.

    Returns:
        `operators`, `weighted` and `shares` as `workers.profiling.runtime.Execution` has them, and
        `providers`: how many operators XNNPACK ran, and how many (`portable`) plain loops did.

    Raises:
        EvaluationError: ExecuTorch cannot load or run it.
    """
    events = [(name.partition(" #")[0], took) for name, took in _events(path, n_threads)]
    times: dict[str, float] = {}
    for kernel, took in events:
        times[precision(kernel)] = times.get(precision(kernel), 0.0) + took
    total = sum(times.values()) or 1.0
    kernels = [kernel for kernel, _ in events]
    weighted = [k for k in kernels if any(part in k.lower() for part in WEIGHTED)]
    places = ["portable" if k.startswith(PORTABLE) else "xnnpack" for k in kernels]
    return {
        "operators": dict(sorted(Counter(kernels).items())),
        "weighted": dict(sorted(Counter(map(precision, weighted)).items())),
        "shares": {kind: took / total for kind, took in sorted(times.items())},
        "providers": dict(sorted(Counter(places).items())),
    }


def precision(kernel: str) -> str:
    """Of a kernel such as `Convolution (NHWC, QC8) IGEMM`: `int8`, `float32` or `conversion`.

    What XNNPACK did not take is `portable`; kernels that do not tell their type are `other`.
    """
    if kernel.startswith(CONVERSIONS):
        return "conversion"
    if kernel.startswith(PORTABLE):
        return "portable"
    types = re.findall(r"\b(QS8|QU8|QC8|F32|F16)", kernel)
    if any(kind.startswith("Q") for kind in types):
        return "int8"
    return {"F32": "float32", "F16": "float16"}[types[0]] if types else "other"


def _events(path: Path, n_threads: int) -> list[tuple[str, float]]:
    """Names and mean milliseconds of what one run consists of; the first run is left out."""
    program = _loaded(path, traces=True)
    method = _method(program, n_threads, path.name)
    feed = _made_up_inputs(method)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for _ in range(N_PROFILED + 1):
                method.execute(feed)
        except RuntimeError as error:
            raise EvaluationError(f"ExecuTorch cannot run {path.name}: {error}") from error
        traced, buffers = Path(folder) / "etdump", Path(folder) / "buffers"
        program.write_etdump_result_to_file(str(traced), str(buffers))
        blocks = Inspector(etdump_path=str(traced)).event_blocks
    (block,) = (block for block in blocks if block.name == "Execute")
    known = [event for event in block.events if event.name not in TOTALS]
    return [
        (event.name, float(np.mean(event.perf_data.raw[1:])) + CUT_MS * event.is_delegated_op)
        for event in known
    ]


def _loaded(model: Path | bytes, traces: bool = False) -> Any:
    name = "the model" if isinstance(model, bytes) else model.name
    try:
        return Runtime.get().load_program(model, enable_etdump=traces)
    except (RuntimeError, ValueError, OSError) as error:
        raise EvaluationError(f"ExecuTorch cannot load {name}: {error}") from error


def _method(program: Any, n_threads: int, name: str) -> Any:
    if portable_lib._threadpool_get_thread_count() != n_threads:
        portable_lib._unsafe_reset_threadpool(n_threads)
    try:
        return program.load_method(METHOD)
    except (RuntimeError, KeyError) as error:
        raise EvaluationError(f"ExecuTorch cannot load {name}: {error}") from error


def _made_up_inputs(method: Any) -> tuple[torch.Tensor, ...]:
    rng, about = np.random.default_rng(0), method.metadata
    shapes = [about.input_tensor_meta(i).sizes() for i in range(about.num_inputs())]
    return tuple(torch.from_numpy(rng.normal(size=s).astype(np.float32)) for s in shapes)
