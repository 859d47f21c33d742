"""Many who ask for the same at once cost one computation; answers travel compressed."""

from __future__ import annotations

import gzip
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from nas.client import Client
from nas.core import Candidate, Evaluate, Fidelity, JobState
from nas.service import Server, outcomes, routes_results, routes_views
from nas.service.sharing import Answer, Shared
from tests.service.conftest import SPEC, add_trials

WATCHERS = 100


def test_a_value_is_made_once_for_all_who_wait() -> None:
    shared, made = Shared(), list[int]()

    def make() -> int:
        time.sleep(0.05)
        made.append(threading.get_ident())
        return 7

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: shared.once("a", make), range(64)))
    assert found == [7] * 64 and len(made) == 1


def test_an_error_reaches_everyone_and_is_not_kept() -> None:
    shared, begun = Shared(), threading.Barrier(2)

    def fail() -> int:
        begun.wait()
        time.sleep(0.05)
        raise ValueError("no")

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(shared.once, "a", fail)
        begun.wait()
        with pytest.raises(ValueError, match="no"):
            shared.once("a", lambda: 1)
        assert isinstance(first.exception(), ValueError)
    assert shared.once("a", lambda: 2) == 2


def test_the_values_asked_for_last_are_kept() -> None:
    shared = Shared(most=2)
    for key in ("a", "b", "a", "c"):
        shared.once(key, lambda key=key: key.upper())
    assert shared.once("a", lambda: "new") == "A"
    assert shared.once("b", lambda: "new") == "new"


def test_a_hundred_watchers_cost_one_computation(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = client.submit(**SPEC)
    store = server.workspace.store
    add_trials(store, job.job_id, 300, 300)
    counts = dict.fromkeys(("front_of", "progress_of", "points_of", "hypervolumes"), 0)

    def counted(module: object, name: str) -> None:
        whole = getattr(module, name)

        def counting(*arguments: object) -> object:
            counts[name] += 1
            return whole(*arguments)

        monkeypatch.setattr(module, name, counting)

    counted(routes_results, "front_of")
    counted(routes_results, "progress_of")
    counted(routes_views, "points_of")
    counted(outcomes, "hypervolumes")
    base = f"{server.url}/v1/jobs/{job.job_id}"
    query = "points?x=weight_bytes&y=accuracy"

    def watch(path: str) -> bytes:
        return httpx.get(f"{base}/{path}", timeout=60).content

    with ThreadPoolExecutor(20) as pool:
        for path in ("front", "progress", query):
            assert len(set(pool.map(watch, [path] * WATCHERS))) == 1
    assert set(counts.values()) == {1}
    before = httpx.get(f"{base}/progress").json()["n_finished"][-1]
    trials = store.trial_store(job.job_id)
    trial = trials.create(Evaluate(Candidate({"w": 900}, "f" * 16), Fidelity.TRAINED))
    watch("front"), watch("progress"), watch(query)
    assert set(counts.values()) == {1}, "a trial that only started changes nothing of these"
    trials.finish(trial.completed({"accuracy": 0.99, "weight_bytes": 1.0}))
    assert httpx.get(f"{base}/progress").json()["n_finished"][-1] == before + 1
    (best,) = httpx.get(f"{base}/front").json()["trials"]
    assert best["number"] == trial.number


def test_other_constraints_are_another_answer(server: Server, client: Client) -> None:
    job = client.submit(**SPEC)
    add_trials(server.workspace.store, job.job_id, 20, 20)
    at = f"{server.url}/v1/jobs/{job.job_id}"
    loose = httpx.get(f"{at}/front").json()
    assert httpx.get(f"{at}/summary").json()["asked"] == 4
    job.extend(trials=9, constraints=["accuracy>=0.9"])
    strict = httpx.get(f"{at}/front").json()
    assert strict["constraints"] == ["accuracy>=0.9"]
    assert [t["number"] for t in strict["trials"]] == [14] and len(loose["trials"]) > 1
    assert httpx.get(f"{at}/summary").json()["asked"] == 10


def test_a_summary_tells_when_something_happened_last(server: Server, client: Client) -> None:
    job = client.submit(**SPEC)
    at = f"{server.url}/v1/jobs/{job.job_id}/summary"
    empty = httpx.get(at).json()
    assert empty["last_event_at"] is None and empty["trials_per_minute"] is None
    add_trials(server.workspace.store, job.job_id, 5, 4)
    told = httpx.get(at).json()
    events = server.workspace.store.trial_store(job.job_id).events()
    assert told["last_event_at"] == events[-1].at
    finished = [e.at for e in events if e.kind == "finished"]
    assert told["trials_per_minute"] == pytest.approx(180 / (finished[-1] - finished[0]))


def test_json_is_packed_streams_and_files_are_not(server: Server, client: Client) -> None:
    job = client.submit(**SPEC)
    store = server.workspace.store
    add_trials(store, job.job_id, 30, 30)
    trials = store.trial_store(job.job_id)
    trial = trials.create(Evaluate(Candidate({"w": 1}, "f" * 16), Fidelity.DEPLOYED))
    trials.finish(trial.completed({"accuracy": 0.5}, artifacts={"onnx": "model.onnx"}))
    content = b"abc" * 5000
    folder = server.workspace.folder(store.job(job.job_id))
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(content)
    http = httpx.Client(base_url=f"{server.url}/v1/jobs/{job.job_id}")
    for path in ("/trials", "/progress", "/points?x=weight_bytes&y=accuracy"):
        answer = http.get(path)
        assert answer.headers["content-encoding"] == "gzip" and answer.json()
        assert "accept-encoding" in answer.headers["vary"].lower()
        plain = http.get(path, headers={"Accept-Encoding": "identity"})
        assert "content-encoding" not in plain.headers and plain.json() == answer.json()
    file = f"/trials/{trial.number}/artifacts/onnx"
    whole = http.get(file)
    assert "content-encoding" not in whole.headers and whole.content == content
    part = http.get(file, headers={"Range": "bytes=3-8"})
    assert (part.status_code, part.content) == (206, content[3:9])
    store.set_state(job.job_id, JobState.COMPLETED)
    with http.stream("GET", "/events") as stream:
        assert "content-encoding" not in stream.headers
        assert next(stream.iter_raw()).startswith(b"id: 1\nevent: started\n")


def test_a_short_answer_is_not_worth_packing(server: Server) -> None:
    assert "content-encoding" not in httpx.get(f"{server.url}/v1/me").headers
    answer = Answer.of({"a": "b" * 900})
    assert gzip.decompress(answer.packed) == answer.body
