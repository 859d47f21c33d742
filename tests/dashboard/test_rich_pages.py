"""Pages of a job that has everything: marks, shared weights, devices, where time goes."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Page, expect

from nas.imported_tables import import_table
from nas.service import Server
from tests.dashboard.looking import download, settled
from tests.dashboard.made_up import LATENCY, N_PREDICTED, N_TRAINED
from tests.workers.formula_table import write

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


def test_an_imported_table_is_listed_and_asked_for_no_measurements(
    quiet: Server, rich: tuple[str, str], page: Page, tmp_path: Path
) -> None:
    import_table(quiet.workspace.home, "npu", write(tmp_path / "npu.json"), [])
    page.goto(f"{rich[0]}/#/devices")
    row = page.locator("tbody tr", has_text="npu")
    expect(row.locator(".state")).to_have_text("table")
    expect(row).to_contain_text("layers, 4 8 by 4 8 bits")
    expect(page.locator("section.figure", has_text="pi: predicted")).to_have_count(1)
    expect(page.locator("section.figure", has_text="npu")).to_have_count(0)
