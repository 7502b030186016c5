"""What a worker has done lately: counters, processing times, utilisation.

Invariant: told by the executor's loop, asked by the heartbeat's thread; memory is bounded per task type, and only types
that have a handler are remembered, since anybody can send any other.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Final

from fairlane.consumer.outcome import Completed, Dead, Expired, Outcome, Retrying
from fairlane.topics.events import Counters, TypeTimes

SAMPLES_MAX: Final = 500
WINDOW_MS: Final = 60_000


class Meter:
    """Counts attempts.

    Args:
        concurrency: attempts that can run at once.
    """

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._lock = threading.Lock()
        self._completed = 0
        self._failed = 0
        self._retried = 0
        self._times: dict[str, deque[tuple[int, int]]] = {}
        self._busy_ms = 0.0
        self._running = 0
        self._since_ms = 0.0
        self._looked_ms = 0.0
        self._looked_busy_ms = 0.0

    def started(self, now_ms: float) -> None:
        """An attempt begins."""
        with self._lock:
            self._advance(now_ms)
            self._running += 1

    def ended(self, outcome: Outcome, now_ms: float) -> None:
        """An attempt is over."""
        with self._lock:
            self._advance(now_ms)
            self._running -= 1
            match outcome:
                case Completed():
                    self._completed += 1
                case Retrying():
                    self._retried += 1
                case Dead() | Expired():
                    self._failed += 1
                case _:
                    return
            took_ms = _took_ms(outcome)
            if took_ms is not None:
                kind = outcome.delivery.task.type
                times = self._times.get(kind)
                if times is None:
                    times = self._times[kind] = deque(maxlen=SAMPLES_MAX)
                times.append((outcome.finished_ms, took_ms))

    @property
    def counters(self) -> Counters:
        """Attempts that ended since the worker started."""
        return Counters(self._completed, self._failed, self._retried)

    def utilisation(self, now_ms: float) -> float:
        """The share of its slots that were busy since this was last asked, from 0 to 1."""
        with self._lock:
            self._advance(now_ms)
            elapsed_ms = now_ms - self._looked_ms
            busy_ms = self._busy_ms - self._looked_busy_ms
            self._looked_ms, self._looked_busy_ms = now_ms, self._busy_ms
        return min(1.0, busy_ms / (elapsed_ms * self._concurrency)) if elapsed_ms > 0 else 0.0

    def types(self, now_ms: int) -> dict[str, TypeTimes]:
        """Processing times of each task type: of the last minute, and in it of the last 500 attempts at most."""
        with self._lock:
            samples = {kind: list(times) for kind, times in self._times.items()}
        found = {}
        for kind, times in samples.items():
            recent = sorted(took_ms for ended_ms, took_ms in times if ended_ms >= now_ms - WINDOW_MS)
            if recent:
                mean_ms = sum(recent) / len(recent)
                found[kind] = TypeTimes(
                    len(recent), mean_ms, float(recent[min(len(recent) - 1, len(recent) * 95 // 100)])
                )
        return found

    def _advance(self, now_ms: float) -> None:
        if self._since_ms:
            # A clock that was set back shows no time that passed, rather than less of it.
            self._busy_ms += self._running * max(0.0, now_ms - self._since_ms)
        else:
            self._looked_ms = now_ms
        self._since_ms = now_ms


def _took_ms(outcome: Outcome) -> int | None:
    """How long its handler ran; None where none did: it expired, nobody knew it, or its payload did not fit."""
    match outcome:
        case Retrying(delivery=delivery, task=task) if task.attempt == delivery.task.attempt:
            return None
        case Dead(reason="no_handler" | "invalid_payload"):
            return None
        case Completed() | Retrying() | Dead():
            return outcome.finished_ms - outcome.started_ms
        case _:
            return None
