"""RQ: two workers that run their jobs in their own process (SimpleWorker), not in a fork for each; without results.

python -m peers.rq_app 2000        enqueues so many
python -m peers.rq_app             runs them, one worker
"""

from __future__ import annotations

import logging
import os
import sys

from redis import Redis
from rq import Queue, SimpleWorker
from tally import Tally

tally = Tally()


def noop(number: int) -> int:
    tally.mark()
    return number


def main() -> None:
    connection = Redis.from_url(os.environ["BENCH_REDIS"])
    if len(sys.argv) == 1:
        logging.basicConfig(level=logging.ERROR)
        SimpleWorker(["noop"], connection=connection).work(logging_level="ERROR")
        return
    queue = Queue("noop", connection=connection)
    for number in range(int(sys.argv[1])):
        queue.enqueue("peers.rq_app.noop", number, result_ttl=0)


if __name__ == "__main__":
    main()
