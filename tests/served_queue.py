"""A queue whose records a test wrote, as the monitor's API serves it, in this process.

Invariant: the store has all that was written when `refresh` returns, and the snapshot is of after that.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from fastapi.testclient import TestClient
from msgspec import Raw
from msgspec.structs import replace
from written_queue import MINUTE, WrittenQueue, now_ms

from fairlane.monitor.api.app import make_app
from fairlane.monitor.api.serving import Changes, Serving
from fairlane.monitor.api.tokens import Tokens
from fairlane.monitor.live import Look
from fairlane.monitor.snapshot import collect
from fairlane.monitor.store.database import Database
from fairlane.monitor.store.follower import Follower
from fairlane.monitor.store.keeping import Keep
from fairlane.monitor.store.readers import Readers
from fairlane.topics import wire
from fairlane.topics.events import ErrorInfo, Heartbeat, RunningTask, StatusEvent

API = "/api/v1"
OPERATOR = "an-operators-secret"
VIEWER = "a-viewers-secret-too"
TOKENS = f"ada:operator:{OPERATOR},board:viewer:{VIEWER}"

BAD = ErrorInfo("ValueError", "customers.csv: line 1 is no CSV", "Traceback …")


def fill(written: WrittenQueue) -> None:
    """One task of each kind: `waits`, `again`, `done`, `runs`, `dead` (with a letter)."""
    names = written.names
    waits = written.task("waits", type="report", priority=5)
    written.send(names.lane(5), waits.payload, b"customer-7", wire.encode(waits))
    again = written.read_back(written.enqueue(written.task("again")))
    written.to_tier(replace(again, attempt=2), MINUTE)
    written.say(StatusEvent("again", "email", "retrying", names.lane(3), 1, 5, now_ms(), error=BAD))
    place = written.enqueue(written.task("done"))
    done = StatusEvent("done", "email", "completed", names.lane(3), 1, 5, now_ms(), now_ms() - 5, now_ms(),
                       topic=place[0], partition=place[1], offset=place[2], result=Raw(b'{"sent":1}'))  # fmt: skip
    written.say(done)
    topic, partition, offset = written.enqueue(written.task("runs"))
    task = RunningTask("runs", "email", now_ms() - 900, f"{topic}/{partition}", offset)
    # By a clock that is ahead of ours it is alive for as long as the tests of a module take.
    written.beat(Heartbeat(worker="w1", at_ms=now_ms() + 600_000, concurrency=4, running=1, running_tasks=(task,)))
    dead = written.enqueue(written.task("dead"))
    written.die(dead, "fatal", BAD)
    written.say(StatusEvent("dead", "email", "failed", names.lane(3), 1, 5, now_ms(), now_ms(), now_ms(),
                            topic=dead[0], partition=dead[1], offset=dead[2], reason="fatal", error=BAD))  # fmt: skip


class ServedQueue:
    """The API on one written queue."""

    def __init__(self, written: WrittenQueue, database: Database, tokens: str) -> None:
        self.written = written
        changes = Changes()
        self.follower = Follower(written.connection, written.names, database, Keep(), wrote=changes.add)
        self.follower.run(threading.Event(), until_caught_up=True)
        self._look = self._now()
        self.serving = Serving(
            written.connection,
            written.names,
            Readers(database.path),
            self.follower.progress,
            lambda: self._look,
            Tokens(tokens),
            "tester@here",
            changes=changes,
        )
        self.app = make_app(self.serving)

    def _now(self) -> Look:
        return Look(collect(self.written.connection, self.written.names, now_ms=now_ms()))

    def refresh(self) -> None:
        """Read what was written since."""
        self.follower._begin_anew()
        self.follower.progress.caught_up = False
        self.follower.run(threading.Event(), until_caught_up=True)
        self._look = self._now()

    def look_is_new(self) -> None:
        """Say of the snapshot that it is of now."""
        self._look = Look(replace(self._look.stats, at_ms=now_ms()))

    def client(self, secret: str = "", host: str = "127.0.0.1") -> TestClient:
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        return TestClient(self.app, base_url=f"http://{host}", headers=headers, raise_server_exceptions=False)


@contextmanager
def served_queue(written: WrittenQueue, folder: Path, tokens: str = TOKENS) -> Iterator[ServedQueue]:
    """A queue that is served until the end of the block."""
    database = Database(folder / "store.db", written.names.queue)
    served = ServedQueue(written, database, tokens)
    try:
        yield served
    finally:
        served.serving.jobs.stop()
        served.serving.readers.close()
        served.follower.close()
        database.close()


@contextmanager
def listening(served: ServedQueue) -> Iterator[str]:
    """The API on a port of this machine until the end of the block: its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(served.app, log_config=None, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        served.serving.closing.set()
        server.should_exit = True
        thread.join(10)
        listener.close()


def get(client: TestClient, path: str, **parameters: Any) -> Any:
    """What the API says of a path below its own."""
    answer = client.get(API + path, params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()
