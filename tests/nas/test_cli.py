"""The command as a user meets it, in processes of its own."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

FAST = [
    "--executor", "local", "--training", "epochs=1", "--trials", "4", "--finalists", "2",
    "--space-option", "n_stages=1", "--space-option", "depths=[1]",
]  # fmt: skip


def nas(*arguments: str, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nas", *arguments]
    environment = {**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1", **more}
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=300
    )


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with one finished search, and its job id."""
    folder = tmp_path_factory.mktemp("cli")
    done = nas("search", *FAST, "--name", "<script>alert(1)</script>", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    cards = json.loads(done.stdout)
    assert cards
    assert all(card["fidelity"] == "deployed" for card in cards)
    return folder, cards[0]["job"]["id"]


def test_front_show_and_jobs_tell_of_the_search(searched: tuple[Path, str]) -> None:
    folder, job = searched
    shown = json.loads(nas("show", job[:6], "--json", cwd=folder).stdout)
    assert shown["state"] == "completed"
    assert shown["trials"] == {"completed": 6}
    listed = json.loads(nas("jobs", "--json", cwd=folder).stdout)
    assert [j["job_id"] for j in listed] == [job]
    assert "Pareto front" in nas("front", job, cwd=folder).stdout
    assert job in nas("jobs", cwd=folder).stdout


def test_commands_that_only_look_load_no_frameworks(searched: tuple[Path, str]) -> None:
    folder, job = searched
    program = (
        "import sys\n"
        "from nas.cli.commands import app\n"
        "def loaded(*heavy): return sorted(set(heavy) & set(sys.modules))\n"
        "light = ('torch', 'onnx', 'onnxruntime', 'ray', 'xgboost', 'sklearn', 'scipy')\n"
        "told = loaded(*light, 'sqlalchemy')\n"
        f"for command in (['jobs'], ['show', {job!r}], ['front', {job!r}]):\n"
        "    app(command, standalone_mode=False)\n"
        "print('loaded:', told, loaded(*light))\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.stdout.endswith("loaded: [] []\n"), done.stderr + done.stdout


def test_export_picks_by_constraint_and_the_file_runs(searched: tuple[Path, str]) -> None:
    folder, job = searched
    done = nas("export", job, "--best", "latency_ms<=1000", "-o", "mine", cwd=folder)
    assert done.returncode == 0, done.stderr
    names = {p.name for p in (folder / "mine").iterdir()}
    assert names == {"model.onnx", "model.py", "model.safetensors", "card.json", "genotype.json"}
    card = json.loads((folder / "mine" / "card.json").read_text())
    assert card["provenance"]["latency_ms"]["kind"] == "measured"
    import onnxruntime

    runner = onnxruntime.InferenceSession(str(folder / "mine" / "model.onnx"))
    assert runner.run(None, {"images": np.zeros((3, 1, 8, 8), np.float32)})[0].shape == (3, 10)


def test_export_for_phones_is_refused_before_anything_is_written(
    searched: tuple[Path, str], tmp_path: Path
) -> None:
    folder, job = searched
    (tmp_path / "executorch.py").write_text("raise ImportError('none here')")
    missing = {"PYTHONPATH": os.pathsep.join((str(tmp_path), os.environ.get("PYTHONPATH", "")))}
    done = nas("export", job, "--format", "executorch", "-o", "pte", cwd=folder, **missing)
    assert done.returncode == 2
    assert "pip install 'nas[executorch]'" in done.stderr
    assert not (folder / "pte").exists()
    done = nas("export", job, "--format", "tflite", "-o", "pte", cwd=folder)
    assert done.returncode == 2 and "'executorch'" in done.stderr


def test_export_under_an_impossible_constraint_names_the_nearest(
    searched: tuple[Path, str],
) -> None:
    folder, job = searched
    done = nas("export", job, "--best", "latency_ms<=0.0000001", "-o", "none", cwd=folder)
    assert done.returncode == 2
    assert "nearest" in done.stderr
    assert not (folder / "none").exists()


def test_report_is_self_contained_and_escapes_the_job_name(searched: tuple[Path, str]) -> None:
    folder, job = searched
    assert nas("report", job, "-o", "r.html", cwd=folder).returncode == 0
    page = (folder / "r.html").read_text()
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "<link" not in page
    assert " src=" not in page.replace("plotly", "").split("<h2>Progress")[0]


def test_resuming_a_completed_job_is_refused(searched: tuple[Path, str]) -> None:
    folder, job = searched
    for command in (["resume", job], ["search", "--resume", job]):
        done = nas(*command, "--executor", "local", cwd=folder)
        assert done.returncode == 2
        assert "nothing to resume" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--space", "mobilnet"], "did you mean 'mobilenet'"),
        (["--strategy", "magic"], "predictor-guided"),
        (["--strategy-option", 'predictor="graph"'], "strategy.options.predictor: 'graph'"),
        (["--objective", "speed"], "latency_ms"),
        (["--objective", "test_accuracy"], "use accuracy"),
        (["--trials", "-1"], "budget.trials"),
        (["--supernet", "epochs=-3"], "supernet.epochs"),
        (["--supernet", "n_workers=2"], "1, or the ray executor"),
        (["--differentiable", "epochs=0"], "differentiable.epochs"),
        (["--differentiable", 'gradient="third"'], "score-function"),
        (["--differentiable", 'resources="penalty"'], "none, or a constraint on params"),
        (["--device", "phone"], "devices: 'phone' is not usable"),
        (["--constraint", "weight_bytes<=10"], "nearest feasible bound is"),
        (["--constraint", "latency_ms<=0.000001"], "cheapest network takes"),
        (["--constraint", "accuracy>=2"], "between 0 and 1"),
        (["--constraint", "true_class_probability>=2"], "between 0 and 1"),
        (["--data", "missing.npz"], "there is no file"),
        (["--data", "broken.npz"], "not a readable .npz"),
        (["--space-option", "depths"], "name=value"),
        (["--executor", "cloud"], "ray or local"),
        (["--resume", "abc"], "in which a search was run"),
        (["--seed", "-5"], "seed"),
    ],
)
def test_bad_input_is_one_sentence_code_2_and_leaves_nothing(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "broken.npz").write_text("no zip")
    done = nas("search", *FAST, *arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["broken.npz"]


def test_preview_tells_size_ranges_share_and_time(tmp_path: Path) -> None:
    done = nas("preview", "--constraint", "weight_bytes<=20000", "--json", cwd=tmp_path)
    found = json.loads(done.stdout)
    assert found["n_candidates"] == "74724856128"
    low, high = found["cost_ranges"]["weight_bytes"]
    assert low < 20000 < high
    assert 0 < found["feasible_share"] < 1
    assert found["ruled_out"] == {"weight_bytes<=20000": pytest.approx(1 - found["feasible_share"])}
    assert found["job_seconds"] > found["trial_seconds"] > 0


def wait_for_completed(database: Path, n: int) -> str:
    """The only job's id, once `n` of its trials are completed."""
    until = time.monotonic() + 180
    query = "SELECT job_id, COUNT(*) FROM trials WHERE state = 'completed' GROUP BY job_id"
    while time.monotonic() < until:
        time.sleep(0.1)
        try:
            with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as reader:
                found = reader.execute(query).fetchone()
        except sqlite3.OperationalError:  # not there yet
            continue
        if found is not None and found[1] >= n:
            return str(found[0])
    raise AssertionError(f"{n} trials did not complete in time")


@pytest.mark.slow
def test_a_stopped_search_resumes_to_the_same_candidates(tmp_path: Path) -> None:
    arguments = [*FAST, "--trials", "6", "--training", "epochs=2"]
    whole = nas("search", *arguments, "--home", "whole", "--json", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    command = [sys.executable, "-m", "nas", "search", *arguments, "--home", "cut"]
    listening = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # ignored in background jobs
    process = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, preexec_fn=listening
    )
    job = wait_for_completed(tmp_path / "cut" / "nas.db", 1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"nas resume {job}" in said
    shown = json.loads(nas("show", job, "--home", "cut", "--json", cwd=tmp_path).stdout)
    assert shown["state"] == "interrupted"
    done = nas("resume", job, "--home", "cut", "--executor", "local", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    shown = json.loads(nas("show", job, "--home", "cut", "--json", cwd=tmp_path).stdout)
    assert shown["trials"] == {"completed": 8}


def state_of(job: str, home: str, cwd: Path) -> dict[str, str | int]:
    shown = json.loads(nas("show", job, "--home", home, "--json", cwd=cwd).stdout)
    return {"state": shown["state"], **shown["trials"]}


@pytest.mark.slow
def test_a_driver_killed_on_ray_loses_and_doubles_nothing(tmp_path: Path) -> None:
    arguments = [
        "search", "--executor", "ray", "--workers", "2", "--trials", "6", "--finalists", "2",
        "--training", "epochs=3", "--space-option", "n_stages=1", "--strategy", "random",
    ]  # fmt: skip
    command = [sys.executable, "-m", "nas", *arguments, "--home", "cut"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    job = wait_for_completed(tmp_path / "cut" / "nas.db", 2)
    process.kill()
    process.communicate(timeout=60)
    left = state_of(job, "cut", tmp_path)
    assert left["state"] == "running"
    assert left.get("running")
    done = nas("resume", job, "--home", "cut", "--workers", "2", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert state_of(job, "cut", tmp_path) == {"state": "completed", "completed": 8}
    cards = json.loads(done.stdout)
    assert all((tmp_path / "cut" / job / card["candidate"]["key"]).is_dir() for card in cards)


def scored(folder: Path, job: str) -> set[str]:
    """Keys of the candidates that a job scored by its supernet."""
    with sqlite3.connect(folder / "nas_runs" / "nas.db") as database:
        query = "SELECT candidate_key FROM trials WHERE job_id = ? AND fidelity = 'inherited'"
        return {key for (key,) in database.execute(query, (job,))}


def test_a_second_job_starts_from_the_stored_supernet(tmp_path: Path) -> None:
    arguments = [
        "search", *FAST, "--trials", "12", "--supernet", "epochs=5", "--objective", "accuracy",
        "--objective", "weight_bytes", "--json",
    ]  # fmt: skip
    first = nas(*arguments, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    cards = json.loads(first.stdout)
    assert all(card["fidelity"] == "deployed" for card in cards)
    (supernet,) = (tmp_path / "nas_runs" / "supernets").glob("*.safetensors")
    written = supernet.stat().st_mtime_ns
    second = nas(*arguments, "--constraint", "weight_bytes<=9000", cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    assert supernet.stat().st_mtime_ns == written
    again = json.loads(second.stdout)
    theirs, ours = (scored(tmp_path, cards[0]["job"]["id"]) for cards in (cards, again))
    assert f"reuses  {len(theirs)} scores of job {cards[0]['job']['id']}" in second.stderr
    assert len(ours) == len(theirs) == 12
    assert not ours & theirs
    assert all(c["metrics"]["weight_bytes"] <= 9000 for c in again)
    page = tmp_path / "nas_runs" / cards[0]["job"]["id"] / "report.html"
    assert "inherited" in page.read_text()


def test_a_learned_distribution_proposes_the_first_candidates(tmp_path: Path) -> None:
    arguments = [
        "search", *FAST, "--trials", "4", "--objective", "true_class_probability",
        "--objective", "weight_bytes", "--differentiable", "epochs=2",
        "--differentiable", "candidates=2", "--differentiable", "cost_weight=0.1",
        "--supernet", "epochs=2", "--json",
    ]  # fmt: skip
    done = nas(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (card, *_) = json.loads(done.stdout)
    job = card["job"]["id"]
    assert 0 < card["metrics"]["true_class_probability"] < 1
    assert card["provenance"]["true_class_probability"]["kind"] == "measured"
    with sqlite3.connect(tmp_path / "nas_runs" / "nas.db") as database:
        query = "SELECT task, provenance FROM trials WHERE job_id = ? ORDER BY number"
        rows = [(json.loads(t), json.loads(p)) for t, p in database.execute(query, (job,))]
    methods = [task["method"] for task, _ in rows if task["kind"] == "train_shared"]
    assert methods == ["supernet", "supernet", "differentiable", "differentiable"]
    about = rows[3][1]["differentiable"]
    assert [h["epoch"] for h in about["history"]] == [1, 2]
    first = rows[4][0]["values"]
    options = about["probabilities"]["stage1.weight_bits"]
    assert first["stage1.weight_bits"] == (4, 8, 32)[options.index(max(options))]
    assert "The learned distribution" in (tmp_path / "nas_runs" / job / "report.html").read_text()


CELLS = [
    "search", "--space", "cells", "--executor", "local", "--training", "epochs=1",
    "--space-option", 'topology="pairs"', "--space-option", "n_nodes=1",
    "--space-option", "width=4", "--space-option", "relaxed_width=4",
]  # fmt: skip


def test_cells_are_searched_and_shipped_like_any_family(tmp_path: Path) -> None:
    arguments = ["--trials", "2", "--finalists", "1", "--differentiable", "epochs=1", "--json"]
    done = nas(*CELLS, *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (card, *_) = json.loads(done.stdout)
    assert card["fidelity"] == "deployed"
    assert card["candidate"]["values"]["normal.node1.inputs"] == "0,1"
    folder = tmp_path / "nas_runs" / card["job"]["id"] / card["candidate"]["key"]
    assert {"model.onnx", "model.py", "model.safetensors"} <= {p.name for p in folder.iterdir()}


def test_a_family_without_a_supernet_refuses_one_before_any_work(tmp_path: Path) -> None:
    done = nas(*CELLS, "--supernet", "epochs=2", cwd=tmp_path)
    assert done.returncode == 2
    assert "none for the cells family" in " ".join(done.stderr.split())
    assert not list(tmp_path.iterdir())
