"""The real page in a real browser, against a live server."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from playwright.sync_api import Browser, Page, expect

from nas.client import Client
from nas.core import JobState, Role
from nas.service import Server, ServiceSettings
from nas.service.launchers import Processes
from tests.dashboard.looking import download, settled
from tests.dashboard.made_up import NASTY
from tests.service.conftest import SPEC, add_trials


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Drives jobs in processes of its own."""
    home = tmp_path_factory.mktemp("live")
    with Server(ServiceSettings(home, port=0, ray="local", workers=1)) as server:
        yield server


@pytest.mark.slow
def test_from_the_form_to_a_model_that_runs(live: Server, page: Page, tmp_path: Path) -> None:
    page.goto(f"{live.url}/#/new")
    page.get_by_label("Name", exact=True).first.fill("from the form")
    page.get_by_label("Objectives").fill("accuracy, weight_bytes")
    page.get_by_label("Trials", exact=True).fill("0")
    expect(page.locator("[aria-invalid]")).to_have_count(1)
    page.get_by_label("Trials", exact=True).fill("3")
    expect(page.locator("[aria-invalid]")).to_have_count(0)
    page.get_by_label("Finalists").fill("1")
    for label, value in (("Epochs", 1), ("Finetune epochs", 0), ("Qat epochs", 0)):
        page.get_by_label(label, exact=True).fill(str(value))
    page.get_by_label("Deployed epochs").fill("0")
    page.get_by_label("Latency runs").fill("30")
    page.get_by_role("group", name="Space").locator("summary").click()
    page.get_by_label("N stages").fill("1")
    page.get_by_label("Depths").fill("1")
    page.get_by_role("button", name="Start the search").click()
    expect(page.get_by_role("heading", name="from the form")).to_be_visible()
    (job,) = live.workspace.store.jobs()
    assert job.spec["space"]["options"] == {"n_stages": 1, "depths": [1]}
    bar = page.locator(".told [role=progressbar]")
    expect(bar).to_have_attribute("aria-valuenow", "4", timeout=90_000)
    expect(page.locator("h1 .state.completed")).to_be_visible(timeout=20_000)
    best = page.get_by_role("region", name="Best trade-offs")
    expect(best.locator("tbody tr").first).to_contain_text("deployed")
    best.get_by_role("link").first.click()
    expect(page.get_by_role("heading", name=re.compile("Candidate"))).to_be_visible()
    expect(page.locator(".network .layer").first).to_contain_text("convolution 3")
    expect(page.locator(".network .layer").first).to_contain_text(re.compile(r"\d\.\d %"))
    model = download(page, lambda: page.get_by_role("link", name="Model").click(), tmp_path)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    shape = [n if isinstance(n, int) else 2 for n in entry.shape]
    (logits,) = session.run(None, {entry.name: np.zeros(shape, dtype=np.float32)})
    assert logits.shape[-1] == 10 and np.isfinite(logits).all()
    card = download(page, lambda: page.get_by_role("button", name="Model card").click(), tmp_path)
    assert json.loads(card.read_text())["fidelity"] == "deployed"


def test_a_name_of_markup_is_shown_as_text(still: Server, page: Page, nasty: str) -> None:
    page.goto(f"{still.url}/#/jobs")
    expect(page.get_by_role("link", name=NASTY)).to_be_visible()
    for path in ("", "/decisions", "/trials", "/specification", "/trials/3"):
        page.goto(f"{still.url}/#/jobs/{nasty}{path}")
        settled(page)
        expect(page.locator("main")).to_contain_text("<script>")
    page.goto(f"{still.url}/#/compare?job={nasty}&job={nasty}")
    settled(page)
    assert page.locator("main script, main img").count() == 0
    assert "owned" not in page.title().split("·")[1:]


def test_inline_script_is_refused_by_the_browser(still: Server, browser: Browser) -> None:
    page = browser.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(still.url)
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'),"
        "{textContent: 'window.owned = 1'}))"
    )
    assert page.evaluate("window.owned") is None
    assert any("Content Security Policy" in text for text in said)
    page.close()


def test_jobs_are_filtered_and_links_are_deep(still: Server, page: Page) -> None:
    page.goto(f"{still.url}/#/jobs")
    rows = page.locator(".jobs tbody tr")
    expect(rows).to_have_count(2)
    page.get_by_label("Name").fill("wait")
    expect(rows).to_have_count(1)
    page.reload()
    expect(rows).to_have_count(1)
    expect(page.get_by_label("Name")).to_have_value("wait")
    page.get_by_label("State").select_option("running")
    page.get_by_role("button", name="Show all jobs").click()
    expect(rows).to_have_count(2)


def test_trials_are_sorted_filtered_paged_and_saved(
    still: Server, page: Page, nasty: str, tmp_path: Path
) -> None:
    page.goto(f"{still.url}/#/jobs/{nasty}/trials")
    rows = page.locator(".pane tbody tr")
    expect(rows).to_have_count(50)
    expect(rows.first).to_contain_text("running")
    page.get_by_role("button", name="Next page").click()
    expect(page.locator(".pager")).to_contain_text("100 of 120")
    page.get_by_role("button", name="Weight (bytes)").click()
    expect(rows.nth(3)).to_contain_text("1,000")
    page.get_by_label("Where").fill("accuracy>=0.9, w<50")
    expect(rows).to_have_count(5)
    page.get_by_label("Where").fill("accuracy>=high")
    expect(page.get_by_role("alert")).to_contain_text("number")
    page.get_by_label("Where").fill("accuracy>=0.9")
    expect(page.get_by_role("alert")).to_be_empty()
    expect(rows).to_have_count(11)
    file = download(
        page, lambda: page.get_by_role("button", name="trials as CSV").click(), tmp_path
    )
    lines = file.read_text().splitlines()
    assert len(lines) == 12 and "accuracy" in lines[0]
    page.get_by_label("Search").fill("no such thing")
    expect(page.get_by_text("No trial fits these filters")).to_be_visible()


