"""Tasks of a queue without a monitor: read from Kafka into a store that is thrown away.

Invariant: filters and pages are the monitor's own, on a store that its own code fills; nothing is left behind, and
nothing is committed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Self

from fairlane.monitor.errors import ReadIncomplete
from fairlane.monitor.roster import Roster
from fairlane.monitor.stats import RunningStats
from fairlane.monitor.store.batch import Batch
from fairlane.monitor.store.database import Database
from fairlane.monitor.store.follower import Follower
from fairlane.monitor.store.keeping import Keep
from fairlane.monitor.store.queries import TaskQuestion
from fairlane.monitor.store.task_item import TaskItem
from fairlane.monitor.store.task_pages import TaskPage, page_of
from fairlane.topics.clock import now_ms
from fairlane.topics.connection import Connection
from fairlane.topics.events import decode_heartbeat
from fairlane.topics.names import QueueNames

_MAX_BYTES: Final = 2 << 30
_KEPT_MS: Final = 7 * 86_400_000


class OwnStore:
    """A queue's tasks, read now.

    Args:
        connection: to the cluster.
        names: of the queue.
        since_ms: tasks that were enqueued before need not be there, Unix ms; 0 is a week ago.
        timeout_s: how long reading may take, seconds.

    Raises:
        UsageError: there is no place for a file.
    """

    def __init__(self, connection: Connection, names: QueueNames, *, since_ms: int = 0, timeout_s: float = 60) -> None:
        kept_ms = now_ms() - since_ms if since_ms else _KEPT_MS
        self._timeout_s = timeout_s
        self._changed: dict[str, None] = {}
        self._folder = TemporaryDirectory(prefix="fairlane-")
        self._database = Database(Path(self._folder.name) / "store.db", names.queue)
        keep = Keep(max(1.0, kept_ms / 1_000), _MAX_BYTES)
        self._follower = Follower(connection, names, self._database, keep, wrote=self._wrote)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._follower.close()
        self._database.close()
        self._folder.cleanup()

    def _wrote(self, batch: Batch) -> None:
        self._changed |= dict.fromkeys(row.id for row in batch.rows)

    def fill(self) -> None:
        """Read all topics to the ends that they have.

        Raises:
            ReadIncomplete: the time was not enough.
            QueueUnknown: there is no such queue.
            KafkaUnreachable: no broker answered.
        """
        deadline, progress = time.monotonic() + self._timeout_s, self._follower.progress
        while not progress.caught_up:
            if time.monotonic() > deadline:
                raise ReadIncomplete(progress.records, self._follower.unread, self._timeout_s)
            self._follower.step()
        self._changed.clear()

    def page(self, asked: TaskQuestion, *, limit: int, cursor: str = "") -> TaskPage:
        """The tasks that fit, once it is filled."""
        return page_of(self._database.writer, asked, self._running(), limit=limit, cursor=cursor)

    @contextmanager
    def watching(self, asked: TaskQuestion) -> Iterator[Iterator[TaskItem]]:
        """Tasks that fit as they change, without end, once it is filled."""
        yield self._changes(asked)

    def _changes(self, asked: TaskQuestion) -> Iterator[TaskItem]:
        running = self._running()
        while True:
            self._follower.step()
            before, running = running, self._running()
            ids = [*self._changed, *(running.keys() - before.keys())]
            self._changed.clear()
            if ids:
                page = page_of(self._database.writer, asked, running, limit=len(ids), among=ids)
                yield from reversed(page.tasks)

    def _running(self) -> Mapping[str, RunningStats]:
        roster = Roster()
        for (beat,) in self._database.writer.execute("SELECT beat FROM workers"):
            if (found := decode_heartbeat(beat)) is not None:
                roster.add(found)
        return {one.task.id: one for one in roster.running(now_ms())}
