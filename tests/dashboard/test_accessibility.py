"""Every page by axe-core, in light and dark, wide and narrow; and screenshots of them."""

from __future__ import annotations

import os
import re
from itertools import product
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from nas.service import Server
from tests.dashboard.conftest import AXE
from tests.dashboard.looking import settled
from tests.dashboard.made_up import N_TRAINED

SHOTS = os.environ.get("NAS_SCREENSHOTS")
"""Folder for a screenshot of every page, light and dark, wide and narrow; none without it."""
EVERY = tuple(product(("light", "dark"), (("desktop", 1280), ("phone", 390))))

DRAWN = """() => [...document.querySelectorAll(".plot")].every(
  (plot) => plot.hidden || plot.querySelector(".trace, .hm"))"""


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
