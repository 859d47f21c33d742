"""A real agent process against a real server: what it loads, measures, survives and refuses."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from nas.cli.commands import app
from nas.core import InvalidInputError, JobStore, WorkState
from nas.service import Server, ServiceSettings
from tests.service.agents import QUICK, ROOT, SLOW, agent, is_registered, queued, resident_bytes
from tests.waiting import until
from workers.agent.agent import AgentSettings
from workers.agent.command import parser

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
IDLE_BYTES = 80 * 2**20


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    settings = ServiceSettings(tmp_path / "home", port=0, supervise=False, device_seconds=3.0)
    with Server(settings) as running:
        yield running


@pytest.fixture
def store(server: Server) -> JobStore:
    return server.workspace.store


@pytest.mark.slow
def test_an_agent_measures_and_is_small(server: Server, store: JobStore, tmp_path: Path) -> None:
    with agent(server.url, tmp_path / "agent") as process:
        until(lambda: is_registered(store))
        assert resident_bytes(process.pid) < IDLE_BYTES
        facts = store.devices().device("pi").facts
        assert facts["runtimes"]["onnxruntime"] and facts["cpus"] >= 1
        assert facts["runtime"] == "onnxruntime" and facts["calibration"]["reference_ms"] > 0
        work = queued(store, server.settings.home, QUICK)
        until(lambda: not store.devices().work(work.work_id).state.is_open)
        measured = store.devices().work(work.work_id).measured
        assert measured is not None
        assert measured.reference_ms == facts["calibration"]["reference_ms"]
        assert measured.peak_memory_bytes is not None
        assert resident_bytes(process.pid) < IDLE_BYTES
        broken = queued(store, server.settings.home, {"n_runs": 61}, content=b"other bytes")
        until(lambda: store.devices().work(broken.work_id).state is WorkState.FAILED)
        assert "arrived broken" in (store.devices().work(broken.work_id).error or "")
        (tmp_path / "second").mkdir()
        for folder, why in (("agent", "another agent runs"), ("second", "is live")):
            with agent(server.url, tmp_path / folder) as other:
                assert other.wait(60) == 2
                assert other.stderr is not None and why in other.stderr.read()


@pytest.mark.slow
def test_an_agent_killed_in_the_middle_loses_nothing(
    server: Server, store: JobStore, tmp_path: Path
) -> None:
    devices = store.devices()
    with agent(server.url, tmp_path / "agent") as process:
        until(lambda: is_registered(store))
        work = queued(store, server.settings.home, SLOW)
        until(lambda: devices.work(work.work_id).state is WorkState.CLAIMED)
        process.send_signal(signal.SIGKILL)
        process.wait()
    with agent(server.url, tmp_path / "agent"):
        until(lambda: devices.work(work.work_id).state is WorkState.DONE)
    assert devices.work(work.work_id).attempts == 2
    assert devices.device("pi").n_done == 1


@pytest.mark.slow
def test_work_cancelled_meanwhile_is_dropped_for_the_next(
    server: Server, store: JobStore, tmp_path: Path
) -> None:
    devices = store.devices()
    with agent(server.url, tmp_path / "agent"):
        until(lambda: is_registered(store))
        long = queued(store, server.settings.home, {**SLOW, "max_seconds": 500.0})
        until(lambda: devices.work(long.work_id).state is WorkState.CLAIMED)
        devices.cancel(long.work_id)
        short = queued(store, server.settings.home, QUICK)
        until(lambda: devices.work(short.work_id).state is WorkState.DONE)
    assert devices.work(long.work_id).state is WorkState.CANCELLED


@pytest.mark.slow
def test_an_agent_outlives_its_server(tmp_path: Path) -> None:
    def settings(port: int) -> ServiceSettings:
        return ServiceSettings(tmp_path / "home", port=port, supervise=False, device_seconds=2.0)

    with Server(settings(0)) as first:
        url, store = first.url, first.workspace.store
        with agent(url, tmp_path / "agent") as process:
            until(lambda: is_registered(store))
            first.close()
            until(lambda: not is_registered(store))
            with Server(settings(int(url.rpartition(":")[2]))) as second:
                again = second.workspace.store
                until(lambda: is_registered(again))
                work = queued(again, second.settings.home, QUICK)
                until(lambda: again.devices().work(work.work_id).state is WorkState.DONE)
            assert process.poll() is None


def test_an_agent_loads_nothing_heavy() -> None:
    program = (
        "import sys; sys.argv = ['nas', 'agent', '--help']\n"
        "from nas.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "import workers.agent.agent, workers.profiling.child\n"
        "heavy = {'torch', 'ray', 'sqlalchemy', 'pandas', 'sklearn', 'scipy', 'onnx', 'fastapi',\n"
        "         'pydantic', 'typer', 'moocore', 'alembic', 'xgboost'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_both_command_lines_have_the_same_options() -> None:
    listed = get_command(app).commands["agent"].params  # type: ignore[attr-defined]
    shown = {o for p in listed for o in p.opts}
    own = {o for action in parser()._actions for o in action.option_strings}
    assert shown == own - {"-h", "--help"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("server", "nowhere"),
        ("name", "a b"),
        ("max_seconds", 0.0),
        ("max_bytes", 0),
        ("runtime", "x"),
    ],
)
def test_settings_that_cannot_work_are_refused(field: str, value: object) -> None:
    good = {"server": "http://x", "name": "pi", "token": None, "folder": Path()}
    AgentSettings(**good)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError):
        AgentSettings(**{**good, field: value})  # type: ignore[arg-type]
