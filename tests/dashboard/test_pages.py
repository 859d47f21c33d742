"""The real page in a real browser, against a live server."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from playwright.sync_api import Browser, Page, expect

from nas.client import Client
from nas.core import JobState, Role
from nas.service import Server, ServiceSettings
from nas.service.launchers import Processes
from tests.dashboard.conftest import AXE
from tests.dashboard.made_up import LATENCY, N_PREDICTED, N_TRAINED, away_job, rich_job
from tests.service.conftest import SPEC, add_trials

SHOTS = os.environ.get("NAS_SCREENSHOTS")
"""Folder for a screenshot of every page, light and dark, wide and narrow; none without it."""
EVERY = tuple(product(("light", "dark"), (("desktop", 1280), ("phone", 390))))

NASTY = "<script>document.title='owned'</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Drives jobs in processes of its own."""
    home = tmp_path_factory.mktemp("live")
    with Server(ServiceSettings(home, port=0, ray="local", workers=1)) as server:
        yield server


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


@pytest.fixture
def nasty(still: Server) -> str:
    return next(j.job_id for j in still.workspace.store.jobs() if j.name == NASTY)


def settled(page: Page) -> None:
    page.locator("main h1, main .empty").first.wait_for()
    expect(page.locator(".loading")).to_have_count(0)


def download(page: Page, click: Callable[[], None], folder: Path) -> Path:
    with page.expect_download() as found:
        click()
    path = folder / found.value.suggested_filename
    found.value.save_as(path)
    return path


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
    page.locator("fieldset", has_text="Space").get_by_text("Options").click()
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


DRAWN = """() => [...document.querySelectorAll(".plot")].every(
  (plot) => plot.hidden || plot.querySelector(".trace, .hm"))"""
TRACES = "() => document.querySelector('.plot').data.map(t => [t.name, t.x.length, t.marker])"


def test_values_that_nobody_measured_look_different_everywhere(
    rich: tuple[str, str], page: Page, tmp_path: Path
) -> None:
    url, job_id = rich
    page.goto(f"{url}/#/jobs/{job_id}?color=none")
    settled(page)
    card = page.locator("section.figure", has=page.get_by_role("heading", name="Trade-offs"))
    expect(card.locator(".plot .point").first).to_be_attached(timeout=20_000)
    traces = {name: (n, marker) for name, n, marker in page.evaluate(TRACES)}
    assert traces["inherited, predicted"][0] == N_PREDICTED
    assert traces["inherited, simulated"][0] == N_TRAINED - N_PREDICTED - 2
    assert traces["deployed, measured"][0] == 2
    symbols = {name: traces[name][1]["symbol"] for name in traces}
    assert len({symbols[name] for name in traces if "," in name}) == 3
    told = page.evaluate("document.querySelector('.plot').data.flatMap(t => t.text ?? [])")
    assert sum("(predicted)" in text for text in told) >= N_PREDICTED
    page.goto(f"{url}/#/jobs/{job_id}/trials?fidelity=inherited&sort=number&descending=no")
    rows = page.locator(".pane tbody tr")
    expect(rows).to_have_count(N_TRAINED - 2)
    expect(rows.first.locator(".marked")).to_have_count(1)
    expect(rows.last.locator(".marked")).to_have_text(["~simulated0.740", "≈predicted3.200"])
    expect(page.locator(".legend")).to_contain_text("≈ predicted")
    file = download(
        page, lambda: page.get_by_role("button", name="trials as CSV").click(), tmp_path
    )
    assert f"{LATENCY} is" in file.read_text().splitlines()[0]
    page.goto(f"{url}/#/jobs/{job_id}/trials?fidelity=deployed")
    expect(rows).to_have_count(2)
    expect(page.locator(".marked")).to_have_count(0)
    expect(page.locator(".legend")).to_have_count(0)


