"""The heartbeat: it goes on whatever the rest of the worker does."""

from __future__ import annotations

import threading
from typing import Any

import msgspec
import pytest
from confluent_kafka import KafkaError, KafkaException
from worker_parts import config

from fairlane.consumer import heartbeat
from fairlane.consumer.heartbeat import Pulse
from fairlane.topics import events
from fairlane.topics.events import Heartbeat


class FakeProducer:
    """Keeps what is produced; `fails` are raised first."""

    def __init__(self, _properties: dict[str, Any], logger: Any = None) -> None:
        self.beats: list[tuple[str, Heartbeat | None, bytes]] = []
        self.fails: list[BaseException] = []
        self.beaten = threading.Event()

    def produce(self, topic: str, value: bytes, key: bytes, on_delivery: Any) -> None:
        if self.fails:
            raise self.fails.pop()
        self.beats.append((topic, events.decode_heartbeat(value), key))
        on_delivery(None, None)
        if len(self.beats) >= 3:
            self.beaten.set()

    def poll(self, _timeout: float) -> None: ...

    def flush(self, _timeout: float) -> None: ...


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "Producer", FakeProducer)
    monkeypatch.setattr(heartbeat, "PERIOD_S", 0.001)
    monkeypatch.setattr(heartbeat, "missing_topics", lambda _connection, _topics: frozenset())


def pulse(look: Any = lambda fixed: fixed) -> tuple[Pulse, FakeProducer]:
    made = Pulse(config(), "1.2", look)
    inner: Any = made._producer
    return made, inner


def test_it_says_who_the_worker_is_and_how_it_is_now() -> None:
    made, inner = pulse(lambda fixed: msgspec.structs.replace(fixed, running=3, at_ms=7))
    made.beat()
    ((topic, beat, key),) = inner.beats
    assert (topic, key) == ("shop.workers", b"w1")
    assert beat is not None
    assert (beat.worker, beat.version, beat.concurrency, beat.running, beat.at_ms) == ("w1", "1.2", 10, 3, 7)
    assert beat.weights["shop.p5"] == 16
    assert made.acknowledged_s is not None
    assert beat.transactional_id == "fairlane-shop-w1-s1", "whoever takes it over must know it"


def test_it_beats_from_a_thread_of_its_own_whatever_the_event_loop_does() -> None:
    """A handler that holds up the loop is slow, not dead."""
    made, inner = pulse()
    made.start()
    assert inner.beaten.wait(60)
    made.close(5)


def test_a_beat_that_fails_is_not_the_last_one() -> None:
    looks = 0

    def look(fixed: Heartbeat) -> Heartbeat:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise ZeroDivisionError
        return fixed

    made, inner = pulse(look)
    inner.fails = [BufferError(), KafkaException(KafkaError(KafkaError._UNKNOWN_TOPIC))]
    made.start()
    assert inner.beaten.wait(60)
    made.close(5)


def test_the_last_one_is_said_when_nothing_else_beats_any_more() -> None:
    state = "running"
    made, inner = pulse(lambda fixed: msgspec.structs.replace(fixed, state=state))
    made.start()
    assert inner.beaten.wait(60)
    state = "stopped"
    made.close(5)
    last = inner.beats[-1][1]
    assert last is not None
    assert last.state == "stopped"
    assert not made._thread.is_alive()
