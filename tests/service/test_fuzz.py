"""The API under requests made up from its own OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from nas.core import Role
from nas.service import Server, ServiceSettings
from tests.service.conftest import SPEC, add_trials


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("fuzz")
    limits = ServiceSettings(home, port=0, supervise=False, queued_per_owner=5)
    with Server(limits) as server:
        store = server.workspace.store
        job = store.create_job("fuzz", SPEC)
        add_trials(store, job.job_id, 4, 3)
        yield server


@pytest.fixture(scope="module")
def token(fuzzed: Server) -> dict[str, str]:
    _, secret = fuzzed.workspace.store.accounts().create_token("fuzz", "ann", Role.ADMIN)
    return {"Authorization": f"Bearer {secret}"}


def test_every_answer_is_one_the_document_promises(fuzzed: Server, token: dict[str, str]) -> None:
    document = schemathesis.openapi.from_url(f"{fuzzed.url}/v1/openapi.json")
    operations = [
        found.ok() for found in document.exclude(path_regex="/(events|live)$").get_all_operations()
    ]
    assert len(operations) >= 25
    calls = 0
    for operation in operations:

        @given(operation.as_strategy())
        @settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
        def promised(case: schemathesis.Case) -> None:
            nonlocal calls
            calls += 1
            case.call_and_validate(
                headers=token, timeout=120, excluded_checks=[positive_data_acceptance]
            )

        promised()
    assert calls > 100