def test_best_values_and_compared_fronts_are_marked(
    rich: tuple[str, str], away: str, page: Page
) -> None:
    url, job_id = rich
    page.goto(f"{url}/#/jobs/{away}/specification")
    best = page.locator(".told .facts .marked")
    expect(best).to_have_text([re.compile("^~simulated"), re.compile("^≈predicted")])
    page.get_by_role("link", name="Compare", exact=True).last.click()
    page.get_by_label("Jobs", exact=True).select_option(job_id)
    card = page.locator("section.figure", has=page.get_by_role("heading", name="Fronts"))
    expect(card.locator(".point").first).to_be_attached(timeout=20_000)
    expect(card.locator(".note")).to_contain_text("Open symbols")
    fronts = page.evaluate(
        "[...document.querySelectorAll('.plot')].at(-1).data.map(t => [t.marker.symbol, t.text])"
    )
    (symbols, texts), (plain, measured) = fronts
    assert min(symbols) >= 100 > max(plain)
    assert "accuracy ~" in texts[0] and "latency (ms) on pi ≈" in texts[0]
    assert not any("~" in text or "≈" in text for text in measured)
    rows = page.get_by_role("region", name="What differs").locator("tbody tr")
    expect(rows.filter(has_text="best accuracy").locator(".marked")).to_have_count(1)
    expect(page.locator("p.legend")).to_contain_text("≈ predicted")
    page.goto(f"{url}/#/jobs")
    row = page.locator(".jobs tbody tr", has_text="pi away")
    expect(row.locator(".marked")).to_have_count(2)


def test_a_candidate_tells_where_time_goes_and_stands_beside_others(
    rich: tuple[str, str], page: Page, tmp_path: Path
) -> None:
    url, job_id = rich
    page.goto(f"{url}/#/jobs/{job_id}/trials/{N_TRAINED}")
    layers = page.locator(".network .layer")
    expect(layers).to_have_count(6)
    expect(layers.first).to_contain_text("30.0 %")
    expect(page.locator(".stage h3")).to_have_text(
        ["stemfloat32", "stage1float32", "headfloat32", "classifierfloat32"]
    )
    rows = page.get_by_role("region", name="Beside others").locator("tbody tr")
    expect(rows).to_have_count(2)  # the front of deployed candidates
    page.get_by_label("Trials", exact=True).fill("1, 22, 999")
    page.get_by_label("Trials", exact=True).blur()
    expect(rows).to_have_count(3)
    expect(rows.first).to_contain_text("this one")
    expect(rows.last.locator(".marked")).to_have_count(2)
    head = page.get_by_role("region", name="Beside others").locator("thead")
    expect(head).to_contain_text("stage1.width")
    expect(head).not_to_contain_text("stage1.depth")
    page.reload()
    expect(rows).to_have_count(3)
    name = f"trial {N_TRAINED} beside others as CSV"
    file = download(page, lambda: page.get_by_role("button", name=name).click(), tmp_path)
    assert len(file.read_text().splitlines()) == 4
    rows.last.get_by_role("link").click()
    expect(page.locator("main > .facts .marked")).to_have_text([re.compile("^~"), re.compile("^≈")])
    expect(page.get_by_role("region", name="Metrics").locator(".marked")).to_have_count(2)
    expect(layers.first).to_contain_text("MACs")


def test_a_third_objective_colours_the_front(rich: tuple[str, str], page: Page) -> None:
    url, job_id = rich
    page.goto(f"{url}/#/jobs/{job_id}")
    settled(page)
    expect(page.get_by_label("Colour", exact=True)).to_have_value("weight_bytes")
    expect(page.locator(".plot .point").first).to_be_attached(timeout=20_000)
    shaded = [marker for _, n, marker in page.evaluate(TRACES) if n > 1 and "coloraxis" in marker]
    assert len(shaded) == 3 and all(len(set(marker["color"])) > 1 for marker in shaded)
    expect(page.locator(".plot").first).to_contain_text("weight (bytes)")
    page.get_by_label("Colour", exact=True).select_option("none")
    expect(page.locator(".plot .cbaxis")).to_have_count(0)
    assert "color=none" in page.url


