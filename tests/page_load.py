"""How long pages take with many tasks stored: `PYTHONPATH=tests python -m page_load --tasks 1000000`, a table and JSON.

Method: events as Kafka would hand them over go through the store's own batches into a file (one task in twenty failed
and has a letter); that file is served as the monitor serves it, beside a queue on a real Kafka whose topics are small.
`server` is the time of a request on a warm connection, `browser` the time in a headless Chromium from the click until
the page and its parts are there.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import httpx2
from opened_dashboard import CHROMIUM, chromium, settled, sign_in
from served_queue import OPERATOR, listening, served_queue
from written_queue import WrittenQueue

from fairlane.kafka import EmbeddedKafka
from fairlane.monitor.letter import letter_of
from fairlane.monitor.record import Record
from fairlane.monitor.store.batch import Batch
from fairlane.monitor.store.database import Database
from fairlane.monitor.store.task_row import Told, Waiting
from fairlane.monitor.store.writer import write
from fairlane.topics.names import QueueNames

_BATCH = 10_000
_TYPES = ("send_receipt", "charge_card", "resize_image", "import_legacy")


def fill(database: Database, names: QueueNames, tasks: int) -> None:
    """Store so many tasks that ended in the last day."""
    now = time.time_ns() // 1_000_000
    for start in range(0, tasks, _BATCH):
        batch = Batch(names, {})
        for number in range(start, min(start + _BATCH, tasks)):
            _tell(batch, names, number, now - (tasks - number) * 86_400_000 // tasks)
        write(database.writer, batch)


def _tell(batch: Batch, names: QueueNames, number: int, at: int) -> None:
    failed, of, lane = number % 20 == 0, _TYPES[number % 4], names.lane(5 if number % 3 else 3)
    message = f"customers-{number}.csv: line {number % 97} is no CSV" if failed else ""
    told = Told(
        number, at, number % 3, "failed" if failed else "completed", of, lane, 1, 3, at - 90, at - 40, at, 0,
        f"worker-{number % 7}", lane, number % 3, number, "", "max_attempts" if failed else "",
        "ValueError" if failed else "", message,
    )  # fmt: skip
    key = f"customer-{number % 5_000}"
    waiting = Waiting(0, 1, at - 90, lane, number % 3, number, of, lane, key, 3, at - 90, 0, 0, 0, "")
    task_id = f"task-{number:08d}"
    batch._tell(task_id, told)
    batch._waiting[task_id] = waiting
    if failed:
        headers = {
            "ce_type": of, "ce_id": task_id, "fairlane-lane": lane, "fairlane-reason": "max_attempts",
            "fairlane-error-type": "ValueError", "fairlane-error-message": message, "fairlane-last-failed-ms": str(at),
        }  # fmt: skip
        encoded = tuple((name, value.encode()) for name, value in headers.items())
        record = Record(names.dlq, number % 3, number, at, None, b"{}", encoded)
        batch.letters.append(letter_of(record))


def pages(tasks: int) -> dict[str, str]:
    """What is asked for."""
    middle = f"task-{tasks // 2 // 20 * 20:08d}"
    some = f"{tasks // 2 // 20 * 20}"
    return {
        "overview": "",
        "tasks": "tasks",
        "tasks by type": "tasks?type=charge_card",
        "tasks by state": "tasks?state=failed",
        "tasks by type and state": "tasks?type=send_receipt&state=completed",
        "tasks by key": "tasks?key=customer-77",
        "tasks by a common error": "tasks?error=csv",
        "tasks by a rare error": f"tasks?error=customers+{some}",
        "tasks, none fits": "tasks?state=retrying&lane=pages.p3",
        "one task": f"task?id={middle}",
        "dlq": "dlq",
        "dlq groups": "dlq/groups",
        "dlq by error": "dlq?error=line+13+is",
        "retries": "retries",
        "topics": "topics",
    }


def server_ms(base: str, asked: dict[str, str], times: int) -> dict[str, float]:
    """The median time of a request."""
    found = {}
    with httpx2.Client(base_url=base, timeout=60, follow_redirects=False) as client:
        answer = client.post("/ui/login", data={"token": OPERATOR}, headers={"Origin": base})
        assert answer.status_code == 303, answer.text
        for name, path in asked.items():
            took = []
            for _ in range(times):
                began = time.perf_counter()
                answer = client.get(f"/ui/{path}")
                took.append((time.perf_counter() - began) * 1_000)
                assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text[-500:]}"
            found[name] = round(statistics.median(took), 1)
    return found


def browser_ms(base: str, asked: dict[str, str], times: int) -> dict[str, float]:
    """The median time until a page and its parts are there."""
    found = {}
    with chromium() as browser:
        page = browser.new_page()
        sign_in(page, base)
        for name, path in asked.items():
            took = []
            for _ in range(times):
                began = time.perf_counter()
                page.goto(f"{base}/ui/{path}", wait_until="load")
                settled(page)
                took.append((time.perf_counter() - began) * 1_000)
            found[name] = round(statistics.median(took), 1)
    return found


def main() -> None:
    """Fill, ask, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=7)
    given = parser.parse_args()
    with EmbeddedKafka() as kafka, tempfile.TemporaryDirectory() as folder:
        written = WrittenQueue(kafka.bootstrap, "pages")
        database = Database(Path(folder) / "store.db", "pages")
        fill(database, written.names, given.tasks)
        database.close()
        asked = pages(given.tasks)
        with served_queue(written, Path(folder)) as served, listening(served) as base:
            server = server_ms(base, asked, given.times)
            browser = browser_ms(base, asked, given.times) if CHROMIUM else {}
    for name in asked:
        sys.stdout.write(f"{name:>26} server {server[name]:>8,.1f} ms   browser {browser.get(name, 0):>8,.1f} ms\n")
    sys.stdout.write(json.dumps({"tasks": given.tasks, "server_ms": server, "browser_ms": browser}) + "\n")


if __name__ == "__main__":
    main()
