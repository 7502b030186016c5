"""No-op tasks of the peers in Python, each in its own environment.

Method: all tasks are there before the first worker starts, as for fairlane. Every handler counts itself in the same
tally, and time runs from the first handler to the last over all processes. What a peer does after that (its last
acknowledgement) is not counted against it, nor that it stores no result. Each has as many tasks as it works off in some
seconds; its rate does not hang on how many those are.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

import load
import redis_server
import tally
from sizes import Sizes
from stage import Measured, Stage, SubjectFailed

ENDS_WITHIN_S: Final = 120.0
STOPS_WITHIN_S: Final = 10.0


class Peer(NamedTuple):
    """A peer on Redis: how its environment's Python enqueues, and the commands that work."""

    name: str
    module: str
    workers: tuple[tuple[str, ...], ...]


_CELERY: Final = "celery -A peers.celery_app worker -c 2 -P prefork -l ERROR --without-gossip --without-mingle"
ON_REDIS: Final = (
    Peer("celery", "peers.celery_app", (tuple(f"{_CELERY} --without-heartbeat".split()),)),
    Peer("dramatiq", "peers.dramatiq_app", (("dramatiq", "peers.dramatiq_app", "-p", "2", "-t", "8"),)),
    Peer("rq", "peers.rq_app", (("peers.rq_app",), ("peers.rq_app",))),
)


def run(stage: Stage, sizes: Sizes) -> Measured:
    measured: Measured = {}
    for peer in ON_REDIS:
        reason = stage.lacks(peer.name) or redis_server.missing()
        if reason:
            stage.missing[f"{peer.name}_per_s"] = reason
        else:
            measured |= on_redis(stage, peer, getattr(sizes, peer.name))
    if reason := stage.lacks("faststream"):
        stage.missing["faststream_per_s"] = reason
    else:
        measured |= faststream(stage, sizes.faststream)
    return measured


def on_redis(stage: Stage, peer: Peer, tasks: int, more: Mapping[str, str] | None = None) -> Measured:
    """The rates at which a peer enqueues and works, with a Redis of its own, and more in its environment."""
    python = str(stage.python_of(peer.name))
    with redis_server.redis_server() as url:
        environment = stage.environment("", more) | {"BENCH_REDIS": url}
        with tempfile.TemporaryDirectory() as unused:
            began = time.perf_counter()
            enqueue = [python, "-m", peer.module, str(tasks)]
            subprocess.run(enqueue, env=environment | {tally.FOLDER: unused}, check=True, timeout=ENDS_WITHIN_S)
            enqueued_s = time.perf_counter() - began
        per_s = worked([[python, "-m", *worker] for worker in peer.workers], environment, tasks)
    return {f"{peer.name}_per_s": per_s, f"{peer.name}_enqueue_per_s": tasks / enqueued_s}


def faststream(stage: Stage, tasks: int) -> Measured:
    """The rate at which it works off records of a queue of fairlane's."""
    with stage.queue() as names:
        load.fill(stage.connection, names, tasks)
        environment = stage.environment(names.queue) | {
            "BENCH_KAFKA": stage.bootstrap,
            "BENCH_GROUP": f"{names.queue}-faststream",
            "BENCH_TOPICS": ",".join(lane.topic for lane in names.default_lanes()),
        }
        command = [str(stage.python_of("faststream")), "-m", "peers.faststream_app"]
        return {"faststream_per_s": worked([command], environment, tasks)}


def worked(commands: list[list[str]], environment: Mapping[str, str], tasks: int) -> float:
    """Start these workers and stop them when all tasks have run; returns tasks a second."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as log, ExitStack() as ends:
        for command in commands:
            environment = {**environment, tally.FOLDER: folder}
            worker = ends.enter_context(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
            ends.callback(stop, worker)
        try:
            return tasks / tally.wait(Path(folder), tasks, ENDS_WITHIN_S).took_s
        except TimeoutError as error:
            log.seek(0)
            raise SubjectFailed(f"{' '.join(command)}: {error}\n{log.read()[-2000:].decode()}") from error


def stop(worker: subprocess.Popen[bytes]) -> None:
    """End a worker, in good order if it does so in time."""
    worker.terminate()
    try:
        worker.wait(STOPS_WITHIN_S)
    except subprocess.TimeoutExpired:
        worker.kill()
