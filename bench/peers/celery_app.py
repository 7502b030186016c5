"""Celery on Redis: two prefork processes, acknowledged after success.

Without results, events, gossip and heartbeats, and with a prefetch that keeps both processes busy: what a no-op allows.

    python -m peers.celery_app 5000       enqueues so many
    celery -A peers.celery_app worker …   runs them
"""

from __future__ import annotations

import os
import sys

from celery import Celery
from tally import Tally

app = Celery("bench", broker=os.environ["BENCH_REDIS"])
app.conf.update(
    task_acks_late=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=64,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
)
tally = Tally()


@app.task(name="noop")
def noop(number: int) -> int:
    tally.mark()
    return number


if __name__ == "__main__":
    for number in range(int(sys.argv[1])):
        app.send_task("noop", args=(number,))
