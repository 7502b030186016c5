"""Pictures of every page for docs/screenshots: `make screenshots`.

Method: a queue whose topics say what a shop's morning may have left there is served as the monitor serves it, and a
headless Chromium takes each page, light and dark, and two of them as a phone shows them.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from msgspec import Raw
from msgspec.structs import replace
from opened_dashboard import CHROMIUM, chromium, settled, sign_in
from playwright.sync_api import Browser, Page
from served_queue import OPERATOR, ServedQueue, listening, served_queue
from written_queue import MINUTE, SECOND, WrittenQueue, now_ms

from fairlane.kafka import EmbeddedKafka
from fairlane.topics import wire
from fairlane.topics.events import ErrorInfo, Heartbeat, Reason, RunningTask, State, StatusEvent, TypeTimes, encode

FOLDER: Final = Path(__file__).parent.parent / "docs" / "screenshots"
_TYPES: Final = ("send_receipt", "charge_card", "resize_image", "import_legacy")
_MS: Final = {"send_receipt": 42.0, "charge_card": 310.0, "resize_image": 860.0, "import_legacy": 1_900.0}
_TRACEBACK: Final = """Traceback (most recent call last):
  File "/app/shop/tasks.py", line 48, in charge_card
    receipt = await bank.charge(order.card, order.total)
  File "/app/shop/bank.py", line 121, in charge
    raise ConnectionError("the bank hung up after 10 s")
