"""Code of users over the network: none that whoever runs the server did not name."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas.client import Client
from nas.core import InvalidInputError
from nas.service import Server, ServiceSettings
from tests.service.conftest import SPEC

FAMILY = "tests.searchspaces.test_traced:ResidualFamily"
STRATEGY = "nas.strategies.random:RandomSearch"


@pytest.mark.parametrize(
    "asked",
    [
        {"space": FAMILY},
        {"strategy": "os:system"},
        {"strategy": {"name": "predictor-guided", "options": {"predictor": "os:abort"}}},
    ],
)
def test_paths_are_refused_and_not_even_imported(client: Client, asked: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError, match="nas serve --allow"):
        client.submit(**{**SPEC, **asked})
    with pytest.raises(InvalidInputError, match="nas serve --allow"):
        client.preview(**{**SPEC, **asked})
    assert client.jobs() == []


def test_what_is_allowed_is_listed_and_taken(tmp_path: Path) -> None:
    settings = ServiceSettings(tmp_path, port=0, supervise=False, allowed=(FAMILY, STRATEGY))
    with Server(settings) as server, Client(server.url) as client:
        spaces = {space["name"]: space for space in client.spaces()}
        assert "sparsity" in spaces[FAMILY]["options"]["properties"]
        assert STRATEGY not in spaces
        assert STRATEGY in {strategy["name"] for strategy in client.strategies()}
        job = client.submit(**{**SPEC, "space": FAMILY, "data": "digits", "data_limit": None})
        assert job.job.spec["space"]["name"] == FAMILY


def test_what_cannot_be_imported_is_said_when_the_server_starts(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="allow: 'nowhere:Net'"):
        ServiceSettings(tmp_path, allowed=("nowhere:Net",))
