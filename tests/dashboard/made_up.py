"""A job with everything that pages show: shared weights, devices, values nobody measured."""

from __future__ import annotations

from nas.client import Client
from nas.core import Candidate, Evaluate, Fidelity, JobState, TrainShared, TrialQuery
from nas.service import Server
from tests.service.conftest import SPEC
from tests.service.test_devices import PROFILE

NASTY = "<script>document.title='owned'</script><img src=x onerror=alert(1)>"
"""A job's name."""
LATENCY = "latency_ms@pi"
GOALS = ["accuracy", LATENCY, "weight_bytes"]
MEASURED = {"kind": "measured", "on": "exported ONNX file on pi, batch 1"}
PREDICTED = {"kind": "predicted", "on": "pi, which is offline, from files it measured before"}
SIMULATED = {"kind": "simulated", "on": "fake-quantized network, validation"}
TIMED = {
    **{"kind": "measured", "on": "exported ONNX file, batch 1"},
    "modules_ms": {
        **{"stem": 0.02, "stem.output_quantizer": 0.01, "stages.0.blocks.0.expand": 0.01},
        **{"stages.0.blocks.0.depthwise": 0.04, "stages.0.blocks.0.project": 0.01},
        **{"stages.0.blocks.0": 0.002, "head": 0.005, "classifier": 0.001, "": 0.002},
    },
}
COMPUTED = {"kind": "computed", "on": "closed form"}
N_TRAINED, N_PREDICTED, N_DEPLOYED = 24, 8, 2
RICH = {**SPEC, "objectives": GOALS, "devices": ["cpu", "pi"], "supernet": {"epochs": 30}}


def rich_job(server: Server) -> str:
    """Id of a job that trained a supernet, then 24 candidates, the last 8 with `pi` away."""
    store = server.workspace.store
    devices = store.devices()
    devices.register("pi", "one", "lab", {"processor": "Cortex-A72"}, 1e6)
    with Client(server.url) as client:
        job_id = client.submit(**RICH, name="everything").job_id  # type: ignore[arg-type]
    trials = store.trial_store(job_id)
    history = [
        {"epoch": i, "largest_loss": 2.3 / i**0.5, "student_loss": 2.3 / i**0.3}
        for i in range(1, 31)
    ]
    about = {"version": "0123456789abcdef-e30", "reused_epochs": 0, "history": history}
    trials.finish(trials.create(TrainShared("supernet", 30)).completed({}, {"supernet": about}))
    for i in range(N_TRAINED):
        width, kernel = (12, 16, 24)[i % 3], 3 + 2 * (i % 2)
        values = {
            "stage1.depth": 1, "stage1.width": width, "stage1.kernel": kernel,
            "stage1.expansion": 2, "stage1.se": False, "stage1.keep": 1.0,
            "stage1.weight_bits": 32,
        }  # fmt: skip
        candidate = Candidate(values, f"{i:016x}")
        deployed = i >= N_TRAINED - N_DEPLOYED
        fidelity = Fidelity.DEPLOYED if deployed else Fidelity.INHERITED
        trial = trials.create(Evaluate(candidate, fidelity))
        away = N_TRAINED - N_DEPLOYED > i >= N_TRAINED - N_DEPLOYED - N_PREDICTED
        milliseconds = 1.0 + width / 10 + kernel / 5 + (i * 5 % 7) / 30
        metrics = {
            "accuracy": 0.5 + width / 60 + (i * 7 % 11) / 100,
            LATENCY: milliseconds,
            "weight_bytes": 100.0 * width + 40 * kernel,
        }
        provenance = {
            "accuracy": MEASURED if deployed else SIMULATED,
            LATENCY: PREDICTED if away else MEASURED,
            "costs": COMPUTED,
            **({"latency_ms": TIMED} if deployed else {}),
        }
        trials.finish(trial.completed(metrics, provenance, seconds=1.0 + i))
        if not away:
            features = {"macs": 1000.0 * width * kernel, "latency_ratio@cpu": width / 24}
            work = devices.submit("pi", f"{i:064x}", {}, job_id, {"features": features})
            claimed = devices.claim("pi", "one", 1e6)
            assert claimed is not None and claimed.claim is not None
            latency = {**PROFILE["latency_ms"], "p50": milliseconds}  # type: ignore[dict-item]
            devices.report(work.work_id, claimed.claim, {**PROFILE, "latency_ms": latency}, None)
    store.set_state(job_id, JobState.COMPLETED)
    return job_id


def away_job(server: Server, rich: str) -> str:
    """Id of a job that has of a rich one the trials whose latency was predicted, and no other."""
    store = server.workspace.store
    with Client(server.url) as client:
        job_id = client.submit(**RICH, name="pi away", seed=1).job_id  # type: ignore[arg-type]
    trials = store.trial_store(job_id)
    for trial in store.trial_store(rich).page(TrialQuery()):
        if trial.kind(LATENCY) == "predicted":
            trials.finish(trials.create(trial.task).completed(trial.metrics, trial.provenance))
    store.set_state(job_id, JobState.CANCELLED)
    return job_id
