"""Counts a queue from outside, as any Kafka client can: what was enqueued, what came to an end, which workers live.

Invariant: it reads whole topics, from the beginning to the end they had when asked, of committed transactions only, and
commits nothing.
"""

from __future__ import annotations

from collections import defaultdict
from time import time

from confluent_kafka import Message
from live_queue import headers_of, records

from fairlane.topics.events import HEARTBEAT_GONE_MS, TERMINAL, Heartbeat, StatusEvent, decode_heartbeat, decode_status
from fairlane.topics.names import DEFAULT_TIERS, LEVELS, QueueNames
from fairlane.topics.task import Task
from fairlane.topics.wire import decode


class Census:
    """What the topics of one queue say."""

    def __init__(self, bootstrap: str, names: QueueNames) -> None:
        self._bootstrap = bootstrap
        self._names = names
        self._lanes = {names.lane(level): level for level in LEVELS}

    def enqueued(self) -> dict[str, set[str]]:
        """The origins of each task id: one, unless somebody sent an id twice."""
        origins: dict[str, set[str]] = defaultdict(set)
        for topic in (*self._lanes, *(self._names.tier(tier) for tier in DEFAULT_TIERS)):
            for record in records(self._bootstrap, topic):
                task = self._task(topic, record)
                origins[task.id].add(str(task.origin))
        return origins

    def ends(self) -> dict[str, list[StatusEvent]]:
        """The terminal events of each task that has any."""
        found: dict[str, list[StatusEvent]] = defaultdict(list)
        for record in records(self._bootstrap, self._names.status):
            event = decode_status(record.value() or b"")
            if event is not None and event.state in TERMINAL:
                found[event.id].append(event)
        return found

    def live_workers(self) -> dict[str, Heartbeat]:
        """The newest heartbeat of each worker that lives, by its host."""
        newest: dict[str, Heartbeat] = {}
        for record in records(self._bootstrap, self._names.workers):
            beat = decode_heartbeat(record.value() or b"")
            if beat is not None:
                newest[beat.host] = beat
        alive_ms = time() * 1_000 - HEARTBEAT_GONE_MS
        return {host: beat for host, beat in newest.items() if beat.at_ms > alive_ms and beat.state != "stopped"}

    def _task(self, topic: str, record: Message) -> Task:
        return decode(
            topic,
            record.partition() or 0,
            record.offset() or 0,
            record.timestamp()[1],
            record.key(),
            record.value() or b"",
            tuple(headers_of(record).items()),
            lane=topic if topic in self._lanes else None,
            priority=self._lanes.get(topic, 0),
        )
