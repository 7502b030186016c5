"""What a worker has done lately: counters, processing times, utilisation.

Invariant: told by the executor's loop, asked by the heartbeat's thread; memory is bounded per task type, and only types
that have a handler are remembered, since anybody can send any other.
"""

from __future__ import annotations

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
        self._completed = 0
        self._failed = 0
        self._retried = 0
        self._times: dict[str, deque[tuple[int, int]]] = {}
        self._running = 0
        self._balance_ms = 0.0
        """The ends of attempts less their starts; with `now` for what still runs, it is the time that they took."""
        self._looked_ms = 0.0
        self._looked_busy_ms = 0.0

    def started(self, now_ms: float) -> None:
        """An attempt begins."""
        if not self._looked_ms:
            self._looked_ms = now_ms
        self._running += 1
        self._balance_ms -= now_ms

    def ended(self, outcome: Outcome, now_ms: float) -> None:
        """An attempt is over."""
        self._running -= 1
        self._balance_ms += now_ms
        if isinstance(outcome, Completed):
            self._completed += 1
        elif isinstance(outcome, Retrying):
            self._retried += 1
        elif isinstance(outcome, Dead | Expired):
            self._failed += 1
        else:
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
        elapsed_ms = now_ms - self._looked_ms
        busy_ms = self._balance_ms + self._running * now_ms
        spent_ms = busy_ms - self._looked_busy_ms
        self._looked_ms, self._looked_busy_ms = now_ms, busy_ms
        # A clock that was set back shows no time that passed, rather than less of it.
        return min(1.0, max(0.0, spent_ms) / (elapsed_ms * self._concurrency)) if elapsed_ms > 0 else 0.0

    def types(self, now_ms: int) -> dict[str, TypeTimes]:
        """Processing times of each task type: of the last minute, and in it of the last 500 attempts at most."""
        samples = {kind: list(times) for kind, times in list(self._times.items())}
        found = {}
        for kind, times in samples.items():
            recent = sorted(took_ms for ended_ms, took_ms in times if ended_ms >= now_ms - WINDOW_MS)
            if recent:
                mean_ms = sum(recent) / len(recent)
                found[kind] = TypeTimes(
                    len(recent), mean_ms, float(recent[min(len(recent) - 1, len(recent) * 95 // 100)])
                )
        return found


def _took_ms(outcome: Outcome) -> int | None:
    """How long its handler ran; None where none did: it expired, nobody knew it, or its payload did not fit."""
    if isinstance(outcome, Retrying) and outcome.task.attempt == outcome.delivery.task.attempt:
        return None
    if isinstance(outcome, Dead) and outcome.reason in ("no_handler", "invalid_payload"):
        return None
    return outcome.finished_ms - outcome.started_ms if isinstance(outcome, Completed | Retrying | Dead) else None
