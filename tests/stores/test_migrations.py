from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from nas.core import Candidate, Evaluate, Fidelity, JobState, StoreError, TrialState
from nas.stores import open_store
from nas.stores.sql.connection import connect
from nas.stores.sql.migrate import MIGRATIONS, migrate
from nas.stores.sql.models import Base

TASK = '{"kind":"evaluate","values":{"w":8},"key":"00000000000000ff","fidelity":"trained"}'
ROWS = {
    "0001": (
        "INSERT INTO jobs (job_id, name, spec, state, message, created_at)"
        " VALUES ('aa', 'old', '{\"seed\": 3}', 'interrupted', 'stopped', 1.5)",
        "INSERT INTO trials (job_id, number, state, candidate_key, fidelity, task, metrics,"
        " provenance, artifacts, error, seconds)"
        f" VALUES ('aa', 0, 'running', '00000000000000ff', 'trained', '{TASK}', '{{}}', '{{}}',"
        " '{}', NULL, 0.0)",
        "INSERT INTO events (job_id, sequence, trial_number, kind, at)"
        " VALUES ('aa', 1, 0, 'started', 2.5)",
    ),
}
ROWS["0002"] = ROWS["0001"]
"""By earlier schema: a job with a running trial, as that version wrote it."""


@pytest.fixture(params=["sqlite", "postgres"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'a.db'}"
    return str(request.getfixturevalue("empty_postgres_url"))


def test_migrations_build_exactly_the_models(empty_url: str) -> None:
    engine = connect(empty_url)
    migrate(engine)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_there_are_rows_for_every_earlier_schema() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    scripts = ScriptDirectory.from_config(config)
    revisions = {script.revision for script in scripts.walk_revisions()}
    assert set(ROWS) == revisions - {scripts.get_current_head()}


@pytest.mark.parametrize("revision", ROWS)
def test_what_an_earlier_version_stored_is_kept_and_goes_on(empty_url: str, revision: str) -> None:
    engine = connect(empty_url)
    migrate(engine, revision)
    with engine.begin() as connection:
        for row in ROWS[revision]:
            connection.exec_driver_sql(row)
    engine.dispose()
    store = open_store(empty_url)
    job = store.job("aa")
    assert (job.name, job.spec, job.state) == ("old", {"seed": 3}, JobState.INTERRUPTED)
    assert (job.owner, job.priority, job.wanted, job.workers) == ("", 0, None, None)
    assert (job.driver, job.lease_until, job.fence) == (None, None, 0)
    assert list(store.jobs()) == [job]
    log = store.trial_store("aa", store.acquire("aa", "me", 30))
    (trial,) = log.trials()
    assert trial.task == Evaluate(Candidate({"w": 8}, "00000000000000ff"), Fidelity.TRAINED)
    log.finish(trial.completed({"accuracy": 0.5}))
    assert [event.sequence for event in log.events()] == [1, 2]
    assert log.counts()[TrialState.COMPLETED] == 1
    assert not store.accounts().has_tokens()


def test_of_several_who_open_a_new_database_at_once_one_builds_it(empty_url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(open_store, [empty_url] * 4))
    job = stores[0].create_job("x", {})
    assert all(store.job(job.job_id) == job for store in stores)


def test_a_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path / 'a.db'}")
    migrate(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreError, match=r"9999.*upgrade nas"):
        migrate(engine)


def test_sqlite_writes_ahead_and_keeps_foreign_keys(tmp_path: Path) -> None:
    with connect(f"sqlite:///{tmp_path / 'a.db'}").connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
