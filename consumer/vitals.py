"""What is known of a worker's health, and who may ask: the watchdog of its loop and, if there is one, its health port.

Invariant: facts are read where they are, from any thread, without a lock; that somebody asks changes nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from fairlane.consumer import health
from fairlane.consumer.config import WorkerConfig
from fairlane.consumer.engine import Engine
from fairlane.consumer.health import Check, Facts, State
from fairlane.consumer.health_port import HealthPort, Page
from fairlane.consumer.watchdog import Watchdog

_logger = logging.getLogger("fairlane.health")


class Vitals:
    """The health of one worker.

    Args:
        config: of the worker.
        engine: its reader and settler.
        state: where the worker is in its life.
        beat_s: when Kafka last acknowledged a heartbeat, on the monotonic clock; None if it never has.
        metrics: the page that a scrape gets.
    """

    def __init__(
        self,
        config: WorkerConfig,
        engine: Engine,
        state: Callable[[], State],
        beat_s: Callable[[], float | None],
        metrics: Page,
    ) -> None:
        self._config = config
        self._engine = engine
        self._state = state
        self._beat_s = beat_s
        self._metrics = metrics
        self.watchdog = Watchdog(config.loop_blocked_s)
        self._port: HealthPort | None = None

    @property
    def port(self) -> int | None:
        """Where it answers; None if it does not."""
        return self._port.port if self._port is not None else None

    def start(self) -> None:
        """Watch the running loop, and answer where the settings say so.

        Raises:
            UsageError: nobody can listen there.
        """
        config = self._config
        if config.health_port is not None:
            looks = {"/livez": self._live, "/readyz": self._ready}
            pages = {"/metrics": self._metrics}
            self._port = HealthPort(config.health_host, config.health_port, looks, pages)
            self._port.start()
            where = (config.health_host, self._port.port)
            _logger.info("health at http://%s:%d/livez and /readyz, metrics at /metrics", *where)
        self.watchdog.start()

    def close(self) -> None:
        """Look and answer no more."""
        if self._port is not None:
            self._port.close()
        self.watchdog.close()

    @property
    def is_ready(self) -> bool:
        """Whether it does its work."""
        return all(check.ok for check in self._readiness())

    def facts(self) -> Facts:
        """How the worker is now."""
        reader, settler = self._engine.reader, self._engine.settler
        state = self._state()
        return Facts(
            state=state,
            asked_s=self.watchdog.asked_s,
            polled_s=reader.last_poll if state != "starting" else None,
            backlog=settler.backlog,
            settled_s=settler.moved_s,
            held=len(reader.held),
            held_since_s=reader.held_since,
            beat_s=self._beat_s(),
        )

    def _live(self) -> dict[str, Any]:
        return self._report(health.live(self.facts(), time.monotonic()))

    def _ready(self) -> dict[str, Any]:
        return self._report(self._readiness())

    def _readiness(self) -> tuple[Check, ...]:
        return health.ready(self.facts(), self._config.loop_blocked_s, time.monotonic())

    def _report(self, checks: tuple[Check, ...]) -> dict[str, Any]:
        return {"worker": self._config.worker, "queue": self._config.queue, **health.report(checks)}
