"""The monitor as a process: one thread that fills the store, one that takes snapshots, and the HTTP server.

Invariant: SIGTERM and SIGINT end it in good order: no new requests, streams closed, jobs stopped between two
transactions, and the store last. If the store cannot go on, nothing is served as if it could.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import uvicorn

from fairlane.monitor.api.app import make_app
from fairlane.monitor.api.links import Links
from fairlane.monitor.api.serving import Changes, Serving
from fairlane.monitor.api.tokens import Tokens, require_tokens
from fairlane.monitor.live import Collector
from fairlane.monitor.snapshot import Watcher
from fairlane.monitor.store.database import Database
from fairlane.monitor.store.follower import Follower
from fairlane.monitor.store.keeping import Keep
from fairlane.monitor.store.readers import Readers
from fairlane.topics.clock import now_ms
from fairlane.topics.connection import Connection
from fairlane.topics.metrics.telling import told
from fairlane.topics.names import QueueNames

_SNAPSHOT_S = 1.0
_GRACE_S = 5


@dataclass(frozen=True)
class Where:
    """Where to listen, whom to let in, and where pages lead; `user` acts where there are no tokens."""

    host: str
    port: int
    tokens: Tokens
    user: str
    links: Links = field(default_factory=Links)


class _Server(uvicorn.Server):
    """One that tells when it listens, and closes its streams before it waits for them."""

    def __init__(self, config: uvicorn.Config, started: Callable[[int], None], closing: threading.Event) -> None:
        super().__init__(config)
        self._told = started
        self._closing = closing

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Have them ask to end, and no more: uvicorn's own raises them again, and nothing after it would be done."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and self.servers:
            self._told(self.servers[0].sockets[0].getsockname()[1])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._closing.set()
        await super().shutdown(sockets)


def serve(
    connection: Connection,
    names: QueueNames,
    database: Database,
    keep: Keep,
    where: Where,
    *,
    started: Callable[[int], None],
    statsd: str = "",
    timeout_s: float = 10,
) -> None:
    """Serve a queue until a signal asks to end.

    Args:
        connection: to the cluster.
        names: of the queue.
        database: its store; closed by the caller.
        keep: how much the store keeps.
        where: to listen.
        started: told the port when it listens.
        statsd: `host:port` of a StatsD server that is told the metrics; "" is none.
        timeout_s: how long one answer of Kafka's may take, seconds.

    Raises:
        UsageError: others could reach it, and there are no tokens.
        QueueUnknown: there is no such queue.
        KafkaUnreachable: no broker answered at the start; later it is waited for.
        StoreBroken: SQLite cannot go on with the file.
    """
    require_tokens(where.tokens, where.host)
    changes, stop = Changes(), threading.Event()
    readers = Readers(database.path)
    with Watcher(connection, names, timeout_s=timeout_s) as watcher:
        collector = Collector(watcher, watcher.collect(now_ms()), _SNAPSHOT_S)
        follower = Follower(connection, names, database, keep, wrote=changes.add, timeout_s=timeout_s)
        serving = Serving(
            connection, names, readers, follower.progress, lambda: collector.look, where.tokens, where.user,
            timeout_s=timeout_s, links=where.links, changes=changes,
        )  # fmt: skip
        config = uvicorn.Config(
            make_app(serving), where.host, where.port, log_config=None, log_level="warning", access_log=False,
            server_header=False, timeout_graceful_shutdown=_GRACE_S,
        )  # fmt: skip
        server = _Server(config, started, serving.closing)
        failures: list[BaseException] = []

        def follow() -> None:
            try:
                follower.run(stop)
            except Exception as error:  # noqa: BLE001 - it is raised again where it can end the process
                failures.append(error)
                server.should_exit = True

        thread = threading.Thread(target=follow, name="fairlane-store")
        collector.start()
        thread.start()
        instance = f"{socket.gethostname()}-{os.getpid()}"
        try:
            with told(serving.measured, service_name="fairlane-monitor", instance=instance, statsd=statsd):
                server.run()
        finally:
            serving.jobs.stop()
            stop.set()
            thread.join()
            collector.stop()
            follower.close()
            readers.close()
    if failures:
        raise failures[0]
