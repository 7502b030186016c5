"""A queue whose records a test wrote, as the monitor's API serves it, in this process.

Invariant: the store has all that was written when `refresh` returns, and the snapshot is of after that.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastapi.testclient import TestClient
from written_queue import WrittenQueue, now_ms

from fairlane.monitor.api.app import make_app
from fairlane.monitor.api.serving import Changes, Serving
from fairlane.monitor.api.tokens import Tokens
from fairlane.monitor.live import Look
from fairlane.monitor.snapshot import collect
from fairlane.monitor.store.database import Database
from fairlane.monitor.store.follower import Follower
from fairlane.monitor.store.keeping import Keep
from fairlane.monitor.store.readers import Readers

OPERATOR = "an-operators-secret"
VIEWER = "a-viewers-secret-too"
TOKENS = f"ada:operator:{OPERATOR},board:viewer:{VIEWER}"


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
