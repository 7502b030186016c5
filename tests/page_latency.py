"""How soon an open page shows that a task has ended: `PYTHONPATH=tests python -m page_latency`, p50 and p99 of 100.

Method: `fairlane monitor serve` as a process of its own, a headless Chromium on /ui/tasks; tasks end at random moments,
by events that are written as a settler writes them, in transactions. The time runs from the answer to a commit until
the task's row stands in the document, both by this machine's clock.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from opened_dashboard import chromium
from written_queue import WrittenQueue, now_ms

from fairlane.kafka import EmbeddedKafka
from fairlane.topics.events import StatusEvent

_WATCH = """() => {
    window.seen = {};
    const look = () => {
        for (const link of document.querySelectorAll('td.id a')) window.seen[link.textContent] ??= Date.now();
    };
    new MutationObserver(look).observe(document.body, {childList: true, subtree: true});
}"""
_PAGE_TIMEOUT_MS = 60_000


@contextmanager
def monitor(bootstrap: str, queue: str, folder: Path) -> Iterator[str]:
    """A monitor that serves the queue; gives its address."""
    command = [sys.executable, "-P", "-m", "fairlane", "monitor", "serve", "--port", "0", "--store", f"{folder}/s.db"]
    with (folder / "monitor.log").open("w") as log:
        process = subprocess.Popen(
            command,
            env={**os.environ, "FAIRLANE_QUEUE_URL": f"kafka://{bootstrap}/{queue}"},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            if " at " not in said:
                raise SystemExit(f"the monitor did not start: {(folder / 'monitor.log').read_text()}")
            yield said.split(" at ")[1].split("/api")[0]
        finally:
            process.terminate()
            process.wait(20)


def end(written: WrittenQueue, task_id: str) -> int:
    """End a task; returns when that was committed, Unix ms."""
    at_ms = now_ms()
    written.say(StatusEvent(task_id, "email", "completed", written.names.lane(3), 1, 5, at_ms - 50, at_ms - 20, at_ms))
    return now_ms()


def measure(base: str, written: WrittenQueue, tasks: int) -> list[float]:
    """How long each took to be seen, ms."""
    with chromium() as browser:
        page = browser.new_page()
        page.goto(f"{base}/ui/tasks")
        page.wait_for_selector("#live.on", timeout=_PAGE_TIMEOUT_MS)
        page.evaluate(_WATCH)
        told = {}
        for number in range(tasks):
            time.sleep(random.uniform(0.2, 1.2))
            told[f"ended-{number}"] = end(written, f"ended-{number}")
        page.wait_for_function(f"() => 'ended-{tasks - 1}' in window.seen", timeout=_PAGE_TIMEOUT_MS)
        seen = page.evaluate("() => window.seen")
    if missing := told.keys() - seen.keys():
        raise SystemExit(f"{len(missing)} of {tasks} were never shown")
    return [float(seen[task_id] - at_ms) for task_id, at_ms in told.items()]


def main() -> None:
    """Serve, end tasks, look."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=100)
    given = parser.parse_args()
    with EmbeddedKafka() as kafka, tempfile.TemporaryDirectory() as folder:
        written = WrittenQueue(kafka.bootstrap, "latency")
        with monitor(kafka.bootstrap, "latency", Path(folder)) as base:
            took_ms = measure(base, written, given.tasks)
    cuts = statistics.quantiles(took_ms, n=100)
    sys.stdout.write(
        f"end of a task to an open page, {given.tasks} tasks: p50 {cuts[49]:.0f} ms, p99 {cuts[98]:.0f} ms\n"
    )


if __name__ == "__main__":
    main()
