"""The dashboard as a person has it: opened in a headless Chromium, signed in to.

Invariant: what it opened is closed at the end of the block, whatever happens in it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright
from served_queue import OPERATOR

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome") or ""
_QUIET = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
          "--disable-component-update", "--disable-sync")  # fmt: skip


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser that asks nobody for anything by itself."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_QUIET)
        try:
            yield browser
        finally:
            browser.close()


def sign_in(page: Page, base: str, secret: str = OPERATOR) -> None:
    """Sign in on a page that is not signed in, and wait until it is live."""
    page.goto(f"{base}/")
    page.fill("input[name=token]", secret)
    page.click("main button")
    page.wait_for_selector("#live.on")


def settled(page: Page) -> None:
    """Wait until the parts that a page asks for once it is there are there."""
    page.wait_for_function("() => !document.querySelector('[data-pending]')")


def complaints_of(page: Page) -> list[str]:
    """What its scripts or the browser complain of, from now on."""
    found: list[str] = []

    def console(said: ConsoleMessage) -> None:
        if said.type == "error":
            found.append(said.text)

    page.on("pageerror", lambda error: found.append(str(error)))
    page.on("console", console)
    return found
