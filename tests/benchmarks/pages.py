"""How fast the dashboard is: its first load, and jobs of many trials, in a headless Chromium.

    .venv/bin/python tests/benchmarks/pages.py --trials 100 10000 100000

Prints, on loopback and with an empty cache: bytes and requests of the first load and its first
paint; for each number of trials the milliseconds until a page shows what it is for, from a server
that was just started (`cold`; the first one of a job reads its log) and from the same one again
(`warm`), and of interactions; and the first answers of new servers that have to read the log, and
that find the columns kept of a large job.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import httpx
from fabricated import fabricate
from playwright.sync_api import Browser, Page, sync_playwright

from nas.service import kept

PAINT = """() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"""
DRAWN = """() => { const plot = document.querySelector('.plot');
  return plot && !plot.hidden && plot.querySelector('.point') !== null; }"""
SETTLED = "() => new Promise((done) => requestAnimationFrame(() => setTimeout(() => done(true))))"
ROWS = "() => document.querySelectorAll('tbody tr').length > 0"
PATIENCE_MS = 120_000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 10_000, 100_000])
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    with sync_playwright() as playwright, tempfile.TemporaryDirectory(prefix="nas-bench-") as at:
        path = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        home = Path(at)
        store = f"sqlite:///{home / 'nas.db'}"
        jobs = {n: fabricate(store, n) for n in args.trials}
        with serving(home, store) as url:
            first_load(browser, url, args.repeats)
        for n, job_id in jobs.items():
            print(f"\n{n:,} trials{'':<27} {'cold ms':>9} {'warm ms':>9}")
            for name, (place, ready) in PLACES.items():
                with serving(home, store) as url:
                    spans = opened(browser, f"{url}/#/jobs/{job_id}{place}", ready, args.repeats)
                print(f"{name:<36} {spans[0]:>9.0f} {median(spans[1:]):>9.0f}", flush=True)
            with serving(home, store) as url:
                interact(browser, f"{url}/#/jobs/{job_id}", args.repeats)
            columns(home, store, job_id)
        browser.close()


PLACES = {
    "overview, plot drawn": ("", DRAWN),
    "table, newest": ("/trials", ROWS),
    "table, sorted by accuracy": ("/trials?sort=accuracy", ROWS),
    "decisions, lines drawn": ("/decisions", "() => document.querySelector('.parallel path')"),
    "a candidate": ("/trials/7", "() => document.querySelector('.network .layer')"),
}


ASKED = {
    "summary": "summary",
    "sorted table": "table?sort=accuracy",
    "overview": "points?x=weight_bytes&y=accuracy",
}


@contextmanager
def serving(home: Path, store: str) -> Iterator[str]:
    """`nas serve` as a process of its own that drives no job; gives its URL."""
    command = [sys.executable, "-m", "nas", "serve", "--home", str(home), "--store", store]
    command += ["--port", "0", "--no-supervise"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        assert line.startswith("serving http"), line
        url = line.split()[1]
        httpx.get(f"{url}/readyz", timeout=60).raise_for_status()
        yield url
    finally:
        process.terminate()
        process.wait(60)


def first_load(browser: Browser, url: str, repeats: int) -> None:
    """What the list of jobs takes from an empty cache."""
    paints, sizes, counts = [], [], []
    for _ in range(repeats):
        with fresh(browser) as page:
            session = page.context.new_cdp_session(page)
            session.send("Network.enable")
            got: list[float] = []
            session.on(
                "Network.loadingFinished", lambda e, got=got: got.append(e["encodedDataLength"])
            )
            page.goto(f"{url}/#/jobs")
            page.wait_for_function(ROWS)
            page.wait_for_timeout(500)
            paints.append(page.evaluate(PAINT))
            sizes.append(sum(got))
            counts.append(len(got))
    print(f"first load: {median(sizes) / 1024:.1f} KiB in {median(counts):.0f} requests, ", end="")
    print(f"first contentful paint {median(paints):.0f} ms")


def opened(browser: Browser, url: str, ready: str, repeats: int) -> list[float]:
    """Milliseconds from the address to `ready`, with empty caches; first that of a new server."""
    spans = []
    for _ in range(repeats + 1):
        with fresh(browser) as page:
            started = time.perf_counter()
            page.goto(url)
            page.wait_for_function(ready)
            spans.append((time.perf_counter() - started) * 1e3)
    return spans


def interact(browser: Browser, url: str, repeats: int) -> None:
    """What people do with a page that is open."""
    with fresh(browser) as page:
        page.goto(url)
        page.wait_for_function(DRAWN)
        slider, when = page.get_by_label("History"), page.locator("output")
        most = int(slider.get_attribute("max") or 1)

        def travel(i: int) -> None:
            place = most * (i + 1) // (repeats + 2)
            slider.fill(str(place))
            when.filter(has_text=f"after {place:,} of").wait_for()
            page.wait_for_function(SETTLED)

        said("history slider", [timed(lambda i=i: travel(i)) for i in range(repeats)])
        page.goto(f"{url}/trials")
        page.wait_for_function(ROWS)
        if most > 50 * (repeats + 1):
            turns = [timed(lambda: answered(page, "Next page")) for _ in range(repeats)]
            said("next page", turns)
        sorts = [timed(lambda: answered(page, "Accuracy")) for _ in range(repeats)]
        said("sort by a metric", sorts)


def answered(page: Page, button: str) -> None:
    """Press a button, and wait until the table it asks for is drawn."""
    with page.expect_response(lambda r: "/table" in r.url):
        page.get_by_role("button", name=button).click()
    page.wait_for_function(SETTLED)


def timed(step: Callable[[], object]) -> float:
    """Milliseconds."""
    started = time.perf_counter()
    step()
    return (time.perf_counter() - started) * 1e3


def said(name: str, spans: list[float]) -> None:
    """A line with the median."""
    print(f"{name:<36} {'':>9} {median(spans):>9.0f}", flush=True)


def columns(home: Path, store: str, job_id: str) -> None:
    """First answers of new servers that find no columns on the disk, and that find them."""
    path = home / job_id / kept.FILE
    for name in ("without", "with"):
        for what, query in ASKED.items():
            if name == "without":
                path.unlink(missing_ok=True)
            elif not path.is_file():
                return
            with serving(home, store) as url, httpx.Client(timeout=600.0) as http:
                started = time.perf_counter()
                http.get(f"{url}/v1/jobs/{job_id}/{query}").raise_for_status()
                took = (time.perf_counter() - started) * 1e3
            print(f"{f'{what}, {name} kept columns':<36} {took:>9.0f}", flush=True)


@contextmanager
def fresh(browser: Browser) -> Iterator[Page]:
    """A page with an empty cache."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(PATIENCE_MS)
    yield context.new_page()
    context.close()


if __name__ == "__main__":
    main()
