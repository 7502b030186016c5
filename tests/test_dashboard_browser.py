"""The dashboard in a real Chromium: it is signed in to, live, and whatever a task says stays text."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from msgspec import Raw
from opened_dashboard import CHROMIUM, chromium, complaints_of, settled, sign_in
from playwright.sync_api import Browser, Page
from served_queue import ServedQueue, listening, served_queue
from written_queue import WrittenQueue, now_ms

from fairlane.topics import wire
from fairlane.topics.events import ErrorInfo, Heartbeat, RunningTask, StatusEvent

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
    "<a hx-get=/ui/ hx-trigger=load hx-on::load=window.hit=1>",
    "</title><base href=//evil.example.org><meta http-equiv=refresh content=0>",
)
PAGES = {
    "overview": "",
    "tasks": "tasks",
    "task": "task?id=dead-0",
    "result": "task?id=done-0",
    "retries": "retries",
    "dlq": "dlq",
    "workers": "workers",
    "topics": "topics",
    "control": "control",
    "empty": "tasks?error=nothing",
    "failure": "task?id=%3Cscript%3Ewindow.hit=1%3C/script%3E",
}


def fill(written: WrittenQueue) -> None:
    """For each of the corpus: a letter, an ended task, one that runs, and a worker: it is wherever text may be."""
    lane = written.names.lane(3)
    for number, evil in enumerate(XSS):
        error = ErrorInfo(evil, f"{evil} {number}", f"Traceback {evil}")
        task = written.task(f"dead-{number}", type=evil, key=evil.encode(), content_type="text/html",
                            payload=evil.encode())  # fmt: skip
        place = written.send(lane, task.payload, task.key, (*wire.encode(task), (evil, evil.encode())), 0)
        written.die(place, "fatal", error)
        written.say(StatusEvent(task.id, evil, "failed", lane, 1, 5, now_ms() - 70, now_ms() - 50, now_ms(),
                                topic=place[0], partition=place[1], offset=place[2], reason="fatal",
                                worker=evil, error=error))  # fmt: skip
        running = RunningTask(f"{evil} runs", evil, now_ms() - 2_000, f"{lane}/0", place[2])
        written.beat(Heartbeat(worker=f"{evil} {number}", at_ms=now_ms(), concurrency=4, running=1, host=evil,
                               version=evil, running_tasks=(running,)))  # fmt: skip
        written.to_tier(written.task(f"again {evil}", type=evil, attempt=2, origin=None))
    written.enqueue(written.task(XSS[0]))
    for number in range(60):
        at = now_ms() - number * 20_000
        written.say(StatusEvent(f"done-{number}", "email", "completed", lane, 1, 5, at - 90, at - 40, at,
                                result=Raw(b'{"html":"<img src=x onerror=window.hit=1>"}')))  # fmt: skip


@pytest.fixture(scope="module")
def served(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedQueue]:
    written = WrittenQueue(kafka, f"t-browser-{now_ms()}")
    try:
        fill(written)
        with served_queue(written, tmp_path_factory.mktemp("browser")) as served:
            yield served
    finally:
        written.delete()


@pytest.fixture(scope="module")
def base(served: ServedQueue) -> Iterator[str]:
    with listening(served) as base:
        yield base


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, base: str) -> Iterator[Page]:
    context = browser.new_context()
    page = context.new_page()
    sign_in(page, base)
    yield page
    context.close()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_what_tasks_say_stays_text_on_every_page(
    served: ServedQueue, browser: Browser, base: str, scheme: str, width: int
) -> None:
    context = browser.new_context(
        color_scheme="light" if scheme == "light" else "dark", viewport={"width": width, "height": 850}
    )
    page = context.new_page()
    complaints = complaints_of(page)
    sign_in(page, base)
    letters = {f"letter {number}": f"dlq/letter?at={served.written.names.dlq}/{number}/0" for number in range(3)}
    for name, path in {**PAGES, **letters}.items():
        page.goto(f"{base}/ui/{path}")
        settled(page)
        assert page.evaluate("window.hit") is None, name
        assert page.evaluate("document.querySelectorAll('main script, main img, iframe, base, [onload]').length") == 0
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, f"{name} is {wide} wide at {width}"
    page.goto(f"{base}/ui/task?id=dead-0")
    page.wait_for_selector("pre.trace")
    assert XSS[0] in page.inner_text("main")
    # The page that is not there is the one complaint of the browser's.
    assert [each for each in complaints if "404" not in each] == []
    context.close()


def test_letters_are_tried_dry_and_replayed(served: ServedQueue, base: str, page: Page) -> None:
    page.keyboard.press("g")
    page.keyboard.press("d")
    page.wait_for_url("**/ui/dlq")
    page.fill("input[name=task_id]", "dead-0")
    page.click("button:has-text('Filter')")
    page.wait_for_url("**task_id=dead-0**")
    page.select_option("#act select[name=kind]", "payload")
    page.fill("#act textarea", '{"html":"mended"}')
    page.click("button:has-text('Dry run')")
    page.click("#plan button:has-text('Replay 1')")
    page.wait_for_selector("#jobs .state.ended")
    assert any(b"mended" in (record.value or b"") for record in served.written.everything(served.written.names.lane(3)))


def test_a_payload_that_nobody_changed_goes_back_byte_for_byte(served: ServedQueue, base: str, page: Page) -> None:
    written, lane = served.written, served.written.names.lane(3)
    as_text = ("\n\nlines\n that end in spaces  \n😀 \u2028 \x01 \ufeff\n".encode(), b'{"a": 1.0,\n  "b": [ ] }', b"")
    as_it_is = (b"a line\r\nand one\n", b"a \0 in it", b"\xff\xfe\0bytes")
    tasks = {payload: written.task(payload=payload, content_type="application/x-own") for payload in as_text + as_it_is}
    for payload, task in tasks.items():
        letter = "/".join(map(str, written.die(written.enqueue(task), "fatal")))
        page.goto(f"{base}/ui/dlq/letter?at={letter}")
        if payload in as_text:
            page.select_option("#act select[name=kind]", "payload")
        else:
            assert page.locator("#act textarea").count() == 0
            assert "cannot be edited as text" in page.inner_text("#act")
        page.click("button:has-text('Dry run')")
        page.click("#plan button:has-text('Replay 1')")
        job = page.get_attribute("#plan .done", "data-job")
        page.wait_for_selector(f"#job-{job} .state.ended")
    of = {task.id.encode(): payload for payload, task in tasks.items()}
    back = [(of[name], each.value) for each in written.everything(lane) if (name := dict(each.headers)["ce_id"]) in of]
    assert sorted(back) == sorted(2 * [(payload, payload) for payload in tasks])


def test_a_replay_of_many_is_paused_goes_on_and_is_aborted(served: ServedQueue, base: str, page: Page) -> None:
    written, dlq = served.written, served.written.names.dlq
    first = written.record(written.die(written.enqueue(written.task(type="many")), "fatal"))
    written.settle(*[(dlq, first.value, first.key, first.headers)] * 119)
    served.refresh()
    page.goto(f"{base}/ui/dlq?type=many")
    assert page.locator("#now tbody tr").count() == 50
    page.click("#now a[rel=next]")
    page.wait_for_url("**cursor=**")
    page.click("#now a[rel=next]")
    page.wait_for_function("() => document.querySelectorAll('#now tbody tr').length === 20")
    page.fill("input[name=per_s]", "10")
    page.click("button:has-text('Dry run')")
    page.click("#plan button:has-text('Replay 120')")
    job = page.get_attribute("#plan .done", "data-job")
    page.click(f"#pause-{job}:has-text('Pause')")
    page.wait_for_selector(f"#job-{job} .state.paused")
    page.click(f"#pause-{job}:has-text('Go on')")
    page.wait_for_selector(f"#job-{job} .state.running")
    done = f"#job-{job} progress"
    before = page.evaluate(f"document.querySelector('{done}').value")
    # It moves by itself: nothing asks again and again.
    page.wait_for_function(f"() => document.querySelector('{done}').value > {before}")
    page.click(f"#abort-{job}")
    page.wait_for_selector(f"#job-{job} .state.stopped")
    assert page.evaluate(f"document.querySelector('{done}').value") < 120


def test_keys_go_through_rows_and_pages(page: Page) -> None:
    for key, path in {
        "t": "tasks",
        "r": "retries",
        "d": "dlq",
        "w": "workers",
        "c": "control",
        "p": "topics",
        "o": "",
    }.items():
        page.keyboard.press("g")
        page.keyboard.press(key)
        page.wait_for_url(f"**/ui/{path}")
        page.wait_for_selector("#live.on")
    page.keyboard.press("?")
    page.wait_for_selector("#help[open]")
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.keyboard.press("t")
    page.wait_for_url("**/ui/tasks")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.name") == "error"
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.keyboard.press("j")
    second = page.evaluate("document.querySelectorAll('tbody a')[1].href")
    assert page.evaluate("document.activeElement.href") == second
    page.keyboard.press("Enter")
    page.wait_for_url(second)


def test_a_part_that_cannot_be_had_says_so(base: str, page: Page) -> None:
    page.route("**/ui/task/where*", lambda route: route.abort())
    page.route("**/ui/task/content*", lambda route: route.fulfill(status=502, body="<script>window.hit=1</script>"))
    page.goto(f"{base}/ui/task?id=done-0")
    page.wait_for_selector("text=The monitor does not answer")
    page.wait_for_selector("text=The monitor refused this (502)")
    page.goto(f"{base}/ui/task?id=none")
    assert page.locator("nav a").count() == 7


def test_pages_move_by_themselves_and_the_theme_is_kept(served: ServedQueue, base: str, page: Page) -> None:
    page.click("#theme")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.goto(f"{base}/ui/tasks?id=later")
    page.wait_for_selector("text=No task fits.")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.wait_for_selector("#live.on")
    served.written.enqueue(served.written.task("later"))
    served.refresh()
    page.wait_for_selector("td a:has-text('later')", timeout=10_000)


def test_a_lane_is_paused_and_resumed_by_keys_alone_and_a_banner_says_by_whom(
    served: ServedQueue, base: str, page: Page
) -> None:
    lane, complaints = served.written.names.lane(3), complaints_of(page)
    page.goto(f"{base}/ui/")
    page.wait_for_selector("#live.on")
    page.focus(f"[id='at-{lane}']")
    page.keyboard.press("Enter")
    page.wait_for_selector("#ask[open] select[name=span]")
    assert page.evaluate("document.activeElement.name") == "reason"
    assert page.input_value("#ask select[name=lane]") == lane
    page.keyboard.press("Escape")
    page.wait_for_selector("#ask:not([open])", state="attached")
    assert page.evaluate("document.activeElement.id") == f"at-{lane}"
    page.keyboard.press("Enter")
    page.wait_for_selector("#ask[open] select[name=span]")
    page.select_option("#ask select[name=span]", "15m")
    page.focus("#ask input[name=reason]")
    page.keyboard.type(XSS[0])
    page.keyboard.press("Enter")
    page.wait_for_selector(f"#ask .done:has-text('{lane} is paused by ada since')")
    page.keyboard.press("Enter")
    served.refresh()
    banner = page.wait_for_selector(f"#paused .banner:has-text('{lane} is paused by ada since')")
    assert banner is not None
    said = banner.inner_text()
    assert XSS[0] in said
    assert said.count(" UTC") == 2
    page.wait_for_selector(f"#below tr:has-text('{lane}') .state.paused")
    # The button is another one meanwhile, and still has the focus.
    assert page.evaluate("document.activeElement.id") == f"at-{lane}"
    page.goto(f"{base}/ui/control")
    settled(page)
    assert XSS[0] in page.inner_text("table >> nth=0")
    assert XSS[0] in page.inner_text("#now")
    page.click("#paused button")
    page.click("#ask button.go")
    page.wait_for_selector("#ask .done:has-text('goes on')")
    page.wait_for_selector(".empty:has-text('Nothing is paused')")
    page.click("#ask [data-close]")
    served.refresh()
    page.wait_for_selector("#paused:not(:has(.banner))", state="attached")
    page.wait_for_selector("#now tr:has-text('resume')")
    assert page.evaluate("window.hit") is None
    assert complaints == []


def test_a_task_is_cancelled_on_a_phone_and_its_page_says_what_came_of_it(
    served: ServedQueue, browser: Browser, base: str
) -> None:
    served.written.enqueue(served.written.task("to-cancel"))
    served.refresh()
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = context.new_page()
    complaints = complaints_of(page)
    sign_in(page, base)
    page.goto(f"{base}/ui/task?id=to-cancel")
    settled(page)
    page.tap("h1 button:has-text('Cancel')")
    page.fill("#ask input[name=reason]", XSS[1])
    assert page.evaluate("document.querySelector('#ask').getBoundingClientRect().right") <= 390
    page.tap("#ask button:has-text('Cancel the task')")
    page.wait_for_selector("#ask .done:has-text('to-cancel: cancelled: it was pending, and does not run')")
    page.tap("#ask [data-close]")
    served.refresh()
    page.wait_for_selector(f"#now .timeline li:has-text('by ada: {XSS[1]}')")
    page.goto(f"{base}/ui/control")
    page.wait_for_selector("td:has-text('to-cancel')")
    assert page.evaluate("window.hit") is None
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert complaints == []
    context.close()


def test_what_is_refused_is_said_in_the_dialog(served: ServedQueue, base: str, page: Page) -> None:
    page.goto(f"{base}/ui/control")
    page.click("button:has-text('Cancel tasks')")
    page.fill("#ask textarea", "no\x07id\n")
    page.click("#ask button.bad")
    page.wait_for_selector("#ask .problem:has-text('is no id of a task')")
    page.click("#ask [data-close]") if page.locator("#ask [data-close]").count() else page.keyboard.press("Escape")
    page.wait_for_selector("#ask:not([open])", state="attached")


def test_charts_show_utc_and_24_hours_wherever_the_browser_is(browser: Browser, base: str) -> None:
    context = browser.new_context(timezone_id="Asia/Kathmandu", locale="en-US")
    page = context.new_page()
    page.add_init_script(
        "window.drawn = []; const fill = CanvasRenderingContext2D.prototype.fillText;"
        "CanvasRenderingContext2D.prototype.fillText = function (text, ...at) {"
        " window.drawn.push(text); fill.call(this, text, ...at); };"
    )
    sign_in(page, base)
    page.wait_for_selector("[data-chart=times][data-drawn]")
    now = time.time()
    wanted = {f"{datetime.fromtimestamp(now - 60 * ago, UTC):%H:%M}" for ago in range(-1, 62)}
    drawn = {str(text) for text in page.evaluate("window.drawn")}
    times = {text for text in drawn if ":" in text}
    assert times
    assert times <= wanted
    assert not [text for text in drawn if "am" in text or "pm" in text]
    page.hover("[data-chart=ended] .u-over")
    page.wait_for_function(r"() => /^UTC\s*\d\d:\d\d/.test(document.querySelector('.u-legend').innerText)")
    context.close()
