"""A headless browser that tells every error of the page, and servers with jobs to look at."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from nas.client import Client
from nas.service import Server, ServiceSettings
from tests.dashboard.made_up import NASTY, away_job, rich_job
from tests.service.conftest import SPEC, add_trials

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
AXE = Path(__file__).parents[2] / ".venv" / "axe" / "package" / "axe.min.js"
PATIENCE_MS = 20_000
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Of one module: as long as Playwright runs, no other event loop can run in this thread."""
    if not Path(CHROMIUM).is_file():
        pytest.skip("no chromium: apt-get install chromium")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Fails the test if the page logs an error; answers of 4xx that a test expects are its own."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "console",
        lambda said: (
            wrong.append(said.text)
            if said.type in ("error", "warning") and "Failed to load resource" not in said.text
            else None
        ),
    )
    yield page
    context.close()
    assert wrong == []


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Leaves jobs alone; one of them has 120 made-up trials and a name of markup."""
    with Server(
        ServiceSettings(tmp_path_factory.mktemp("still"), port=0, supervise=False)
    ) as server:
        store = server.workspace.store
        with Client(server.url) as client:
            job = client.submit(**{**SPEC, "name": NASTY, "constraints": ["weight_bytes<=3000"]})
            add_trials(store, job.job_id, 120, 117)
            client.submit(**{**SPEC, "name": "waiting"})
        yield server


@pytest.fixture
def nasty(still: Server) -> str:
    return next(j.job_id for j in still.workspace.store.jobs() if j.name == NASTY)


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Leaves jobs alone, too."""
    settings = ServiceSettings(tmp_path_factory.mktemp("quiet"), port=0, supervise=False)
    with Server(settings) as server:
        yield server


@pytest.fixture(scope="module")
def rich(quiet: Server) -> tuple[str, str]:
    """URL of a server, and id of a job with everything that pages show."""
    return quiet.url, rich_job(quiet)


@pytest.fixture(scope="module")
def away(quiet: Server, rich: tuple[str, str]) -> str:
    """Id of a job of that server that has nothing measured."""
    return away_job(quiet, rich[1])