def test_shared_weights_and_the_predictor_are_drawn_over_time(
    rich: tuple[str, str], page: Page
) -> None:
    url, job_id = rich
    page.goto(f"{url}/#/jobs/{job_id}")
    page.get_by_role("link", name="Shared weights").click()
    expect(page.locator(".plot .scatterlayer .js-line")).to_have_count(2)
    expect(page.locator(".pane .told")).to_contain_text("30")
    page.get_by_role("link", name="Decisions").click()
    name = "How well the predictor ranks, over time"
    card = page.locator("section.figure", has=page.get_by_role("heading", name=name))
    expect(card.locator(".point").first).to_be_attached(timeout=60_000)
    curves = page.evaluate("[...document.querySelectorAll('.plot')].at(-1).data.map(t => t.x)")
    assert len(curves) == 2, "accuracy and latency are learned, bytes are computed"
    assert all(x[0] >= 10 and x[-1] == N_TRAINED - 2 for x in curves)


def test_devices_show_their_queue_and_how_well_they_are_predicted(
    rich: tuple[str, str], page: Page
) -> None:
    url, _ = rich
    page.goto(f"{url}/#/devices")
    row = page.locator("tbody tr", has_text="Cortex-A72")
    expect(row).to_contain_text("live")
    card = page.locator("section.figure", has_text="pi: predicted against measured")
    expect(card.locator(".point")).to_have_count(N_TRAINED - N_PREDICTED, timeout=60_000)
    expect(card.locator(".note")).to_contain_text(re.compile(r"Median error \d"))


def test_every_page_is_accessible_in_light_and_dark_and_fits_a_phone(
    still: Server, rich: tuple[str, str], away: str, browser: Browser, nasty: str
) -> None:
    if not AXE.is_file():
        pytest.skip("no axe-core: npm pack axe-core")
    url, job_id = rich
    names = ("decisions", "trials", "specification", "trials/3", f"trials/{N_TRAINED}")
    places = [f"{still.url}/#/{name}" for name in ("jobs", "new", "login", f"compare?job={nasty}")]
    places += [f"{still.url}/#/jobs/{nasty}{part}" for part in ("", *(f"/{n}" for n in names))]
    places += [
        f"{url}/#/jobs/{job_id}{part}" for part in ("", "/supernet", *(f"/{n}" for n in names))
    ]
    places += [f"{url}/#/devices", f"{url}/#/system", f"{url}/#/compare?job={job_id}&job={away}"]
    found = {}
    for scheme, (window, width) in EVERY if SHOTS else (EVERY[0], EVERY[-1]):
        context = browser.new_context(
            color_scheme=scheme,  # type: ignore[arg-type]
            viewport={"width": width, "height": 900},
        )
        page = context.new_page()
        for place in places:
            page.goto("about:blank")
            page.goto(place)
            settled(page)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), place
            shoot(page, named(place, {job_id: "job", away: "away", nasty: "nasty"}), scheme, window)
            page.evaluate(AXE.read_text())
            told = page.evaluate(
                "axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa']})"
            )
            for v in told["violations"]:
                where = [node["target"] for node in v["nodes"][:3]]
                found[f"{scheme} {window} {place} {v['id']}"] = where
        context.close()
    assert found == {}


def named(place: str, names: dict[str, str]) -> str:
    """`place` with ids replaced."""
    return re.sub("|".join(names), lambda found: names[found[0]], place)


def shoot(page: Page, place: str, scheme: str, window: str) -> None:
    """Keep a screenshot of the whole page, its plots drawn, where that is wanted."""
    if SHOTS:
        page.wait_for_function(DRAWN)
        name = re.sub(r"[^a-z0-9]+", "-", place.partition("#/")[2]).strip("-")
        page.screenshot(path=Path(SHOTS) / f"{name}-{scheme}-{window}.png", full_page=True)
