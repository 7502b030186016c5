"""The dashboard in a real Chromium: it is signed in to, live, and whatever a task says stays text."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from live_queue import wait_until
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright
from served_queue import OPERATOR, ServedQueue, served_queue
from written_queue import WrittenQueue, now_ms

from fairlane.topics.events import ErrorInfo, Heartbeat, StatusEvent

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome") or ""
pytestmark = [
    pytest.mark.kafka,
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium here (Debian: apt-get install chromium)"),
]

XSS = (
    "<script>window.hit=1</script>",
    "<img src=x onerror=window.hit=1>",
    '"><svg onload=window.hit=1>',
    "'onfocus=window.hit=1 autofocus x='",
    "javascript:window.hit=1",
    "{{7*7}}{% raw %}${7*7}",
    "</pre></textarea><iframe srcdoc='<script>parent.hit=1</script>'>",
)
PAGES = {
    "overview": "",
    "tasks": "tasks",
    "task": "task?id=dead-0",
    "retries": "retries",
    "dlq": "dlq",
    "workers": "workers",
    "topics": "topics",
    "empty": "tasks?error=nothing",
    "failure": "task?id=none",
}


def fill(written: WrittenQueue) -> None:
    for number, evil in enumerate(XSS):
        error = ErrorInfo(evil, f"{evil} {number}", f"Traceback {evil}")
        payload = b'{"html":"%s"}' % evil.replace('"', "'").encode()
        task = written.task(f"dead-{number}", type=evil, payload=payload, key=evil.encode())
        place = written.enqueue(task)
        written.die(place, "fatal", error)
        written.say(StatusEvent(task.id, evil, "failed", place[0], 1, 5, now_ms() - 70, now_ms() - 50, now_ms(),
                                topic=place[0], partition=place[1], offset=place[2], reason="fatal",
                                worker=evil, error=error))  # fmt: skip
    written.enqueue(written.task(XSS[0]))
    for number in range(60):
        at = now_ms() - number * 20_000
        written.say(StatusEvent(f"done-{number}", "email", "completed", written.names.lane(3), 1, 5, at - 90, at - 40,
                                at))  # fmt: skip
    written.beat(Heartbeat(worker="w1", at_ms=now_ms(), concurrency=4, running=1))


@contextmanager
def listening(served: ServedQueue) -> Iterator[str]:
    config = uvicorn.Config(served.app, "127.0.0.1", 0, log_config=None, access_log=False, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started, "it listens")
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        served.serving.closing.set()
        server.should_exit = True
        thread.join(20)


@pytest.fixture
def served(kafka: str, tmp_path: Path) -> Iterator[ServedQueue]:
    written = WrittenQueue(kafka, f"t-browser-{now_ms()}")
    try:
        fill(written)
        with served_queue(written, tmp_path) as served:
            yield served
    finally:
        written.delete()


@pytest.fixture
def browser() -> Iterator[Browser]:
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync"]  # fmt: skip
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=quiet)
        yield browser
        browser.close()


def complaints_of(page: Page) -> list[str]:
    """What its scripts or the browser complain of, from now on."""
    found: list[str] = []

    def console(said: ConsoleMessage) -> None:
        if said.type == "error":
            found.append(said.text)

    page.on("pageerror", lambda error: found.append(str(error)))
    page.on("console", console)
    return found


def sign_in(page: Page, base: str) -> None:
    page.goto(f"{base}/")
    page.fill("input[name=token]", OPERATOR)
    page.click("text=Sign in >> nth=-1")
    page.wait_for_selector("#live.on")


def test_it_is_signed_in_to_and_what_tasks_say_stays_text(served: ServedQueue, browser: Browser) -> None:
    shots = os.environ.get("FAIRLANE_SCREENSHOTS", "")
    with listening(served) as base:
        for scheme, width in (("light", 1280), ("dark", 390), *([("dark", 1280), ("light", 390)] if shots else [])):
            context = browser.new_context(
                color_scheme="light" if scheme == "light" else "dark", viewport={"width": width, "height": 850}
            )
            page = context.new_page()
            complaints = complaints_of(page)
            sign_in(page, base)
            letter = f"dlq/letter?at={served.written.names.dlq}/0/0"
            for name, path in {**PAGES, "letter": letter}.items():
                page.goto(f"{base}/ui/{path}")
                page.wait_for_function(
                    "() => ![...document.querySelectorAll('.hint')].some(e => /…$/.test(e.innerText))"
                )
                assert page.evaluate("window.hit") is None, name
                assert page.evaluate("document.querySelectorAll('main script, main img, iframe, [onload]').length") == 0
                wide = page.evaluate("document.documentElement.scrollWidth")
                assert wide <= width, f"{name} is {wide} wide at {width}"
                if shots:
                    page.screenshot(path=f"{shots}/{name}-{scheme}-{width}.png", full_page=True)
            page.goto(f"{base}/ui/task?id=dead-0")
            page.wait_for_selector("pre.trace")
            assert XSS[0] in page.inner_text("main")
            # The page that is not there is the one complaint of the browser's.
            assert [each for each in complaints if "404" not in each] == []
            context.close()


def test_letters_are_tried_dry_and_replayed_and_the_page_moves_by_itself(served: ServedQueue, browser: Browser) -> None:
    with listening(served) as base:
        page = browser.new_page()
        sign_in(page, base)
        page.keyboard.press("g")
        page.keyboard.press("d")
        page.wait_for_url("**/ui/dlq")
        page.fill("input[name=task_id]", "dead-0")
        page.click("button:has-text('Filter')")
        page.wait_for_url("**task_id=dead-0**")
        page.select_option("#act select[name=kind]", "merge")
        page.fill("#act textarea", '{"html":"mended"}')
        page.click("button:has-text('Dry run')")
        page.click("#plan button:has-text('Replay 1')")
        page.wait_for_selector("#jobs .state.ended")
        assert any(
            b"mended" in (record.value or b"") for record in served.written.everything(served.written.names.lane(3))
        )
        page.click("#theme")
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"
        page.goto(f"{base}/ui/tasks?id=later")
        page.wait_for_selector("text=No task fits.")
        served.written.enqueue(served.written.task("later"))
        served.refresh()
        page.wait_for_selector("td a:has-text('later')", timeout=10_000)
