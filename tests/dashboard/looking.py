"""What tests of pages do again and again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, expect


def settled(page: Page) -> None:
    """Wait until the page shows what it asked for."""
    page.locator("main h1, main .empty").first.wait_for()
    expect(page.locator(".loading")).to_have_count(0)


def download(page: Page, click: Callable[[], None], folder: Path) -> Path:
    """The file that a click gives, saved in `folder`."""
    with page.expect_download() as found:
        click()
    path = folder / found.value.suggested_filename
    found.value.save_as(path)
    return path
