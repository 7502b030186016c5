"""The engine: reader, feed and settler wired together; what drives it is an executor or a Queue.

Invariant: records go one way, from the reader through the feed and whoever runs them to the settler; the only things
that come back are watermarks, and leases which are published by the reader.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from fairlane.consumer.config import TIERS_ACCOUNT, WorkerConfig
from fairlane.consumer.feed import Feed
from fairlane.consumer.handlers import Handlers
from fairlane.consumer.orders import Orders
from fairlane.consumer.outcome import Outcome
from fairlane.consumer.owners import Owners
from fairlane.consumer.reader import Reader
from fairlane.consumer.retry import AttemptsMax
from fairlane.consumer.schedule_machine import Deployment
from fairlane.consumer.settler import Settler


def _nobody(_: Sequence[Outcome]) -> None:
    """Nobody waits for outcomes to be settled."""


class Engine:
    """Reader, feed and settler of one process, and the owners of schedules where it has any.

    Args:
        config: of the worker.
        handlers: for the limits of their types.
        wake: called from any thread when the feed has something new.
        on_crash: called from any thread with an error that ends the worker.
        on_settled: told of outcomes that are in Kafka.
        attempts_max: after how many attempts tasks are dead whose type has no handler; 0 is not known.
    """

    def __init__(
        self,
        config: WorkerConfig,
        handlers: Handlers,
        *,
        wake: Callable[[], None],
        on_crash: Callable[[BaseException], None],
        on_settled: Callable[[Sequence[Outcome]], None] = _nobody,
        attempts_max: int = 0,
    ) -> None:
        self._config = config
        self.weights: Mapping[str, int] = {lane.topic: lane.weight for lane in config.lanes}
        """Of the lanes, those in force; any thread."""
        self.settler = Settler(
            config,
            lambda: self.reader.lease,
            AttemptsMax({kind: handler.retry.max_attempts for kind, handler in handlers.items()}, attempts_max),
            on_settled=on_settled,
            on_given_up=lambda: self.reader.begin_anew(),
            on_crash=on_crash,
        )
        self.feed = Feed(config, handlers, self.settler, wake)
        self.reader = Reader(config, self.settler, self.feed, on_crash=on_crash)
        self.owners: Owners | None = None
        self._on_crash = on_crash

    def own(self, deployment: Deployment) -> None:
        """Own schedules too, from the start on; said before it. The queue has the topics for it.

        Args:
            deployment: what the app of this worker defines.
        """
        self.owners = Owners(self._config, deployment, self.settler.post, on_crash=self._on_crash)
        self.settler.turns.on_settled = self.owners.settled
        self.reader.events.own(self.owners, self._config.names.events)

    def start(self) -> None:
        """Start all threads."""
        self.settler.start()
        self.reader.start()
        if self.owners is not None:
            self.owners.start()

    def obey(self, orders: Orders) -> None:
        """Do from now on what operators ask: start and read nothing of what is paused; any thread."""
        weights = self.weights = orders.weighed({lane.topic: lane.weight for lane in self._config.lanes})
        self.reader.obey(orders.lanes | {TIERS_ACCOUNT} if orders.tiers else orders.lanes, weights)
        self.feed.obey(orders, weights)

    def stop(self, timeout_s: float) -> bool:
        """Leave the group, settle what is open, end both threads; whether that was done in time.

        The driver's thread must go on driving the feed meanwhile: leaving waits for what runs.
        """
        ends_at = time.monotonic() + timeout_s
        left = self.reader.stop(timeout_s)
        settled = self.settler.stop(max(1.0, ends_at - time.monotonic()))
        if self.owners is not None:
            self.owners.stop(1.0)
        return left and settled
