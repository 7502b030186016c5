"""Dramatiq on Redis: two processes of eight threads, which is its default on two cores; acknowledged after success.

python -m peers.dramatiq_app 20000                 enqueues so many
dramatiq peers.dramatiq_app -p 2 -t 8              runs them
"""

from __future__ import annotations

import os
import sys

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from tally import Tally

dramatiq.set_broker(RedisBroker(url=os.environ["BENCH_REDIS"]))
tally = Tally()


@dramatiq.actor
def noop(number: int) -> None:  # noqa: ARG001 - Dramatiq warns of a result at every task
    tally.mark()


if __name__ == "__main__":
    from peers import dramatiq_app

    for number in range(int(sys.argv[1])):
        dramatiq_app.noop.send(number)