def test_the_pareto_plot_follows_history_and_is_saved(
    still: Server, page: Page, nasty: str, tmp_path: Path
) -> None:
    page.goto(f"{still.url}/#/jobs/{nasty}")
    settled(page)
    card = page.locator("section.figure", has=page.get_by_role("heading", name="Trade-offs"))
    drawn = "() => document.querySelector('.plot').data.map(t => [t.name, t.x.length])"
    expect(card.locator(".plot .point").first).to_be_attached(timeout=20_000)
    before = dict(page.evaluate(drawn))
    assert before["trained"] == 117
    slider = card.get_by_label("History")
    slider.fill("10")
    expect(card.locator("output")).to_have_text("after 10 of 117 trials")
    after = dict(page.evaluate(drawn))
    assert after["trained"] == 10
    assert (after["Pareto front"], before["Pareto front"]) == (3, 2)  # trials 3, 6, 9; 113, 116
    assert page.evaluate("document.querySelector('.plot').layout.shapes.length") == 1
    for kind, start in (("PNG", b"\x89PNG"), ("CSV", b"trial,"), ("JSON", b"[")):
        name = f"Trade-offs as {kind}"
        file = download(page, lambda n=name: card.get_by_role("button", name=n).click(), tmp_path)
        assert file.read_bytes().startswith(start)


def test_news_arrive_without_reloading(still: Server, page: Page) -> None:
    store = still.workspace.store
    with Client(still.url) as client:
        job = client.submit(**{**SPEC, "name": "growing", "warm_start": False})
    page.goto(f"{still.url}/#/jobs/{job.job_id}")
    expect(page.get_by_text("Nothing found yet")).to_be_visible()
    add_trials(store, job.job_id, 2, 2)
    expect(page.locator(".told")).to_contain_text("2 of 4 trials")
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("h1 .state")).to_have_text("paused")
    store.set_state(job.job_id, JobState.RUNNING)
    expect(page.locator("h1 .state")).to_have_text("running")
    store.set_state(job.job_id, JobState.PAUSED)
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Cancel the job").click()
    expect(page.locator("h1 .state")).to_have_text("cancelled")
    page.get_by_role("button", name="Delete").click()
    page.locator("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", name="Jobs", exact=True)).to_be_visible()
    assert job.job_id not in [j.job_id for j in store.jobs()]


class OnRay(Processes):
    """Says where Ray shows a job, as `RayJobs` does."""

    def page(self, job_id: str) -> str | None:
        return f"http://ray:8265/#/jobs/nas-{job_id}-1"


def test_jobs_lead_to_the_ray_dashboard(page: Page, tmp_path: Path) -> None:
    with Server(ServiceSettings(tmp_path, port=0, supervise=False)) as server:
        with Client(server.url) as client:
            job = client.submit(**SPEC)
        server.workspace.store.set_state(job.job_id, JobState.RUNNING)
        service = server.app.state.service
        service.launcher = OnRay(tmp_path, "sqlite:///x", 1)
        service.dashboard = "http://ray:8265"
        there = f"http://ray:8265/#/jobs/nas-{job.job_id}-1"
        for place in (f"jobs/{job.job_id}", "system"):
            page.goto(f"{server.url}/#/{place}")
            expect(page.get_by_role("link", name="On Ray")).to_have_attribute("href", there)


def test_logging_in_and_out(page: Page, tmp_path: Path) -> None:
    with Server(ServiceSettings(tmp_path, port=0, supervise=False)) as server:
        _, secret = server.workspace.store.accounts().create_token("t", "ann", Role.USER)
        page.goto(f"{server.url}/#/system")
        page.get_by_label("Token").fill("nas_wrong")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("alert")).to_contain_text("unknown")
        page.get_by_label("Token").fill(secret)
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("heading", name="System")).to_be_visible()
        assert page.evaluate("document.cookie") == ""
        assert secret not in page.evaluate("JSON.stringify({...localStorage, ...sessionStorage})")
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_label("Token")).to_be_visible()
        page.goto(f"{server.url}/#/jobs")
        expect(page.get_by_label("Token")).to_be_visible()


def test_keyboard_theme_and_missing_pages(still: Server, page: Page) -> None:
    page.goto(f"{still.url}/#/jobs")
    settled(page)
    page.keyboard.press("/")
    expect(page.get_by_label("Name")).to_be_focused()
    page.keyboard.press("Escape")
    page.get_by_label("Name").blur()
    page.keyboard.press("s")
    expect(page.get_by_role("heading", name="System")).to_be_visible()
    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(paper)
    page.get_by_role("button", name="Dark colours").click()
    assert page.evaluate(paper) != light
    page.reload()
    settled(page)
    assert page.evaluate(paper) != light
    page.goto(f"{still.url}/#/jobs/none")
    expect(page.get_by_text("Not found")).to_be_visible()