ConnectionError: the bank hung up after 10 s
"""
_DEATHS: Final[tuple[tuple[str, Reason, str, str], ...]] = (
    ("charge_card", "max_attempts", "ConnectionError", "the bank hung up after {n} s"),
    ("send_receipt", "rejected", "Reject", "no such address: 'ada{n}@exmaple.org'"),
    ("import_legacy", "fatal", "ValueError", "customers-{n}.csv: line {n} is no CSV"),
    ("resize_image", "max_attempts", "TimeoutError", "it took longer than 30 s"),
)
_TRACE: Final = "4bf92f3577b34da6a3ce929d0e0e4736"


def fill(written: WrittenQueue) -> None:
    """An hour of a shop: what ended, what waits, what is late, what died, and who works."""
    chance, names, now = random.Random(7), written.names, now_ms()
    ended = []
    for number in range(1_400):
        of = chance.choices(_TYPES, (8, 4, 2, 1))[0]
        at = now - int(chance.random() * 3_500_000)
        took, waited = int(chance.gauss(_MS[of], _MS[of] / 6)), int(chance.expovariate(1 / 300))
        lane = names.lane(5 if of == "charge_card" or chance.random() < 0.3 else 3)
        event = StatusEvent(f"{of}-{number:05d}", of, "completed", lane, 1, 5, at - took - waited, at - took, at,
                            worker=f"worker-{number % 3}", result=Raw(b'{"sent": true}'))  # fmt: skip
        ended.append((names.status, encode(event), event.id.encode(), ()))
    written.settle(*ended)
    for number in range(46):
        task_type, reason, error_type, message = _DEATHS[chance.choices(range(4), (14, 9, 5, 2))[0]]
        _die(written, number, task_type, reason, ErrorInfo(error_type, message.format(n=number + 3), _TRACEBACK))
    for number in range(37):
        waits = written.task(f"order-{7100 + number}", type=_TYPES[number % 3], enqueued_ms=now - number * 900)
        written.enqueue(waits, 5 if number % 4 == 0 else 3)
    for number in range(9):
        again = written.read_back(written.enqueue(written.task(f"retry-{number}", type="charge_card")))
        error = ErrorInfo("ConnectionError", "the bank hung up after 10 s")
        written.to_tier(
            replace(again, attempt=2 + number % 3, not_before_ms=now + 20_000 + number * 7_000),
            MINUTE if number % 3 else SECOND,
        )
        written.say(StatusEvent(again.id, again.type, "retrying", names.lane(3), 1 + number % 3, 5, now - 9_000,
                                error=error, due_ms=now + 20_000 + number * 7_000))  # fmt: skip
    for number in range(3):
        running = tuple(
            RunningTask(
                f"image-{number}{slot}", "resize_image", now - 700 - slot * 900, f"{names.lane(3)}/{number}", slot
            )
            for slot in range(3)
        )
        types = {of: TypeTimes(n=40 + number * 7, mean_ms=_MS[of], p95_ms=_MS[of] * 1.9) for of in _TYPES}
        written.beat(Heartbeat(worker=f"worker-{number}", host=f"shop-{number}", pid=17 + number, version="0.1.0",
                               state="running", started_ms=now - 5_400_000, at_ms=now + 600_000, concurrency=8,
                               running=5 + number, utilisation=0.62 + number / 10, running_tasks=running,
                               types=types, partitions=(f"{names.lane(3)}/{number}",)))  # fmt: skip


def _die(written: WrittenQueue, number: int, task_type: str, reason: Reason, error: ErrorInfo) -> None:
    now, lane = now_ms(), written.names.lane(3)
    payload = b'{"order": %d, "to": "ada@example.org", "total": "%d.90", "items": [{"sku": "A-%d", "n": 2}]}'
    task = written.task(
        f"order-{6000 + number}",
        type=task_type,
        payload=payload % (6000 + number, 20 + number, number),
        key=f"customer-{number % 11}".encode(),
        traceparent=f"00-{_TRACE}-00f067aa0ba902b7-01",
        enqueued_ms=now - 190_000,
    )
    place = written.send(lane, task.payload, task.key, wire.encode(task))
    written.die(place, reason, error)
    for attempt in (1, 2, 3):
        at = now - 60_000 * (4 - attempt)
        state: State = "failed" if attempt == 3 else "retrying"
        written.say(StatusEvent(task.id, task_type, state, lane, attempt, 3, now - 190_000, at - 310, at,
                                topic=place[0], partition=place[1], offset=place[2], worker="worker-1", error=error,
                                reason=reason if attempt == 3 else "", due_ms=0 if attempt == 3 else at + 60_000,
                                trace_id=_TRACE))  # fmt: skip


def pages(dlq: str) -> dict[str, str]:
    """Every page by its name."""
    return {
        "overview": "", "tasks": "tasks", "task": "task?id=order-6000",
        "retries": "retries", "dlq": "dlq", "letter": f"dlq/letter?at={dlq}/0/0", "workers": "workers",
        "topics": "topics", "failure": "task?id=none",
    }  # fmt: skip


@contextmanager
def opened(browser: Browser, base: str, scheme: str, size: Sequence[int]) -> Iterator[Page]:
    """A page that is signed in to, in a window of this size."""
    context = browser.new_context(
        color_scheme="dark" if scheme == "dark" else "light",
        viewport={"width": size[0], "height": size[1]}, reduced_motion="reduce",
    )  # fmt: skip
    page = context.new_page()
    sign_in(page, base)
    yield page
    context.close()


def take(page: Page, base: str, path: str, name: str) -> None:
    """One picture."""
    page.goto(f"{base}/ui/{path}")
    page.wait_for_selector("#live.on")
    settled(page)
    page.wait_for_function("() => [...document.querySelectorAll('[data-chart]')].every(box => box.dataset.drawn)")
    page.screenshot(path=FOLDER / f"{name}.png")


def take_control(served: ServedQueue, page: Page, base: str, scheme: str) -> None:
    """What is asked of the workers, and the form that asks; it is taken back at the end."""
    operator, lanes = served.client(OPERATOR), served.written.names
    asked: tuple[tuple[str, dict[str, Any]], ...] = (
        ("cancel", {"ids": ["order-7101", "order-7102"], "reason": "sent by hand"}),
        ("pause", {"lane": lanes.lane(3), "for_ms": 3_600_000, "reason": "the bank is down"}),
        ("resume", {"lane": lanes.lane(3), "reason": "the bank is back"}),
    )
    for verb, body in asked[:2]:
        assert operator.post(f"/api/v1/control/{verb}", json=body).status_code == 200
    served.refresh()
    take(page, base, "control", f"control-{scheme}")
    served.look_is_new()
    page.goto(f"{base}/ui/")
    page.click(f"[id='at-{lanes.lane(5)}']")
    page.wait_for_selector("#ask[open] [name=reason]")
    page.screenshot(path=FOLDER / f"pause-{scheme}.png")
    assert operator.post("/api/v1/control/resume", json=asked[2][1]).status_code == 200
    served.refresh()


def main() -> None:
    """Take them all."""
    if not CHROMIUM:
        sys.exit("make screenshots needs Chromium (Debian: apt-get install chromium)")
    FOLDER.mkdir(exist_ok=True)
    with EmbeddedKafka() as kafka, tempfile.TemporaryDirectory() as folder:
        written = WrittenQueue(kafka.bootstrap, "shop")
        fill(written)
        with served_queue(written, Path(folder)) as served, listening(served) as base, chromium() as browser:
            for scheme in ("light", "dark"):
                with opened(browser, base, scheme, (1120, 660)) as page:
                    for name, path in pages(written.names.dlq).items():
                        served.look_is_new()
                        take(page, base, path, f"{name}-{scheme}")
                    take_control(served, page, base, scheme)
                with opened(browser, base, scheme, (390, 844)) as page:
                    name, path = ("overview", "") if scheme == "light" else ("task", "task?id=order-6000")
                    served.look_is_new()
                    take(page, base, path, f"phone-{name}-{scheme}")
            context = browser.new_context(viewport={"width": 1120, "height": 660})
            page = context.new_page()
            page.goto(f"{base}/")
            page.screenshot(path=FOLDER / "login-light.png")
    size = sum(file.stat().st_size for file in FOLDER.glob("*.png"))
    sys.stdout.write(f"{FOLDER}: {size / 2**20:.2f} MiB\n")


if __name__ == "__main__":
    main()
